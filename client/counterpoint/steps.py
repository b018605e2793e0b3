"""What a client does, step by step and without doing it: both clients carry out the same steps, each in its own way."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import httpx

from counterpoint.errors import ConnectionFailedError, CounterpointError, OverloadedError, error_of

T = TypeVar("T")
LONGEST_PAUSE_S = 60.0
"""Longest wait before another try, whatever the endpoint asks for."""
FIRST_PAUSE_S = 0.5
"""Longest wait before the second try, where the endpoint asks for none; it doubles from try to try."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request to send; the step gives its response, or what kept it from coming.

    Attributes:
        method: The HTTP method.
        path: Path at the endpoint.
        content: What httpx makes the body and the query of: `json`, `data`, `files`, `params`.
        stream: Whether the body is read later, piece by piece.
    """

    method: str
    path: str
    content: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Seconds to wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Read:
    """A local file to read; the step gives its bytes, or what kept it from being read."""

    path: Path


Step = Call | Pause | Read
Flow = Generator[Step, Any, T]
"""Steps that end in a result; each is sent what came of it."""


@dataclass(frozen=True, slots=True)
class Retries:
    """Which calls are tried again, and when.

    Tried again is what was not begun: refused by 429 or 503, or never connected. Not where the key's budget is used up, which no
    waiting helps.

    Args:
        most: Tries after the first.
        draw: Draws a number between two; for tests.

    Source:
        Brooker 2015, Exponential Backoff and Jitter, AWS Architecture Blog ("full jitter").

    Example:
        >>> late = OverloadedError("full", 429, retry_after_s=7.0)
        >>> again = Retries(2, draw=lambda low, high: high)
        >>> [again.pause_s(attempt, late) for attempt in range(3)], again.pause_s(1, httpx.ConnectError("refused"))
        ([7.0, 7.0, None], 1.0)
    """

    most: int = 2
    draw: Callable[[float, float], float] = random.uniform

    def __post_init__(self) -> None:
        if self.most < 0:
            raise ValueError(f"retries must be 0 or more, not {self.most}")

    def pause_s(self, attempt: int, error: Exception) -> float | None:
        """Give the seconds to wait before the next try, or None where there is none.

        Args:
            attempt: Tries that were made before the one that failed.
            error: What it failed by.
        """
        refused = isinstance(error, OverloadedError) and error.code != "insufficient_quota"
        if attempt >= self.most or not (refused or isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))):
            return None
        if isinstance(error, OverloadedError) and error.retry_after_s is not None:
            return min(error.retry_after_s, LONGEST_PAUSE_S)
        return self.draw(0.0, min(FIRST_PAUSE_S * 2 ** min(attempt, 10), LONGEST_PAUSE_S))


def plain(error: httpx.HTTPError, base_url: object) -> ConnectionFailedError:
    """Say in a sentence what kept bytes from travelling."""
    if isinstance(error, httpx.TimeoutException):
        return ConnectionFailedError(f"{base_url} did not answer in time ({type(error).__name__}); give a larger timeout_s")
    return ConnectionFailedError(f"cannot reach {base_url}: {error or type(error).__name__}; is `counterpoint serve` running?")


def _sent(call: Call, retries: Retries, base_url: object) -> Flow[httpx.Response]:
    for attempt in count():
        came: httpx.Response | httpx.HTTPError = yield call
        if isinstance(came, httpx.Response) and not came.is_error:
            return came
        error = error_of(came) if isinstance(came, httpx.Response) else came
        pause_s = retries.pause_s(attempt, error)
        if pause_s is None:
            if isinstance(error, httpx.HTTPError):
                raise plain(error, base_url) from error
            raise error
        yield Pause(pause_s)
    raise AssertionError("unreachable")


def persistent(flow: Flow[T], retries: Retries, base_url: object) -> Flow[T]:
    """Do the same steps, but try calls again, and raise what is left of their errors; the flow sees good responses only.

    Raises:
        CounterpointError: A call failed for good, or a file cannot be read.
    """
    try:
        step = next(flow)
        while True:
            came = (yield from _sent(step, retries, base_url)) if isinstance(step, Call) else (yield step)
            if isinstance(came, OSError):
                assert isinstance(step, Read)
                raise CounterpointError(f"cannot read {step.path}: {came.strerror or came}") from came
            step = flow.send(came)
    except StopIteration as ended:
        result: T = ended.value
        return result


def asked(call: Call, read: Callable[[Any], T]) -> Flow[T]:
    """Make one call, and read its JSON.

    Raises:
        ConnectionFailedError: What answers is no Counterpoint.
    """
    response = yield call
    return understood(response, read)


def understood(response: httpx.Response, read: Callable[[Any], T]) -> T:
    """Read a response's JSON.

    Raises:
        ConnectionFailedError: It is none, or not what was wanted.
    """
    try:
        return read(response.json())
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        text = response.text[:80]
        raise ConnectionFailedError(f"the endpoint sent what is no answer of Counterpoint's: {text!r}") from error
