"""Policies side by side on the same traces: what is played, and the figures of each."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from math import inf
from pathlib import Path

import numpy as np

from data.records import CounterpointError
from experts.baselines import ORDERED, Ordered
from experts.bounds import bound_refused, bound_swaps
from experts.clairvoyant import WIDTH, Schedule, fewest_swaps, search
from experts.rules import RULES
from experts.scheduler import Scheduler
from experts.simulator import Run, simulate, simulate_per_request
from experts.traces import Trace, bursts, draw_experts, draw_lengths, poisson, read_azure, read_lengths, scaled
from experts.visits import Problem

POLICIES = ("per-request", *RULES, "clairvoyant")
"""Policies by name, simplest first."""
GENERATED = {"poisson": poisson, "bursts": bursts}
"""Arrivals that are drawn, by name."""
FEW_SLOTS = 16
"""Slots up to which the scheduler can look at all of them each time."""
SEARCHED_SLOTS, SEARCHED_CALLS = 16, 50_000
"""The most slots and calls for which schedules are searched."""


@dataclass(frozen=True, slots=True)
class Settings:
    """A pool and the load on it.

    Attributes:
        source: A CSV file with a trace, or `poisson`, or `bursts`.
        calls: Number of calls; a shorter file repeats.
        experts: Number of experts.
        zipf: Exponent of their shares of the calls; 0 for equal ones.
        slots: Number of slots.
        batch: Calls that a slot runs at once.
        load: Seconds of service, as a share of what all lanes have until the last arrival.
        rate: Calls a second, where there is no load; without both, arrivals are as the file has them.
        token_s: Seconds of a generated token.
        call_s: Seconds of a call besides.
        swap_s: Seconds of a swap.
        prefetch: Share of a swap that reading ahead can hide; our policy's only.
        max_wait_s: An accepted call starts within so many seconds under our policy and the clairvoyant one; None for no bound.
        replicas: Slots that may hold the same expert at once; None is any number.
        lengths: A score table with recorded lengths, in place of the trace's.
        width: How widely schedules are searched.
    """

    source: str
    calls: int = 5000
    experts: int = 8
    zipf: float = 0.0
    slots: int = 2
    batch: int = 8
    load: float | None = None
    rate: float | None = None
    token_s: float = 0.02
    call_s: float = 0.1
    swap_s: float = 5.0
    prefetch: float = 0.0
    max_wait_s: float | None = None
    replicas: int | None = 1
    lengths: str | None = None
    width: int = WIDTH

    @property
    def searched(self) -> bool:
        """Whether schedules are searched, which knows no replicas and takes too long on large pools."""
        return self.slots <= SEARCHED_SLOTS and self.calls <= SEARCHED_CALLS and self.replicas == 1

    def trace(self, seed: int) -> Trace:
        """The calls, experts and whatever is generated drawn by a seed.

        Raises:
            CounterpointError: The trace cannot be read, or does not have the rate or load that is wanted.
        """
        recorded = None if self.lengths is None else _lengths(self.lengths)
        if self.source in GENERATED:
            arrivals, tokens = GENERATED[self.source](self.calls, seed), draw_lengths(self.calls, recorded, seed)
        else:
            arrivals, tokens = _azure(self.source, self.calls)
            tokens = tokens if recorded is None else draw_lengths(self.calls, recorded, seed)
        seconds = self.call_s + self.token_s * tokens
        if self.load is not None:
            arrivals = scaled(arrivals, seconds, self.load, self.slots * self.batch)
        elif self.rate is not None:
            arrivals = scaled(arrivals, np.ones(len(arrivals)), 1.0, 1) / self.rate
        return Trace(arrivals, seconds, draw_experts(self.calls, self.experts, self.zipf, seed))

    def problem(self, trace: Trace) -> Problem:
        """The same as a search sees it."""
        wait = inf if self.max_wait_s is None else self.max_wait_s
        return Problem.of(
            trace.arrivals, trace.seconds, trace.experts, slots=self.slots, lanes=self.batch, swap_s=self.swap_s, max_wait_s=wait
        )


@lru_cache(maxsize=1)
def _azure(source: str, calls: int) -> tuple[np.ndarray, np.ndarray]:
    return read_azure(Path(source), calls)


@lru_cache(maxsize=1)
def _lengths(source: str) -> np.ndarray:
    return read_lengths(Path(source))


@dataclass(frozen=True, slots=True)
class Figures:
    """What a policy made of a trace, in numbers; None where there is no such number.

    Attributes:
        swaps: Engines brought into slots.
        swaps_per_call: The same for each call that was served.
        wait_mean_s: Mean seconds from arrival to start.
        wait_p50_s: Their median.
        wait_p95_s: Their 95th percentile.
        wait_p99_s: Their 99th percentile.
        wait_max_s: The longest.
        refused: Share of the arrivals that were refused.
        broken: Share of the accepted calls that were not started in time, and ended.
        late: Share of the arrivals that were started, but later than the bound.
        bound_s: Seconds within which the policy starts what it accepts.
        busy: Share of the lanes' seconds with a call, until the end.
        end_s: When the last call ended.
    """

    swaps: float
    swaps_per_call: float
    wait_mean_s: float | None
    wait_p50_s: float | None
    wait_p95_s: float | None
    wait_p99_s: float | None
    wait_max_s: float | None
    refused: float
    broken: float
    late: float
    bound_s: float | None
    busy: float
    end_s: float


def mean_figures(runs: list[Figures]) -> Figures:
    """The mean of each figure over several traces; None where one has none."""
    rows = ([getattr(run, field.name) for run in runs] for field in fields(Figures))
    return Figures(*(None if None in row else float(np.mean(row)) for row in rows))  # type: ignore[arg-type]


def play(settings: Settings, policy: str, seed: int) -> Figures | None:
    """Play one trace by one policy.

    Args:
        settings: The pool and the load.
        policy: A name of `POLICIES`, or `clairvoyant_swaps`: few swaps, where no more is refused than by our policy.
        seed: Seed of the trace.

    Returns:
        Its figures; None where the search found no such schedule.
    """
    trace = settings.trace(seed)
    bound = settings.max_wait_s
    if policy == "clairvoyant":
        made = search(settings.problem(trace), wait_price=float(bound is None), width=settings.width)
        return _figures(settings, made.waits, made.swaps, made.refused, 0, made.end, made.busy, bound)
    if policy == "clairvoyant_swaps":
        schedule = _few_swaps(settings, trace)
        if schedule is None:
            return None
        return _figures(settings, schedule.waits, schedule.swaps, schedule.refused, 0, schedule.end, schedule.busy, bound)
    run = play_policy(settings, policy, trace)
    waits = run.waits[~np.isnan(run.waits)]
    return _figures(settings, waits, run.swaps, run.refused, run.broken, run.end, run.busy, bound if policy == "counterpoint" else None)


def play_policy(settings: Settings, policy: str, trace: Trace) -> Run:
    """Play a trace by a policy that decides as calls come.

    Raises:
        CounterpointError: There is no such policy.
    """
    if policy == "per-request":
        return simulate_per_request(trace, settings.slots, settings.swap_s)
    if policy not in RULES:
        raise CounterpointError(f"no policy is called {policy!r}; there are {', '.join(POLICIES)}")
    scheduler: Scheduler
    if policy == "counterpoint":
        scheduler = Scheduler(max_wait_s=settings.max_wait_s, replicas=settings.replicas, prefetch=settings.prefetch > 0)
    elif policy in ORDERED and settings.slots > FEW_SLOTS:
        scheduler = Ordered(ORDERED[policy](), replicas=settings.replicas)
    else:
        scheduler = Scheduler(RULES[policy](), replicas=settings.replicas)
    for slot in range(settings.slots):
        scheduler.add_slot(slot)
    for expert in range(settings.experts):
        scheduler.add_engine(str(expert), lanes=settings.batch, load_s=settings.swap_s)
    return simulate(trace, scheduler, settings.swap_s, settings.prefetch if policy == "counterpoint" else 0.0)


def bounds(settings: Settings, seed: int) -> tuple[float | None, float | None]:
    """What no schedule without prefetch can undercut: the share refused, and the swaps of one that refuses no more than our policy."""
    trace = settings.trace(seed)
    problem = settings.problem(trace)
    refused = bound_refused(problem)
    return None if refused is None else refused / len(trace), bound_swaps(problem, _unserved(settings, trace))


def _unserved(settings: Settings, trace: Trace) -> int:
    """Calls that our policy refuses, or accepts and does not start."""
    if settings.max_wait_s is None:
        return 0
    run = play_policy(settings, "counterpoint", trace)
    return run.refused + run.broken


def _few_swaps(settings: Settings, trace: Trace) -> Schedule | None:
    return fewest_swaps(settings.problem(trace), _unserved(settings, trace), width=settings.width)


def _figures(
    settings: Settings, waits: np.ndarray, swaps: int, refused: int, broken: int, end: float, busy: float, bound: float | None
) -> Figures:
    p50, p95, p99 = np.percentile(waits, [50, 95, 99]).tolist() if len(waits) else (None, None, None)
    lanes = settings.slots * settings.batch * end
    limit = inf if settings.max_wait_s is None else settings.max_wait_s * (1 + 1e-9)
    return Figures(
        swaps=float(swaps),
        swaps_per_call=swaps / max(1, len(waits)),
        wait_mean_s=float(waits.mean()) if len(waits) else None,
        wait_p50_s=p50,
        wait_p95_s=p95,
        wait_p99_s=p99,
        wait_max_s=float(waits.max()) if len(waits) else None,
        refused=refused / settings.calls,
        broken=broken / max(1, settings.calls - refused),
        late=float((waits > limit).sum()) / settings.calls,
        bound_s=bound,
        busy=busy / lanes if lanes else 0.0,
        end_s=end,
    )
