"""Conversations of the chat page: each belongs to a key, and is unknown to every other."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select, tuple_, update

from data.records import CounterpointError
from serving.store import Store
from serving.tables import Conversation, keys
from serving.tables import conversations as table

MOST = 2000
"""Conversations that a key may keep."""
MOST_MESSAGES = 1000
"""Messages of a conversation."""
MOST_BYTES = 1 << 20
"""Bytes of a conversation's messages, as JSON."""
MOST_TITLE = 200
"""Characters of a title."""
NEW = "New conversation"
"""Title of a conversation that has neither a title nor a question."""

_PREFIX = "conv_"


class ConversationError(CounterpointError):
    """A conversation that cannot be kept as it stands."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A conversation in a list.

    Attributes:
        id: Its id.
        title: Its title.
        messages: How many messages it has.
        updated_at: When it last changed, in seconds since 1970.
    """

    id: str
    title: str
    messages: int
    updated_at: float


class Conversations:
    """The conversations in a store. Every method takes the key's id first, and sees no other key's rows.

    The id of a conversation tells when it was begun, so that the tables need not.

    Args:
        store: Where they are kept.

    Example:
        >>> import tempfile
        >>> with Store(f"sqlite:///{tempfile.mkdtemp()}/store.db") as store:
        ...     store.add_key("k1", name="me", salt=b"", digest=b"")
        ...     kept = Conversations(store)
        ...     made = kept.create("k1", None, [{"role": "user", "content": "What is two plus three?"}])
        ...     made.title, kept.get("k2", made.id), [each.title for each in kept.list("k1", query="PLUS")]
        ('What is two plus three?', None, ['What is two plus three?'])
    """

    def __init__(self, store: Store) -> None:
        self._database = store.database

    def create(self, owner: str, title: str | None, messages: Sequence[dict[str, Any]]) -> Conversation:
        """Keep a new conversation.

        Args:
            owner: The key.
            title: Its title; None takes the beginning of the first question.
            messages: Its messages, oldest first.

        Raises:
            ConversationError: It is too large, or the key keeps too many.
        """
        _check(messages)
        now = time.time()
        made = Conversation(new_id(now), title or _title(messages), list(messages), now)
        with self._database.writing() as connection:
            connection.execute(select(keys.c.id).where(keys.c.id == owner).with_for_update(key_share=True))  # two at once are counted
            count = connection.execute(select(func.count()).select_from(table).where(_own(owner))).scalar_one()
            if count >= MOST:
                raise ConversationError(f"a key keeps at most {MOST} conversations: delete some")
            row = {"id": made.id, "title": made.title, "messages": made.messages, "updated_at": made.updated_at}
            connection.execute(insert(table).values(owner=owner, **row))
        return made

    def get(self, owner: str, id: str) -> Conversation | None:
        """One conversation; None where the key has none of that id."""
        with self._database.reading() as connection:
            return _one(connection, owner, id)

    def change(
        self,
        owner: str,
        id: str,
        *,
        title: str | None = None,
        messages: Sequence[dict[str, Any]] | None = None,
        append: Sequence[dict[str, Any]] = (),
    ) -> Conversation | None:
        """Change a conversation, and give it back; None where the key has none of that id.

        Args:
            owner: The key.
            id: The conversation.
            title: Its new title, or None to leave it.
            messages: What stands in place of its messages, or None to leave them.
            append: What comes after them; two at once that append lose nothing.

        Raises:
            ConversationError: It would become too large.
        """
        with self._database.writing() as connection:
            if (before := _one(connection, owner, id, locked=True)) is None:
                return None
            now = [*(before.messages if messages is None else messages), *append]
            _check(now)
            # never before what it was: a clock that goes back must not move a conversation behind others
            made = Conversation(id, before.title if title is None else title, now, max(time.time(), before.updated_at))
            row = {"title": made.title, "messages": made.messages, "updated_at": made.updated_at}
            connection.execute(update(table).where(_own(owner), table.c.id == id).values(**row))
        return made

    def delete(self, owner: str, id: str) -> bool:
        """Delete a conversation, and say whether there was one."""
        with self._database.writing() as connection:
            return bool(connection.execute(table.delete().where(_own(owner), table.c.id == id)).rowcount)

    def list(self, owner: str, limit: int = 100, after: str | None = None, query: str | None = None) -> list[Heading]:
        """List conversations, the one that changed last first.

        Args:
            owner: The key.
            limit: How many at most.
            after: Id of the one before the first.
            query: What a title or a message must contain, in letters of either case.

        Raises:
            ConversationError: The key has no conversation of the id `after`.
        """
        with self._database.reading() as connection:
            order = tuple_(table.c.updated_at, table.c.id)
            text = () if query is None else (table.c.messages,)
            count = func.json_array_length(table.c.messages).label("size")
            wanted = select(table.c.id, table.c.title, count, table.c.updated_at, *text).where(_own(owner))
            if after is not None:
                mark = select(table.c.updated_at, table.c.id).where(_own(owner), table.c.id == after)
                if connection.execute(mark).one_or_none() is None:
                    raise ConversationError(f"after: no conversation of yours has the id {after[:80]!r}")
                wanted = wanted.where(order < mark.scalar_subquery())
            wanted = wanted.order_by(table.c.updated_at.desc(), table.c.id.desc())
            # without it PostgreSQL's driver would bring every message of every conversation before the first is looked at
            wanted = wanted if query is not None else wanted.limit(max(limit, 0))
            with closing(connection.execute(wanted, execution_options={"yield_per": 20})) as rows:
                return [*_first(rows, limit, query)]


