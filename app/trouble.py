"""What went wrong, and what one can do, in a sentence each."""

from __future__ import annotations

from dataclasses import dataclass

from counterpoint import AuthenticationError, ConnectionFailedError, CounterpointError, OverloadedError, ServerError


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error as the page shows it.

    Attributes:
        title: What happened.
        advice: What to do.
        detail: The endpoint's own words.
        again: Whether asking again may help.
        wants_key: Whether another key may help.
        wait_s: Seconds after which the endpoint has room again, or None.
    """

    title: str
    advice: str
    detail: str
    again: bool = True
    wants_key: bool = False
    wait_s: float | None = None


def trouble_of(error: CounterpointError) -> Trouble:
    """Say what an error means to the person at the page.

    Example:
        >>> trouble_of(OverloadedError("full", 429, retry_after_s=7.0)).title
        'The endpoint is full: room in about 7 s'
        >>> trouble_of(AuthenticationError("no such key", 401)).wants_key
        True
    """
    detail = str(error)
    match error:
        case ServerError(code="deadline_exceeded"):
            return Trouble("The answer took too long", "Ask again, fewer experts, or for a shorter answer.", detail)
        case ServerError(code="unavailable" | "late"):
            return Trouble("The endpoint cannot answer now", "Ask again in a while; its log says what is missing.", detail)
        case ConnectionFailedError():
            return Trouble("The endpoint cannot be reached", "See that `counterpoint serve` runs, then ask again.", detail)
        case AuthenticationError(status=401):
            return Trouble("The endpoint wants another key", "Put a valid key into the sidebar, then ask again.", detail, wants_key=True)
        case AuthenticationError():
            return Trouble("This key may not do that", "Use another key, or leave out what it may not ask.", detail, wants_key=True)
        case OverloadedError(code="insufficient_quota"):
            return Trouble("The key's budget is used up", "Use another key, or have its budget raised.", detail, False, wants_key=True)
        case OverloadedError(retry_after_s=wait_s):
            when = f"room in about {wait_s:.0f} s" if wait_s is not None else "try again in a while"
            return Trouble(f"The endpoint is full: {when}", "Everybody's questions wait in a queue that has an end.", detail, wait_s=wait_s)
        case ServerError(code="context_length_exceeded"):
            return Trouble("This is too long for the experts", "Shorten the question, or begin a new conversation.", detail, again=False)
        case ServerError(status=502):
            return Trouble("No expert could answer", "Each one's reason stands below; asking again may help.", detail)
        case ServerError(status=status) if 400 <= status < 500:
            return Trouble("The request cannot be answered as it stands", "Change the question or the settings.", detail, again=False)
        case _:
            return Trouble("No answer", "Ask again; if it stays so, look into the endpoint's log.", detail)
