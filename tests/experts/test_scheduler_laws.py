"""What holds for every system: random ones are played in a world that does what the scheduler says, and refuses what cannot be."""

import heapq
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count, takewhile
from math import inf, nextafter, prod
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from experts.queues import Job
from experts.rules import RULES, Rule
from experts.scheduler import Action, Expire, Prefetch, Refused, Retire, Scheduler, Start, Swap

pytestmark = pytest.mark.slow

law = settings(max_examples=int(os.environ.get("COUNTERPOINT_LAWS", "300")), deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Engine:
    lanes: int = 1
    bytes: int = 1
    asleep_bytes: int = 1
    load_s: float = 5.0
    wake_s: float = 1.0
    on: frozenset[str] | None = None
    service_s: float | None = None


@dataclass(frozen=True)
class Room:
    budget: int = 1
    asleep_budget: int = 0


@dataclass(frozen=True)
class Asked:
    """A call: when, of which engine, how long it takes, and when its caller loses patience."""

    at: float
    engine: str
    seconds: float = 2.0
    batch: bool = False
    leaves_s: float = inf


@dataclass(frozen=True)
class Trouble:
    at: float
    kind: str
    slot: str
    engine: str


@dataclass(frozen=True)
class System:
    engines: dict[str, Engine]
    slots: dict[str, Room]
    calls: list[Asked]
    troubles: list[Trouble] = field(default_factory=list)
    replicas: int | None = 1
    quantum: float = 16.0
    prefetch: bool = False
    max_wait_s: float | None = None
    together: bool = True
    """Whether what happens at the same time is told before anything is decided."""


def numbers(*sizes: int) -> st.SearchStrategy[list[int]]:
    """Several numbers, each below its size, in one draw: many times faster than a draw for each."""

    def unpack(number: int) -> list[int]:
        out = []
        for size in sizes:
            number, rest = divmod(number, size)
            out.append(rest)
        return out

    return st.integers(0, prod(sizes) - 1).map(unpack)


TROUBLES = (
    "the load fails",
    "the engine dies",
    "the slot is lost",
    "the slot is drained",
    "the engine is removed",
    "the engine is retired",
)


@st.composite
def systems(draw: Any, bounds: tuple[float | None, ...] = (None, 6.0, 20.0, 60.0), troubled: bool = True, usual: bool = False) -> System:
    replicas, quantum, prefetch, bound, together = draw(numbers(4, 4, 2, len(bounds), 2))
    rooms = draw(st.lists(numbers(4, 4), min_size=1, max_size=3))
    slots = {f"s{n}": Room(1 + budget, (0, 1, 2, 4)[asleep]) for n, (budget, asleep) in enumerate(rooms)}
    engines = {}
    for n, (lanes, size, asleep, load, wake, on) in enumerate(draw(st.lists(numbers(3, 4, 3, 4, 2, 12), min_size=1, max_size=5))):
        allowed = None if on < 5 else frozenset(slot for bit, slot in enumerate(slots) if on - 4 & 1 << bit)
        engines["abcde"[n]] = Engine(
            1 + lanes,
            (1, 1, 2, 4)[size],
            1 + asleep,
            (5.0, 0.0, 1.0, 8.0)[load],
            float(wake),
            allowed,
            (2.0, 9.0)[size % 2] if usual else None,
        )
    now, calls = 0.0, []
    for gap, engine, seconds, batch, leaves in draw(st.lists(numbers(6, 5, 8, 3, 9), min_size=1, max_size=24)):
        now += (0, 0, 1, 2, 5, 20)[gap]
        took = (1, 1, 2, 2, 3, 5, 9, 30)[seconds]
        if usual:
            calls.append(Asked(now, name := [*engines][engine % len(engines)], engines[name].service_s or 2.0))
            continue
        calls.append(Asked(now, [*engines][engine % len(engines)], took, batch == 2, {6: 0.0, 7: 2.0, 8: 10.0}.get(leaves, inf)))
    troubles = []
    for at, kind, slot, engine in draw(st.lists(numbers(60, len(TROUBLES), 3, 5), max_size=3)) if troubled else []:
        troubles.append(Trouble(float(at), TROUBLES[kind], [*slots][slot % len(slots)], [*engines][engine % len(engines)]))
    return System(
        engines,
        slots,
        calls,
        troubles,
        (1, 1, 2, None)[replicas],
        (16.0, 4.0, 1.0, 0.0)[quantum],
        prefetch == 1,
        bounds[bound],
        together == 1,
    )


class World:
    """Play a system: tell the scheduler what happens, carry out what it says, and keep own books of what is where."""

    def __init__(self, system: System, rule: Rule | None = None) -> None:
        self.system = system
        self.scheduler = Scheduler(
            rule, max_wait_s=system.max_wait_s, replicas=system.replicas, quantum=system.quantum, prefetch=system.prefetch
        )
        self.now = 0.0
        self.events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.numbers = count()
        self.waiting: dict[str, dict[Job, None]] = {engine: {} for engine in system.engines}
        self.awake: dict[str, dict[str, set[Job]]] = {}
        self.asleep: dict[str, set[str]] = {}
        self.loading: dict[str, str] = {}
        self.leaving: set[str] = set()
        self.stale: dict[str, set[str]] = {}
        """Engines in a slot that were retired or removed, and must not be used any more."""
        self.failing: set[str] = set()
        self.allowed: dict[str, frozenset[str] | None] = {}
        self.calls: dict[Job, Asked] = {}
        self.ends: dict[Job, list[str]] = {}
        self.refusals: list[tuple[float, Asked, Refused]] = []
        self.log: list[tuple[object, ...]] = []
        for engine in system.engines:
            self.know(engine)
        for slot in system.slots:
            self.add(slot)
        for call in system.calls:
            self.at(call.at, self.arrive, call)
        for trouble in system.troubles:
            self.at(trouble.at, self.befall, trouble)

    def at(self, time: float, what: Callable[..., None], *args: Any) -> None:
        heapq.heappush(self.events, (time, next(self.numbers), what, args))

    def play(self) -> Iterator[Action | None]:
        """Yield each action before it is carried out, and None whenever all have been."""
        while True:
            alarm = self.scheduler.wake_at()
            if self.events and self.events[0][0] <= alarm:
                self.now = self.events[0][0]
                while self.events and self.events[0][0] == self.now:
                    _, _, what, args = heapq.heappop(self.events)
                    what(*args)
                    if not self.system.together:
                        break
            elif alarm < inf:
                self.now = nextafter(alarm, inf)
            else:
                return
            for action in self.scheduler.decide(self.now):
                self.log.append(told(action, self.now))
                yield action
                self.carry_out(action)
            yield None

    # what happens

    def know(self, engine: str) -> None:
        if engine not in self.scheduler.groups:
            known = self.system.engines[engine]
            self.allowed[engine] = known.on
            self.scheduler.add_engine(
                engine,
                lanes=known.lanes,
                bytes=known.bytes,
                asleep_bytes=known.asleep_bytes,
                load_s=known.load_s,
                wake_s=known.wake_s,
                on=known.on,
                service_s=known.service_s,
            )

    def add(self, slot: str) -> None:
        if slot not in self.awake:
            room = self.system.slots[slot]
            self.scheduler.add_slot(slot, budget=room.budget, asleep_budget=room.asleep_budget)
            self.awake[slot], self.asleep[slot], self.stale[slot] = {}, set(), set()

    def arrive(self, call: Asked) -> None:
        job = Job(len(self.calls), call.engine, self.now, batch=call.batch)
        if call.engine not in self.scheduler.groups:
            return
        refused = self.scheduler.arrive(job, self.now)
        if refused is not None:
            self.refusals.append((self.now, call, refused))
            return
        self.calls[job], self.ends[job] = call, []
        self.waiting[call.engine][job] = None
        if call.leaves_s < inf:
            self.at(self.now + call.leaves_s, self.leave, job)

    def leave(self, job: Job) -> None:
        if job in self.waiting[job.engine]:
            self.scheduler.cancel(job)
            del self.waiting[job.engine][job]
            self.ends[job].append("cancelled")
        else:
            self.finish(job, self.calls[job].at, measured=False)

    def finish(self, job: Job, started: float, measured: bool = True) -> None:
        jobs = self.awake.get(str(job.slot), {}).get(job.engine, set())
        if job in jobs and (not measured or job.started == started):
            jobs.remove(job)
            self.scheduler.finished(job, self.now, measured=measured)

    def brought(self, swap: Swap, seconds: float, place: dict[str, set[Job]]) -> None:
        slot = str(swap.slot)
        if self.awake.get(slot) is not place:  # the slot was lost meanwhile
            return
        del self.loading[slot]
        if slot in self.failing:
            self.failing.remove(slot)
            del place[swap.engine]
            self.stale[slot].discard(swap.engine)
            self.scheduler.failed(slot, swap.engine)
        else:
            self.scheduler.loaded(slot, self.now, seconds=seconds, woken=swap.wake)

    def befall(self, trouble: Trouble) -> None:
        slot, engine, place = trouble.slot, trouble.engine, self.awake.get(trouble.slot)
        if trouble.kind == "the load fails" and slot in self.loading:
            self.failing.add(slot)
        elif trouble.kind == "the engine dies" and place is not None and engine in place and engine != self.loading.get(slot):
            self.scheduler.failed(slot, engine)
            self.stale[slot].discard(engine)
            self.again(place.pop(engine))
        elif trouble.kind == "the slot is lost" and place is not None:
            self.scheduler.remove_slot(slot)
            self.forget(slot)
            for jobs in place.values():
                self.again(jobs)
            self.at(self.now + 10, self.add, slot)
        elif trouble.kind == "the slot is drained" and place is not None and slot not in self.leaving:
            self.scheduler.drain_slot(slot)
            self.leaving.add(slot)
        elif trouble.kind == "the engine is removed" and engine in self.scheduler.groups:
            lost = self.scheduler.remove_engine(engine)
            assert lost == sorted(self.waiting[engine], key=lambda job: job.batch) or any(job.alone for job in lost)
            for job in lost:
                self.ends[job].append("lost")
            self.waiting[engine].clear()
            self.make_stale(engine)
            self.at(self.now + 10, self.know, engine)
        elif trouble.kind == "the engine is retired" and engine in self.scheduler.groups:
            self.scheduler.retire(engine)
            self.make_stale(engine)

    def make_stale(self, engine: str) -> None:
        for slot in self.awake:
            if engine in self.awake[slot] or engine in self.asleep[slot]:
                self.stale[slot].add(engine)

    def again(self, jobs: set[Job]) -> None:
        for job in sorted(jobs, key=lambda job: -int(str(job.id))):
            self.ends[job].clear()
            if job.engine in self.scheduler.groups:
                job.alone = True
                self.scheduler.again(job)
                self.waiting[job.engine][job] = None
            else:
                self.ends[job].append("lost")

    def forget(self, slot: str) -> None:
        del self.awake[slot], self.asleep[slot], self.stale[slot]
        self.loading.pop(slot, None)
        self.leaving.discard(slot)
        self.failing.discard(slot)
        for engine, on in self.allowed.items():
            self.allowed[engine] = on and (on - {slot} or None)

    # what is carried out

    def carry_out(self, action: Action) -> None:
        if isinstance(action, Start):
            job, slot = action.job, str(action.slot)
            assert job in self.waiting[job.engine]
            assert self.loading.get(slot) != job.engine
            del self.waiting[job.engine][job]
            self.awake[slot][job.engine].add(job)
            self.ends[job].append("started")
            self.at(self.now + self.calls[job].seconds, self.finish, job, self.now)
        elif isinstance(action, Swap):
            slot = str(action.slot)
            for engine in action.stop:
                assert not self.awake[slot].pop(engine, None), "a busy engine was stopped"
                self.asleep[slot].discard(engine)
                self.stale[slot].discard(engine)
            for engine in action.sleep:
                assert not self.awake[slot].pop(engine), "a busy engine was put to sleep"
                self.asleep[slot].add(engine)
            assert action.wake == (action.engine in self.asleep[slot])
            self.asleep[slot].discard(action.engine)
            self.awake[slot][action.engine] = set()
            self.loading[slot] = action.engine
            known = self.system.engines[action.engine]
            seconds = known.wake_s if action.wake else known.load_s
            self.at(self.now + seconds, self.brought, action, seconds, self.awake[slot])
        elif isinstance(action, Expire):
            del self.waiting[action.job.engine][action.job]
            self.ends[action.job].append("expired")
        elif isinstance(action, Retire):
            slot = str(action.slot)
            assert slot in self.leaving
            self.scheduler.remove_slot(slot)
            self.forget(slot)
            self.at(self.now + 10, self.add, slot)

    # what is so

    def fits(self, engine: str, slot: str) -> bool:
        on = self.allowed[engine]
        return self.system.engines[engine].bytes <= self.system.slots[slot].budget and (on is None or slot in on)

    def servable(self, engine: str) -> bool:
        return any(self.fits(engine, slot) for slot in self.awake)

    def holders(self, engine: str) -> list[str]:
        return [slot for slot, place in self.awake.items() if engine in place and engine not in self.stale[slot]]

    def idle(self) -> list[str]:
        return [
            slot for slot, place in self.awake.items() if slot not in self.loading and slot not in self.leaving and not any(place.values())
        ]


def told(action: Action, now: float) -> tuple[object, ...]:
    """An action as words, which those of another run can be compared with."""
    if isinstance(action, Start):
        return (now, "start", action.job.id, action.slot)
    if isinstance(action, Expire):
        return (now, "expire", action.job.id)
    return (now, action)


def run(system: System, rule: Rule | None = None) -> World:
    world = World(system, rule)
    for _ in world.play():
        pass
    return world


# the laws


@law
@given(systems(bounds=(6.0, 20.0, 60.0)))
def test_an_accepted_call_starts_in_time_or_ends_in_an_error_and_ends_once(system: System) -> None:
    world = World(system)
    for action in world.play():
        if isinstance(action, Start):
            assert world.now <= action.job.deadline
        elif isinstance(action, Expire):
            assert world.now == nextafter(action.job.deadline, inf)
    for job, ends in world.ends.items():
        assert len(ends) == 1 or (job.deadline == inf and not world.servable(job.engine))


@law
@given(systems(bounds=(9.0, 12.0, 20.0), troubled=False, usual=True))
def test_a_refused_call_that_comes_again_whenever_it_is_told_to_is_soon_accepted_if_all_calls_take_the_usual_time(system: System) -> None:
    for _, call, refused in run(system).refusals[:2]:
        calls = list(takewhile(lambda other, call=call: other is not call, system.calls))
        for _ in range(3):
            if refused.retry_after_s == 3600:
                break  # takes longer to be brought than is allowed
            call = replace(call, at=call.at + refused.retry_after_s)
            refusals = [refused for _, other, refused in run(replace(system, calls=[*calls, call])).refusals if other is call]
            if not refusals:
                break
            refused = refusals[0]
        else:
            pytest.fail("refused four times, though nothing else was asked")


LEFT_FOR_ANOTHERS = System(
    {"a": Engine(load_s=0.0), "b": Engine(), "c": Engine(load_s=0.0), "d": Engine(2, load_s=1.0), "e": Engine(2, load_s=8.0)},
    {slot: Room() for slot in ("s0", "s1", "s2")},
    [
        *(Asked(5.0, "a", 30, True), Asked(7.0, "a", 5), Asked(12.0, "e", 9, True), Asked(17.0, "c", 1), Asked(22.0, "d", 3)),
        *(Asked(27.0, "a", 5), Asked(27.0, "a", 30, True), Asked(28.0, "e"), Asked(29.0, "c", 3)),
    ],
    [Trouble(36.0, "the slot is lost", "s2", "c"), Trouble(9.0, "the engine dies", "s1", "a")],
    together=False,
)
"""The oldest call's engine is to come to one slot, and the other once swapped for ever because of it."""


@law
@given(systems(bounds=(None,)), st.sampled_from([*RULES]))
@example(LEFT_FOR_ANOTHERS, "fifo")
def test_when_arrivals_stop_every_call_starts(system: System, rule: str) -> None:
    if rule in ("fifo", "lru"):  # look at the oldest call alone, whichever slot could serve it
        engines = {name: replace(engine, bytes=1, on=None) for name, engine in system.engines.items()}
        system = replace(system, engines=engines)
    world = run(system, RULES[rule]())
    for job, ends in world.ends.items():
        assert len(ends) == 1 or not world.servable(job.engine)


@law
@given(numbers(8, 6, 3, 4, 4, 3, 2, 2, 2), numbers(40, 3, 2, 2, 4))
def test_endless_calls_of_one_engine_hold_another_up_for_no_longer_than_a_visit(endless: list[int], other: list[int]) -> None:
    gap, seconds, lanes, load, quantum, slots, replicas, asleep, batch = endless
    at, wanted, their_batch, prefetch, their_load = other
    engines = {"a": Engine(1 + lanes, load_s=(5.0, 0.0, 1.0, 8.0)[load]), "b": Engine(load_s=(5.0, 0.0, 1.0, 8.0)[their_load])}
    a, b = engines["a"], engines["b"]
    quantum_s, longest = (4.0, 1.0, 0.0, 2.0)[quantum] * a.load_s, (1, 2, 3, 5, 9, 20)[seconds]
    # It was loading when the call came, stayed for its quantum, was next looked at when a call of it ended, ended those that it
    # had begun until then, and left.
    bound = a.load_s + quantum_s + longest + longest + b.load_s
    calls = [Asked(float(at), "b", batch=their_batch == 1)] * (1 + wanted)
    gap_s = (0.5, 1, 1.5, 2, 3, 4, 5, 8)[gap]
    calls += [Asked(gap_s * n, "a", longest if n % 3 else longest / 2, batch == 1) for n in range(int((at + bound) / gap_s) + 2)]
    system = System(
        engines,
        {f"s{n}": Room(asleep_budget=2 * asleep) for n in range(1 + slots)},
        calls,
        replicas=(1, None)[replicas],
        quantum=(4.0, 1.0, 0.0, 2.0)[quantum],
        prefetch=prefetch == 1,
    )
    world = World(system)
    for action in world.play():
        if isinstance(action, Start) and action.job.engine == "b":
            assert world.now <= at + bound
            return
        assert world.now <= at + bound + gap_s


@law
@given(systems())
def test_no_slot_idles_while_a_call_waits_that_it_could_serve(system: System) -> None:
    world = World(system)
    for action in world.play():
        if action is not None:
            continue
        for slot in world.idle():
            for engine, waiting in world.waiting.items():
                holders = [holder for holder, place in world.awake.items() if engine in place]
                if not waiting or not world.fits(engine, slot):
                    continue
                assert slot not in world.holders(engine), "the engine is awake here"
                coming = sum(system.engines[engine].lanes for holder in holders if world.loading.get(holder) == engine)
                if len(holders) >= (system.replicas or inf) or len(waiting) <= coming:
                    continue
                if any(job.alone for job in [*waiting, *(job for holder in holders for job in world.awake[holder][engine])]):
                    continue  # its lanes are free, but may not be used
                assert engine in [place.headed for place in world.scheduler.slots.values()]


@law
@given(systems())
def test_an_engine_is_brought_only_where_calls_wait_for_it_and_it_is_not_awake(system: System) -> None:
    world = World(system)
    for action in world.play():
        if isinstance(action, Swap | Prefetch):
            assert world.waiting[action.engine]
            assert action.engine not in world.awake[str(action.slot)] or action.engine in world.stale[str(action.slot)]
        if isinstance(action, Swap):
            assert world.fits(action.engine, str(action.slot))
            assert str(action.slot) not in world.loading
            assert str(action.slot) not in world.leaving
            asleep = world.asleep[str(action.slot)] - world.stale[str(action.slot)]
            assert action.wake == (action.engine in asleep)


@law
@given(systems())
def test_what_is_awake_and_what_sleeps_never_exceed_their_bytes(system: System) -> None:
    world = World(system)
    for action in world.play():
        if not isinstance(action, Swap):
            continue
        slot, room = str(action.slot), system.slots[str(action.slot)]
        awake, asleep = {*world.awake[slot]} - {*action.stop}, world.asleep[slot] - {*action.stop}  # ended first,
        asleep |= {*action.sleep}  # then put to sleep,
        assert sum(system.engines[engine].asleep_bytes for engine in asleep) <= room.asleep_budget
        awake = awake - {*action.sleep} | {action.engine}  # then brought
        assert sum(system.engines[engine].bytes for engine in awake) <= room.budget


@law
@given(systems())
def test_lanes_and_replicas_are_never_exceeded_and_nothing_runs_beside_a_call_that_bears_nothing(system: System) -> None:
    world = World(system)
    for action in world.play():
        if isinstance(action, Start):
            beside = world.awake[str(action.slot)][action.job.engine]
            assert len(beside) < system.engines[action.job.engine].lanes
            assert not beside or not any(job.alone for job in [action.job, *beside])
            assert action.job.engine not in world.stale[str(action.slot)]
        elif isinstance(action, Swap):
            assert len({*world.holders(action.engine), str(action.slot)}) <= (system.replicas or inf)


@law
@given(systems())
def test_the_same_calls_in_the_same_order_are_decided_the_same_way(system: System) -> None:
    assert run(system).log == run(system).log


@law
@given(systems())
def test_the_sums_that_decide_agree_with_the_calls_that_wait(system: System) -> None:
    world = World(system)
    for action in world.play():
        if action is not None:
            continue
        scheduler = world.scheduler
        waiting = {engine: jobs for engine, jobs in world.waiting.items() if jobs}
        assert {*scheduler.backlog} == {*waiting}
        for engine, jobs in waiting.items():
            group = scheduler.groups[engine]
            assert (group.waiting, group.interactive) == (len(jobs), sum(not job.batch for job in jobs))
            assert group.waited(world.now) == pytest.approx(sum(world.now - job.arrived for job in jobs))
        unserved = [job for engine, jobs in waiting.items() if not scheduler.groups[engine].stays for job in jobs]
        assert (scheduler.unserved, scheduler.unserved_interactive) == (len(unserved), sum(not job.batch for job in unserved))
        assert scheduler.unserved_waits(world.now) == pytest.approx(sum(world.now - job.arrived for job in unserved))
