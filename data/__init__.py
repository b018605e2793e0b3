"""What everyone speaks and is measured on: records, score tables, graders, questions, encoders, statistics."""

from data.records import Answer, Call, CounterpointError, Message, Request, Route, Sampling, Trace, Usage

__all__ = ["Answer", "Call", "CounterpointError", "Message", "Request", "Route", "Sampling", "Trace", "Usage"]
