"""Play a schedule forward by a simple rule, so that states of a search can be compared."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from math import inf

from experts.visits import Problem

AHEAD = (6.0, 12.0)
"""How far states are played forward to be compared, in swaps with a mean call: where calls are refused, and where all wait."""
UNDONE = (0.05, 0.6)
"""Calls that one undone call is taken to cost after that, in the same two cases."""
ROLLED = 0.4
"""Patience of a visit while states are played forward, in mean service times."""
REMEMBERED = 1_000_000
"""Visits of such plays that are remembered at once."""


@dataclass(frozen=True, slots=True)
class Place:
    """What is decided up to some time.

    Attributes:
        free: When each slot is free, in seconds.
        held: The expert that each holds, -1 for none.
        next: Calls of each expert that are done with.
        lost: Calls refused.
        swaps: Experts brought into slots.
        waited: Seconds that the served calls waited, summed.
    """

    free: tuple[float, ...]
    held: tuple[int, ...]
    next: tuple[int, ...]
    lost: int = 0
    swaps: int = 0
    waited: float = 0.0


class Rollout:
    """The price of a state: what it will have cost at some later time, if a simple rule goes on from it.

    A slot that is free brings the expert with most calls waiting, or where none is refused, with most waiting so far.

    Args:
        problem: The calls.
        swap_price: What a swap costs, in refused calls.
        wait_price: What a second of waiting costs, in refused calls.
    """

    def __init__(self, problem: Problem, swap_price: float, wait_price: float) -> None:
        self.problem, self.swap_price, self.wait_price = problem, swap_price, wait_price
        self.mean, self.bounded = problem.mean_s, problem.max_wait_s < inf
        self.ahead = AHEAD[not self.bounded] * (problem.swap_s + self.mean)
        self.sums = [[0.0, *accumulate(row)] for row in problem.arrivals]
        self.served: dict[tuple[int, int, float], tuple[float, int, int, float]] = {}

    def cost(self, lost: int, swaps: int, waited: float) -> float:
        """What refused calls, swaps and seconds of waiting cost together, in refused calls."""
        return lost + self.swap_price * swaps + self.wait_price * waited

    def price(self, state: Place, until: float) -> float:
        """Go on from a state by a simple rule up to a time, and give what it has cost then and what is left undone will cost."""
        rows, sums, swap, wait = self.problem.arrivals, self.sums, self.problem.swap_s, self.problem.max_wait_s
        free, held, places, bounded = list(state.free), list(state.held), list(state.next), self.bounded
        lost, swaps, waited = state.lost, state.swaps, state.waited
        experts = range(len(rows))
        if len(self.served) > REMEMBERED:
            self.served.clear()
        while (now := min(free)) < until:
            slot = free.index(now)
            mine, best, most, coming = held[slot], -1, 0.0, until
            for expert in experts:
                row, at = rows[expert], places[expert]
                if at == len(row):
                    continue
                if row[at] > now:
                    coming = min(coming, row[at])
                    continue
                if expert != mine and expert in held:
                    continue
                if bounded and row[at] <= now + swap - wait:
                    gone = bisect_right(row, now + swap - wait, at)
                    lost += gone - at
                    places[expert] = at = gone
                calls = bisect_right(row, now, at) - at
                if not calls:
                    continue
                worth = float(calls) if bounded else (calls * now - sums[expert][at + calls] + sums[expert][at]) * (now - row[at]) ** 0.5
                if expert == mine:
                    worth *= 0.5
                if worth > most:
                    best, most = expert, worth
            if best < 0:
                free[slot] = max(coming, now + 0.1 * self.mean)
                continue
            if mine != best:
                now += swap
                swaps += 1
                held[slot] = best
            free[slot], taken, refused, seconds = self._serve(best, places[best], now)
            places[best] += taken
            lost += refused
            waited += seconds
        return self._rest(until, free, places, lost, swaps, waited)

    def _serve(self, expert: int, at: int, begin: float) -> tuple[float, int, int, float]:
        """A visit of such a play: its end, the calls done with, the refused among them, and the seconds that the others waited."""
        key = (expert, at, begin)
        if (known := self.served.get(key)) is not None:
            return known
        row, seconds, wait = self.problem.arrivals[expert], self.problem.seconds[expert], self.problem.max_wait_s
        lanes, until = [begin] * self.problem.lanes, inf
        end, place, lost, waited = begin, at, 0, 0.0
        while place < len(row):
            arrival, start = row[place], lanes[0]
            if arrival > start:
                until = min(until, start + ROLLED * self.mean)
                if arrival > until:
                    break
                start = arrival
            place += 1
            if start > arrival + wait:
                lost += 1
                continue
            finish = start + seconds[place - 1]
            heapq.heapreplace(lanes, finish)
            end = max(end, finish)
            waited += start - arrival
        self.served[key] = made = (end, place - at, lost, waited)
        return made

    def _rest(self, now: float, free: list[float], places: list[int], lost: int, swaps: int, waited: float) -> float:
        """What a state has cost at a time, with what it has surely lost and what the work that is left undone will cost."""
        problem, calls, groups = self.problem, 0, 0
        for row, at, sums in zip(problem.arrivals, places, self.sums, strict=True):
            if at < len(row) and row[at] <= now:
                arrived = bisect_right(row, now, at)
                expired = bisect_right(row, now - problem.max_wait_s, at) if self.bounded else at
                lost += expired - at
                calls += arrived - expired
                groups += arrived > expired
                waited += (arrived - expired) * now - sums[arrived] + sums[expired]
        undone = calls + sum(max(0.0, time - now) for time in free) * problem.lanes / self.mean
        each = (undone * self.mean / problem.lanes + groups * (problem.swap_s + self.mean)) / problem.slots / 2
        return self.cost(lost, swaps, waited + undone * each) + UNDONE[not self.bounded] * undone
