"""What one browser session holds: its key, its client, what it knows of the endpoint. Nothing is shared between sessions."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
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


def _own(name: str, make: Callable[[], Any]) -> Any:
    """What was made for the session and its key, made anew where the key is another."""
    held: dict[str, Any] = st.session_state.setdefault("_own", {})
    if held.get("key") != (address(), mixture(), api_key()):
        if "client" in held:
            held["client"].close()
        held.clear()
        held["key"] = (address(), mixture(), api_key())
    if name not in held:
        held[name] = make()
    return held[name]


def forget() -> None:
    """Look at the endpoint anew."""
    held = st.session_state.get("_own", {})
    for name in ("shelf", "models"):
        held.pop(name, None)


def client() -> Counterpoint:
    """The session's client; it tries nothing twice, for somebody waits."""
    made: Counterpoint = _own("client", lambda: Counterpoint(address(), api_key=api_key(), model=mixture(), timeout_s=30, retries=0))
    return made


def connector() -> Callable[[Callable[[float], Awaitable[object]]], AsyncCounterpoint]:
    """Make what makes clients for questions that are asked in the background, which cannot look into the session."""
    url, key, model = address(), api_key(), mixture()
    return lambda pause: AsyncCounterpoint(url, api_key=key, model=model, timeout_s=600, sleep=pause)


def experts() -> list[str]:
    """Names of the experts that the key may ask; empty while the endpoint does not tell.

    Raises:
        CounterpointError: The endpoint does not answer.
    """
    names: list[str] = _own("models", lambda: [name for name in client().models() if name != mixture()])
    return names


def shelf() -> Shelf:
    """Where the session's conversations are kept.

    Raises:
        CounterpointError: The endpoint does not answer.
    """

    def find() -> Shelf:
        kept = EndpointShelf(client())
        try:
            kept.headings()
        except BadRequestError:
            return SessionShelf()
        return kept

    found: Shelf = _own("shelf", find)
    return found


def reached() -> Trouble | None:
    """See whether the endpoint answers, and what it knows; what is wrong, or None."""
    try:
        experts()
        shelf()
    except CounterpointError as error:
        return trouble_of(error)
    return None
