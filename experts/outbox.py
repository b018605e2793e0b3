"""Words on their way from a slot straight to whoever reads them there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from data.records import Delta, Done
from experts.base import Event

FLUSH_S = 0.05
"""Events travel together for this long, so that a batch does not send one message a token."""
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
        box = self._box(sent)
        bundle: list[Event] = []
        last = 0.0  # the first word goes out at once
        try:
            while True:
                event = await box.get()
                if isinstance(event, Exception):
                    raise event
                bundle.append(event)
                ended = isinstance(event, Done)
                if not ended and not box.empty():
                    continue
                pause = FLUSH_S - (time.monotonic() - last)
                if pause > 0 and not ended:
                    await asyncio.sleep(pause)
                    if not box.empty():
                        continue
                yield bundle
                if ended:
                    return
                bundle, last = [], time.monotonic()
        finally:
            self._boxes.pop(sent, None)


def without_words(event: Done) -> Done:
    """The end of a call as the pool needs it: its figures, for the words went elsewhere."""
    return replace(event, answer=replace(event.answer, text="", logprobs=(), tool_calls=(), tokens=()))
