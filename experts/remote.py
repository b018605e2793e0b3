"""What all remote experts share: many calls at once, deadlines, and tries again where the server asks for them."""

from __future__ import annotations

import asyncio
import os
import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from data.records import Answer, Call, Delta, Done, TokenLogprob, ToolCall, Usage
from experts.base import EngineError, Event, ExpertSpec

RETRIES = 3
"""Tries after the first, for answers that say to try again (429, 5xx) and for lost connections."""

Put = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class End:
    """How an answer ended.

    Attributes:
        reason: Its reason.
        usage: Its usage.
        logprobs: The log-probabilities of the choices.
        tool_calls: The functions that are to be called.
        tokens: The text's tokens, where they were asked for.
    """

    reason: str
    usage: Usage
    logprobs: tuple[tuple[str, float], ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tokens: tuple[TokenLogprob, ...] = ()


async def together(calls: Sequence[Call], answer: Callable[[Call, Put], Awaitable[None]]) -> AsyncIterator[Event]:
    """Answer all calls at once and yield their events as they come; closing the iterator cancels what still runs."""
    events: asyncio.Queue[Event | BaseException] = asyncio.Queue()

    async def one(call: Call) -> None:
        try:
            await answer(call, events.put_nowait)
        except Exception as error:  # a fault of ours, which must not leave the reader waiting
            events.put_nowait(error)

    tasks = [asyncio.create_task(one(call)) for call in calls]
    waiting = len(tasks)
    try:
        while waiting:
            event = await events.get()
            if isinstance(event, BaseException):
                raise event
            waiting -= isinstance(event, Done)
            yield event
    finally:
        for task in tasks:
            task.cancel()


class RemoteError(Exception):
    """What a server answered instead of an answer.

    Attributes:
        retry: Whether another try may help.
        retry_after: The server's word on when, as it sent it.
        refused: Whether it refuses what the request says, so that another request may be answered.
    """

    def __init__(self, message: str, *, retry: bool, retry_after: str | None = None, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused
        self.retry = retry
        self.retry_after = retry_after

    @classmethod
    def of_status(cls, server: str | None, status: int, words: object, retry_after: str | None) -> RemoteError:
        """The error of an HTTP status, with the server's words on one line of at most 200 characters."""
        text = f"{server} answered {status}: {' '.join(str(words).split())[:200]}"
        return cls(text, retry=status == 429 or status >= 500, retry_after=retry_after, refused=status in (400, 422))


def api_key(spec: ExpertSpec) -> str | None:
    """Read the key of a remote expert from its environment variable.

    Raises:
        EngineError: The variable is named but not set.
    """
    if spec.api_key_env is None:
        return None
    key = os.environ.get(spec.api_key_env, "").strip()
    if not key:
        raise EngineError(f"the expert {spec.name!r} needs a key: set the environment variable {spec.api_key_env}")
    if not (key.isascii() and key.isprintable()):  # else the HTTP library would refuse it, and show it
        raise EngineError(f"the environment variable {spec.api_key_env} holds no key: it has characters that a header cannot")
    return key


def pause_s(attempt: int, retry_after: str | None) -> float:
    """Seconds until the next try: what the server asks for, at most 30, else doubling from a half with jitter.

    Example:
        >>> pause_s(0, "2")
        2.0
        >>> 0.25 <= pause_s(0, None) <= 0.5
        True
    """
    try:
        return min(30.0, max(0.0, float(retry_after))) if retry_after is not None else 0.5 * 2**attempt * random.uniform(0.5, 1)
    except ValueError:  # a date: rare, and not worth a parser
        return 5.0


class RemoteEngine(ABC):
    """Ask experts that run elsewhere.

    Args:
        specs: The experts.
        concurrency: Largest number of calls under way at once.
    """

    memory_bytes = 0

    def __init__(self, specs: Sequence[ExpertSpec], concurrency: int = 16) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self._limit = asyncio.Semaphore(concurrency)
        self._open = False
        self._silent: set[str] = set()

    async def start(self) -> None:
        """Check the keys and open the connections."""
        for spec in self.specs.values():
            api_key(spec)
        self._open = True

    @abstractmethod
    def _ask(self, spec: ExpertSpec, call: Call) -> AsyncIterator[str | End]:
        """Yield the answer piece by piece, last how it ended; raise `RemoteError` where it fails."""

    async def _asked(self, spec: ExpertSpec, call: Call) -> AsyncIterator[str | End]:
        """Ask; a server that refuses to tell log-probabilities is asked without them, and remembered where that helps."""
        plain = replace(call, sampling=replace(call.sampling, choices=()))
        if not call.sampling.choices or spec.name in self._silent:
            async for piece in self._ask(spec, plain):
                yield piece
            return
        try:
            async for piece in self._ask(spec, call):
                yield piece
        except RemoteError as failure:
            if not failure.refused:
                raise
            async for piece in self._ask(spec, plain):
                yield piece
            self._silent.add(spec.name)

    async def generate(self, calls: Sequence[Call]) -> AsyncIterator[Event]:
        """Ask for all answers at once."""
        if not self._open:
            raise EngineError(f"the engine of {', '.join(self.specs)} is not running: start it first")
        async for event in together(calls, self._answer):
            yield event

    async def _answer(self, call: Call, put: Put) -> None:
        spec, start = self.specs[call.expert], time.monotonic()
        error = ""
        async with self._limit:
            for attempt in range(RETRIES + 1):
                said = ""
                try:
                    async with asyncio.timeout(spec.timeout_s):
                        async for piece in self._asked(spec, call):
                            if isinstance(piece, str):
                                said += piece
                                put(Delta(call.id, piece))
                            else:
                                answer = Answer(said.strip(), call.expert, piece.usage, piece.reason, time.monotonic() - start)
                                more = {name: getattr(piece, name) for name in ("logprobs", "tool_calls", "tokens")}
                                put(Done(call.id, replace(answer, **more)))
                    return
                except TimeoutError:
                    error = f"{spec.api_base or spec.model} did not answer within {spec.timeout_s:g} s"
                    break
                except RemoteError as failure:
                    error = str(failure)
                    if not failure.retry or said or attempt == RETRIES:  # words that have gone out cannot be taken back
                        break
                    await asyncio.sleep(pause_s(attempt, failure.retry_after))
        put(Done(call.id, Answer.failed(call.expert, error, time.monotonic() - start)))

    async def sleep(self, level: int = 1) -> None:  # noqa: B027
        """Nothing of ours is in memory."""

    async def wake(self) -> None:  # noqa: B027
        """Nothing to do."""

    async def stop(self) -> None:
        """Close the connections."""
        self._open = False
