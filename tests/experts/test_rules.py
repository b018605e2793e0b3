from collections.abc import Sequence

import numpy as np
import pytest

from experts.queues import Job
from experts.rules import RULES, LeastRecentlyUsed, Rule
from experts.scheduler import Scheduler, Start, Swap
from experts.simulator import Run, Trace, simulate

SWAP_S = 5.0


def played(rule: str, calls: Sequence[tuple[float, int, float]], *, slots: int = 1, lanes: int = 1, **settings: float) -> Run:
    """Play calls, each a time of arrival, an engine and seconds."""
    scheduler = Scheduler(RULES[rule](), **settings)  # type: ignore[arg-type]
    for slot in range(slots):
        scheduler.add_slot(slot)
    for engine in sorted({engine for _, engine, _ in calls}):
        scheduler.add_engine(str(engine), lanes=lanes, load_s=SWAP_S)
    arrivals, engines, seconds = (np.array(column) for column in zip(*sorted(calls), strict=True))
    return simulate(Trace(arrivals, seconds, engines), scheduler, SWAP_S)


def at_once(**calls: int) -> Scheduler:
    """A slot, and for each engine so many calls that have just come."""
    scheduler = Scheduler()
    scheduler.add_slot(0)
    for engine, number in calls.items():
        scheduler.add_engine(engine, lanes=1)
        for n in range(number):
            scheduler.arrive(Job((engine, n), engine, 0.0), 0.0)
    return scheduler


def visits(scheduler: Scheduler, now: float = 0.0) -> str:
    """Serve what waits, each call for a second, and give the engines in the order of their visits."""
    order = ""
    while actions := scheduler.decide(now):
        for action in actions:
            if isinstance(action, Swap):
                order += action.engine
                now += SWAP_S
                scheduler.loaded(0, now, seconds=SWAP_S)
            elif isinstance(action, Start):
                now += 1.0
                scheduler.finished(action.job, now)
    assert not scheduler.backlog
    return order


class Awake:
    """A slot that has run engine a since second 0, and engine b, which others ask."""

    def __init__(self, rule: Rule | None = None, lanes: int = 4, quantum: float = 16.0, service_s: float = 10.0) -> None:
        self.scheduler = Scheduler(rule, quantum=quantum)
        self.scheduler.add_slot(0)
        for engine in "ab":
            self.scheduler.add_engine(engine, lanes=lanes, service_s=service_s, load_s=SWAP_S)
        self.running = [self.ask("a", -SWAP_S)]
        self.scheduler.decide(-SWAP_S)
        self.scheduler.loaded(0, 0.0, seconds=SWAP_S)
        self.scheduler.decide(0.0)

    def ask(self, engine: str, now: float, *, batch: bool = False) -> Job:
        job = Job(None, engine, now, batch=batch)
        self.scheduler.arrive(job, now)
        return job

    def takes_more(self, now: float) -> bool:
        """Whether one more call of a would start."""
        job = self.ask("a", now)
        return job in [action.job for action in self.scheduler.decide(now) if isinstance(action, Start)]


# grouping


@pytest.mark.parametrize("rule", ["llama-swap", "counterpoint", "lru"])
def test_calls_that_wait_are_grouped_by_engine(rule: str) -> None:
    run = played(rule, [(0.0, n % 2, 1.0) for n in range(20)])
    assert run.swaps == 2


def test_first_in_first_out_swaps_whenever_the_next_call_is_for_another_engine() -> None:
    run = played("fifo", [(n / 100, n % 2, 1.0) for n in range(20)])
    assert run.swaps == 20


@pytest.mark.parametrize("rule", [*RULES])
def test_every_rule_serves_every_call(rule: str) -> None:
    run = played(rule, [(n * 0.7, n * n % 5, 1.0 + n % 3) for n in range(60)], slots=2, lanes=2)
    assert not np.isnan(run.waits).any()


def test_what_was_used_least_recently_makes_room() -> None:
    scheduler = Scheduler(LeastRecentlyUsed())
    for slot in range(2):
        scheduler.add_slot(slot)
    for engine in "abc":
        scheduler.add_engine(engine)
    brought = []
    for now, engine in ((0.0, "a"), (10.0, "b"), (20.0, "a"), (30.0, "c")):
        job = Job(now, engine, now)
        scheduler.arrive(job, now)
        for action in scheduler.decide(now):
            if isinstance(action, Swap):
                brought.append((action.slot, action.engine))
                scheduler.loaded(action.slot, now + SWAP_S, seconds=SWAP_S)
        scheduler.decide(now + SWAP_S)
        scheduler.finished(job, now + SWAP_S + 1.0)
        scheduler.decide(now + SWAP_S + 1.0)
    assert brought == [(0, "a"), (1, "b"), (1, "c")]


# order of visits


def test_of_calls_that_are_there_at_once_the_largest_group_comes_first() -> None:
    assert visits(at_once(a=1, b=3, c=2)) == "bca"


def test_what_is_awake_is_served_first() -> None:
    scheduler = at_once(a=1)
    visits(scheduler)
    for engine, number in {"b": 5, "a": 2}.items():
        if engine not in scheduler.groups:
            scheduler.add_engine(engine, lanes=1)
        for n in range(number):
            scheduler.arrive(Job((engine, n), engine, 10.0), 10.0)
    first = scheduler.decide(10.0)
    assert [action.job.engine for action in first if isinstance(action, Start)] == ["a"]
    assert not [action for action in first if isinstance(action, Swap)]


