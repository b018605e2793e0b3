"""The client of a Counterpoint mixture: ask, stream, and see who answered."""

from counterpoint.client import AsyncCounterpoint, Counterpoint
from counterpoint.errors import AuthenticationError, BadRequestError, ConnectionFailedError, CounterpointError, OverloadedError, ServerError
from counterpoint.types import Chunk, Completion, ExpertAnswer, Explanation, Route, Usage

__all__ = [
    "AsyncCounterpoint", "AuthenticationError", "BadRequestError", "Chunk", "Completion", "ConnectionFailedError", "Counterpoint",
    "CounterpointError", "ExpertAnswer", "Explanation", "OverloadedError", "Route", "ServerError", "Usage",
]  # fmt: skip
