"""Words on their way from a slot straight to whoever reads them there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from data.records import Delta, Done
from experts.base import Event

FLUSH_S = 0.05
"""Words travel together for at least this long, so that a batch does not send one message a token."""
MESSAGES_PER_S = 80
"""Messages with words that a slot sends at most: each costs it about a millisecond, so with many calls words travel together for longer."""
SLOWEST_FLUSH_S = 0.25
KEPT_S = 60.0
"""Seconds that the words of a call are kept after its end for a reader who has not come."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a call has started.

    Attributes:
        call_id: The call.
        slot: Handle of the slot's actor.
        sent: What the slot knows the call by.
    """

    call_id: str
    slot: Any
    sent: str


class Outboxes:
    """One queue of events a call, made by the writer or the reader, whoever comes first."""

    def __init__(self) -> None:
        self._boxes: dict[str, asyncio.Queue[Event | Exception]] = {}

    def __len__(self) -> int:
        return len(self._boxes)

    def put(self, sent: str, event: Event | Exception) -> None:
        """Leave an event for a call's reader; after the last one nobody is waited for longer than a minute."""
        self._box(sent).put_nowait(event)
        if not isinstance(event, Delta):
            asyncio.get_running_loop().call_later(KEPT_S, self._boxes.pop, sent, None)

    def _box(self, sent: str) -> asyncio.Queue[Event | Exception]:
        return self._boxes.setdefault(sent, asyncio.Queue())

    async def read(self, sent: str) -> AsyncIterator[list[Event]]:
        """Yield a call's events in small bundles, to its end.

        Raises:
            Exception: What ended its engine.
        """
        box, last = self._box(sent), 0.0  # the first word goes out at once
        try:
            while True:
                bundle: list[Event] = []
                for event in await gather(box, last, flush_s(len(self._boxes))):
                    if isinstance(event, Exception):
                        raise event
                    bundle.append(event)
                yield bundle
                if isinstance(bundle[-1], Done):
                    return
                last = time.monotonic()
        finally:
            self._boxes.pop(sent, None)


def flush_s(calls: int) -> float:
    """Seconds for which words travel together in a slot that answers some calls at once."""
    return max(FLUSH_S, min(calls / MESSAGES_PER_S, SLOWEST_FLUSH_S))


async def gather(events: asyncio.Queue[Event | Exception], last: float, flush_s: float) -> list[Event | Exception]:
    """Wait for an event, and for more words until a bundle is due; the end of a call never waits.

    Args:
        events: Where they come.
        last: When the bundle before went out, by the monotonic clock.
        flush_s: Seconds between bundles of words.
    """
    bundle = [await events.get()]
    while True:
        while not events.empty():
            bundle.append(events.get_nowait())
        pause = flush_s - (time.monotonic() - last)
        if pause <= 0 or not all(isinstance(event, Delta) for event in bundle):
            return bundle
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                bundle.append(await events.get())


def without_words(event: Done) -> Done:
    """The end of a call as the pool needs it: its figures, for the words went elsewhere."""
    return replace(event, answer=replace(event.answer, text="", logprobs=(), tool_calls=(), tokens=()))
