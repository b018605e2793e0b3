from functools import cache
from math import inf

import numpy as np
import pytest

from experts.bounds import bound_refused, bound_swaps
from experts.clairvoyant import Schedule, fewest_swaps, search
from experts.visits import Problem

TINY = 1e-4
"""Price of a swap under which refused calls count first."""


@cache
def brute_force(problem: Problem) -> tuple[int, int]:
    """The least refused calls, and with these the least swaps: every action at every time at which something happens.

    A slot is (expert, awake from, ends of its running calls, whether it may be left); slots are alike, so they are kept sorted.
    An expert that was brought serves a call before it is left: without that, it would not have been brought.
    """
    rows, seconds, wait = problem.arrivals, problem.seconds, problem.max_wait_s
    times = sorted({time for row in rows for time in row})
    Slot = tuple[int, float, tuple[float, ...], bool]

    @cache
    def best(now: float, slots: tuple[Slot, ...], places: tuple[int, ...]) -> tuple[float, float]:
        if all(place == len(row) for place, row in zip(places, rows, strict=True)):
            return 0, 0
        found = (inf, inf)
        for expert, row in enumerate(rows):
            place = places[expert]
            if place == len(row) or row[place] > now:
                continue
            after = (*places[:expert], place + 1, *places[expert + 1 :])
            if wait < inf:
                lost, swaps = best(now, slots, after)
                found = min(found, (lost + 1, swaps))
            for at, (held, awake, ends, _) in enumerate(slots):
                if held == expert and awake <= now and len(ends) < problem.lanes and now <= row[place] + wait:
                    running = (held, awake, tuple(sorted((*ends, now + seconds[expert][place]))), True)
                    found = min(found, best(now, tuple(sorted((*slots[:at], running, *slots[at + 1 :]))), after))
        there = {held for held, _, _, _ in slots}
        for at, (_, awake, ends, left) in enumerate(slots):
            for expert, row in enumerate(rows):
                if left and not ends and awake <= now and expert not in there and places[expert] < len(row):
                    brought = (expert, now + problem.swap_s, (), False)
                    lost, swaps = best(now, tuple(sorted((*slots[:at], brought, *slots[at + 1 :]))), places)
                    found = min(found, (lost, swaps + 1))
        coming = [time for time in times if time > now]
        coming += [time for _, awake, ends, _ in slots for time in (awake, *ends) if time > now]
        if coming:
            later = min(coming)
            still = tuple(sorted((held, awake, tuple(end for end in ends if end > later), left) for held, awake, ends, left in slots))
            found = min(found, best(later, still, places))
        return found

    refused, swaps = best(0.0, ((-1, 0.0, (), True),) * problem.slots, (0,) * len(rows))
    return int(refused), int(swaps)


def tiny(seed: int, *, bounded: bool = True) -> Problem:
    """Up to five calls for two or three experts, in whole seconds so that nothing depends on rounding."""
    rng = np.random.default_rng(seed)
    calls = int(rng.integers(3, 6))
    return Problem.of(
        np.sort(rng.integers(0, 25, calls)).astype(float),
        rng.integers(1, 9, calls).astype(float),
        rng.permutation(np.r_[0, 1, rng.integers(0, rng.integers(2, 4), calls - 2)]),
        slots=int(rng.integers(1, 3)),
        lanes=int(rng.integers(1, 3)),
        swap_s=float(rng.integers(1, 6)),
        max_wait_s=float(rng.integers(1, 16)) if bounded else inf,
    )


INSTANCES = [tiny(seed) for seed in range(30)]


def reached(schedule: Schedule) -> tuple[int, int]:
    return schedule.refused, schedule.swaps


@pytest.mark.parametrize("number", range(len(INSTANCES)))
def test_the_whole_search_is_as_good_as_brute_force_and_no_bound_is_above(number: int) -> None:
    problem = INSTANCES[number]
    exact = brute_force(problem)
    assert reached(search(problem, swap_price=TINY, whole=True)) == exact
    refused, swaps = bound_refused(problem), bound_swaps(problem, exact[0])
    assert refused is not None
    assert refused <= exact[0]
    assert swaps is not None
    assert swaps <= exact[1]


@pytest.mark.parametrize("seed", range(20))
def test_where_all_wait_the_whole_search_swaps_as_seldom_as_brute_force(seed: int) -> None:
    problem = tiny(seed, bounded=False)
    assert reached(search(problem, swap_price=TINY, whole=True)) == brute_force(problem)
    assert bound_swaps(problem, 0) <= brute_force(problem)[1]  # type: ignore[operator]


def test_the_usual_search_is_rarely_worse_on_tiny_instances() -> None:
    pairs = [(search(problem, swap_price=TINY), brute_force(problem)) for problem in INSTANCES]
    assert all(reached(found) >= exact for found, exact in pairs)
    assert np.mean([reached(found) == exact for found, exact in pairs]) >= 0.95


def middling(max_wait_s: float) -> Problem:
    """Four hundred calls for five experts on two slots."""
    rng = np.random.default_rng(0)
    arrivals, seconds = np.sort(rng.random(400) * 400), rng.exponential(4.0, 400)
    return Problem.of(arrivals, seconds, rng.integers(0, 5, 400), slots=2, lanes=4, swap_s=4.0, max_wait_s=max_wait_s)


def test_every_call_is_served_or_refused_and_in_time() -> None:
    found = search(middling(30.0), width=2)
    assert len(found.waits) + found.refused == 400
    assert found.waits.max() <= 30.0
    assert found.waits.min() >= 0
    everything = search(middling(inf), wait_price=1.0, width=2)
    assert (len(everything.waits), everything.refused) == (400, 0)


def test_fewer_swaps_are_found_where_more_may_be_refused() -> None:
    problem = middling(30.0)
    least = search(problem, width=2)
    few = fewest_swaps(problem, least.refused + 60, width=2)
    assert few is not None
    assert few.refused <= least.refused + 60
    assert few.swaps < least.swaps
    bound = bound_swaps(problem, few.refused)
    assert bound is not None
    assert 5 <= bound <= few.swaps
    assert bound_refused(problem) <= least.refused  # type: ignore[operator]


def test_no_schedule_is_given_where_none_was_found() -> None:
    assert fewest_swaps(middling(5.0), 0, width=1, rounds=1) is None


def test_the_bound_on_refused_calls_is_above_zero_where_too_much_arrives() -> None:
    problem = Problem.of(np.arange(100.0), np.full(100, 4.0), np.zeros(100, dtype=int), slots=1, lanes=2, swap_s=1.0, max_wait_s=10.0)
    bound = bound_refused(problem)
    assert bound is not None
    assert 30 <= bound <= search(problem).refused


def test_a_long_silence_and_an_expert_in_the_other_slot_lose_no_call() -> None:
    arrivals = np.array([0.0, 1.0, 500.0, 501.0, 2000.0, 2001.0])
    problem = Problem.of(arrivals, np.full(6, 3.0), np.array([0, 1, 0, 0, 1, 1]), slots=2, lanes=1, swap_s=5.0)
    found = search(problem, wait_price=1.0)
    assert (len(found.waits), found.swaps) == (6, 2)
    bounded = search(Problem(problem.arrivals, problem.seconds, 2, 1, 5.0, 10.0))
    assert (bounded.refused, bounded.swaps) == (0, 2)