def _first(rows: Iterator[Row[Any]], limit: int, query: str | None) -> Iterator[Heading]:
    """The first rows that contain what is sought; read one by one, so that a page costs no more than it must."""
    sought = None if query is None else query.casefold()
    for row in rows:
        if limit <= 0:
            return
        if sought is None or any(sought in text.casefold() for text in (row.title, *(each["content"] for each in row.messages))):
            limit -= 1
            yield Heading(row.id, row.title, row.size, row.updated_at)


def new_id(at: float) -> str:
    """Make an id that tells its time, in milliseconds.

    Example:
        >>> created_of(new_id(1.5)), len(new_id(1.5))
        (1.5, 37)
    """
    return f"{_PREFIX}{int(at * 1000):012x}{uuid.uuid4().hex[:20]}"


def created_of(id: str) -> float | None:
    """When the conversation of an id was begun; None where the id does not tell."""
    try:
        return int(id.removeprefix(_PREFIX)[:12], 16) / 1000 if id.startswith(_PREFIX) else None
    except ValueError:
        return None


def heading_json(each: Heading | Conversation) -> dict[str, Any]:
    """A conversation in a list."""
    count = len(each.messages) if isinstance(each, Conversation) else each.messages
    created = created_of(each.id)
    return {
        "id": each.id,
        "object": "counterpoint.conversation",
        "title": each.title,
        "created_at": each.updated_at if created is None else created,
        "updated_at": each.updated_at,
        "message_count": count,
    }


def conversation_json(each: Conversation) -> dict[str, Any]:
    """A whole conversation."""
    return {**heading_json(each), "messages": each.messages}


def _own(owner: str) -> ColumnElement[bool]:
    """The condition that keeps owners apart."""
    return table.c.owner == owner


def _one(connection: Connection, owner: str, id: str, *, locked: bool = False) -> Conversation | None:
    columns = (table.c.id, table.c.title, table.c.messages, table.c.updated_at)
    wanted = select(*columns).where(_own(owner), table.c.id == id)
    row = connection.execute(wanted.with_for_update() if locked else wanted).one_or_none()
    return None if row is None else Conversation(row.id, row.title, row.messages, row.updated_at)


def _check(messages: Sequence[dict[str, Any]]) -> None:
    if len(messages) > MOST_MESSAGES:
        raise ConversationError(f"a conversation has at most {MOST_MESSAGES} messages, not {len(messages)}: begin another")
    size = len(json.dumps(messages))
    if size > MOST_BYTES:
        raise ConversationError(f"a conversation's messages take at most {MOST_BYTES} bytes of JSON, not {size}: begin another")


def _title(messages: Sequence[dict[str, Any]]) -> str:
    """The beginning of the first question, in one line."""
    asked = next((" ".join(each["content"].split()) for each in messages if each["role"] == "user"), "")
    return (asked if len(asked) <= 80 else asked[:79].rstrip() + "…") or NEW
