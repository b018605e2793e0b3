"""The scheduler: what each slot does next. Pure: no clock of its own, no I/O; the live pool and the simulator run this same object."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from itertools import count, islice
from math import ceil, inf
from operator import attrgetter

from experts.admission import predicted_start
from experts.costs import Measured
from experts.queues import Group, Job, Slot, Stay
from experts.rules import Counterpoint, Rule


@dataclass(frozen=True, slots=True)
class Start:
    """Give a call to the engine that is awake in a slot."""

    job: Job
    slot: Hashable


@dataclass(frozen=True, slots=True)
class Swap:
    """Bring an engine into a slot.

    Attributes:
        slot: The slot.
        engine: The engine to bring.
        wake: Whether it sleeps there; else it starts cold.
        sleep: Engines to put to sleep before.
        stop: Engines to end before that, awake or asleep, so that there is room for those that sleep.
    """

    slot: Hashable
    engine: str
    wake: bool
    sleep: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prefetch:
    """Read an engine ahead while others decode."""

    slot: Hashable
    engine: str


@dataclass(frozen=True, slots=True)
class Expire:
    """End a call whose promised start has passed."""

    job: Job


@dataclass(frozen=True, slots=True)
class Retire:
    """End a slot that has nothing to do any more."""

    slot: Hashable


Action = Start | Swap | Prefetch | Expire | Retire


@dataclass(frozen=True, slots=True)
class Refused:
    """A call that would start too late.

    Attributes:
        retry_after_s: Seconds after which such a call would be accepted, by what waits now.
    """

    retry_after_s: float


_running = attrgetter("running")


def _stands(promise: tuple[float, int, Job]) -> bool:
    """Whether a promise is still to be kept."""
    deadline, _, job = promise
    return job.started is None and not job.gone and job.deadline == deadline


class Scheduler:
    """Queue calls by engine and decide, slot by slot, what starts and what is swapped.

    Tell it what happens (`arrive`, `finished`, `loaded`, ...), then carry out what `decide` says. Times are seconds on any clock.

    Args:
        rule: Which engine a slot serves next, and when it leaves one.
        max_wait_s: An accepted interactive call starts within so many seconds or ends in an error; None accepts all, as for batch calls.
        replicas: Slots that one engine may hold at once; None is any number.
        quantum: Length of a visit, in swap times, after which a slot leaves an engine though calls wait for it, if others wait too.
        prefetch: Whether slots can read the next engine ahead.

    Example:
        >>> scheduler = Scheduler()
        >>> scheduler.add_slot("gpu0")
        >>> scheduler.add_engine("a"), scheduler.add_engine("b")
        (None, None)
        >>> scheduler.arrive(Job(1, "a", arrived=0.0), now=0.0)
        >>> scheduler.decide(0.0)
        [Swap(slot='gpu0', engine='a', wake=False, sleep=(), stop=())]
        >>> scheduler.loaded("gpu0", 5.0, seconds=5.0)
        >>> [type(action).__name__ for action in scheduler.decide(5.0)]
        ['Start']
    """

    def __init__(
        self,
        rule: Rule | None = None,
        *,
        max_wait_s: float | None = None,
        replicas: int | None = 1,
        quantum: float = 16.0,
        prefetch: bool = False,
    ) -> None:
        self.rule = rule or Counterpoint()
        self.max_wait_s = max_wait_s
        self.replicas = inf if replicas is None else replicas
        self.quantum = quantum
        self.prefetch = prefetch
        self.groups: dict[str, Group] = {}
        self.slots: dict[Hashable, Slot] = {}
        self.backlog: dict[str, Group] = {}
        """Engines that calls wait for."""
        self.unserved = 0
        """Calls whose engine no slot holds."""
        self.unserved_interactive = 0
        self._unserved_arrivals = 0.0
        self._wanting: dict[str, Group] = {}  # engines that a slot may have to bring; looked through when one can
        self._headed: dict[str, Hashable] = {}  # engines that a slot brings as soon as what it runs has ended
        self.service = Measured(2.0)
        """Seconds of a call of any engine, for engines that were not measured yet."""
        self.drain = Measured(1.0)
        """How long the last calls of a visit took, as a multiple of what exponential times would."""
        self._dirty: dict[Hashable, None] = {}
        self._idle: dict[Hashable, None] = {}
        self._deadlines: list[tuple[float, int, Job]] = []
        self._numbers = count()

    # what there is

    def add_engine(
        self,
        engine: str,
        *,
        lanes: int = 32,
        bytes: float = 1.0,
        asleep_bytes: float | None = None,
        service_s: float | None = None,
        load_s: float = 5.0,
        wake_s: float = 1.0,
        on: Iterable[Hashable] | None = None,
    ) -> None:
        """Make an engine known.

        Args:
            engine: Its name.
            lanes: Calls that it runs at once.
            bytes: Memory that it takes while awake.
            asleep_bytes: Memory that it takes while asleep; None is as much.
            service_s: Seconds of a call, until measured; None is as for the others.
            load_s: Seconds of a cold start, until measured.
            wake_s: Seconds of a wake, until measured.
            on: Slots that may hold it; None is all.
        """
        service = Measured(self.service.value if service_s is None else service_s)
        places = None if on is None else frozenset(on)
        asleep = bytes if asleep_bytes is None else asleep_bytes
        self.groups[engine] = Group(engine, lanes, bytes, asleep, service, Measured(load_s), Measured(wake_s), places)

    def remove_engine(self, engine: str) -> list[Job]:
        """Forget an engine and give the calls that waited for it; slots that hold it end it with their next swap."""
        group = self.groups.pop(engine)
        if not group.stays:
            self._strand(group, -1)
        lost = list(group)
        for job in lost:
            job.gone = True
        for queue in group.queues:
            queue.clear()
        group.waiting, group.interactive, group.arrivals = 0, 0, 0.0
        self.backlog.pop(engine, None)
        self._end_everywhere(group)
        return lost

    def add_slot(self, slot: Hashable, *, budget: float = 1.0, asleep_budget: float = 0.0) -> None:
        """Make a slot known, empty.

        Args:
            slot: Its name.
            budget: Bytes of what is awake in it.
            asleep_budget: Bytes of what sleeps in it; 0 where there is no sleep mode.
        """
        self.slots[slot] = Slot(slot, budget, asleep_budget)
        self._idle[slot] = self._dirty[slot] = None

    def drain_slot(self, slot: Hashable) -> None:
        """Let a slot end what it runs and take nothing new; `decide` says when it is done."""
        place = self.slots[slot]
        place.leaving = True
        self._head(place, None)
        for stay in place.awake.values():
            if stay.open:
                stay.close()
                self._want(stay.group)
        self._dirty[slot] = None

    def remove_slot(self, slot: Hashable) -> None:
        """Forget a slot that is gone, unless it was retired; whoever ran calls there knows them, and lets them arrive again or end."""
        place = self.slots.pop(slot, None)
        if place is None:
            return
        self._head(place, None)
        for stay in [*place.awake.values()]:
            self._end(stay)
        for group in self.groups.values():
            group.pinned -= {slot}
            if group.on is not None and slot in group.on:
                group.on = group.on - {slot} or None
                self._want(group)
        self._idle.pop(slot, None)
        self._dirty.pop(slot, None)

    # what happens

    def arrive(self, job: Job, now: float) -> Refused | None:
        """Take a call, or refuse it because it would start too late.

        Raises:
            KeyError: No engine has this name.
        """
        group = self.groups[job.engine]
        if self.max_wait_s is not None and not job.batch:
            if (refused := self._refusal(job, now)) is not None:
                return refused
            heapq.heappush(self._deadlines, (job.deadline, next(self._numbers), job))
        self._push(group, job)
        return None

    def would_refuse(self, engine: str, now: float) -> Refused | None:
        """What an interactive call that arrived now would be told."""
        return self._refusal(Job(None, engine, now), now)

    def _refusal(self, job: Job, now: float) -> Refused | None:
        """Promise a start, or refuse."""
        job.deadline = now + (self.max_wait_s if self.max_wait_s is not None else inf)
        if self.max_wait_s is None:
            return None
        job.promised = predicted_start(self, self.groups[job.engine], now)
        if job.promised <= job.deadline:
            return None
        busy = (group.service.value for group in self.groups.values() if group.stays or group.waiting)
        later = job.promised - job.deadline + max(busy, default=0.0)  # until one more call has ended, the queue may seem as long as now
        return Refused(float(max(1, ceil(min(later, 3600.0)))))

    def again(self, job: Job) -> None:
        """Let a call whose slot was lost wait once more, before all others of its engine; its promise has been kept.

        Raises:
            KeyError: No engine has this name any more.
        """
        job.started = job.slot = job.stay = None
        job.deadline = inf
        self._push(self.groups[job.engine], job, first=True)

    def _push(self, group: Group, job: Job, *, first: bool = False) -> None:
        group.push(job, first=first)
        self.backlog[group.engine] = group
        if not group.stays:
            self._count(job, 1)
        if group.free:
            self._dirty[self._emptiest(group).slot.id] = None
        self._want(group)

    def _count(self, job: Job, sign: int) -> None:
        self.unserved += sign
        self.unserved_interactive += sign * (not job.batch)
        self._unserved_arrivals += sign * job.arrived

    def _strand(self, group: Group, sign: int) -> None:
        """Count an engine's calls as unserved, because its last slot has lost it, or no more, because one brings it."""
        self.unserved += sign * group.waiting
        self.unserved_interactive += sign * group.interactive
        self._unserved_arrivals += sign * group.arrivals

    def _want(self, group: Group) -> None:
        """Have an engine brought that calls wait for, where no slot holds it or too few do."""
        if group.waiting > group.places and (not group.stays or self.short(group)):
            self._wanting[group.engine] = group
            self._touch(group)

    def _end(self, stay: Stay) -> None:
        stay.end()
        if not stay.group.stays:
            self._strand(stay.group, 1)
        self._want(stay.group)

    def cancel(self, job: Job) -> None:
        """Take a waiting call out of the queue."""
        group = self.groups.get(job.engine)
        if job.gone or group is None or job.started is not None:
            return
        job.gone = True
        group.remove(job)
        if not group.stays:
            self._count(job, -1)
        if not group.waiting:
            self.backlog.pop(group.engine, None)
            self._unhead(group)

    def finished(self, job: Job, now: float, *, measured: bool = True) -> None:
        """A running call has ended, by itself or because its caller left.

        Args:
            job: The call.
            now: The time.
            measured: Whether its time says how long calls take; that of an abandoned one does not.
        """
        job.gone = True
        stay = job.stay
        if stay is None or job.started is None or stay.slot.awake.get(job.engine) is not stay:
            return
        slot = stay.slot
        stay.give()
        if not stay.running and stay.closed is not None and stay.closed[1] > 0:
            self.drain.add((now - stay.closed[0]) / stay.closed[1])
        if measured:
            stay.group.service.add(now - job.started)
            self.service.add(now - job.started)
        self._dirty[slot.id] = None
        if not slot.running and slot.loading is None:
            self._idle[slot.id] = None

    def loaded(self, slot: Hashable, now: float, *, seconds: float, woken: bool = False) -> None:
        """The engine that was to be brought into a slot is awake, after so many seconds."""
        place = self.slots[slot]
        stay = place.awake[place.loading or ""]
        (stay.group.wake if woken else stay.group.load).add(seconds)
        stay.ready(now)
        place.loading = place.prefetched = None
        self._dirty[slot] = self._idle[slot] = None

    def failed(self, slot: Hashable, engine: str) -> None:
        """An engine could not be brought into a slot, or has died there; the calls that it ran are the caller's to care for."""
        place = self.slots.get(slot)
        if place is None:
            return
        place.asleep.pop(engine, None)
        stay = place.awake.get(engine)
        if stay is not None:
            self._end(stay)
        if place.loading == engine:
            place.loading = place.prefetched = None
        if not place.running and place.loading is None:
            self._idle[slot] = None
        self._dirty[slot] = None

    def expect(self, engine: str, calls: int = 1) -> None:
        """Declare calls that routes will cause later (negative: they came, or will not)."""
        group = self.groups.get(engine)
        if group is not None:
            group.expected = max(0, group.expected + calls)

    def allow(self, engine: str, on: Iterable[Hashable], pinned: Iterable[Hashable] = ()) -> None:
        """Say which slots may hold an engine, and on which of them it stays awake; where it is elsewhere, it stays until it is left."""
        group = self.groups[engine]
        group.on, group.pinned = frozenset(on), frozenset(pinned)
        self._dirty.update(dict.fromkeys(self.slots))

    def retire(self, engine: str) -> None:
        """Have an engine end wherever it is, as soon as what it runs has ended; calls for it then bring it anew."""
        self._end_everywhere(self.groups[engine])

    def _end_everywhere(self, group: Group) -> None:
        for stay in group.stays.values():
            stay.spent = True
            if stay.open:
                stay.close()
            self._dirty[stay.slot.id] = None
        for slot in self.slots.values():
            if slot.asleep.pop(group.engine, None) is not None:
                slot.ending.append(group.engine)
        self._want(group)
        self._unhead(group)

    def preload(self, slot: Hashable, engine: str, now: float) -> Swap:
        """Have an engine brought into an empty slot before anyone asks for it."""
        out: list[Action] = []
        self._swap(self.slots[slot], self.groups[engine], [], now, out)
        assert isinstance(out[0], Swap)
        return out[0]

    # what to do

    def decide(self, now: float) -> list[Action]:
        """Say what is to be done now, and take it as done."""
        out: list[Action] = []
        while self._deadlines and self._deadlines[0][0] < now:
            promise = heapq.heappop(self._deadlines)
            if _stands(promise):
                job = promise[2]
                self.cancel(job)
                out.append(Expire(job))
        if self._dirty and self.rule.across:
            self._dirty.update(dict.fromkeys(self.slots))
        while self._dirty:
            slot = min(islice(self._dirty, 16), key=self._cost_of_leaving) if len(self._dirty) > 1 else next(iter(self._dirty))
            del self._dirty[slot]
            self._serve(self.slots[slot], now, out)
        return out

    def wake_at(self) -> float:
        """When `decide` is to be asked though nothing happens; infinite where never."""
        while self._deadlines and not _stands(self._deadlines[0]):
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else inf

    def _cost_of_leaving(self, slot: Hashable) -> tuple[bool, float]:
        """Empty slots first, then the one whose engines were used least recently, so that no engine is ended without need."""
        place = self.slots[slot]
        return (place.used > 0, max((stay.used for stay in place.awake.values()), default=0.0))

    def _touch(self, group: Group) -> None:
        """Look again at the slots that could take an engine which nobody serves: all of a few, else some that are idle."""
        if len(self.slots) <= 16:
            self._dirty.update(dict.fromkeys(self.slots))
        else:
            self._dirty.update(dict.fromkeys(islice((slot for slot in self._idle if group.fits(self.slots[slot])), 4)))

    def _serve(self, slot: Slot, now: float, out: list[Action]) -> None:
        self._start_calls(slot, now, out)
        if slot.loading is not None:
            return
        for stay in [stay for stay in slot.awake.values() if stay.spent and not stay.running]:
            self._end(stay)
            slot.ending.append(stay.group.engine)
        if slot.leaving:
            if not slot.running:
                self.remove_slot(slot.id)
                out.append(Retire(slot.id))
            return
        if not self._wanting:
            self._stay(slot, now, out)
            return
        leaving = [
            stay
            for stay in slot.awake.values()
            if slot.id not in stay.group.pinned and (not stay.open or self.rule.leaves(self, stay, now))
        ]
        if not leaving and slot.used >= slot.budget and not self.prefetch:
            return
        target = self.rule.choose(self, slot, now)
        if target is None:
            self._stay(slot, now, out)
            return
        if not leaving and slot.used >= slot.budget:
            self._prefetch(slot, target, out)
            return
        victims = self._victims(slot, target, leaving)
        if victims is None:
            self._head(slot, None)
            return
        for stay in victims:
            if stay.open:
                stay.close(now)
                self._want(stay.group)
        if all(not stay.running for stay in victims):
            self._swap(slot, target, victims, now, out)
            self._head(slot, None)
            return
        self._head(slot, target)
        self._prefetch(slot, target, out)

    def _prefetch(self, slot: Slot, target: Group, out: list[Action]) -> None:
        if self.prefetch and slot.prefetched != target.engine and not target.stays and target.engine not in slot.asleep:
            slot.prefetched = target.engine
            out.append(Prefetch(slot.id, target.engine))

    def _stay(self, slot: Slot, now: float, out: list[Action]) -> None:
        """Go on with what is here, because nobody waits for anything else."""
        self._head(slot, None)
        closed = [stay for stay in slot.awake.values() if not stay.open and not stay.spent]
        for stay in closed:
            stay.reopen()
        if closed:
            self._start_calls(slot, now, out)

    def _head(self, slot: Slot, target: Group | None) -> None:
        """Note what comes to a slot as soon as what it runs has ended; what came before may come to another."""
        before = self._wanting.get(slot.headed or "")
        if slot.headed is not None:
            del self._headed[slot.headed]
        slot.headed = None if target is None else target.engine
        if target is not None:
            self._headed[target.engine] = slot.id
        if before is not None and before is not target:
            self._want(before)

    def _unhead(self, group: Group) -> None:
        """Look again at the slot that an engine was to come to, because no calls wait for it any more."""
        if group.engine in self._headed:
            self._dirty[self._headed[group.engine]] = None

    def _start_calls(self, slot: Slot, now: float, out: list[Action]) -> None:
        for stay in slot.awake.values():
            group = stay.group
            while stay.open and not stay.loading and group.waiting and stay.running < group.lanes and self.rule.may_start(self, stay, now):
                if stay.alone or (group.first.alone and stay.running):
                    break
                job = group.pop()
                job.started, job.slot, job.stay = now, slot.id, stay
                stay.take(now, alone=job.alone)
                self._idle.pop(slot.id, None)
                out.append(Start(job, slot.id))
                if self.rule.across:
                    self._dirty.update(dict.fromkeys(self.slots))
                if not group.waiting:
                    del self.backlog[group.engine]
                elif group.free and (other := self._emptiest(group)).running < stay.running:
                    self._dirty[other.slot.id] = None
                    break

    def _emptiest(self, group: Group) -> Stay:
        """Where the next call of an engine starts: calls of one query then run in different slots."""
        return min(islice(group.free.values(), 8), key=_running)

    def _victims(self, slot: Slot, target: Group, leaving: list[Stay]) -> list[Stay] | None:
        """Which of those that may leave a slot must, so that an engine fits; None where it cannot fit."""
        free, victims = slot.budget - slot.used, []
        for stay in sorted(leaving, key=lambda stay: (stay.group.wanted > 0, stay.running, stay.used)):
            if free >= target.bytes:
                break
            free += stay.group.bytes
            victims.append(stay)
        return victims if free >= target.bytes else None

    def _swap(self, slot: Slot, target: Group, victims: list[Stay], now: float, out: list[Action]) -> None:
        asleep = {*slot.asleep}
        for stay in victims:
            self._end(stay)
            slot.asleep[stay.group.engine] = stay.group
        ended = self._beyond_budget(slot, target)
        for group in ended:
            del slot.asleep[group.engine]
        stop = [*slot.ending, *(group.engine for group in ended)]
        sleep = [engine for engine in slot.asleep if engine not in asleep]
        slot.ending.clear()
        wake = slot.asleep.pop(target.engine, None) is not None
        if not target.stays:
            self._strand(target, -1)
        Stay(target, slot, now, used=now).begin()
        slot.loading = target.engine
        self._idle.pop(slot.id, None)
        out.append(Swap(slot.id, target.engine, wake, tuple(sleep), tuple(stop)))

    def _beyond_budget(self, slot: Slot, target: Group) -> list[Group]:
        """Which of those that sleep or would like to must end, the least wanted first; one that is to be woken takes room until then."""
        free, ended = slot.asleep_budget - slot.asleep_used, []
        for group in sorted(slot.asleep.values(), key=lambda group: (group is target, group.wanted)):
            if free >= 0 and slot.asleep_budget:
                break
            free += group.asleep_bytes
            ended.append(group)
        return ended

    # what rules ask

    def short(self, group: Group) -> bool:
        """Whether more calls wait for an engine than will find a place soon, and another slot may bring it."""
        return group.waiting > group.places and len(group.stays) < self.replicas

    def candidates(self, slot: Slot) -> list[Group]:
        """Engines that calls wait for and that this slot could bring: those that no slot holds, else those that are short."""
        may, over = [], []
        for group in self._wanting.values():
            if not group.waiting or (group.stays and not self.short(group)):
                over.append(group.engine)
            elif (
                group.engine not in slot.awake
                and group.fits(slot)
                and (not self._headed or self._headed.get(group.engine, slot.id) == slot.id)
            ):
                may.append(group)
        for engine in over:
            del self._wanting[engine]
        return [group for group in may if not group.stays] or may

    def unserved_since(self, slot: Slot) -> float:
        """Arrival of the oldest call that an engine would have to be brought for, but for those that another slot is to bring."""
        groups = (group for group in self._wanting.values() if not group.stays and self._headed.get(group.engine, slot.id) == slot.id)
        return min((group.oldest for group in groups), default=inf)

    def unserved_waits(self, now: float) -> float:
        """Seconds that calls have waited whose engine no slot holds, summed."""
        return self.unserved * now - self._unserved_arrivals

    def swap_s(self, slot: Slot, group: Group) -> float:
        """Seconds that bringing an engine into a slot takes, as measured."""
        return group.wake.value if group.engine in slot.asleep else group.load.value
