"""Rules that look at the calls of all engines, on pools of many slots: at the speed of long traces."""

from __future__ import annotations

from collections import deque

from experts.queues import Job, Slot, Stay
from experts.rules import FirstInFirstOut, LeastRecentlyUsed, Rule
from experts.scheduler import Action, Refused, Scheduler


class Ordered(Scheduler):
    """A scheduler for rules under which a start in one slot lets another go on.

    It looks again at one slot that serves the first call, or could be left for it. The scheduler itself looks at all slots each time,
    which takes too long where they are many.
    """

    def __init__(self, rule: Rule, *, replicas: int | None = 1) -> None:
        super().__init__(rule, replicas=replicas)
        self.order: deque[Job] = deque()

    def arrive(self, job: Job, now: float) -> Refused | None:
        """Take a call."""
        self.order.append(job)
        return super().arrive(job, now)

    @property
    def first(self) -> Job | None:
        """The call that has waited longest."""
        while self.order and (self.order[0].started is not None or self.order[0].gone):
            self.order.popleft()
        return self.order[0] if self.order else None

    def decide(self, now: float) -> list[Action]:
        """Say what is to be done now, until nothing is."""
        made: list[Action] = []
        while some := super().decide(now):
            made += some
            first = self.first
            if first is None:
                break
            group = self.groups[first.engine]
            self._dirty.update(dict.fromkeys([*group.free][:1]))
            if not group.stays:
                self._dirty[min(self.slots.values(), key=_used).id] = None
        return made


def _used(slot: Slot) -> float:
    """When a slot took its last call."""
    return min((stay.used for stay in slot.awake.values()), default=0.0)


class InOrder(FirstInFirstOut):
    """First in, first out, where an `Ordered` scheduler knows which call is first and which slots it concerns."""

    across = False

    def leaves(self, scheduler: Scheduler, stay: Stay, now: float) -> bool:
        """Leave as soon as the oldest call is another engine's."""
        return scheduler.unserved > 0 and super().leaves(scheduler, stay, now)

    def may_start(self, scheduler: Scheduler, stay: Stay, now: float) -> bool:
        """Only the call that came before all others may."""
        assert isinstance(scheduler, Ordered)
        return scheduler.first is not None and scheduler.first.engine == stay.group.engine


class LeastRecent(LeastRecentlyUsed):
    """Least recently used, where an `Ordered` scheduler knows which slots a start concerns."""

    across = False


ORDERED: dict[str, type[Rule]] = {"fifo": InOrder, "lru": LeastRecent}
"""The rules that need an `Ordered` scheduler on pools of many slots, by name."""
