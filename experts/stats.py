"""What the pool has done since it started."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from data.records import Answer

if TYPE_CHECKING:
    from experts.slot import Brought


WAIT_BOUNDS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the classes that waits are counted in."""


@dataclass(slots=True)
class Waits:
    """Waits, counted by their length.

    Attributes:
        counts: Waits up to each of `WAIT_BOUNDS_S` and above the one before; last, those above all.
        sum_s: Their sum.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(WAIT_BOUNDS_S) + 1))
    sum_s: float = 0.0


@dataclass(slots=True)
class PoolStats:
    """What the pool has done since it started.

    Attributes:
        loads: Cold starts of engines in slots.
        wakes: Wakes of engines that slept.
        load_s: Seconds that both took.
        busy_s: Seconds in which slots had calls running, slots summed.
        calls: Calls ended, refused ones included.
        failed: Calls that ended in an error.
        refused: Calls refused on arrival.
        late: Accepted calls that could not start in time.
        retried: Calls that were given to an engine again.
        plans: Placements worked out and applied.
        deaths: Engines and slots that ended under their calls.
        recovery_s: For each death, the seconds until its engine answered again.
        wait_s: Seconds that calls waited for their start, summed.
        max_wait_s: The longest of these waits.
        tokens: Generated tokens, by expert.
        answered: Calls answered, by expert.
        failures: Calls that ended in an error, by expert.
        waits: Waits, by expert.
        bytes: What each engine took when it was last brought.
    """

    loads: int = 0
    wakes: int = 0
    load_s: float = 0.0
    busy_s: float = 0.0
    calls: int = 0
    failed: int = 0
    refused: int = 0
    late: int = 0
    retried: int = 0
    plans: int = 0
    deaths: int = 0
    recovery_s: list[float] = field(default_factory=list)
    wait_s: float = 0.0
    max_wait_s: float = 0.0
    tokens: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    waits: defaultdict[str, Waits] = field(default_factory=lambda: defaultdict(Waits))
    bytes: dict[str, int] = field(default_factory=dict)
    _dead: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def started(self, expert: str, wait_s: float) -> None:
        """Take note of a call's start."""
        self.wait_s += wait_s
        self.max_wait_s = max(self.max_wait_s, wait_s)
        self.waits[expert].counts[bisect_left(WAIT_BOUNDS_S, wait_s)] += 1
        self.waits[expert].sum_s += wait_s

    def brought(self, engine: str, brought: Brought) -> None:
        """Take note of an engine that a slot has brought."""
        self.loads += not brought.woken
        self.wakes += brought.woken
        self.load_s += brought.seconds
        self.bytes[engine] = brought.memory_bytes

    def died(self, engine: str) -> None:
        """Take note of an engine's death."""
        self.deaths += 1
        self._dead[engine].append(time.monotonic())

    def ended(self, engine: str, answer: Answer) -> None:
        """Take note of a call's end."""
        self.calls += 1
        self.failed += answer.error is not None
        self.failures[answer.expert] += answer.error is not None
        self.refused += answer.error_code == "overloaded"
        self.tokens[answer.expert] += answer.usage.completion_tokens
        if answer.error is None:
            self.answered[answer.expert] += 1
            if engine in self._dead:
                self.recovery_s += [time.monotonic() - died for died in self._dead.pop(engine)]
