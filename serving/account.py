"""What is noted of a request while it is answered: names and figures for its log line, its span and the endpoint's counts."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from data.records import Route, Usage


@dataclass(slots=True)
class Account:
    """Names and figures of one request.

    Attributes:
        id: Id of its completion.
        key: Id of the key that asked.
        model: What was asked for: the mixture, an expert, or `unknown`.
        stream: Whether a stream was wanted.
        experts: Who was chosen.
        k: How many were chosen for one choice.
        usage: What the calls took that have ended.
        error: What kind of error it ended in, where its status does not tell.
    """

    id: str | None = None
    key: str | None = None
    model: str | None = None
    stream: bool = False
    experts: tuple[str, ...] = ()
    k: int = 0
    usage: Usage = field(default_factory=Usage)
    error: str | None = None

    def asked(self, id: str, model: str, known: Sequence[str], stream: bool) -> None:
        """Note what was asked for; a model that is not there may be called anything, a prompt too."""
        self.id, self.model, self.stream = id, model if model in known else "unknown", stream

    def routed(self, routes: Sequence[Route]) -> None:
        """Note who was chosen for the choices of a completion."""
        self.experts = tuple(dict.fromkeys(name for route in routes for name in route.experts))
        self.k = len(routes[0].experts)


_CURRENT: ContextVar[Account | None] = ContextVar("account", default=None)


def account() -> Account:
    """The account of the request that is being answered; one that nobody reads where there is none."""
    return _CURRENT.get() or Account()


def open_account() -> Account:
    """Begin an account, for all that this task and those that it starts do from now on.

    Example:
        >>> opened = open_account()
        >>> account().key = "local"
        >>> opened.key
        'local'
    """
    made = Account()
    _CURRENT.set(made)
    return made
