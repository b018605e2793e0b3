"""The tables of the store, and the records that its rows become.

A column that is added here needs a migration of the same content in `serving/migrations/`; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, ForeignKey, LargeBinary, MetaData, String, Table, Text

metadata = MetaData(
    naming_convention={"pk": "pk_%(table_name)s", "fk": "fk_%(table_name)s_%(column_0_name)s", "ix": "ix_%(table_name)s_%(column_0_name)s"}
)
_json = JSON(none_as_null=True)


def _owner() -> Column[Any]:
    """The key that a row belongs to; with it in the primary key, an id of one owner is free for every other."""
    return Column("owner", String(64), ForeignKey("keys.id"), primary_key=True)


keys = Table(
    "keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("salt", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("allowed_experts", _json),
    Column("denied_experts", _json, nullable=False),
    Column("requests_per_minute", Double),
    Column("tokens_per_minute", Double),
    Column("budget_nano", BigInteger),
    Column("admin", Boolean, nullable=False),
    Column("defaults", _json, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
)
spend = Table(
    "spend",
    metadata,
    _owner(),
    Column("day", String(10), primary_key=True),
    Column("usd_nano", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("requests", BigInteger, nullable=False),
)
"""Sums by UTC day; what a key has spent in all is the sum of its days."""

holds = Table(
    "holds",
    metadata,
    _owner(),
    Column("id", String(200), primary_key=True),
    Column("usd_nano", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
)
"""Money that requests under way may still cost."""

feedback = Table(
    "feedback",
    metadata,
    _owner(),
    Column("request_id", String(200), primary_key=True),
    Column("score", Double, nullable=False),
    Column("comment", Text),
    Column("at", Double, nullable=False),
)

traces = Table(
    "traces",
    metadata,
    _owner(),
    Column("request_id", String(200), primary_key=True),
    Column("at", Double, nullable=False, index=True),
    Column("body", _json, nullable=False),
    Column("text", Boolean, nullable=False),
)

files = Table(
    "files",
    metadata,
    _owner(),
    Column("id", String(200), primary_key=True),
    Column("filename", Text, nullable=False),
    Column("purpose", String(200), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False, index=True),
    Column("content", LargeBinary, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    _owner(),
    Column("id", String(200), primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("input_file_id", String(200), nullable=False),
    Column("completion_window", String(20), nullable=False),
    Column("status", String(20), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("output_file_id", String(200)),
    Column("error_file_id", String(200)),
    Column("in_progress_at", BigInteger),
    Column("expires_at", BigInteger),
    Column("finalizing_at", BigInteger),
    Column("completed_at", BigInteger),
    Column("failed_at", BigInteger),
    Column("expired_at", BigInteger),
    Column("cancelling_at", BigInteger),
    Column("cancelled_at", BigInteger),
    Column("request_counts", _json, nullable=False),
    Column("errors", _json),
    Column("metadata", _json),
)

conversations = Table(
    "conversations",
    metadata,
    _owner(),
    Column("id", String(200), primary_key=True),
    Column("title", Text, nullable=False),
    Column("messages", _json, nullable=False),
    Column("updated_at", Double, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Spend:
    """What a key has used.

    Attributes:
        usd: US dollars.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
        requests: Requests.
    """

    usd: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class Feedback:
    """What somebody thought of an answer.

    Attributes:
        request_id: The request.
        score: From 0, wrong, to 1, right.
        comment: Their words, or None.
        at: When, in seconds since 1970.
    """

    request_id: str
    score: float
    comment: str | None
    at: float


@dataclass(frozen=True, slots=True)
class StoredTrace:
    """How an answer came about.

    Attributes:
        request_id: The request.
        at: When, in seconds since 1970.
        body: The trace as JSON.
        text: Whether the body holds what was asked and answered.
    """

    request_id: str
    at: float
    body: dict[str, Any]
    text: bool


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of somebody's, without its content.

    Attributes:
        id: Its id.
        filename: What its owner calls it.
        purpose: OpenAI's word for what it is for, such as `batch`.
        bytes: Its size.
        created_at: When, in whole seconds since 1970.
    """

    id: str
    filename: str
    purpose: str
    bytes: int
    created_at: int


@dataclass(frozen=True, slots=True)
class Batch:
    """A job of many requests, in OpenAI's fields.

    Attributes:
        id: Its id.
        endpoint: What each line asks, such as `/v1/chat/completions`.
        input_file_id: The file of its lines.
        completion_window: How long it may take, such as `24h`.
        status: `validating`, `failed`, `in_progress`, `finalizing`, `completed`, `expired`, `cancelling` or `cancelled`.
        created_at: When, in whole seconds since 1970; so are all others ending in `_at`.
        output_file_id: The file of its answers.
        error_file_id: The file of its errors.
        in_progress_at: When it was begun.
        expires_at: When it will be given up.
        finalizing_at: When its last line was answered.
        completed_at: When it was done.
        failed_at: When it failed.
        expired_at: When it was given up.
        cancelling_at: When it was asked to end.
        cancelled_at: When it ended so.
        request_counts: Numbers of lines: `total`, `completed`, `failed`.
        errors: What is wrong with its input, or None.
        metadata: What its owner wrote on it, or None.
    """

    id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    status: str
    created_at: int
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    expires_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: dict[str, int] = field(default_factory=lambda: {"total": 0, "completed": 0, "failed": 0})
    errors: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation of the chat page.

    Attributes:
        id: Its id.
        title: Its title.
        messages: Its turns as JSON, oldest first.
        updated_at: When it last changed, in seconds since 1970.
    """

    id: str
    title: str
    messages: list[dict[str, Any]]
    updated_at: float
