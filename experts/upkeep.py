"""Looking after a running pool: more slots while calls wait long, fewer when slots idle, engines placed by measured traffic."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from experts.placement import place

if TYPE_CHECKING:
    from experts.pool import ExpertPool

EVERY_S = 2.0
GROW = 3.0
"""Swap times that a call may wait for its engine before one more slot is started."""
IDLE_S = 120.0
"""Seconds without a call after which a slot beyond the first ones is given back."""
PLACE_S = 60.0
"""Seconds between two plans of which engine lives where."""


async def look_after(pool: ExpertPool) -> None:
    """Do what is due, every two seconds, until cancelled."""
    placed = time.monotonic()
    while True:
        await asyncio.sleep(EVERY_S)
        now = time.monotonic()
        resize(pool, now)
        if pool.settings.placement and now - placed >= PLACE_S:
            placed = now
            await replan(pool)


def resize(pool: ExpertPool, now: float) -> None:
    """Start a slot where calls wait too long, or let one go that has had nothing to do.

    Args:
        pool: The pool.
        now: The time.
    """
    scheduler, settings = pool.scheduler, pool.settings
    most = settings.max_slots or settings.slots
    slots = [slot for slot in scheduler.slots.values() if not slot.leaving]
    waits = [(now - group.oldest, group.load.value) for group in scheduler.backlog.values()]
    if len(slots) < most and any(wait > GROW * load for wait, load in waits) and not any(slot.loading and not slot.used for slot in slots):
        with suppress(Exception):  # a cluster that cannot grow now may later
            pool.add_slot()
    elif len(slots) > settings.slots and not scheduler.backlog:
        for slot in reversed(slots[settings.slots :]):
            used = max((stay.used for stay in slot.awake.values()), default=now - IDLE_S if not slot.loading else now)
            if not slot.running and slot.loading is None and now - used >= IDLE_S:
                pool.remove_slot(str(slot.id))
                return


async def replan(pool: ExpertPool) -> None:
    """Choose anew which engine may live on which slots, by what was asked lately, and tell the scheduler."""
    scheduler, traffic, now = pool.scheduler, pool.traffic, time.monotonic()
    slots = {slot.id: slot.budget for slot in scheduler.slots.values() if not slot.leaving}
    groups = [*scheduler.groups.values()]
    if len(slots) < 2 or len(groups) < 2:
        return
    demands = [traffic.demand(group.engine, bytes=group.bytes, swap_s=group.load.value, now=now) for group in groups]
    current = {group.engine: group.on for group in groups if group.on is not None}
    plan = await asyncio.to_thread(
        place, demands, slots, together=traffic.together(), current=current, max_replicas=pool.settings.replicas, time_limit_s=2.0
    )
    for group in groups:
        if group.engine in scheduler.groups and set(plan.on[group.engine]) <= scheduler.slots.keys():
            scheduler.allow(group.engine, plan.on[group.engine], plan.pinned[group.engine])
    pool.stats.plans += 1
