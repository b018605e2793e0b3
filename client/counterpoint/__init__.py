"""The client of a Counterpoint mixture: ask, stream, see who answered, and have batches answered."""

from counterpoint.client import AsyncCounterpoint, Counterpoint
from counterpoint.conversations import Conversation, ConversationMessage
from counterpoint.errors import (
    AuthenticationError,
    BadRequestError,
    ConnectionFailedError,
    CounterpointError,
    OverloadedError,
    ServerError,
    StillRunningError,
)
from counterpoint.pages import Page
from counterpoint.pool import Pool
from counterpoint.routers import Routers, Tried
from counterpoint.runs import Difference, Run
from counterpoint.structured import TokenLogprob, ToolCall
from counterpoint.types import Batch, Chunk, Completion, ExpertAnswer, Explanation, Feedback, File, Route, Trace, Usage

__all__ = [
    "AsyncCounterpoint", "AuthenticationError", "BadRequestError", "Batch", "Chunk", "Completion", "ConnectionFailedError", "Conversation",
    "ConversationMessage", "Counterpoint", "CounterpointError", "Difference", "ExpertAnswer", "Explanation", "Feedback", "File",
    "OverloadedError", "Page", "Pool", "Route", "Routers", "Run", "ServerError", "StillRunningError", "TokenLogprob", "ToolCall",
    "Trace", "Tried", "Usage",
]  # fmt: skip
