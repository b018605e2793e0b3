"""What one process of the endpoint has counted since it started."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate

from data.records import Usage

BOUNDS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the classes that seconds are counted in."""


@dataclass(slots=True)
class Seconds:
    """Lengths of time, counted by class.

    Attributes:
        counts: Those up to each of `BOUNDS_S` and above the one before; last, those above all.
        sum_s: Their sum.

    Example:
        >>> took = Seconds()
        >>> took.add(0.003)
        >>> took.classes()[:3]
        [('0.001', 0), ('0.005', 1), ('0.01', 1)]
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def classes(self) -> list[tuple[str, int]]:
        """How many there are up to each bound, as Prometheus wants them."""
        return [*zip([*map(str, BOUNDS_S), "+Inf"], accumulate(self.counts), strict=True)]


@dataclass(slots=True)
class Figures:
    """What the endpoint has done in this process.

    Attributes:
        requests: Requests by path, status and model.
        seconds: How long they took, by path.
        first_token: Seconds to the first token of streams, by model.
        aggregation: Seconds of aggregators, by kind, with the calls that they make.
        prompt_tokens: Tokens read, by expert.
        completion_tokens: Tokens written, by expert.
        usd: US dollars spent, by expert.
        refused: Requests that ended in an error, by its kind.
        running: Requests that are being answered.

    Example:
        >>> figures = Figures()
        >>> figures.called("a", Usage(10, 2))
        >>> figures.prompt_tokens["a"]
        10
    """

    requests: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    seconds: defaultdict[str, Seconds] = field(default_factory=lambda: defaultdict(Seconds))
    first_token: defaultdict[str, Seconds] = field(default_factory=lambda: defaultdict(Seconds))
    aggregation: defaultdict[str, Seconds] = field(default_factory=lambda: defaultdict(Seconds))
    prompt_tokens: Counter[str] = field(default_factory=Counter)
    completion_tokens: Counter[str] = field(default_factory=Counter)
    usd: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    refused: Counter[str] = field(default_factory=Counter)
    running: int = 0

    def called(self, expert: str, usage: Usage) -> None:
        """Count what a call of an expert took."""
        self.prompt_tokens[expert] += usage.prompt_tokens
        self.completion_tokens[expert] += usage.completion_tokens
        self.usd[expert] += usage.cost_usd

    @contextmanager
    def aggregating(self, kind: str) -> Iterator[None]:
        """Count how long an aggregator takes."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.aggregation[kind].add(time.monotonic() - began)
