"""The yardstick: a schedule found by a search that knows the whole trace, and what no schedule can undercut."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

import numpy as np


PRE = 1000
WORK = 0.6
"""Calls that one undone call is taken to cost later, while states are compared."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Calls, slots and costs, all known beforehand.

    Attributes:
        arrivals: For each expert, the times of its calls, ascending.
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
    def of(cls, arrivals: np.ndarray, seconds: np.ndarray, experts: np.ndarray, **settings: float) -> Problem:
        """Sort calls, shape (n,) each, by expert."""
        names = range(int(experts.max()) + 1)
        return cls(
            tuple(tuple(arrivals[experts == e].tolist()) for e in names),
            tuple(tuple(seconds[experts == e].tolist()) for e in names),
            **settings,  # type: ignore[arg-type]
        )

    @property
    def calls(self) -> int:
        """Number of calls."""
        return sum(map(len, self.arrivals))


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a search found.

    Attributes:
        swaps: Experts brought into slots.
        refused: Calls refused.
        waits: Seconds that each served call waited, shape (n - refused,).
        visits: Slot, expert and begin of each visit.
    """

    swaps: int
    refused: int
    waits: np.ndarray
    visits: tuple[tuple[int, int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class _Visit:
    """One stay of an expert in a slot: which calls it served, and when it was over."""

    slot: int
    expert: int
    begin: float
    end: float
    taken: int
    lost: int
    waits: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _State:
    free: tuple[float, ...]
    held: tuple[int, ...]
    next: tuple[int, ...]
    lost: int
    swaps: int
    waited: float
    visit: _Visit | None
    before: _State | None


def search(problem: Problem, *, swap_price: float = 0.0, wait_price: float = 0.0, width: int = 16, whole: bool = False) -> Schedule:
    """Look for the schedule that refuses least, by a beam search over visits.

    Whenever a slot is free, the states that are kept branch on which expert it brings and how long it stays: until its queue is
    empty, or some seconds more, or for a part of what waits. Calls of one expert start in order of arrival.

    Args:
        problem: The calls.
        swap_price: What a swap costs, in refused calls.
        wait_price: What a second of waiting costs, in refused calls.
        width: States kept in each stretch of time.
        whole: Keep all states and branch on every number of calls and every refusal: exact, for a handful of calls.
    """
    experts = len(problem.arrivals)
    mean = float(np.mean([s for row in problem.seconds for s in row]))
    start = _State((0.0,) * problem.slots, (-1,) * problem.slots, (0,) * experts, 0, 0, 0.0, None, None)
    step = inf if whole else max(problem.swap_s, mean)
    buckets: dict[int, list[tuple[float, _State]]] = {0: [(0.0, start)]}
    order, best = [0], None
    best_cost = inf
    while order:
        key = heapq.heappop(order)
        states = buckets.pop(key)
        if not whole:
            states = _few(states, PRE * width)
            if len(states) > 1:
                until = max(min(state.free) for _, state in states) + 25 * (problem.swap_s + mean)
                ends = ((_play(problem, state, until, mean), state) for _, state in states)
                states = _few([(_score(problem, end, until, swap_price, wait_price, mean), state) for end, state in ends], width)
        for _, state in states:
            grown = False
            for child in _branch(problem, state, mean, whole):
                grown = True
                at = key + 1 if whole else max(key + 1, int(min(child.free) / step))
                if at not in buckets:
                    heapq.heappush(order, at)
                    buckets[at] = []
                buckets[at].append((_score(problem, child, min(child.free), swap_price, wait_price, mean), child))
            if not grown or whole:
                left = sum(len(row) - at for row, at in zip(problem.arrivals, state.next, strict=True))
                if left and problem.max_wait_s == inf:
                    continue
                cost = state.lost + left + swap_price * state.swaps + wait_price * state.waited
                if cost < best_cost - 1e-12:
                    best, best_cost = (state, left), cost
    assert best is not None
    return _schedule(*best)


def _few(states: list[tuple[float, _State]], width: int) -> list[tuple[float, _State]]:
    """The best states of a stretch of time, of those with equal places the best one."""
    seen, kept = set(), []
    for score, state in sorted(states, key=lambda pair: pair[0]):
        place = (state.held, state.next)
        if place not in seen:
            seen.add(place)
            kept.append((score, state))
            if len(kept) == width:
                break
    return kept


def _score(problem: Problem, state: _State, now: float, swap_price: float, wait_price: float, mean: float) -> float:
    """The price of a state: what it cost, what it has surely lost, and what the work that is left undone will cost."""
    lost, calls, groups, waited = state.lost, 0, 0, state.waited
    for row, at in zip(problem.arrivals, state.next, strict=True):
        if at < len(row) and row[at] <= now:
            arrived = bisect_right(row, now, at)
            expired = bisect_right(row, now - problem.max_wait_s, at)
            lost += expired - at
            calls += arrived - expired
            groups += arrived > expired
            if wait_price:
                waited += (arrived - expired) * now - sum(row[expired:arrived])
    busy = sum(max(0.0, free - now) for free in state.free) * problem.lanes / mean
    price = lost + swap_price * state.swaps + WORK * (calls + busy)
    if wait_price:
        each = ((calls + busy) * mean / problem.lanes + groups * (problem.swap_s + mean)) / problem.slots / 2
        price += wait_price * (waited + (calls + busy) * each)
    return price


def _play(problem: Problem, state: _State, until: float, mean: float) -> _State:
    """Go on from a state by a simple rule up to a time, so that states can be compared there."""
    free, held, places = list(state.free), list(state.held), list(state.next)
    lost, swaps, waited = state.lost, state.swaps, state.waited
    rows, wait = problem.arrivals, problem.max_wait_s
    while (now := min(free)) < until:
        slot = free.index(now)
        best, most = -1, -1.0
        for expert, row in enumerate(rows):
            at = places[expert]
            if at < len(row) and row[at] <= now and (expert not in held or expert == held[slot]):
                if wait < inf:
                    gone = bisect_right(row, now + problem.swap_s - wait, at)
                    lost += gone - at
                    places[expert] = at = gone
                arrived = bisect_right(row, now, at)
                if arrived == at:
                    continue
                worth = ((arrived - at) * now - sum(row[at:arrived])) * (now - row[at]) ** 0.5 if wait == inf else float(arrived - at)
                if expert == held[slot]:
                    worth *= 0.5
                if worth > most:
                    best, most = expert, worth
        if best < 0:
            free[slot] = min((row[at] for row, at in zip(rows, places, strict=True) if at < len(row) and row[at] > now), default=until)
            free[slot] = max(free[slot], now + 0.5)
            continue
        begin = now if held[slot] == best else now + problem.swap_s
        swaps += held[slot] != best
        held[slot] = best
        for visit in _serve(problem, slot, best, places[best], begin, (mean / 2,), inf, len(rows[best])):
            free[slot], places[best] = visit.end, places[best] + visit.taken
            lost += visit.lost
            if wait == inf:
                taken = rows[best][places[best] - visit.taken : places[best]]
                waited += sum(min(w, max(0.0, until - a)) for w, a in zip(visit.waits, taken, strict=True))
            break
        else:
            free[slot] = begin
    return _State(tuple(free), tuple(held), tuple(places), lost, swaps, waited, None, None)


def _branch(problem: Problem, state: _State, mean: float, whole: bool) -> Iterator[_State]:
    slot = min(range(problem.slots), key=state.free.__getitem__)
    now = state.free[slot]
    others = [expert for at, expert in enumerate(state.held) if at != slot]
    waiting = {expert for expert, row in enumerate(problem.arrivals) if state.next[expert] < len(row) and row[state.next[expert]] <= now}
    stay_away = state.held[slot] if waiting - {*others, state.held[slot]} and not whole else -1  # how long to stay was chosen before
    for expert, row in enumerate(problem.arrivals):
        at = state.next[expert]
        if at >= len(row) or expert in others or expert == stay_away:
            continue
        if whole:
            yield _State(state.free, state.held, _bump(state.next, expert, 1), state.lost + 1, state.swaps, state.waited, None, state)
        begin = now if state.held[slot] == expert else now + problem.swap_s
        for visit in _visits(problem, slot, expert, at, begin, mean, whole):
            free, held = list(state.free), list(state.held)
            free[slot], held[slot] = visit.end, expert
            yield _State(
                tuple(free),
                tuple(held),
                _bump(state.next, expert, visit.taken),
                state.lost + visit.lost,
                state.swaps + (state.held[slot] != expert),
                state.waited + sum(visit.waits),
                visit,
                state,
            )
    if whole and problem.slots > 1:  # this slot stays as it is until another is free
        later = sorted({free for free in state.free if free > now})
        if later:
            free = list(state.free)
            free[slot] = later[0]
            yield _State(tuple(free), state.held, state.next, state.lost, state.swaps, state.waited, None, state)


def _bump(places: tuple[int, ...], expert: int, calls: int) -> tuple[int, ...]:
    return (*places[:expert], places[expert] + calls, *places[expert + 1 :])


def _visits(problem: Problem, slot: int, expert: int, at: int, begin: float, mean: float, whole: bool) -> Iterator[_Visit]:
    """The stays that a search looks at."""
    if whole:
        for calls in range(1, len(problem.arrivals[expert]) - at + 1):
            yield from _serve(problem, slot, expert, at, begin, (inf,), inf, at + calls)
        return
    if problem.arrivals[expert][at] > begin + 2 * problem.swap_s:
        return  # nothing to do there for long
    patience = (0.0, mean / 2, mean, 2.5 * mean, 6 * mean)
    yield from _serve(problem, slot, expert, at, begin, patience, inf, len(problem.arrivals[expert]))
    if problem.max_wait_s < inf:
        yield from _serve(problem, slot, expert, at, begin, patience, 3.0 * mean, len(problem.arrivals[expert]))
    for part in (2 * problem.lanes, 4 * problem.lanes):
        if at + part < len(problem.arrivals[expert]) and problem.arrivals[expert][at + part] <= begin:
            yield from _serve(problem, slot, expert, at, begin, (inf,), inf, at + part)


def _serve(
    problem: Problem, slot: int, expert: int, at: int, begin: float, patience: tuple[float, ...], longest: float, stop: int
) -> Iterator[_Visit]:
    """Serve an expert's calls in order, and give the visit as it stands some times after its queue was first empty.

    Calls that take longer than `longest` seconds are refused.
    """
    row, seconds, wait = problem.arrivals[expert], problem.seconds[expert], problem.max_wait_s
    lanes = [begin] * problem.lanes
    waits: list[float] = []
    lost, end, empty, step = 0, begin, inf, 0
    for place in range(at, stop):
        arrival = row[place]
        if empty == inf and arrival > lanes[0]:
            empty = lanes[0]
        while step < len(patience) and arrival > empty + patience[step]:
            if waits:
                yield _Visit(slot, expert, begin, end, place - at, lost, tuple(waits))
            step += 1
        if step == len(patience):
            return
        start = arrival if arrival > lanes[0] else lanes[0]
        if start > arrival + wait or seconds[place] > longest:
            lost += 1
        else:
            finish = start + seconds[place]
            heapq.heapreplace(lanes, finish)
            if finish > end:
                end = finish
            waits.append(start - arrival)
    if waits:
        yield _Visit(slot, expert, begin, end, stop - at, lost, tuple(waits))


def _schedule(state: _State, left: int) -> Schedule:
    visits: list[_Visit] = []
    at: _State | None = state
    while at is not None:
        if at.visit is not None:
            visits.append(at.visit)
        at = at.before
    visits.reverse()
    waits = np.array([wait for visit in visits for wait in visit.waits])
    return Schedule(state.swaps, state.lost + left, waits, tuple((v.slot, v.expert, v.begin) for v in visits))
