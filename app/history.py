"""Where conversations are kept: at the endpoint, or where it keeps none, in the session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import uuid4

from app.turns import Talk, Turn, kept, restored
from counterpoint import BadRequestError, Counterpoint

MOST_LISTED = 30
"""Conversations that a list shows."""

MOST_TALKS = 30
"""Conversations that a session keeps by itself."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A conversation in a list."""

    id: str
    title: str


class Shelf(Protocol):
    """Keeps conversations.

    Attributes:
        note: What one should know of it, or empty.
    """

    note: str

    def headings(self, sought: str = "") -> list[Heading]:
        """List conversations, the one that changed last first; those that contain a text, where one is given."""
        ...

    def open(self, id: str) -> Talk:
        """Fetch one."""
        ...

    def keep(self, talk: Talk) -> Talk:
        """Keep one as it now is, and give it with its id."""
        ...

    def rename(self, talk: Talk, title: str) -> Talk:
        """Give it another title."""
        ...

    def delete(self, id: str) -> None:
        """Delete one."""
        ...


class EndpointShelf:
    """Keeps conversations at the endpoint, for the client's key."""

    note = ""

    def __init__(self, client: Counterpoint) -> None:
        self._client = client
        self._stored: tuple[str, list[Any]] = ("", [])
        self._tried: list[Any] = []

    def headings(self, sought: str = "") -> list[Heading]:
        """List them."""
        listed = self._client.conversations
        found = listed.search(sought.strip()[:200], limit=MOST_LISTED) if sought.strip() else listed.list(limit=MOST_LISTED)
        return [Heading(each.id, each.title) for each in found]

    def open(self, id: str) -> Talk:
        """Fetch one."""
        found = self._client.conversations.get(id)
        self._stored, self._tried = (id, [*(found.messages or ())]), []
        return Talk(restored(found.messages or ()), id, found.title)

    def keep(self, talk: Talk) -> Talk:
        """Append what is new, or replace what was there; where that is gone, or was changed elsewhere, it is kept beside it anew."""
        rows = kept(talk.turns)
        id, stored = self._stored
        tried, self._tried = self._tried, rows  # where this fails, who knows what is there: next time it is looked at
        if talk.id is not None and (tried or id != talk.id or not self._appended(talk.id, stored, rows)):
            talk = talk if self._replaced(talk.id, (stored, tried), rows) else replace(talk, id=None)
        if talk.id is None:
            talk = replace(talk, id=self._client.conversations.create(rows, talk.title or None).id)
        self._stored, self._tried = (talk.id or "", rows), []
        return talk

    def _appended(self, id: str, stored: list[Any], rows: list[Any]) -> bool:
        """Add what is new, and say whether nothing else is."""
        if rows[: len(stored)] != stored:
            return False
        try:
            if rows[len(stored) :]:
                self._client.conversations.update(id, append=rows[len(stored) :])
        except BadRequestError as error:
            if error.status != 404:
                raise
            return False
        return True

    def _replaced(self, id: str, known: Sequence[list[Any]], rows: list[Any]) -> bool:
        """Replace all, and say whether that could be: what somebody else has put there is not written over."""
        try:
            there = [*(self._client.conversations.get(id).messages or ())]
            if there not in known and rows[: len(there)] != there:
                return False
            self._client.conversations.update(id, messages=rows)
        except BadRequestError as error:
            if error.status != 404:
                raise
            return False
        return True

    def rename(self, talk: Talk, title: str) -> Talk:
        """Give it another title."""
        if talk.id is not None:
            self._client.conversations.update(talk.id, title=title)
        return replace(talk, title=title)

    def delete(self, id: str) -> None:
        """Delete one."""
        self._client.conversations.delete(id)


class SessionShelf:
    """Keeps conversations in the session; they are gone with it.

    Example:
        >>> shelf = SessionShelf()
        >>> talk = shelf.keep(Talk((Turn("user", "What is 2 + 2?"),), title="Sums"))
        >>> [heading.title for heading in shelf.headings("2 + 2")], shelf.open(talk.id).turns == talk.turns
        (['Sums'], True)
    """

    note = "The endpoint keeps no conversations (serving.store); these are gone when this page is closed."

    def __init__(self) -> None:
        self._talks: dict[str, Talk] = {}

    def headings(self, sought: str = "") -> list[Heading]:
        """List them."""
        wanted = sought.strip().casefold()
        return [
            Heading(id, talk.title)
            for id, talk in reversed(self._talks.items())
            if wanted in talk.title.casefold() or _in(wanted, talk.turns)
        ][:MOST_LISTED]

    def open(self, id: str) -> Talk:
        """Give one back."""
        return self._talks[id]

    def keep(self, talk: Talk) -> Talk:
        """Keep one as it now is; the oldest leaves where there are too many."""
        id = talk.id or uuid4().hex
        self._talks.pop(id, None)
        self._talks[id] = kept_talk = replace(talk, id=id)
        for old in [*self._talks][:-MOST_TALKS]:
            del self._talks[old]
        return kept_talk

    def rename(self, talk: Talk, title: str) -> Talk:
        """Give it another title."""
        return self.keep(replace(talk, title=title)) if talk.id is not None else replace(talk, title=title)

    def delete(self, id: str) -> None:
        """Forget one."""
        self._talks.pop(id, None)


def _in(wanted: str, turns: Sequence[Turn]) -> bool:
    return any(wanted in turn.content.casefold() for turn in turns)
