from collections.abc import Iterable

import pytest

from experts.queues import Job
from experts.rules import Rule
from experts.scheduler import Action, Expire, Prefetch, Refused, Retire, Scheduler, Start, Swap


class Numbered:
    """A scheduler, and calls with numbers for names."""

    def __init__(self, engines: str = "ab", slots: int = 1, rule: Rule | None = None, lanes: int = 2, **settings: object) -> None:
        self.scheduler = Scheduler(rule, **settings)  # type: ignore[arg-type]
        self.calls = 0
        for engine in engines:
            self.scheduler.add_engine(engine, lanes=lanes, service_s=2.0)
        for slot in range(slots):
            self.scheduler.add_slot(slot)

    def ask(self, engine: str, now: float = 0.0, *, batch: bool = False) -> Job:
        job = Job(self.calls, engine, now, batch=batch)
        self.calls += 1
        assert self.scheduler.arrive(job, now) is None
        return job

    def bring(self, engine: str, now: float = 0.0, slot: int = 0, seconds: float = 5.0) -> Job:
        """Have an engine awake that runs one call."""
        job = self.ask(engine, now)
        assert swaps(self.scheduler.decide(now)) == [(slot, engine)]
        self.scheduler.loaded(slot, now, seconds=seconds)
        assert starts(self.scheduler.decide(now)) == [(job.id, slot)]
        return job


def starts(actions: Iterable[Action]) -> list[tuple[object, object]]:
    return [(action.job.id, action.slot) for action in actions if isinstance(action, Start)]


def swaps(actions: Iterable[Action]) -> list[tuple[object, str]]:
    return [(action.slot, action.engine) for action in actions if isinstance(action, Swap)]


# queues


def test_an_engine_takes_as_many_calls_as_it_has_lanes() -> None:
    pool = Numbered(lanes=2)
    pool.bring("a")
    pool.ask("a")
    third = pool.ask("a")
    assert starts(pool.scheduler.decide(1.0)) == [(1, 0)]
    pool.scheduler.finished(third, 2.0)  # waits, does not run
    assert pool.scheduler.decide(2.0) == []


def test_interactive_calls_come_first_within_a_queue() -> None:
    pool = Numbered(lanes=1)
    first = pool.bring("a")
    pool.ask("a", batch=True)
    pool.ask("a")
    assert pool.scheduler.decide(1.0) == []
    pool.scheduler.finished(first, 2.0)
    assert starts(pool.scheduler.decide(2.0)) == [(2, 0)]


def test_a_call_that_is_taken_back_leaves_the_queue_at_once() -> None:
    pool = Numbered(lanes=1)
    running = pool.bring("a")
    waiting = pool.ask("a")
    other = pool.ask("b")
    for job in (waiting, other, other):
        pool.scheduler.cancel(job)
    assert not pool.scheduler.backlog
    assert pool.scheduler.unserved == 0
    pool.scheduler.finished(running, 2.0)
    assert pool.scheduler.decide(2.0) == []


def test_a_slot_that_emptied_itself_for_calls_that_were_taken_back_goes_on_as_before() -> None:
    pool = Numbered(lanes=2)
    pool.bring("a")
    others = [pool.ask("b", 1.0) for _ in range(9)]
    assert pool.scheduler.decide(1.0) == []
    waiting = pool.ask("a", 1.0)
    assert pool.scheduler.decide(1.0) == []  # a lane is free, but the slot is about to leave
    for job in others:
        pool.scheduler.cancel(job)
    assert starts(pool.scheduler.decide(1.0)) == [(waiting.id, 0)]


def test_a_call_for_an_unknown_engine_is_an_error() -> None:
    with pytest.raises(KeyError):
        Scheduler().arrive(Job(0, "nobody", 0.0), 0.0)


# slots


def test_calls_of_one_query_land_on_different_slots() -> None:
    pool = Numbered("abc", slots=3)
    for engine in "abc":
        pool.ask(engine)
    assert sorted(swaps(pool.scheduler.decide(0.0))) == [(0, "a"), (1, "b"), (2, "c")]


def test_calls_of_one_query_for_one_engine_land_on_different_slots_that_have_it_awake() -> None:
    pool = Numbered("a", slots=3, lanes=4, replicas=3)
    jobs = [pool.ask("a") for _ in range(9)]
    assert swaps(pool.scheduler.decide(0.0)) == [(0, "a"), (1, "a"), (2, "a")]
    for slot in range(3):
        pool.scheduler.loaded(slot, 5.0, seconds=5.0)
    assert len(starts(pool.scheduler.decide(5.0))) == 9
    for job in jobs:
        pool.scheduler.finished(job, 7.0)
    for _ in range(3):
        pool.ask("a", 8.0)
    assert {slot for _, slot in starts(pool.scheduler.decide(8.0))} == {0, 1, 2}


