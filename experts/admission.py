"""When a call would start, predicted on its arrival: what cannot start in time is refused at once."""

from __future__ import annotations

import heapq
from math import inf
from typing import TYPE_CHECKING

from experts.queues import Group, Slot

if TYPE_CHECKING:
    from experts.scheduler import Scheduler

MARGIN = 0.05
"""Share of the bound that a predicted start must leave, because the times of calls are not known."""
HOLD = 0.25
"""Share of the bound that the first call for an engine must leave besides: engines before it will get more calls until then.

Taken in earlier, it would hold them to short visits, and most of the time would go into swaps."""
DRAIN = 1.4
"""How much longer than usual running calls are taken to need to their end."""


def predicted_start(scheduler: Scheduler, group: Group, now: float) -> float:
    """Predict when one more call of an engine would start, or where it would make an accepted one late, a start too late itself.

    It is later than the bound by as much as the call should have come later. Infinity is for an engine that fits nowhere or takes
    longer than the bound to be brought.

    The slots are played forward: each ends what it serves, then the engines that wait are brought in order of their oldest
    call, as the rule will do, every call taking the time that calls of its engine took lately.

    Args:
        scheduler: What waits and what runs.
        group: The engine that the call is for.
        now: Time of its arrival.

    Example:
        >>> from experts.scheduler import Scheduler
        >>> scheduler = Scheduler(max_wait_s=60.0)
        >>> scheduler.add_engine("a", load_s=5.0), scheduler.add_slot("gpu0")
        (None, None)
        >>> predicted_start(scheduler, scheduler.groups["a"], now=100.0)
        105.0
    """
    if not any(not stay.open for other in scheduler.backlog.values() for stay in other.stays.values()):
        if all(other is group or other.stays for other in scheduler.backlog.values()):
            if any(stay.open and not stay.loading and stay.running + group.interactive < group.lanes for stay in group.stays.values()):
                return now
    predicted, spare, later = _play(scheduler, group, now)
    return predicted if spare >= 0 else max(predicted, later)


def _play(scheduler: Scheduler, group: Group, now: float) -> tuple[float, float, float]:
    """Play the slots forward with one more call of an engine.

    Gives its start, the least slack of the promises that it touches, and its start if it came after all that waits now.
    """
    bound = scheduler.max_wait_s or 0.0
    predicted, spare, settled = inf, inf, now
    drain = DRAIN * scheduler.drain.value
    free: list[tuple[float, int, Slot]] = []
    for number, slot in enumerate(scheduler.slots.values()):
        if slot.leaving:
            continue
        end = now
        for stay in slot.awake.values():
            mine, calls = stay.group, stay.running
            start = max(now, stay.since + mine.load.value) if stay.loading else now
            if stay.open:
                queued = (mine.interactive + (mine is group)) / mine.open
                start += max(0.0, stay.running + queued - mine.lanes) * mine.service.value / mine.lanes
                if mine is group:
                    predicted = min(predicted, start)
                calls = min(mine.lanes, round(stay.running + queued))
            end = max(end, start + mine.drained(calls) * drain)
        free.append((end, number, slot))
    heapq.heapify(free)
    placed = group.open > 0  # those before it in the order are not made later by it
    waiting = [other for other in scheduler.backlog.values() if not other.open and other.interactive]
    if not group.interactive and not placed:
        waiting.append(group)
    for engine in sorted(waiting, key=lambda engine: min(engine.oldest, now)):
        if (place := _first(free, engine)) is None:
            continue
        end, number, slot = place
        start = end + scheduler.swap_s(slot, engine)
        pace = engine.service.value / engine.lanes
        calls = engine.interactive + (engine is group)
        if placed:
            for at, job in enumerate(engine.queues[0]):
                spare = min(spare, job.deadline - start - max(0, at + 1 - engine.lanes) * pace)
        if engine is group:
            placed = True
            if start - end <= bound:
                margin = 0.0 if end <= now else MARGIN if group.interactive else MARGIN + HOLD
                predicted = min(predicted, start + max(0, calls - engine.lanes) * pace + margin * bound)
        settled = max(settled, start + max(0, calls - engine.lanes) * pace)
        busy = max(0, calls - engine.lanes) * pace + engine.drained(min(calls, engine.lanes)) * drain
        heapq.heappush(free, (start + busy, number, slot))
    if (place := _first(free, group)) is None or (swap_s := scheduler.swap_s(place[2], group)) > bound:
        return predicted, spare, inf
    return predicted, spare, max(settled + bound, place[0] + swap_s + (MARGIN + HOLD) * bound)


def _first(free: list[tuple[float, int, Slot]], engine: Group) -> tuple[float, int, Slot] | None:
    """Take out the slot that is free first of those that may hold an engine."""
    passed = []
    while free and not engine.fits(free[0][2]):
        passed.append(heapq.heappop(free))
    found = heapq.heappop(free) if free else None
    for other in passed:
        heapq.heappush(free, other)
    return found
