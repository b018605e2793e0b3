"""How the pool of experts stands: slots, queues, waits, and what it did lately."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from counterpoint.pages import taken
from counterpoint.steps import Call, Flow, asked


@dataclass(frozen=True, slots=True)
class HeldEngine:
    """An engine in a slot.

    Attributes:
        engine: Its name, made of its experts'.
        experts: The experts that it serves.
        bytes: Memory that it took when it was brought, or None where that is not known yet.
        loading: Whether it is on its way.
        ending: Whether it takes no more calls.
        running: Calls that run in it.
        since_s: Seconds since it was asked for, or has been awake.
    """

    engine: str
    experts: tuple[str, ...]
    bytes: int | None
    loading: bool = False
    ending: bool = False
    running: int = 0
    since_s: float = 0.0

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> HeldEngine:
        """Read the wire's form."""
        more = {name: body[name] for name in ("loading", "ending", "running", "since_s") if name in body}
        return cls(body["engine"], tuple(body["experts"]), body["bytes"], **more)


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot and what it holds.

    Attributes:
        id: Its name.
        running: Calls that run in it.
        leaving: Whether it is given back when what it runs has ended.
        awake: Engines that are awake or on their way.
        asleep: Engines that sleep in host memory.
        next: The engine that comes as soon as what runs has ended, or None.
        awake_bytes: Memory of those that are awake, as far as it is known.
        asleep_bytes: Memory of those that sleep.
    """

    id: str
    running: int
    leaving: bool
    awake: tuple[HeldEngine, ...]
    asleep: tuple[HeldEngine, ...]
    next: str | None
    awake_bytes: int
    asleep_bytes: int

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Slot:
        """Read the wire's form."""
        tiers = {tier: tuple(HeldEngine.of(each) for each in body[tier]) for tier in ("awake", "asleep")}
        return taken(cls, body, **tiers)


@dataclass(frozen=True, slots=True)
class Waits:
    """How long calls have waited for their start.

    Attributes:
        count: Calls that were started.
        sum_s: Seconds that they waited, summed.
        p50_s: Half waited at most so long, by their classes; None where none was started.
        p95_s: 19 of 20 waited at most so long.
        counts: Waits by class; `Pool.wait_bounds_s` has the upper bounds, the last class has none.
    """

    count: int
    sum_s: float
    p50_s: float | None
    p95_s: float | None
    counts: tuple[int, ...]

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Waits:
        """Read the wire's form."""
        return taken(cls, body, counts=tuple(body["counts"]))


@dataclass(frozen=True, slots=True)
class ExpertState:
    """How an expert stands, and what it did since the pool was started.

    Attributes:
        waiting: Calls that wait for it.
        oldest_wait_s: Seconds that the oldest of them has waited.
        running: Calls that it answers now.
        tokens: Tokens that it has generated.
        answered: Calls that it has answered.
        failures: Calls that ended in an error.
        waits: How long its calls waited.
        resident: Whether it can answer without anything being loaded.
        broken: Whether its calls would fail at once.
        tokens_per_s: Tokens that it generated per second over the last minute.
    """

    waiting: int
    oldest_wait_s: float
    running: int
    tokens: int
    answered: int
    failures: int
    waits: Waits
    resident: bool
    broken: bool
    tokens_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class EngineState:
    """What was measured of an engine that takes a slot.

    Attributes:
        engine: Its name, made of its experts'.
        experts: The experts that it serves.
        lanes: Calls that it runs at once.
        bytes: Memory that it took when it was last brought, or None.
        waiting: Calls that wait for it.
        load_s: Seconds of a cold start, or None before one was measured; so below.
        wake_s: Seconds of a wake.
        service_s: Seconds of a call.
    """

    engine: str
    experts: tuple[str, ...]
    lanes: int
    bytes: int | None
    waiting: int
    load_s: float | None
    wake_s: float | None
    service_s: float | None


@dataclass(frozen=True, slots=True)
class Sample:
    """The pool at one moment of the last minutes; experts without anything to tell are left out.

    Attributes:
        at: When, in seconds since 1970.
        waiting: Calls that waited, by expert.
        running: Calls that ran, by expert.
        swaps: Loads and wakes since the sample before.
        refused: Calls refused since then.
        tokens_per_s: Tokens per second since then, by expert.
    """

    at: float
    waiting: Mapping[str, int]
    running: Mapping[str, int]
    swaps: int
    refused: int
    tokens_per_s: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Pool:
    """How the pool stands.

    Attributes:
        at: When, in seconds since 1970.
        slots: The slots.
        tiers: Bytes of all slots' engines, by `awake` and `asleep`.
        budgets: Bytes that a slot may have of each; None is one engine at a time.
        cold: Engines that no slot holds.
        engines: What was measured of each engine that takes a slot.
        experts: How each expert stands.
        broken: Experts whose calls would fail at once.
        waits: How long calls waited, of all experts.
        wait_bounds_s: Upper bounds of the classes of waits.
        counters: What was counted since the pool was started: `swaps`, `loads`, `wakes`, `refused`, `late`, `retried`, `deaths` and so on.
        max_wait_s: Within how many seconds an accepted call starts, or None.
        tokens_per_s: Tokens per second over the last minute, of all experts.
        every_s: Seconds between two samples.
        samples: The last minutes, oldest first.
    """

    at: float
    slots: tuple[Slot, ...]
    tiers: Mapping[str, int]
    budgets: Mapping[str, int | None]
    cold: tuple[str, ...]
    engines: tuple[EngineState, ...]
    experts: Mapping[str, ExpertState]
    broken: tuple[str, ...]
    waits: Waits
    wait_bounds_s: tuple[float, ...]
    counters: Mapping[str, float]
    max_wait_s: float | None
    tokens_per_s: float
    every_s: float
    samples: tuple[Sample, ...]

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Pool:
        """Read the wire's form."""
        rates = body["recent"]["experts"]
        experts = {
            name: taken(ExpertState, each, waits=Waits.of(each["waits"]), tokens_per_s=float(rates.get(name, 0.0)))
            for name, each in body["experts"].items()
        }
        return taken(
            cls,
            body,
            slots=tuple(Slot.of(each) for each in body["slots"]),
            cold=tuple(body["cold"]),
            engines=tuple(taken(EngineState, each, experts=tuple(each["experts"])) for each in body["engines"]),
            experts=experts,
            broken=tuple(body["broken"]),
            waits=Waits.of(body["waits"]),
            wait_bounds_s=tuple(body["wait_bounds_s"]),
            tokens_per_s=float(body["recent"]["tokens_per_s"]),
            every_s=float(body["history"]["every_s"]),
            samples=tuple(taken(Sample, each) for each in body["history"]["samples"]),
        )


def pool(since: float | None) -> Flow[Pool]:
    """Ask how the pool stands."""
    return asked(Call("GET", "/v1/pool", {} if since is None else {"params": {"since": since}}), Pool.of)
