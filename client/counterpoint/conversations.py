"""Conversations that the endpoint keeps for the client's key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from counterpoint.pages import Page, listed, page_of
from counterpoint.steps import Call, Flow, asked

if TYPE_CHECKING:
    from counterpoint.client import AsyncCounterpoint, Counterpoint

Turns = Sequence["ConversationMessage | Mapping[str, Any]"]
"""Messages, or mappings of `role`, `content` and, where there is one, `trace_id`."""


@dataclass(frozen=True, slots=True)
class ConversationMessage:
    """A message of a conversation.

    Attributes:
        role: `system`, `user` or `assistant`.
        content: Its text.
        trace_id: Id of the answer that it is, by which `trace` tells how it came about; None where it is none.
    """

    role: str
    content: str
    trace_id: str | None = None

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> ConversationMessage:
        """Read the wire's form."""
        return cls(body["role"], body["content"], body.get("trace_id"))


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation.

    Attributes:
        id: The endpoint's name for it.
        title: Its title.
        created_at: When it was begun, in seconds since 1970.
        updated_at: When it last changed.
        message_count: How many messages it has.
        messages: Its messages, oldest first; None in lists.
    """

    id: str
    title: str
    created_at: float
    updated_at: float
    message_count: int
    messages: tuple[ConversationMessage, ...] | None = None

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Conversation:
        """Read the wire's form."""
        messages = tuple(ConversationMessage.of(each) for each in body["messages"]) if "messages" in body else None
        return cls(body["id"], body["title"], float(body["created_at"]), float(body["updated_at"]), int(body["message_count"]), messages)


def rows(messages: Turns) -> list[dict[str, Any]]:
    """Messages in the wire's form.

    Example:
        >>> rows([ConversationMessage("user", "Hi"), {"role": "assistant", "content": "Hello", "trace_id": "cmpl-1"}])[1]
        {'role': 'assistant', 'content': 'Hello', 'trace_id': 'cmpl-1'}
    """
    return [
        {"role": each.role, "content": each.content, "trace_id": each.trace_id} if isinstance(each, ConversationMessage) else dict(each)
        for each in messages
    ]


def made(messages: Turns | str, title: str | None) -> Flow[Conversation]:
    """Begin a conversation."""
    turns: Turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    body = {"messages": rows(turns)} | ({} if title is None else {"title": title})
    return asked(Call("POST", "/v1/conversations", {"json": body}), Conversation.of)


def conversations(limit: int, after: str | None, sought: str | None = None) -> Flow[Page[Conversation]]:
    """List conversations."""
    return asked(Call("GET", "/v1/conversations", listed(limit, after, q=sought)), page_of(Conversation.of))


def one(id: str) -> Flow[Conversation]:
    """Fetch a conversation."""
    return asked(Call("GET", _path(id)), Conversation.of)


def changed(id: str, title: str | None, messages: Turns | None, append: Turns) -> Flow[Conversation]:
    """Change a conversation."""
    body: dict[str, Any] = {} if title is None else {"title": title}
    body |= {} if messages is None else {"messages": rows(messages)}
    body |= {"append": rows(append)} if append else {}
    return asked(Call("PATCH", _path(id), {"json": body}), Conversation.of)


def deleted(id: str) -> Flow[bool]:
    """Delete a conversation."""
    return asked(Call("DELETE", _path(id)), lambda body: bool(body["deleted"]))


def _path(id: str) -> str:
    return f"/v1/conversations/{quote(id, safe='')}"


class Conversations:
    """The conversations of the client's key; no other key sees them."""

    def __init__(self, client: Counterpoint) -> None:
        self._client = client

    def create(self, messages: Turns | str = (), title: str | None = None) -> Conversation:
        """Keep a new conversation.

        Args:
            messages: Its messages, or its first question.
            title: Its title; None takes the beginning of the first question.
        """
        return self._client.run(made(messages, title))

    def list(self, limit: int = 100, after: str | None = None) -> Page[Conversation]:
        """List conversations without their messages, the one that changed last first, those after the one of the id `after`."""
        return self._client.run(conversations(limit, after))

    def search(self, text: str, limit: int = 100, after: str | None = None) -> Page[Conversation]:
        """List those whose title or messages contain a text, in letters of either case."""
        return self._client.run(conversations(limit, after, text))

    def get(self, id: str) -> Conversation:
        """Fetch a conversation with its messages."""
        return self._client.run(one(id))

    def update(self, id: str, *, title: str | None = None, messages: Turns | None = None, append: Turns = ()) -> Conversation:
        """Change a conversation, and give it as it then is.

        Args:
            id: The conversation.
            title: Its new title, or None to leave it.
            messages: What stands in place of its messages, or None to leave them.
            append: What comes after them.
        """
        return self._client.run(changed(id, title, messages, append))

    def delete(self, id: str) -> None:
        """Delete a conversation."""
        self._client.run(deleted(id))


class AsyncConversations:
    """The conversations of the client's key; the methods are those of `Conversations`."""

    def __init__(self, client: AsyncCounterpoint) -> None:
        self._client = client

    async def create(self, messages: Turns | str = (), title: str | None = None) -> Conversation:
        """Keep a new conversation."""
        return await self._client.run(made(messages, title))

    async def list(self, limit: int = 100, after: str | None = None) -> Page[Conversation]:
        """List conversations without their messages, the one that changed last first."""
        return await self._client.run(conversations(limit, after))

    async def search(self, text: str, limit: int = 100, after: str | None = None) -> Page[Conversation]:
        """List those whose title or messages contain a text."""
        return await self._client.run(conversations(limit, after, text))

    async def get(self, id: str) -> Conversation:
        """Fetch a conversation with its messages."""
        return await self._client.run(one(id))

    async def update(self, id: str, *, title: str | None = None, messages: Turns | None = None, append: Turns = ()) -> Conversation:
        """Change a conversation, and give it as it then is."""
        return await self._client.run(changed(id, title, messages, append))

    async def delete(self, id: str) -> None:
        """Delete a conversation."""
        await self._client.run(deleted(id))
