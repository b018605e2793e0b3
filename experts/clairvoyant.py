"""The yardstick: schedules found by a search that knows the whole trace."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

import numpy as np

from experts.rollout import Place, Rollout
from experts.visits import Problem, Visit, all_visits, visits

WIDTH = 8
"""States that are kept in each stretch of time."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a search found.

    Attributes:
        swaps: Experts brought into slots.
        refused: Calls refused.
        waits: Seconds that each served call waited, shape (n - refused,).
        end: When the last call ended, in seconds.
        busy: Seconds of service, all lanes together.
    """

    swaps: int
    refused: int
    waits: np.ndarray
    end: float
    busy: float


@dataclass(frozen=True, slots=True)
class _State(Place):
    """A place with the visit that led there, and the state before it."""

    visit: Visit | None = None
    before: _State | None = None


def search(problem: Problem, *, swap_price: float = 0.0, wait_price: float = 0.0, width: int = WIDTH, whole: bool = False) -> Schedule:
    """Look for the cheapest schedule by a beam search over visits; calls of one expert start in order of arrival.

    Whenever a slot is free, each state that is kept branches on the expert that the slot brings and on how long that stays.
    States of one stretch of time are compared after each was played forward by a simple rule.

    Args:
        problem: The calls.
        swap_price: What a swap costs, in refused calls.
        wait_price: What a second of waiting costs, in refused calls.
        width: States kept in each stretch of time.
        whole: Keep all states and branch on every choice of calls: exact, for a handful of calls.

    Source:
        Bertsekas, Tsitsiklis and Wu 1997, Rollout algorithms for combinatorial optimization.
    """
    return _Search(problem, swap_price, wait_price, width, whole).run()


def fewest_swaps(problem: Problem, refused: int, *, width: int = WIDTH, rounds: int = 5) -> Schedule | None:
    """Look for a schedule with few swaps that refuses at most so many calls; None where none was found.

    Args:
        problem: The calls.
        refused: Calls that it may refuse.
        width: States kept in each stretch of time; a third of it here, because there are several searches.
        rounds: Searches, each at another price of a swap, by bisection.
    """
    best: Schedule | None = None
    low, high = 1.0, 64.0
    for _ in range(rounds):
        price = (low * high) ** 0.5
        found = search(problem, swap_price=price, width=max(1, width // 3))
        if found.refused > refused:
            high = price
            continue
        low = price
        if best is None or found.swaps < best.swaps:
            best = found
    return best


class _Search:
    def __init__(self, problem: Problem, swap_price: float, wait_price: float, width: int, whole: bool) -> None:
        self.problem, self.width, self.whole = problem, width, whole
        self.mean, self.bounded = problem.mean_s, problem.max_wait_s < inf
        self.rollout = Rollout(problem, swap_price, wait_price)

    def run(self) -> Schedule:
        problem = self.problem
        step = max(problem.swap_s, self.mean)
        buckets = {0: [_State((0.0,) * problem.slots, (-1,) * problem.slots, (0,) * len(problem.arrivals))]}
        order, best, least = [0], None, inf
        while order:
            key = heapq.heappop(order)
            for state in self._kept(buckets.pop(key)):
                left = sum(len(row) - at for row, at in zip(problem.arrivals, state.next, strict=True))
                cost = self.rollout.cost(state.lost + left, state.swaps, state.waited)
                if cost < least - 1e-9 and (not left or (self.whole and self.bounded)):
                    best, least = (state, left), cost
                if not left:
                    continue
                for child in self._everything(state) if self.whole else self._branch(state):
                    at = key + 1 if self.whole else max(key + 1, int(min(child.free) / step))
                    if at not in buckets:
                        heapq.heappush(order, at)
                        buckets[at] = []
                    buckets[at].append(child)
        assert best is not None, "every state can be played to its end"
        return _schedule(*best)

    def _kept(self, states: list[_State]) -> list[_State]:
        """The best states of a stretch of time, of those with equal places the best one."""
        places: dict[object, _State] = {}
        for state in states:
            place = (state.free, state.held, state.next)
            other = places.setdefault(place, state)
            if self.rollout.cost(state.lost, state.swaps, state.waited) < self.rollout.cost(other.lost, other.swaps, other.waited):
                places[place] = state
        states = list(places.values())
        if self.whole or len(states) == 1:
            return states
        until = max(min(state.free) for state in states) + self.rollout.ahead
        prices = [self.rollout.price(state, until) for state in states]
        kept: dict[object, _State] = {}
        for number in sorted(range(len(states)), key=prices.__getitem__):
            kept.setdefault((states[number].held, states[number].next), states[number])
            if len(kept) == self.width:
                break
        return list(kept.values())

    def _branch(self, state: _State) -> Iterator[_State]:
        """What the slot that is free first could do."""
        problem, rows = self.problem, self.problem.arrivals
        slot = min(range(problem.slots), key=state.free.__getitem__)
        now, mine = state.free[slot], state.held[slot]
        others = [expert for place, expert in enumerate(state.held) if place != slot]
        lost, places = state.lost, state.next
        if self.bounded:
            places = tuple(bisect_right(row, now - problem.max_wait_s - 1e-9, at) for row, at in zip(rows, places, strict=True))
            lost += sum(places) - sum(state.next)
        coming = [e for e, row in enumerate(rows) if places[e] < len(row) and e not in others]
        waiting = [e for e in coming if rows[e][places[e]] <= now and e != mine]
        soon = max(now + 3 * problem.swap_s, min((rows[e][places[e]] for e in coming), default=inf))
        grown = False
        for expert in coming:
            at = places[expert]
            if rows[expert][at] > soon or (expert == mine and waiting):  # how long to stay was chosen before
                continue
            begin = now if expert == mine else now + problem.swap_s
            for visit in visits(problem, expert, at, begin, self.mean):
                grown = True
                yield _after(state, slot, visit, lost, places)
        if not grown:  # until another slot is free, or what cannot start in time is gone
            free = list(state.free)
            free[slot] = min((time for time in free if time > now), default=now + max(problem.swap_s, self.mean))
            yield _State(tuple(free), state.held, places, lost, state.swaps, state.waited, None, state)

    def _everything(self, state: _State) -> Iterator[_State]:
        """All that the slot that is free first could do."""
        problem = self.problem
        slot = min(range(problem.slots), key=state.free.__getitem__)
        now = state.free[slot]
        for expert, row in enumerate(problem.arrivals):
            if state.next[expert] < len(row) and all(expert != held for place, held in enumerate(state.held) if place != slot):
                begin = now if state.held[slot] == expert else now + problem.swap_s
                for visit in all_visits(problem, expert, state.next[expert], begin):
                    yield _after(state, slot, visit, state.lost, state.next)
        for time in sorted({time for time in state.free if time > now})[:1]:  # nothing, until another slot is free
            free = list(state.free)
            free[slot] = time
            yield _State(tuple(free), state.held, state.next, state.lost, state.swaps, state.waited, None, state)


def _after(state: _State, slot: int, visit: Visit, lost: int, places: tuple[int, ...]) -> _State:
    free, held, after = list(state.free), list(state.held), list(places)
    free[slot], held[slot] = visit.end, visit.expert
    after[visit.expert] += visit.taken
    swaps, waited = state.swaps + (state.held[slot] != visit.expert), state.waited + sum(visit.waits)
    return _State(tuple(free), tuple(held), tuple(after), lost + visit.lost, swaps, waited, visit, state)


def _schedule(state: _State, left: int) -> Schedule:
    made: list[Visit] = []
    at: _State | None = state
    while at is not None:
        if at.visit is not None:
            made.append(at.visit)
        at = at.before
    waits = np.array([wait for visit in reversed(made) for wait in visit.waits])
    end = max((visit.end for visit in made), default=0.0)
    return Schedule(state.swaps, state.lost + left, waits, end, sum(visit.busy for visit in made))
