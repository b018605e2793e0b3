"""What the pool did lately: samples of its figures, taken every two seconds while the gateway runs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

EVERY_S = 2.0
"""Seconds between two samples."""
KEPT_S = 600.0
"""Seconds that samples are kept."""
RECENT_S = 60.0
"""Seconds over which tokens per second are told."""

Figures = Mapping[str, Any]
"""What `experts.snapshot.snapshot` gives."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The pool at one moment, and what it did since the sample before.

    Attributes:
        at: When, in seconds since 1970.
        clock: The same on a clock that only goes up.
        waiting: Calls that wait, by expert; experts without any are left out, here and below.
        running: Calls that run, by expert.
        swaps: Loads and wakes since the sample before.
        refused: Calls refused since then.
        tokens_per_s: Tokens generated per second since then, by expert.
        tokens: Tokens generated since the pool was started, by expert.
        counted: Loads and wakes, and refusals, since the pool was started.
    """

    at: float
    clock: float
    waiting: Mapping[str, int]
    running: Mapping[str, int]
    swaps: int
    refused: int
    tokens_per_s: Mapping[str, float]
    tokens: Mapping[str, int]
    counted: tuple[int, int]

    def json(self) -> dict[str, Any]:
        """What is told of it."""
        shown = ("at", "waiting", "running", "swaps", "refused", "tokens_per_s")
        return {name: getattr(self, name) for name in shown}


class History:
    """Take samples of a pool's figures, and forget them after a while.

    Args:
        read: Gives the figures.
        every_s: Seconds between two samples.
        kept_s: Seconds that samples are kept; how many that can be bounds the memory.
        clock: Seconds that only go up.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[Figures]],
        *,
        every_s: float = EVERY_S,
        kept_s: float = KEPT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.every_s = every_s
        self._read = read
        self._clock = clock
        self._samples: deque[Sample] = deque(maxlen=max(1, round(kept_s / every_s)))
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take samples."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Take no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                self.take(await self._read())
            except Exception as error:  # a pool that cannot be reached now leaves a gap, and may be there again
                logging.getLogger(__name__).debug("no sample of the pool: %s", error)
            await asyncio.sleep(self.every_s)

    def take(self, figures: Figures) -> Sample:
        """Keep a sample of figures."""
        clock = self._clock()
        tokens = {name: int(each["tokens"]) for name, each in figures["experts"].items()}
        counters = figures["counters"]
        counted = (int(counters["swaps"]), int(counters["refused"]))
        before = self._samples[-1] if self._samples else None
        swaps, refused = (0, 0) if before is None else (since(old, new) for old, new in zip(before.counted, counted, strict=True))
        rates = {} if before is None else _rates(before, tokens, clock)
        sample = Sample(
            at=round(float(figures["at"]), 3),
            clock=clock,
            waiting={name: each["waiting"] for name, each in figures["experts"].items() if each["waiting"]},
            running={name: each["running"] for name, each in figures["experts"].items() if each["running"]},
            swaps=swaps,
            refused=refused,
            tokens_per_s={name: rate for name, rate in rates.items() if rate},
            tokens=tokens,
            counted=counted,
        )
        self._samples.append(sample)
        return sample

    def samples(self, after: float = 0.0) -> list[dict[str, Any]]:
        """The samples, oldest first; those after a time, in seconds since 1970."""
        return [sample.json() for sample in self._samples if sample.at > after]

    def recent(self, figures: Figures) -> dict[str, Any]:
        """Tokens per second over the last minute, or as long as samples were taken.

        Args:
            figures: The pool's figures now.
        """
        clock = self._clock()
        first = next((sample for sample in self._samples if clock - sample.clock <= RECENT_S), None)
        if first is None:
            return {"seconds": 0.0, "tokens_per_s": 0.0, "experts": {}}
        rates = _rates(first, {name: int(each["tokens"]) for name, each in figures["experts"].items()}, clock)
        return {"seconds": round(clock - first.clock, 3), "tokens_per_s": round(sum(rates.values()), 3), "experts": rates}


def since(old: int, new: int) -> int:
    """What was counted since then; a counter that went back began anew.

    Example:
        >>> since(3, 5), since(3, 1)
        (2, 1)
    """
    return new - old if new >= old else new


def _rates(before: Sample, tokens: Mapping[str, int], clock: float) -> dict[str, float]:
    """Tokens per second since a sample, by expert."""
    seconds = max(clock - before.clock, 1e-3)
    return {name: round(since(before.tokens.get(name, 0), count) / seconds, 3) for name, count in tokens.items()}