def test_an_engine_is_on_one_slot_unless_replicas_are_allowed_and_needed() -> None:
    for replicas, calls, slots in ((1, 9, 1), (2, 9, 2), (None, 9, 3), (None, 2, 1)):
        pool = Numbered("a", slots=3, lanes=2, replicas=replicas)
        for _ in range(calls):
            pool.ask("a")
        assert len(swaps(pool.scheduler.decide(0.0))) == slots


def test_a_replica_that_is_lost_is_brought_elsewhere() -> None:
    pool = Numbered("a", slots=3, lanes=1, replicas=2)
    running = [pool.ask("a") for _ in range(2)]
    assert swaps(pool.scheduler.decide(0.0)) == [(0, "a"), (1, "a")]
    for slot in (0, 1):
        pool.scheduler.loaded(slot, 5.0, seconds=5.0)
    assert len(starts(pool.scheduler.decide(5.0))) == len(running)
    pool.ask("a", 6.0)
    assert pool.scheduler.decide(6.0) == []
    pool.scheduler.remove_slot(1)
    assert swaps(pool.scheduler.decide(7.0)) == [(2, "a")]


def test_an_engine_goes_only_where_it_may() -> None:
    pool = Numbered("", slots=2)
    pool.scheduler.add_engine("a", on=[1])
    pool.ask("a")
    pool.ask("a")
    assert swaps(pool.scheduler.decide(0.0)) == [(1, "a")]


def test_among_many_slots_one_is_found_that_may_hold_the_engine() -> None:
    pool = Numbered("", slots=40)
    pool.scheduler.decide(0.0)
    pool.scheduler.add_engine("a", on=[33])
    pool.ask("a")
    assert swaps(pool.scheduler.decide(0.0)) == [(33, "a")]


def test_an_engine_goes_anywhere_once_the_only_slot_that_could_hold_it_is_gone() -> None:
    pool = Numbered("b", slots=2)
    pool.scheduler.add_engine("a", on=[0])
    pool.bring("b")
    pool.ask("a", 1.0)
    assert pool.scheduler.decide(1.0) == []
    pool.scheduler.remove_slot(0)
    assert swaps(pool.scheduler.decide(2.0)) == [(1, "a")]


def test_an_engine_that_is_pinned_to_a_slot_is_never_left_there() -> None:
    pool = Numbered("ab", slots=2)
    pool.scheduler.allow("a", [0], pinned=[0])
    pool.scheduler.allow("b", [0, 1])
    running = pool.bring("a")
    pool.scheduler.finished(running, 2.0)
    pool.ask("b", 3.0)
    assert swaps(pool.scheduler.decide(3.0)) == [(1, "b")]
    pool.scheduler.drain_slot(1)
    pool.scheduler.failed(1, "b")
    assert pool.scheduler.decide(4.0) == [Retire(1)]
    assert pool.scheduler.decide(100.0) == []
    pool.scheduler.allow("a", [0])
    assert swaps(pool.scheduler.decide(101.0)) == [(0, "b")]


def test_an_engine_that_fits_nowhere_waits_and_holds_nobody_up() -> None:
    pool = Numbered("ab")
    pool.scheduler.add_engine("giant", bytes=2.0)
    pool.ask("giant")
    assert pool.scheduler.decide(0.0) == []
    running = pool.bring("a", 1.0)
    pool.scheduler.finished(running, 3.0)
    assert pool.scheduler.decide(3.0) == []
    pool.ask("b", 4.0)
    assert swaps(pool.scheduler.decide(4.0)) == [(0, "b")]
    pool.scheduler.add_slot(1, budget=2.0)
    assert swaps(pool.scheduler.decide(5.0)) == [(1, "giant")]


