"""Which engine a slot serves next, and when it leaves the one that it serves: ours, and those that it is measured against."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Protocol

from experts.queues import Group, Slot, Stay

if TYPE_CHECKING:
    from experts.scheduler import Scheduler


STAY = 1.1
"""How much longer than the others so far a call that is sent away is taken to wait: they are not served yet either."""


class Rule(Protocol):
    """Decides for one slot, from what the scheduler knows.

    Attributes:
        across: Whether a start in one slot can change what another may do.
    """

    across: bool

    def choose(self, scheduler: Scheduler, slot: Slot, now: float) -> Group | None:
        """Say which engine the slot should bring next, or None where it should stay."""
        ...

    def leaves(self, scheduler: Scheduler, stay: Stay, now: float) -> bool:
        """Say whether an engine should take no more calls, because another is wanted in its place."""
        ...

    def may_start(self, scheduler: Scheduler, stay: Stay, now: float) -> bool:
        """Say whether the next call of an engine that is awake may start."""
        ...


class Counterpoint:
    """Stay while that serves more than leaving would; then go where most waiting is spared for each second of swap.

    One more call in an engine with r running ones holds up everyone who waits for this slot by about service / (r + 1) seconds;
    sent away, it waits about as long as they have waited so far. The slot leaves when the first is more than the second, and
    its engine's queue is empty, or when the visit has lasted `quantum` swaps.

    Example:
        >>> from experts.queues import Job
        >>> from experts.scheduler import Scheduler
        >>> scheduler = Scheduler(Counterpoint())
        >>> for engine, calls in {"a": 1, "b": 3}.items():
        ...     scheduler.add_engine(engine)
        ...     for call in range(calls):
        ...         _ = scheduler.arrive(Job(call, engine, arrived=0.0), now=0.0)
        >>> scheduler.add_slot("gpu0")
        >>> [action.engine for action in scheduler.decide(1.0)]
        ['b']
    """

    across = False

    def choose(self, scheduler: Scheduler, slot: Slot, now: float) -> Group | None:
        """Choose the engine with the largest sum of waits, times the root of the longest, per second of swap."""
        groups = scheduler.candidates(slot)
        if len(groups) < 2:
            return groups[0] if groups else None
        if scheduler.max_wait_s is not None:
            return min(groups, key=lambda group: (not group.interactive, group.oldest))
        return max(groups, key=lambda group: self._worth(scheduler, slot, group, now))

    def _worth(self, scheduler: Scheduler, slot: Slot, group: Group, now: float) -> tuple[bool, float, float]:
        ready = group.waiting / (group.waiting + group.expected)  # an engine whose calls are still to be caused is better served once
        seconds = scheduler.swap_s(slot, group) + 1e-9
        return (group.interactive > 0, ready * group.waited(now) * sqrt(max(0.0, now - group.oldest)) / seconds, ready * group.waiting)

    def leaves(self, scheduler: Scheduler, stay: Stay, now: float) -> bool:
        """Leave when the queue is empty and staying would cost the others more than it spares, or when the quantum is spent."""
        group, waiting = stay.group, scheduler.unserved
        if not stay.running and not group.waiting:
            return True
        if not waiting:  # at most, one that is served elsewhere would like a slot more
            return False
        if group.waiting:
            quantum = min(1.0, scheduler.quantum) if scheduler.unserved_interactive and not group.interactive else scheduler.quantum
            promised = scheduler.max_wait_s is not None and group.interactive  # what was accepted here was promised with this queue
            return not promised and now - stay.since >= quantum * group.load.value
        if now - stay.since >= scheduler.quantum * group.load.value:  # else calls that never queue could hold the others up for ever
            return True
        spared = STAY * (stay.running + 1) * scheduler.unserved_waits(now) * len(scheduler.slots)
        return group.service.value * waiting * waiting >= spared

    def may_start(self, scheduler: Scheduler, stay: Stay, now: float) -> bool:
        """Any call may."""
        return True


class LlamaSwap:
    """Serve the engine that is there until it has drained, new calls included; then bring the one whose call has waited longest.

    Source:
        llama-swap, `internal/router/scheduler/fifo.go` (2026): a ready model's calls go through at once, one that would
        evict a busy model waits until that has nothing in flight, and the queue is walked in order of arrival.
    """

    across = False

    def choose(self, scheduler: Scheduler, slot: Slot, now: float) -> Group | None:
        """Choose the engine of the call that has waited longest."""
        return min(scheduler.candidates(slot), key=lambda group: group.oldest, default=None)

    def leaves(self, scheduler: Scheduler, stay: Stay, now: float) -> bool:
        """Leave only what has drained."""
        return not stay.running and not stay.group.waiting

    def may_start(self, scheduler: Scheduler, stay: Stay, now: float) -> bool:
        """Any call may."""
        return True


class FirstInFirstOut(LlamaSwap):
    """Start calls strictly in order of arrival: one whose engine must be brought holds up all that came later."""

    across = True

    def leaves(self, scheduler: Scheduler, stay: Stay, now: float) -> bool:
        """Leave as soon as the oldest call is another engine's."""
        return scheduler.unserved_since(stay.slot) < stay.group.oldest and self._may_be_left(scheduler, stay)

    def _may_be_left(self, scheduler: Scheduler, stay: Stay) -> bool:
        return True

    def may_start(self, scheduler: Scheduler, stay: Stay, now: float) -> bool:
        """Only the call that came before all others may."""
        return stay.group.oldest <= min(group.oldest for group in scheduler.backlog.values())


class LeastRecentlyUsed(FirstInFirstOut):
    """Serve what is awake as it comes, and bring the oldest call's engine in place of the one that was used least recently."""

    def _may_be_left(self, scheduler: Scheduler, stay: Stay) -> bool:
        least = min(other.used for other in stay.slot.awake.values())
        return all(least <= other.used for slot in scheduler.slots.values() for other in slot.awake.values())

    def may_start(self, scheduler: Scheduler, stay: Stay, now: float) -> bool:
        """Calls for what is awake may start, though others came before."""
        return True


RULES: dict[str, type[Rule]] = {
    "fifo": FirstInFirstOut,
    "lru": LeastRecentlyUsed,
    "llama-swap": LlamaSwap,
    "counterpoint": Counterpoint,
}
"""The rules by name, simplest first."""