def test_an_engine_whose_calls_are_still_to_come_is_visited_last() -> None:
    scheduler = at_once(a=2, b=1, c=1)
    scheduler.expect("a", 6)
    assert visits(scheduler) == "bca"
    scheduler = at_once(a=2, b=1, c=1)
    scheduler.expect("a", 6)
    scheduler.expect("a", -6)
    assert visits(scheduler) == "abc"


def test_an_engine_that_is_woken_sooner_than_another_is_brought_comes_first() -> None:
    scheduler = Scheduler()
    scheduler.add_slot(0, asleep_budget=3.0)
    for engine in "abc":
        scheduler.add_engine(engine, lanes=1, load_s=5.0, wake_s=0.5)
    scheduler.arrive(Job("to sleep", "a", 0.0), 0.0)
    assert visits(scheduler) == "a"
    scheduler.arrive(Job("to hold", "c", 10.0), 10.0)
    assert visits(scheduler, 10.0) == "c"
    for n, engine in enumerate("ba"):
        scheduler.arrive(Job(n, engine, 20.0), 20.0)
    scheduler.failed(0, "c")
    (swap,) = scheduler.decide(21.0)
    assert swap == Swap(0, "a", wake=True)


# when a slot leaves


@pytest.mark.parametrize(("others", "since", "leaves"), [(9, 39.0, True), (1, 1.0, False)])
def test_a_slot_whose_queue_was_empty_leaves_where_many_have_just_come_and_stays_where_one_has_waited_long(
    others: int, since: float, leaves: bool
) -> None:
    slot = Awake(lanes=1)
    second = slot.ask("a", 0.5)
    for _ in range(others):
        slot.ask("b", since)
    assert slot.scheduler.decide(since) == []
    slot.scheduler.finished(slot.running[0], 40.0)
    assert len(slot.scheduler.decide(40.0)) == 1  # the queue is empty now. One more call of ten seconds would hold nine up that have
    slot.ask("a", 41.0)  # waited one second, and wait as long itself, or hold one up and wait as long as that has, which is 39 seconds
    assert slot.scheduler.decide(41.0) == []
    slot.scheduler.finished(second, 50.0)
    (action,) = slot.scheduler.decide(50.0)
    assert isinstance(action, Swap) == leaves


def test_a_slot_goes_on_where_nobody_waits_for_anything_else() -> None:
    slot = Awake()
    assert slot.takes_more(1000.0)


def test_a_slot_leaves_an_engine_that_calls_wait_for_when_its_quantum_is_spent() -> None:
    slot = Awake(lanes=1, quantum=4.0)
    for now in (1.0, 2.0, 3.0, 4.0):
        slot.ask("a", now)
    slot.ask("b", 1.0)
    (running,) = slot.running
    starts = []
    for now in (10.0, 19.9, 20.0, 30.0):
        slot.scheduler.finished(running, now)
        actions = slot.scheduler.decide(now)
        jobs = [action.job for action in actions if isinstance(action, Start)]
        starts += jobs
        running = jobs[0] if jobs else running
    # four swap times are 20 seconds; the call that began then was its last
    assert len(starts) == 3
    assert [type(action) for action in actions] == [Swap]


def test_a_slot_leaves_an_engine_whose_calls_never_queue_when_its_quantum_is_spent() -> None:
    slot = Awake(quantum=4.0)
    slot.ask("b", 1.0)
    assert slot.takes_more(19.0)
    assert slot.takes_more(20.0)  # it starts before the slot is looked at
    assert not slot.takes_more(20.1)


@pytest.mark.parametrize(("resident_is_batch", "other_is_batch", "stays"), [(True, False, False), (True, True, True), (False, False, True)])
def test_batch_calls_give_way_after_one_swap_time_where_interactive_ones_wait_for_another_engine(
    resident_is_batch: bool, other_is_batch: bool, stays: bool
) -> None:
    slot = Awake(lanes=1)
    for _ in range(3):
        slot.ask("a", 1.0, batch=resident_is_batch)
    slot.ask("b", 2.0, batch=other_is_batch)
    slot.scheduler.finished(slot.running[0], 6.0)
    (start,) = slot.scheduler.decide(6.0)
    assert isinstance(start, Start)
    slot.scheduler.finished(start.job, 8.0)
    (action,) = slot.scheduler.decide(8.0)
    assert isinstance(action, Start) == stays


def test_interactive_calls_are_served_before_more_batch_calls_of_another_engine() -> None:
    scheduler = at_once(a=1)
    scheduler.add_engine("b", lanes=1)
    for n in range(9):
        scheduler.arrive(Job(n, "b", 0.0, batch=True), 0.0)
    assert visits(scheduler) == "ab"


# starvation


def _endless(rule: str) -> float:
    """How long a call waits while another engine is asked every second for 2,000 seconds."""
    run = played(rule, [(float(n), 0, 1.5) for n in range(2000)] + [(100.5, 1, 1.0)], lanes=4, quantum=16.0)
    return float(run.waits[101])


def test_endless_calls_of_one_engine_starve_another_with_llama_swap_and_not_with_ours() -> None:
    assert _endless("llama-swap") > 1800
    assert _endless("counterpoint") <= 16 * SWAP_S + 2 * 1.5 + SWAP_S


def test_with_promises_the_engine_of_the_oldest_interactive_call_comes_first() -> None:
    scheduler = Scheduler(max_wait_s=60.0)
    scheduler.add_slot(0)
    for engine in "abc":
        scheduler.add_engine(engine, lanes=8, service_s=1.0)
    scheduler.arrive(Job("batch", "c", 0.0, batch=True), 0.0)
    scheduler.arrive(Job("old", "a", 1.0), 1.0)
    for n in range(3):
        assert scheduler.arrive(Job(n, "b", 2.0), 2.0) is None
    assert visits(scheduler, 3.0) == "abc"