def test_engines_share_a_slot_as_far_as_its_bytes_reach() -> None:
    scheduler = Scheduler()
    scheduler.add_slot(0, budget=3.0)
    for number, (engine, size) in enumerate({"a": 1.0, "b": 2.0, "c": 2.0}.items()):
        scheduler.add_engine(engine, bytes=size)
        scheduler.arrive(Job(number, engine, float(number)), float(number))
    jobs: list[Job] = []
    for engine in "ab":
        actions = scheduler.decide(3.0)
        assert [action.engine for action in actions if isinstance(action, Swap)] == [engine]
        jobs += [action.job for action in actions if isinstance(action, Start)]
        scheduler.loaded(0, 3.0, seconds=5.0)
    jobs += [action.job for action in scheduler.decide(3.0) if isinstance(action, Start)]
    assert [job.engine for job in jobs] == ["a", "b"]
    scheduler.finished(jobs[1], 4.0)
    assert scheduler.decide(4.0) == [Swap(0, "c", wake=False, stop=("b",))]  # a goes on


def test_calls_start_in_an_engine_that_is_awake_while_another_is_brought_beside_it() -> None:
    scheduler = Scheduler()
    scheduler.add_slot(0, budget=2.0)
    scheduler.add_engine("a")
    scheduler.add_engine("b")
    scheduler.arrive(Job(0, "a", 0.0), 0.0)
    scheduler.decide(0.0)
    scheduler.loaded(0, 5.0, seconds=5.0)
    scheduler.arrive(Job(1, "b", 5.0), 5.0)
    assert [type(action) for action in scheduler.decide(5.0)] == [Start, Swap]
    scheduler.arrive(Job(2, "a", 6.0), 6.0)
    assert starts(scheduler.decide(6.0)) == [(2, 0)]


def test_a_drained_slot_ends_what_it_runs_takes_nothing_new_and_retires_once() -> None:
    pool = Numbered("ab", slots=2)
    running = pool.bring("a")
    pool.scheduler.drain_slot(0)
    pool.ask("b", 1.0)
    assert swaps(pool.scheduler.decide(1.0)) == [(1, "b")]
    waiting = pool.ask("a", 2.0)
    assert pool.scheduler.decide(2.0) == []
    pool.scheduler.finished(running, 3.0)
    assert pool.scheduler.decide(3.0) == [Retire(0)]
    pool.scheduler.remove_slot(0)  # is no error, though it is forgotten already
    pool.scheduler.loaded(1, 6.0, seconds=5.0)
    assert Retire(0) not in pool.scheduler.decide(6.0)
    assert waiting.started is None


def test_a_slot_that_is_drained_gives_up_what_it_was_going_to_bring() -> None:
    pool = Numbered("abc", slots=2)
    pool.bring("a")
    other = pool.ask("c")
    assert swaps(pool.scheduler.decide(0.0)) == [(1, "c")]
    for _ in range(9):
        pool.ask("b", 1.0)
    assert pool.scheduler.decide(1.0) == []
    pool.scheduler.cancel(other)
    pool.scheduler.loaded(1, 5.0, seconds=5.0)
    assert pool.scheduler.decide(5.0) == []  # b comes to the other slot as soon as what runs there has ended
    pool.scheduler.drain_slot(0)
    assert swaps(pool.scheduler.decide(6.0)) == [(1, "b")]


def test_calls_of_a_lost_slot_wait_again_before_all_others() -> None:
    pool = Numbered("a", slots=1, lanes=1, max_wait_s=60.0)
    running = pool.bring("a")
    pool.ask("a", 1.0)
    pool.scheduler.remove_slot(0)
    pool.scheduler.again(running)
    pool.scheduler.add_slot(1)
    assert swaps(pool.scheduler.decide(2.0)) == [(1, "a")]
    pool.scheduler.loaded(1, 59.0, seconds=5.0)
    assert starts(pool.scheduler.decide(59.0)) == [(running.id, 1)]


def test_a_call_whose_slot_was_lost_has_had_its_promise_kept() -> None:
    pool = Numbered("a", slots=1, lanes=1, max_wait_s=10.0)
    running = pool.bring("a")
    pool.scheduler.remove_slot(0)
    pool.scheduler.again(running)
    assert pool.scheduler.decide(11.0) == []
    assert pool.scheduler.wake_at() == float("inf")
    pool.scheduler.add_slot(1)
    assert swaps(pool.scheduler.decide(12.0)) == [(1, "a")]


def test_a_call_of_a_visit_that_is_over_does_not_count_as_one_of_the_next() -> None:
    pool = Numbered("a", lanes=1)
    lost = pool.bring("a")
    pool.scheduler.failed(0, "a")
    pool.ask("a", 1.0)
    assert swaps(pool.scheduler.decide(1.0)) == [(0, "a")]
    pool.scheduler.finished(lost, 2.0)  # its error comes late
    pool.scheduler.loaded(0, 6.0, seconds=5.0)
    pool.ask("a", 6.0)
    assert starts(pool.scheduler.decide(6.0)) == [(1, 0)]


