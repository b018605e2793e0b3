"""The client of a Counterpoint mixture: ask, stream, see who answered, and have batches answered."""

from counterpoint.client import AsyncCounterpoint, Counterpoint
from counterpoint.errors import (
    AuthenticationError,
    BadRequestError,
    ConnectionFailedError,
    CounterpointError,
    OverloadedError,
    ServerError,
    StillRunningError,
)
from counterpoint.types import Batch, Chunk, Completion, ExpertAnswer, Explanation, Feedback, File, Route, Trace, Usage

__all__ = [
    "AsyncCounterpoint", "AuthenticationError", "BadRequestError", "Batch", "Chunk", "Completion", "ConnectionFailedError",
    "Counterpoint", "CounterpointError", "ExpertAnswer", "Explanation", "Feedback", "File", "OverloadedError", "Route", "ServerError",
    "StillRunningError", "Trace", "Usage",
]  # fmt: skip
