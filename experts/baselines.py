"""Rules that look at the calls of all engines, at the speed of long traces."""

from __future__ import annotations

from collections import deque

from experts.queues import Job, Stay
from experts.rules import FirstInFirstOut, LeastRecentlyUsed, Rule
from experts.scheduler import Action, Refused, Scheduler


class Ordered(Scheduler):
    """A scheduler for rules under which a start in one slot lets another go on: it looks again at those that this may concern.

    It also keeps the calls in order of arrival, so that the first is found at once.
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
            if not group.stays and len(self.slots) <= 16:
                self._dirty.update(dict.fromkeys(self.slots))
        return made


class InOrder(FirstInFirstOut):
    """First in, first out, where the scheduler knows which call is first."""

    def may_start(self, scheduler: Scheduler, stay: Stay, now: float) -> bool:
        """Only the call that came before all others may."""
        assert isinstance(scheduler, Ordered)
        return scheduler.first is not None and scheduler.first.engine == stay.group.engine


ORDERED: dict[str, type[Rule]] = {"fifo": InOrder, "lru": LeastRecentlyUsed}
"""The rules that need an `Ordered` scheduler, by name."""
