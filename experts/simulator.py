"""Play a trace of load through the scheduler, with swap costs given."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import count
from math import inf, nan, nextafter

import numpy as np

from experts.queues import Job
from experts.scheduler import Expire, Prefetch, Scheduler, Start, Swap
from experts.traces import Trace, names


@dataclass(slots=True)
class Run:
    """What a policy made of a trace.

    Attributes:
        waits: Seconds that each call waited for its start, shape (n,); NaN where it was refused or its promise broken.
        refused: Calls refused on arrival.
        broken: Calls accepted and not started in time.
        swaps: Engines brought into slots.
        end: When the last call ended, in seconds.
        busy: Seconds of service, all lanes together.
    """

    waits: np.ndarray
    refused: int = 0
    broken: int = 0
    swaps: int = 0
    end: float = 0.0
    busy: float = 0.0


def simulate(trace: Trace, scheduler: Scheduler, swap_s: float, prefetch: float = 0.0) -> Run:
    """Play a trace through a scheduler whose slots and engines are known to it.

    Args:
        trace: The calls; expert number e is the engine named `str(e)`.
        scheduler: The scheduler, nothing waiting.
        swap_s: Seconds that bringing an engine takes.
        prefetch: Share of a swap that reading ahead can hide, if it began early enough.
    """
    arrivals, seconds, engines = trace.arrivals.tolist(), trace.seconds.tolist(), names(trace.experts.tolist())
    total, waits, run = len(arrivals), [nan] * len(arrivals), Run(np.empty(0))
    events: list[tuple[float, int, Job | None, object, float]] = []  # time, number, the call that ends or None, slot, seconds of its swap
    ahead: dict[object, tuple[str, float]] = {}
    numbers, following, now = count(), 0, 0.0
    promises = scheduler.max_wait_s is not None
    arrival = arrivals[0] if total else inf
    while True:
        event = events[0][0] if events else inf
        alarm = scheduler.wake_at() if promises else inf
        if alarm < arrival and alarm < event:
            now = max(now, nextafter(alarm, inf))
        elif event <= arrival:
            if event == inf:
                break
            now, _, job, slot, took = heapq.heappop(events)
            if job is None:
                scheduler.loaded(slot, now, seconds=took)
            else:
                scheduler.finished(job, now)
        else:
            now, job = arrival, Job(following, engines[following], arrival)
            following += 1
            arrival = arrivals[following] if following < total else inf
            if scheduler.arrive(job, now) is not None:
                run.refused += 1
                continue
        for action in scheduler.decide(now):
            if isinstance(action, Start):
                job, number = action.job, int(action.job.id)  # type: ignore[call-overload]
                waits[number] = now - job.arrived
                run.busy += seconds[number]
                heapq.heappush(events, (now + seconds[number], next(numbers), job, None, 0.0))
            elif isinstance(action, Swap):
                engine, began = ahead.pop(action.slot, ("", now))
                took = swap_s - (min(prefetch * swap_s, now - began) if engine == action.engine else 0.0)
                run.swaps += 1
                heapq.heappush(events, (now + took, next(numbers), None, action.slot, took))
            elif isinstance(action, Prefetch):
                ahead[action.slot] = (action.engine, now)
            elif isinstance(action, Expire):
                run.broken += 1
    run.waits, run.end = np.array(waits), now
    left = int(np.isnan(run.waits).sum()) - run.refused - run.broken
    assert not left, f"{left} calls wait, and the scheduler starts none of them"
    return run


def simulate_per_request(trace: Trace, slots: int, swap_s: float) -> Run:
    """Play a trace where each call is an engine of its own, brought for it alone and served in order of arrival.

    It is what `simulate` gives with an engine for every call, without a queue of as many engines as calls.

    Args:
        trace: The calls.
        slots: Number of slots.
        swap_s: Seconds that bringing an engine takes.
    """
    free = [0.0] * slots
    waits, end = [], 0.0
    for arrival, seconds in zip(trace.arrivals.tolist(), trace.seconds.tolist(), strict=True):
        start = max(arrival, free[0]) + swap_s
        heapq.heapreplace(free, start + seconds)
        waits.append(start - arrival)
        end = max(end, start + seconds)
    return Run(np.array(waits), swaps=len(trace), end=end, busy=float(trace.seconds.sum()))