def test_an_engine_that_cannot_be_brought_is_tried_again_while_calls_wait() -> None:
    pool = Numbered("ab")
    job = pool.ask("a")
    assert swaps(pool.scheduler.decide(0.0)) == [(0, "a")]
    pool.scheduler.failed(0, "a")
    assert swaps(pool.scheduler.decide(1.0)) == [(0, "a")]
    pool.scheduler.failed(0, "a")
    pool.scheduler.cancel(job)
    assert pool.scheduler.decide(2.0) == []


def test_a_call_that_bears_nothing_beside_it_runs_alone() -> None:
    pool = Numbered("a", lanes=4)
    first = pool.bring("a")
    alone = pool.ask("a", 1.0)
    alone.alone = True
    pool.ask("a", 1.0)
    assert pool.scheduler.decide(1.0) == []
    pool.scheduler.finished(first, 2.0)
    assert starts(pool.scheduler.decide(2.0)) == [(alone.id, 0)]
    pool.scheduler.finished(alone, 3.0)
    assert len(starts(pool.scheduler.decide(3.0))) == 1


# engines that go


def test_a_removed_engine_gives_back_the_calls_that_waited_and_ends_those_that_run() -> None:
    pool = Numbered("ab", lanes=1)
    running = pool.bring("a")
    waiting = pool.ask("a")
    assert pool.scheduler.remove_engine("a") == [waiting]
    pool.ask("b", 1.0)
    assert pool.scheduler.decide(1.0) == []
    pool.scheduler.finished(running, 2.0)
    assert pool.scheduler.decide(2.0) == [Swap(0, "b", wake=False, stop=("a",))]
    with pytest.raises(KeyError):
        pool.scheduler.again(waiting)


def test_a_removed_engine_that_nobody_holds_leaves_nothing_behind() -> None:
    pool = Numbered("ab")
    pool.bring("a")
    for _ in range(9):
        pool.ask("b", 1.0)
    pool.scheduler.decide(1.0)  # the slot is about to leave for b
    assert len(pool.scheduler.remove_engine("b")) == 9
    assert pool.scheduler.unserved == 0
    pool.ask("a", 2.0)
    assert len(starts(pool.scheduler.decide(2.0))) == 1


def test_a_removed_engine_that_sleeps_is_stopped_with_the_next_swap_and_never_woken() -> None:
    scheduler = _tiers("abc", asleep_budget=2.0)
    _visit(scheduler, "a", 0.0)
    assert _visit(scheduler, "b", 10.0) == Swap(0, "b", wake=False, sleep=("a",))
    scheduler.remove_engine("a")
    scheduler.add_engine("a")
    assert _visit(scheduler, "a", 20.0) == Swap(0, "a", wake=False, sleep=("b",), stop=("a",))


def test_an_engine_that_is_known_again_while_its_last_calls_run_is_brought_after_they_have_ended() -> None:
    scheduler = Scheduler()
    scheduler.add_slot(0, budget=2.0)
    scheduler.add_engine("a")
    old, new = Job(0, "a", 0.0), Job(1, "a", 6.0)
    scheduler.arrive(old, 0.0)
    scheduler.decide(0.0)
    scheduler.loaded(0, 5.0, seconds=5.0)
    scheduler.decide(5.0)
    scheduler.remove_engine("a")
    scheduler.add_engine("a")
    scheduler.arrive(new, 6.0)
    assert scheduler.decide(6.0) == []
    scheduler.finished(old, 7.0)
    assert scheduler.decide(7.0) == [Swap(0, "a", wake=False, stop=("a",))]


def test_a_retired_engine_ends_when_its_calls_have_and_starts_anew() -> None:
    pool = Numbered("ab", lanes=1)
    running = pool.bring("a")
    pool.scheduler.retire("a")
    pool.ask("a", 1.0)
    assert pool.scheduler.decide(1.0) == []
    pool.scheduler.finished(running, 2.0)
    assert pool.scheduler.decide(2.0) == [Swap(0, "a", wake=False, stop=("a",))]


def test_how_long_calls_take_to_end_is_not_measured_from_the_begin_of_the_visit() -> None:
    pool = Numbered("ab", slots=2)
    running = pool.bring("a")
    pool.scheduler.drain_slot(0)
    pool.scheduler.finished(running, 1000.0)
    assert pool.scheduler.drain.value == 1.0


