"""What the pool has done since it started."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from data.records import Answer

if TYPE_CHECKING:
    from experts.slot import Brought


@dataclass(slots=True)
class PoolStats:
    """What the pool has done since it started.

    Attributes:
        loads: Cold starts of engines in slots.
        wakes: Wakes of engines that slept.
        load_s: Seconds that both took.
        calls: Calls ended, refused ones included.
        failed: Calls that ended in an error.
        refused: Calls refused on arrival.
        late: Accepted calls that could not start in time.
        retried: Calls that were given to an engine again.
        deaths: Engines and slots that ended under their calls.
        recovery_s: For each death, the seconds until its engine answered again.
        wait_s: Seconds that calls waited for their start, summed.
        max_wait_s: The longest of these waits.
        tokens: Generated tokens, by expert.
        answered: Calls answered, by expert.
        waits: The latest waits, in seconds.
    """

    loads: int = 0
    wakes: int = 0
    load_s: float = 0.0
    calls: int = 0
    failed: int = 0
    refused: int = 0
    late: int = 0
    retried: int = 0
    deaths: int = 0
    recovery_s: list[float] = field(default_factory=list)
    wait_s: float = 0.0
    max_wait_s: float = 0.0
    tokens: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    _dead: dict[str, float] = field(default_factory=dict)

    def started(self, expert: str, wait_s: float) -> None:
        """Take note of a call's start."""
        self.wait_s += wait_s
        self.max_wait_s = max(self.max_wait_s, wait_s)

    def brought(self, engine: str, brought: Brought) -> None:
        """Take note of an engine that a slot has brought."""
        self.loads += not brought.woken
        self.wakes += brought.woken
        self.load_s += brought.seconds

    def died(self, engine: str) -> None:
        """Take note of an engine's death."""
        self.deaths += 1
        self._dead.setdefault(engine, time.monotonic())

    def ended(self, engine: str, answer: Answer) -> None:
        """Take note of a call's end."""
        self.calls += 1
        self.failed += answer.error is not None
        self.refused += answer.error_code == "overloaded"
        self.tokens[answer.expert] += answer.usage.completion_tokens
        if answer.error is None:
            self.answered[answer.expert] += 1
            if engine in self._dead:
                self.recovery_s.append(time.monotonic() - self._dead.pop(engine))
