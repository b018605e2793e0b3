"""What one browser session holds: its key, its client, what it knows of the endpoint. Nothing is shared between sessions."""

from __future__ import annotations

import os
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import streamlit as st

from app.history import EndpointShelf, SessionShelf, Shelf
from app.trouble import Trouble, trouble_of
from counterpoint import AsyncCounterpoint, BadRequestError, Counterpoint, CounterpointError


def address() -> str:
    """Where the endpoint listens."""
    return os.environ.get("COUNTERPOINT_URL", "http://127.0.0.1:8000")


def mixture() -> str:
    """The mixture's name."""
    return os.environ.get("COUNTERPOINT_MODEL", "counterpoint")


def api_key() -> str | None:
    """The session's key, or that of the page's environment."""
    return st.session_state.get("api_key") or os.environ.get("COUNTERPOINT_API_KEY") or None


class Held:
    """What was made for a session and its key; the client is closed when the session goes."""

    def __init__(self, key: object) -> None:
        self.key = key
        self.made: dict[str, Any] = {}
        self.client = Counterpoint(address(), api_key=api_key(), model=mixture(), timeout_s=30, retries=0)
        self.close = weakref.finalize(self, self.client.close)

    def own(self, name: str, make: Callable[[], Any]) -> Any:
        """What was made for the session, made where it is not there yet."""
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]

    def shelf(self) -> Shelf:
        """Where the session's conversations are kept.

        Raises:
            CounterpointError: The endpoint does not answer.
        """
        found: Shelf = self.own("shelf", self._find_shelf)
        return found

    def _find_shelf(self) -> Shelf:
        kept = EndpointShelf(self.client)
        try:
            kept.headings()
        except BadRequestError:
            return SessionShelf()
        return kept


def held() -> Held:
    """What the session holds for its key."""
    key = (address(), mixture(), api_key())
    found: Held | None = st.session_state.get("held")
    if found is None or found.key != key:
        made = Held(key)
        if found is not None:
            found.close()
            for name in ("tried", "routes", "sent", "no_trace"):  # what the other key was told
                st.session_state.pop(name, None)
            if (board := st.session_state.get("board")) is not None:
                board.talk = replace(board.talk, id=None)  # another key's own
        st.session_state.held = found = made
    return found


def own(name: str, make: Callable[[], Any]) -> Any:
    """What was made for the session and its key, made anew where the key is another."""
    return held().own(name, make)


def forget() -> None:
    """Look at the endpoint anew."""
    for name in ("shelf", "models", "routers"):
        held().made.pop(name, None)


def client() -> Counterpoint:
    """The session's client; it tries nothing twice, for somebody waits."""
    return held().client


def connector() -> Callable[[Callable[[float], Awaitable[object]]], AsyncCounterpoint]:
    """Make what makes clients for questions that are asked in the background, which cannot look into the session."""
    url, key, model = address(), api_key(), mixture()
    return lambda pause: AsyncCounterpoint(url, api_key=key, model=model, timeout_s=600, sleep=pause)


def experts() -> list[str]:
    """Names of the experts that the key may ask; empty while the endpoint does not tell.

    Raises:
        CounterpointError: The endpoint does not answer.
    """
    names: list[str] = own("models", lambda: [name for name in client().models() if name != mixture()])
    return names


def shelf() -> Shelf:
    """Where the session's conversations are kept.

    Raises:
        CounterpointError: The endpoint does not answer.
    """
    return held().shelf()


def reached() -> Trouble | None:
    """See whether the endpoint answers, and what it knows; what is wrong, or None."""
    try:
        experts()
        shelf()
    except CounterpointError as error:
        return trouble_of(error)
    return None