# tiers


def _tiers(engines: str, asleep_budget: float) -> Scheduler:
    scheduler = Scheduler()
    scheduler.add_slot(0, asleep_budget=asleep_budget)
    for engine in engines:
        scheduler.add_engine(engine)
    return scheduler


def _visit(scheduler: Scheduler, engine: str, now: float) -> Action:
    """Serve one call and give the swap that it took."""
    job = Job(now, engine, now)
    scheduler.arrive(job, now)
    (swap,) = scheduler.decide(now)
    assert isinstance(swap, Swap)
    scheduler.loaded(0, now + 1, seconds=1.0, woken=swap.wake)
    assert len(starts(scheduler.decide(now + 1))) == 1
    scheduler.finished(job, now + 2)
    assert scheduler.decide(now + 2) == []
    return swap


def test_an_engine_that_leaves_sleeps_where_there_is_room_and_is_woken() -> None:
    scheduler = _tiers("ab", asleep_budget=2.0)
    assert _visit(scheduler, "a", 0.0) == Swap(0, "a", wake=False)
    assert _visit(scheduler, "b", 10.0) == Swap(0, "b", wake=False, sleep=("a",))
    assert _visit(scheduler, "a", 20.0) == Swap(0, "a", wake=True, sleep=("b",))


def test_an_engine_that_is_woken_takes_its_room_until_then() -> None:
    scheduler = _tiers("ab", asleep_budget=1.0)
    _visit(scheduler, "a", 0.0)
    assert _visit(scheduler, "b", 10.0) == Swap(0, "b", wake=False, sleep=("a",))
    assert _visit(scheduler, "a", 20.0) == Swap(0, "a", wake=True, stop=("b",))


def test_an_engine_that_is_to_be_woken_is_not_ended_to_make_room() -> None:
    scheduler = _tiers("abc", asleep_budget=2.0)
    for now, engine in ((0.0, "a"), (10.0, "b"), (20.0, "c")):
        _visit(scheduler, engine, now)
    scheduler.expect("c", 5)
    for n in range(3):
        scheduler.arrive(Job(n, "b", 30.0, batch=True), 30.0)
    scheduler.arrive(Job("interactive", "a", 30.0), 30.0)
    assert scheduler.decide(30.0) == [Swap(0, "a", wake=True, sleep=("c",), stop=("b",))]


def test_without_room_for_sleepers_engines_are_stopped() -> None:
    scheduler = _tiers("ab", asleep_budget=0.0)
    _visit(scheduler, "a", 0.0)
    assert _visit(scheduler, "b", 10.0) == Swap(0, "b", wake=False, stop=("a",))


@pytest.mark.parametrize(("expected", "stopped"), [("a", "b"), ("b", "a")])
def test_where_the_host_is_full_the_engine_is_stopped_that_fewest_calls_are_wanted_of(expected: str, stopped: str) -> None:
    scheduler = _tiers("abc", asleep_budget=1.0)
    _visit(scheduler, "a", 0.0)
    _visit(scheduler, "b", 10.0)
    scheduler.expect(expected, 3)
    swap = _visit(scheduler, "c", 20.0)
    assert isinstance(swap, Swap)
    assert swap.stop == (stopped,)
    assert swap.sleep == (() if expected == "a" else ("b",))


def test_an_engine_is_read_ahead_once_while_another_decodes_unless_it_sleeps() -> None:
    pool = Numbered("ab", lanes=1, prefetch=True)
    running = pool.bring("a")
    pool.ask("b", 1.0)
    assert pool.scheduler.decide(1.0) == [Prefetch(0, "b")]
    pool.ask("b", 2.0)
    assert pool.scheduler.decide(2.0) == []
    pool.scheduler.finished(running, 3.0)
    assert swaps(pool.scheduler.decide(3.0)) == [(0, "b")]

    scheduler = _tiers("ab", asleep_budget=2.0)
    scheduler.prefetch = True
    _visit(scheduler, "b", 0.0)
    _visit(scheduler, "a", 10.0)
    scheduler.arrive(Job("running", "a", 20.0), 20.0)
    scheduler.arrive(Job("waiting", "b", 20.0), 20.0)
    assert [type(action) for action in scheduler.decide(20.0)] == [Start]


