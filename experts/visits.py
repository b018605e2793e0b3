"""Visits of experts to slots: which calls one serves from a time on, and the stays that a search over schedules looks at."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import inf

import numpy as np

PATIENCE = (0.0, 0.5, 1.0, 2.5, 6.0)
"""How long a visit waits for calls once one lane has none, in mean service times."""
LENGTHS = (1.0, 1.5, 2.2, 3.0)
"""Ends of visits that refuse the calls which would run longer, in mean service times."""
PARTS = (2, 4)
"""Parts of a queue that a visit serves, in lanes."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Calls, slots and costs, all known beforehand.

    Attributes:
        arrivals: For each expert, the times of its calls in seconds, ascending.
        seconds: For each expert, the seconds that each takes.
        slots: Number of slots; each holds one expert at a time, and no two hold the same.
        lanes: Calls that run at once in a slot.
        swap_s: Seconds of a swap.
        max_wait_s: A call starts within so many seconds or is refused; infinite serves all.
    """

    arrivals: tuple[tuple[float, ...], ...]
    seconds: tuple[tuple[float, ...], ...]
    slots: int
    lanes: int
    swap_s: float
    max_wait_s: float = inf

    @classmethod
    def of(
        cls,
        arrivals: np.ndarray,
        seconds: np.ndarray,
        experts: np.ndarray,
        *,
        slots: int,
        lanes: int,
        swap_s: float,
        max_wait_s: float = inf,
    ) -> Problem:
        """Sort calls, shape (n,) each and ascending in time, by expert."""
        groups = [experts == expert for expert in np.unique(experts)]
        times, lengths = (tuple(tuple(values[group].tolist()) for group in groups) for values in (arrivals, seconds))
        return cls(times, lengths, slots, lanes, swap_s, max_wait_s)

    @property
    def calls(self) -> int:
        """Number of calls."""
        return sum(map(len, self.arrivals))

    @property
    def mean_s(self) -> float:
        """Mean seconds of a call."""
        return sum(map(sum, self.seconds)) / self.calls


@dataclass(frozen=True, slots=True)
class Visit:
    """One stay of an expert in a slot.

    Attributes:
        expert: The expert.
        end: When its last call has ended.
        taken: Calls of the expert that are done with then, in order of arrival: served or refused.
        lost: The refused ones among them.
        waits: Seconds that each served one waited.
        busy: Seconds of service.
    """

    expert: int
    end: float
    taken: int
    lost: int
    waits: tuple[float, ...]
    busy: float


def visits(problem: Problem, expert: int, at: int, begin: float, mean: float) -> Iterator[Visit]:
    """Give stays worth looking at: to the end of the queue and some patience, for a part of it, or up to a time.

    Args:
        problem: The calls.
        expert: The expert.
        at: Number of its first call that is not done with.
        begin: When it is awake, in seconds.
        mean: Mean seconds of a call.
    """
    row = problem.arrivals[expert]
    yield from serve(problem, expert, at, begin, tuple(times * mean for times in PATIENCE))
    for part in (parts * problem.lanes for parts in PARTS):
        if at + part < len(row) and row[at + part] <= begin:
            yield from serve(problem, expert, at, begin, (inf,), stop=at + part)
    if problem.max_wait_s < inf:
        for times in LENGTHS:
            yield from serve(problem, expert, at, begin, (inf,), until=begin + times * mean)


def all_visits(problem: Problem, expert: int, at: int, begin: float) -> Iterator[Visit]:
    """Give every stay: each choice of calls to serve, those between them refused; only where a bound lets calls be refused."""
    end = len(problem.arrivals[expert])
    for last in range(at, end):
        between = range(at, last)
        for refused in range(last - at + 1 if problem.max_wait_s < inf else 1):
            for skipped in combinations(between, refused):
                for visit in serve(problem, expert, at, begin, (inf,), stop=last + 1, skipped=skipped):
                    if visit.lost == refused and visit.taken == last + 1 - at:
                        yield visit


def serve(
    problem: Problem,
    expert: int,
    at: int,
    begin: float,
    patience: tuple[float, ...],
    *,
    stop: int | None = None,
    until: float = inf,
    skipped: tuple[int, ...] = (),
) -> Iterator[Visit]:
    """Serve an expert's calls in order of arrival, each as soon as it can start, and give the visit as it stands at some times.

    A visit ends with a served call: the refused ones after it are left for later.

    Args:
        problem: The calls.
        expert: The expert.
        at: Number of its first call.
        begin: When it is awake, in seconds.
        patience: Give the visit when no call has come for so many seconds since a lane had none, ascending.
        stop: Number of the first call that it leaves; None leaves none.
        until: Calls that would end later are refused.
        skipped: Calls to refuse.
    """
    row, seconds, wait = problem.arrivals[expert], problem.seconds[expert], problem.max_wait_s
    lanes, busy = [begin] * problem.lanes, 0.0
    waits: list[float] = []
    end, empty, step, lost = begin, inf, 0, 0
    taken, given = (0, 0), (0, 0)  # calls done with and refused, up to the last that was served
    for place in range(at, len(row) if stop is None else stop):
        arrival, start = row[place], lanes[0]
        if arrival > start:
            empty = min(empty, start)
            while step < len(patience) and arrival > empty + patience[step]:
                if taken > given:
                    yield Visit(expert, end, *taken, tuple(waits), busy)
                    given = taken
                step += 1
            if step == len(patience):
                return
            start = arrival
        if start >= until:
            break
        if start > arrival + wait or start + seconds[place] > until or place in skipped:
            lost += 1
            continue
        heapq.heapreplace(lanes, start + seconds[place])
        end = max(end, start + seconds[place])
        busy += seconds[place]
        waits.append(start - arrival)
        taken = (place + 1 - at, lost)
    if taken > given:
        yield Visit(expert, end, *taken, tuple(waits), busy)
