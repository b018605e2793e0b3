"""What waits and what is held: calls, groups of calls that one engine serves, and slots with their tiers."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from math import inf

from experts.costs import Measured


@dataclass(slots=True, eq=False)
class Job:
    """One call as the scheduler sees it; how long it will take is not known.

    Attributes:
        id: Its name.
        engine: The engine that can serve it.
        arrived: Time of its arrival, in seconds.
        batch: Whether it yields to interactive calls.
        query: What calls of one request share; they go to different slots where they can.
        deadline: Latest time of its start.
        promised: The start that was predicted on its arrival.
        started: Time of its start, or None while it waits.
        slot: Where it runs.
        stay: The visit that it runs in.
        alone: Whether nothing else may run beside it in its engine, which may have died of it.
        gone: Whether it has left: answered, expired or taken back.
    """

    id: Hashable
    engine: str
    arrived: float
    batch: bool = False
    query: Hashable = None
    deadline: float = inf
    promised: float = 0.0
    started: float | None = None
    slot: Hashable = None
    stay: Stay | None = None
    alone: bool = False
    gone: bool = False


@dataclass(slots=True, eq=False)
class Stay:
    """An engine awake in a slot, or on its way there.

    Attributes:
        group: The engine.
        slot: The slot.
        since: When it was asked for, and from its load on, when it was awake first.
        running: Calls in it.
        open: Whether it takes new calls; a closed one only ends what it runs.
        loading: Whether it is not awake yet.
        used: When it took its last call.
        served: Calls that it took.
        closed: When it was closed, and how long its calls were then predicted to need.
        alone: Whether the call that runs bears nothing beside it.
        spent: Whether it is to end, whoever else wants the slot.
    """

    group: Group
    slot: Slot
    since: float
    running: int = 0
    open: bool = True
    loading: bool = True
    used: float = 0.0
    served: int = 0
    closed: tuple[float, float] | None = None
    alone: bool = False
    spent: bool = False

    def begin(self) -> None:
        """Count as a place of its engine, though it is still loading."""
        self.slot.awake[self.group.engine] = self.group.stays[self.slot.id] = self
        self.group.places += self.group.lanes
        self.group.open += 1

    def end(self) -> None:
        """Leave the slot."""
        if self.open:
            self.close()
        del self.slot.awake[self.group.engine], self.group.stays[self.slot.id]

    def ready(self, now: float) -> None:
        """Be awake."""
        self.loading, self.since, self.used = False, now, now
        if self.open:
            self.group.free[self.slot.id] = self

    def take(self, now: float, *, alone: bool = False) -> None:
        """Begin a call, which may bear nothing beside it."""
        self.running += 1
        self.alone = alone
        self.served += 1
        self.used = now
        self.group.places -= 1
        if self.running == self.group.lanes or alone:
            del self.group.free[self.slot.id]

    def give(self) -> None:
        """End a call."""
        self.running -= 1
        self.alone = False
        if self.open:
            self.group.places += 1
            self.group.free[self.slot.id] = self

    def close(self, now: float | None = None) -> None:
        """Take no more calls; with a time, how long the last ones take from then on is measured."""
        self.open, self.closed = False, None if now is None else (now, self.group.drained(self.running))
        self.group.places -= self.group.lanes - self.running
        self.group.open -= 1
        self.group.free.pop(self.slot.id, None)

    def reopen(self) -> None:
        """Take calls again."""
        self.open, self.closed = True, None
        self.group.places += self.group.lanes - self.running
        self.group.open += 1
        if not self.loading and not self.alone and self.running < self.group.lanes:
            self.group.free[self.slot.id] = self


@dataclass(slots=True, eq=False)
class Group:
    """The calls that wait for one engine.

    Example:
        >>> group = Group("a", 8, 1.0, 1.0, Measured(2.0), Measured(5.0), Measured(1.0))
        >>> group.push(Job(1, "a", arrived=0.0, batch=True)), group.push(Job(2, "a", arrived=1.0))
        (None, None)
        >>> group.waited(now=3.0)
        5.0
        >>> [group.pop().id, group.pop().id]
        [2, 1]

    Attributes:
        engine: The engine's name.
        lanes: Calls that it runs at once.
        bytes: Memory that it takes while awake.
        asleep_bytes: Memory that it takes while asleep.
        service: Seconds of one call, measured.
        load: Seconds of a cold start, measured.
        wake: Seconds of a wake, measured.
        on: Slots that may hold it; None is all.
        pinned: Slots that never leave it.
        stays: Where it is awake or loading.
        expected: Calls that routes will cause later.
    """

    engine: str
    lanes: int
    bytes: float
    asleep_bytes: float
    service: Measured
    load: Measured
    wake: Measured
    on: frozenset[Hashable] | None = None
    pinned: frozenset[Hashable] = frozenset()
    stays: dict[Hashable, Stay] = field(default_factory=dict)
    expected: int = 0
    waiting: int = 0
    arrivals: float = 0.0
    """Sum of the arrival times of the waiting calls."""
    open: int = 0
    """Stays that take calls, loading ones included."""
    places: int = 0
    """Calls that these could begin at once."""
    free: dict[Hashable, Stay] = field(default_factory=dict)
    """Stays that could begin one now."""
    queues: tuple[deque[Job], deque[Job]] = field(default_factory=lambda: (deque(), deque()))
    interactive: int = 0

    def fits(self, slot: Slot) -> bool:
        """Whether a slot may hold it, and could if it held nothing else."""
        return self.bytes <= slot.budget and not slot.leaving and (self.on is None or slot.id in self.on)

    def push(self, job: Job, *, first: bool = False) -> None:
        """Let a call wait, last of its priority, or first again after its slot was lost."""
        queue = self.queues[job.batch]
        queue.appendleft(job) if first else queue.append(job)
        self.waiting += 1
        self.arrivals += job.arrived
        self.interactive += not job.batch

    @property
    def first(self) -> Job:
        """The call that is next: interactive ones first, then in order of arrival."""
        return self.queues[self.interactive == 0][0]

    def pop(self) -> Job:
        """Take the call that is next."""
        job = self.queues[self.interactive == 0].popleft()
        self._forget(job)
        return job

    def remove(self, job: Job) -> None:
        """Take a certain call out.

        Raises:
            ValueError: It does not wait here.
        """
        self.queues[job.batch].remove(job)
        self._forget(job)

    def _forget(self, job: Job) -> None:
        self.waiting -= 1
        self.arrivals -= job.arrived
        self.interactive -= not job.batch

    def __iter__(self) -> Iterator[Job]:
        yield from self.queues[0]
        yield from self.queues[1]

    @property
    def wanted(self) -> int:
        """Calls that wait for it or will be caused."""
        return self.waiting + self.expected

    @property
    def oldest(self) -> float:
        """Arrival of the call that has waited longest; infinite where none waits."""
        return min((queue[0].arrived for queue in self.queues if queue), default=inf)

    def waited(self, now: float) -> float:
        """Seconds that its calls have waited, summed."""
        return self.waiting * now - self.arrivals

    def drained(self, running: int) -> float:
        """Seconds until so many running calls have ended, the largest of that many exponential times."""
        return self.service.value * sum(1.0 / n for n in range(1, running + 1))


@dataclass(slots=True, eq=False)
class Slot:
    """What a slot holds.

    Attributes:
        id: Its name.
        budget: Bytes for engines that are awake.
        asleep_budget: Bytes for engines that sleep, 0 where the platform has no sleep mode.
        awake: Engines that are awake or loading, by name.
        asleep: Engines that sleep, by name.
        ending: Engines to be ended before another is brought, because they were removed or must start anew.
        loading: The engine that is being brought, or None.
        prefetched: The engine that is being read ahead, or None.
        headed: The engine that comes as soon as what runs has ended, or None.
        leaving: Whether the slot takes nothing new, because it will be taken away.
    """

    id: Hashable
    budget: float
    asleep_budget: float = 0.0
    awake: dict[str, Stay] = field(default_factory=dict)
    asleep: dict[str, Group] = field(default_factory=dict)
    ending: list[str] = field(default_factory=list)
    loading: str | None = None
    prefetched: str | None = None
    headed: str | None = None
    leaving: bool = False

    @property
    def running(self) -> int:
        """Calls that run here."""
        return sum(stay.running for stay in self.awake.values())

    @property
    def used(self) -> float:
        """Bytes of what is awake or loading."""
        return sum(stay.group.bytes for stay in self.awake.values())

    @property
    def asleep_used(self) -> float:
        """Bytes of what sleeps."""
        return sum(group.asleep_bytes for group in self.asleep.values())