def test_an_engine_can_be_brought_before_anyone_asks() -> None:
    pool = Numbered("ab")
    assert pool.scheduler.preload(0, "a", 0.0) == Swap(0, "a", wake=False)
    pool.scheduler.loaded(0, 5.0, seconds=5.0)
    pool.ask("a", 6.0)
    assert len(starts(pool.scheduler.decide(6.0))) == 1


# promises


def test_an_accepted_call_ends_when_its_promise_has_passed() -> None:
    pool = Numbered("a", lanes=2, max_wait_s=10.0)
    job = pool.ask("a", 1.0)
    pool.scheduler.decide(1.0)
    assert pool.scheduler.wake_at() == 11.0
    assert pool.scheduler.decide(11.0) == []
    assert pool.scheduler.decide(11.1) == [Expire(job)]
    assert pool.scheduler.wake_at() == float("inf")
    pool.scheduler.loaded(0, 12.0, seconds=11.0)
    assert pool.scheduler.decide(12.0) == []


def test_a_call_may_start_at_the_very_end_of_its_promise() -> None:
    pool = Numbered("a", lanes=2, max_wait_s=10.0)
    pool.ask("a", 1.0)
    pool.scheduler.decide(1.0)
    pool.scheduler.loaded(0, 11.0, seconds=10.0)
    assert len(starts(pool.scheduler.decide(11.0))) == 1


def _refused(pool: Numbered, engine: str, now: float) -> Refused | None:
    return pool.scheduler.arrive(Job("more", engine, now), now)


def test_a_call_that_would_start_too_late_is_refused_and_accepted_when_it_comes_again_as_told() -> None:
    pool = Numbered("a", lanes=1, max_wait_s=9.0)  # calls take 2 s
    running = pool.bring("a")
    accepted = [pool.ask("a") for _ in range(4)]
    refused = _refused(pool, "a", 0.0)
    assert refused == Refused(3.0)  # it would start at 10, 1 too late; one more call of 2 must end until that is seen
    assert pool.scheduler.would_refuse("a", 0.0) == refused
    pool.scheduler.finished(running, 2.0)
    assert starts(pool.scheduler.decide(2.0)) == [(accepted[0].id, 0)]
    assert _refused(pool, "a", refused.retry_after_s) is None


def test_a_call_is_refused_where_it_would_make_an_accepted_one_late_and_accepted_when_that_has_started() -> None:
    pool = Numbered("ab", lanes=1, max_wait_s=16.0)
    running = pool.bring("a")
    pool.ask("b")
    taken = 0
    while (refused := _refused(pool, "a", 0.0)) is None:
        taken += 1
    assert 0 < 2.0 * (taken + 1) < 16.0  # the call itself would have started in time
    queue = [running, *pool.scheduler.groups["a"]]
    for job, now in zip(queue, (2.0, 4.0, 6.0, 8.0, 10.0), strict=False):
        pool.scheduler.finished(job, now)
        actions = pool.scheduler.decide(now)
    assert swaps(actions) == [(0, "b")]
    pool.scheduler.loaded(0, now + 5.0, seconds=5.0)
    assert len(starts(pool.scheduler.decide(now + 5.0))) == 1
    assert now + 5.0 <= refused.retry_after_s < 60.0
    assert _refused(pool, "a", refused.retry_after_s) is None


def test_a_call_that_an_idle_slot_can_serve_in_time_is_accepted() -> None:
    pool = Numbered("a", max_wait_s=5.0)  # an engine is brought in 5 s
    assert _refused(pool, "a", 0.0) is None


def test_an_engine_that_takes_longer_to_be_brought_than_is_allowed_is_refused_for_an_hour() -> None:
    pool = Numbered("a", max_wait_s=4.0)
    assert _refused(pool, "a", 0.0) == Refused(3600.0)


def test_without_a_slot_that_could_serve_a_call_it_is_refused() -> None:
    pool = Numbered("a", slots=0, max_wait_s=60.0)
    assert _refused(pool, "a", 0.0) == Refused(3600.0)
    pool.scheduler.add_slot(0)
    pool.scheduler.add_engine("giant", bytes=2.0)
    assert _refused(pool, "giant", 0.0) == Refused(3600.0)
    assert _refused(pool, "a", 0.0) is None


def test_batch_calls_are_promised_nothing_and_never_refused() -> None:
    pool = Numbered("a", lanes=1, max_wait_s=9.0)
    for _ in range(50):
        pool.ask("a", batch=True)
    assert pool.scheduler.wake_at() == float("inf")
    assert _refused(pool, "a", 0.0) is None
