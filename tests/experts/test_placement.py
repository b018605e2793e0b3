import itertools
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from experts.base import EngineError
from experts.placement import Placement, place
from experts.scheduler import Scheduler
from experts.simulator import simulate
from experts.traces import Trace
from experts.traffic import Demand, Traffic


@dataclass
class Case:
    engines: list[Demand]
    slots: dict[str, int]
    together: dict[tuple[str, str], float] = field(default_factory=dict)
    current: dict[str, tuple[str, ...]] | None = None
    max_replicas: int | None = None
    cycle_s: float = 60.0
    even: float = 0.1
    apart: float = 1.0
    stay: float = 0.01

    def place(self, **options: Any) -> Placement:
        return place(**vars(self), **options)


Plan = Mapping[str, Mapping[str, bool]]
"""For each engine its slots, and whether it is pinned there."""


def copies_of(case: Case, engine: Demand) -> int:
    fit = sum(engine.bytes <= budget for budget in case.slots.values())
    return min(max(1, math.ceil(engine.busy)), fit, case.max_replicas or fit)


def loads_of(case: Case, plan: Plan) -> dict[str, float]:
    """Load of each slot; only slots that more than one engine shares swap."""
    loads = dict.fromkeys(case.slots, 0.0)
    for slot in case.slots:
        sharing = sum(slot in places and not places[slot] for places in plan.values())
        for engine in case.engines:
            if slot in plan[engine.engine]:
                copies = len(plan[engine.engine])
                loads[slot] += engine.busy / copies
                if sharing > 1 and not plan[engine.engine][slot]:
                    loads[slot] += (1 - math.exp(-engine.rate * case.cycle_s / copies)) / case.cycle_s * engine.swap_s
    return loads


def meeting_of(case: Case, plan: Plan) -> float:
    return sum(
        share * len(set(plan[one]) & set(plan[other])) / len(plan[one]) / len(plan[other]) for (one, other), share in case.together.items()
    )


def value_of(case: Case, plan: Plan) -> float:
    loads = loads_of(case, plan).values()
    fair = sum(engine.busy for engine in case.engines) / len(case.slots)
    uneven = sum(load + max(0.0, load - fair) for load in loads) / len(case.slots)
    moves = 0 if case.current is None else sum(slot not in case.current.get(name, ()) for name, places in plan.items() for slot in places)
    return max(loads) + case.even * uneven + case.apart * meeting_of(case, plan) + case.stay * moves


def fits(case: Case, plan: Plan) -> bool:
    for slot, budget in case.slots.items():
        here = [(engine.bytes, plan[engine.engine][slot]) for engine in case.engines if slot in plan[engine.engine]]
        if sum(size for size, pin in here if pin) + max((size for size, pin in here if not pin), default=0) > budget:
            return False
    return True


def plans(case: Case) -> Iterator[Plan]:
    options = [
        [
            dict(zip(slots, pins, strict=True))
            for slots in itertools.combinations(
                [slot for slot, budget in case.slots.items() if engine.bytes <= budget], copies_of(case, engine)
            )
            for pins in itertools.product([True, False], repeat=len(slots))
        ]
        for engine in case.engines
    ]
    for chosen in itertools.product(*options):
        yield {engine.engine: places for engine, places in zip(case.engines, chosen, strict=True)}


def brute_force(case: Case) -> float:
    """The least value of all plans that fit."""
    return min(value_of(case, plan) for plan in plans(case) if fits(case, plan))


def as_plan(found: Placement) -> Plan:
    return {name: {slot: slot in found.pinned[name] for slot in slots} for name, slots in found.on.items()}  # type: ignore[misc]


def random_case(seed: int) -> Case:
    random = np.random.default_rng(seed)
    names = "abcd"[: int(random.integers(2, 5))]
    slots = {f"gpu{s}": int(random.integers(3, 9)) for s in range(int(random.integers(2, 4)))}
    if seed % 3:
        slots = dict.fromkeys(slots, 6)
    engines = [
        Demand(
            name,
            bytes=int(random.integers(1, max(slots.values()) + 1)),
            busy=float(random.choice([0.0, 0.3, 0.7, random.uniform(0, 1.6)])),
            swap_s=float(random.uniform(0, 20)),
            rate=float(random.choice([0.0, 0.01, 1.0, math.inf])),
        )
        for name in names
    ]
    together = {pair: float(random.uniform(0, 0.5)) for pair in itertools.combinations(names, 2) if random.random() < 0.7}
    current = {name: tuple(random.choice([*slots], 1).tolist()) for name in names if random.random() < 0.8} if seed % 2 else None
    return Case(
        engines,
        slots,
        together,
        current,
        max_replicas=1 if seed % 5 == 0 else None,
        cycle_s=float(random.choice([10.0, 60.0])),
        even=float(random.choice([0.0, 0.1])),
        apart=float(random.choice([0.0, 0.3, 1.0])),
        stay=float(random.choice([0.0, 0.01, 0.2])),
    )


@pytest.mark.parametrize("seed", range(60))
def test_no_plan_is_better(seed: int) -> None:
    case = random_case(seed)
    found = case.place(gap=0.0)
    assert found.proven
    assert found.objective == pytest.approx(brute_force(case), abs=2e-6)


@pytest.mark.parametrize("seed", range(60))
def test_the_program_needs_no_search_to_find_it(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def first_slots(program: Any, until: float) -> tuple[np.ndarray, np.ndarray]:
        share = program.fits & (np.cumsum(program.fits, axis=1) <= program.copies[:, None])
        return np.zeros_like(share), share

    monkeypatch.setattr("experts.placement._search", first_slots)
    case = random_case(seed)
    assert case.place(gap=0.0).objective == pytest.approx(brute_force(case), abs=2e-6)


def test_what_is_too_large_for_the_program_has_a_plan_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    case = zipf(8, 3, 1)
    best = case.place()
    monkeypatch.setattr("experts.placement.COLUMNS", 10)
    found = case.place()
    assert found.on == best.on
    assert found.bound < best.bound
    assert not found.proven


@pytest.mark.parametrize("seed", range(60))
def test_a_plan_fits_and_is_worth_what_it_says(seed: int) -> None:
    case = random_case(seed)
    found = case.place()
    plan = as_plan(found)
    assert fits(case, plan)
    assert [len(plan[engine.engine]) for engine in case.engines] == [copies_of(case, engine) for engine in case.engines]
    assert found.objective == pytest.approx(value_of(case, plan))
    assert found.loads == pytest.approx(loads_of(case, plan))
    assert found.meeting == pytest.approx(meeting_of(case, plan))
    assert found.bound <= found.objective
    moved = {(name, slot) for name, slots in plan.items() for slot in slots if slot not in (case.current or {}).get(name, ())}
    assert set(found.moves) == (set() if case.current is None else moved)


def zipf(engines: int, slots: int, seed: int, *, load: float = 0.6) -> Case:
    random = np.random.default_rng(seed)
    share = 1 / np.arange(1, engines + 1)
    busy = random.permutation(share / share.sum() * slots * load)
    pairs = np.sort(random.choice(engines, size=(2000, 2), p=share / share.sum()), axis=1)
    together = {(str(a), str(b)): float(n) / 2000 for (a, b), n in zip(*np.unique(pairs, axis=0, return_counts=True), strict=True) if a < b}
    sizes = random.integers(15, 60, engines)
    demands = [Demand(str(e), int(sizes[e]), float(busy[e]), swap_s=5.0, rate=float(busy[e]) * 4) for e in range(engines)]
    return Case(demands, {f"gpu{s}": 80 for s in range(slots)}, together)


def round_robin(case: Case) -> Plan:
    """Engines dealt out in order, with as many places as in a plan; those that fit together are all pinned."""
    slots, number = [*case.slots], itertools.count()
    dealt = {engine.engine: [slots[next(number) % len(slots)] for _ in range(copies_of(case, engine))] for engine in case.engines}
    held = {slot: sum(engine.bytes for engine in case.engines if slot in dealt[engine.engine]) for slot in slots}
    return {name: {slot: held[slot] <= case.slots[slot] for slot in places} for name, places in dealt.items()}


@pytest.mark.parametrize("seed", range(10))
def test_the_largest_load_is_not_above_that_of_round_robin(seed: int) -> None:
    case = zipf(12, 4, seed)
    found, dealt = case.place(time_limit_s=0.3), round_robin(case)
    assert found.largest_load <= max(loads_of(case, dealt).values())
    assert found.objective < value_of(case, dealt)


def test_engines_that_are_asked_together_are_apart() -> None:
    engines, slots = [Demand(name, 10, 0.3) for name in "abcdefgh"], dict.fromkeys("xyz", 20)
    pairs = {("b", "a"): 0.25, ("c", "d"): 0.25, ("e", "f"): 0.25, ("g", "h"): 0.25}
    found = place(engines, slots, together=pairs, time_limit_s=1.0)
    assert found.meeting == 0
    assert all(not set(found.on[one]) & set(found.on[other]) for one, other in pairs)


def test_together_may_be_a_matrix() -> None:
    engines, slots = [Demand(name, 10, 0.3) for name in "abcd"], dict.fromkeys("xy", 20)
    matrix = np.zeros((4, 4))
    matrix[0, 1] = matrix[3, 2] = 0.5
    assert place(engines, slots, together=matrix) == place(engines, slots, together={("b", "a"): 0.5, ("c", "d"): 0.5})


def test_a_hot_engine_has_as_many_slots_as_its_load_and_they_bear_it_evenly() -> None:
    engines = [Demand("hot", 10, 2.4), Demand("cold", 10, 0.1)]
    slots = dict.fromkeys(["x", "y", "z", "w"], 10)
    found = place(engines, slots)
    assert found.on == {"hot": ("x", "y", "z"), "cold": ("w",)}
    assert found.pinned == found.on
    assert found.loads == pytest.approx({"x": 0.8, "y": 0.8, "z": 0.8, "w": 0.1})
    assert len(place(engines, slots, max_replicas=2).on["hot"]) == 2
    assert len(place(engines, slots, full=0.6).on["hot"]) == 4
    assert len(place(engines, {"x": 10, "y": 9}).on["hot"]) == 1


def test_the_busiest_engine_is_pinned_and_the_rest_take_turns() -> None:
    found = place([Demand("a", 10, 0.1), Demand("b", 10, 0.6), Demand("c", 10, 0.1)], {"x": 10, "y": 10})
    assert found.on == {"a": ("x",), "b": ("y",), "c": ("x",)}
    assert found.pinned == {"a": (), "b": ("y",), "c": ()}
    assert found.swaps_per_s == pytest.approx(2 / 60)
    assert found.largest_load == pytest.approx(0.6)


def test_an_engine_that_is_seldom_called_costs_few_swaps() -> None:
    engines = [Demand("a", 10, 0.5, rate=1.0), Demand("b", 10, 0.01, rate=0.001)]
    assert place(engines, {"x": 10}, cycle_s=100.0).swaps_per_s == pytest.approx((1 + 1 - math.exp(-0.1)) / 100)


def test_what_is_there_stays_unless_moving_it_is_worth_it() -> None:
    case = zipf(8, 3, 7)
    case.current = dict(case.place().on)  # type: ignore[arg-type]
    assert case.place().moves == ()
    hot = max(case.engines, key=lambda engine: engine.busy)
    case.engines = [Demand(e.engine, e.bytes, e.busy if e is hot else 2 * e.busy, e.swap_s, e.rate) for e in case.engines]
    kept = case.place(time_limit_s=1.0)
    case.stay = 0.0
    assert len(kept.moves) < len(case.place(time_limit_s=1.0).moves)


def test_slots_and_engines_that_are_gone_do_not_matter() -> None:
    found = place([Demand("a", 10, 0.1)], {"x": 10}, current={"a": ["lost", "x"], "gone": ["x"]}, together={("a", "gone"): 1.0})
    assert found.moves == ()


def test_equal_slots_are_filled_in_the_order_of_the_engines() -> None:
    found = place([Demand(name, 10, 0.2) for name in "abc"], dict.fromkeys("xyz", 10))
    assert found.on == {"a": ("x",), "b": ("y",), "c": ("z",)}
    assert zipf(8, 3, 1).place() == zipf(8, 3, 1).place()


def test_an_engine_whose_swaps_cost_nothing_is_pinned_where_it_fits() -> None:
    found = place([Demand("a", 10, 0.2, swap_s=0.0), Demand("b", 5, 0.2, rate=0.0)], {"x": 15})
    assert found.pinned == {"a": ("x",), "b": ("x",)}


def test_an_engine_that_fits_no_slot_is_named() -> None:
    with pytest.raises(EngineError, match=r"engine 'big' takes 90,000 bytes and the largest slot has 80,000: quantise it"):
        place([Demand("a", 10, 0.1), Demand("big", 90_000, 0.1)], {"x": 80_000, "y": 10})


@pytest.mark.parametrize(
    ("engines", "options", "message"),
    [
        ([], {}, "at least one engine and one slot, not 0 and 1"),
        ([Demand("a", 1, 0.1), Demand("a", 1, 0.1)], {}, "'a' is there 2 times"),
        ([Demand("a", 1, math.nan)], {}, "numbers from 0"),
        ([Demand("a", 1, 0.1)], {"cycle_s": 0.0}, "cycle_s"),
        ([Demand("a", 1, 0.1)], {"apart": -1.0}, "apart"),
        ([Demand("a", 1, 0.1)], {"max_replicas": 0}, "max_replicas must be at least 1"),
        ([Demand("a", 1, 0.1)], {"together": np.zeros((2, 2))}, r"shape \(1, 1\) .* not \(2, 2\)"),
        ([Demand("a", 1, 0.1)], {"together": np.array([[-1.0]])}, "shares of requests"),
    ],
)
def test_what_makes_no_sense_is_refused(engines: list[Demand], options: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        place(engines, {"x": 10}, **options)


def test_forty_engines_on_sixteen_slots_have_a_plan_in_time() -> None:
    case = zipf(40, 16, 0)
    began = time.monotonic()
    found = case.place(time_limit_s=4.0)
    assert time.monotonic() - began < 10
    assert fits(case, as_plan(found))
    assert found.objective <= 0.8 * value_of(case, round_robin(case))
    assert found.bound <= found.objective <= 1.15 * found.bound
    assert found.proven == (found.objective - found.bound <= 1e-3 * found.objective + 1e-9)


def asked_in_pairs(seed: int, engines: int, slots: int, lanes: int, *, load: float, service_s: float = 2.0, requests: int = 2500) -> Trace:
    """Requests for two engines each, some engines far more than others; engines 0 and 1, 2 and 3, ... are mostly asked together."""
    random = np.random.default_rng(seed)
    share = 1 / np.arange(1, engines + 1) ** 1.1
    one = random.choice(engines, requests, p=share / share.sum())
    other = np.where(random.random(requests) < 0.8, one ^ 1, (one + random.integers(1, engines, requests)) % engines)
    arrivals = np.cumsum(random.exponential(2 * service_s / (load * slots * lanes), requests))
    return Trace(np.repeat(arrivals, 2), random.exponential(service_s, 2 * requests), np.stack([one, other], axis=1).ravel())


def measured(trace: Trace, lanes: int) -> Traffic:
    traffic = Traffic(half_life_s=10_000.0)
    for at in range(0, len(trace), 2):
        pair = [str(e) for e in trace.experts[at : at + 2]]
        traffic.seen(pair, float(trace.arrivals[at]))
        for engine, seconds in zip(pair, trace.seconds[at : at + 2], strict=True):
            traffic.served(engine, float(seconds), lanes)
    return traffic


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_half_of_the_calls_wait_less_than_with_everything_everywhere(load: float) -> None:
    engines, slots, lanes, swap_s = 8, [f"gpu{s}" for s in range(4)], 4, 5.0
    everywhere, planned = [], []
    for seed in range(3):
        traffic = measured(asked_in_pairs(seed, engines, len(slots), lanes, load=load), lanes)
        demands = [traffic.demand(str(e), bytes=80, swap_s=swap_s) for e in range(engines)]
        plan = place(demands, dict.fromkeys(slots, 80), together=traffic.together(), time_limit_s=2.0)
        later = asked_in_pairs(seed + 100, engines, len(slots), lanes, load=load)
        for medians, on in ((everywhere, dict.fromkeys(plan.on)), (planned, plan.on)):
            scheduler = Scheduler(replicas=None)
            for slot in slots:
                scheduler.add_slot(slot, budget=80)
            for name, places in on.items():
                scheduler.add_engine(name, lanes=lanes, bytes=80, load_s=swap_s, service_s=2.0, on=places)
            medians.append(float(np.median(simulate(later, scheduler, swap_s).waits)))
    assert np.median(planned) <= np.median(everywhere), f"seconds until half have started: {planned} planned, {everywhere} everywhere"


def test_traffic_says_how_busy_engines_are_and_which_are_asked_together() -> None:
    traffic = Traffic(half_life_s=1000.0)
    for second in range(5000):
        traffic.seen(["b", "a"] if second % 4 == 0 else ["a"], float(second))
        traffic.served("a", 6.0, 8)
        if second % 4 == 0:
            traffic.served("b", 2.0, 1, float(second))
    assert traffic.busy() == pytest.approx({"a": 0.75, "b": 0.5}, rel=2e-3)
    assert traffic.rate() == pytest.approx({"a": 1.0, "b": 0.25}, rel=2e-3)
    assert traffic.together() == pytest.approx({("a", "b"): 0.25}, rel=2e-3)
    assert traffic.demand("a", bytes=7, swap_s=3.0) == Demand("a", 7, traffic.busy()["a"], 3.0, traffic.rate()["a"])
    assert traffic.demand("never", bytes=7, swap_s=3.0) == Demand("never", 7, 0.0, 3.0, 0.0)


def test_what_was_asked_a_half_life_ago_counts_half() -> None:
    traffic = Traffic(half_life_s=100.0)
    for second in range(2000):
        traffic.seen(["a"], float(second))
    assert traffic.rate(2100.0)["a"] == pytest.approx(0.5, rel=0.01)
    traffic.seen(["a", "b"], 2100.0)
    assert traffic.together()["a", "b"] == pytest.approx(1 / (1 + 0.5 * 100 / math.log(2)), rel=0.01)


def test_traffic_outlives_any_silence() -> None:
    traffic = Traffic(half_life_s=1.0)
    assert traffic.busy() == traffic.rate() == traffic.together() == {}
    traffic.seen(["a"], 0.0)
    assert traffic.rate() == {"a": 0.0}  # no time has passed that it could be a rate of
    for now in (400.0, 800.0, 1e6, 1e6 + 1):
        traffic.seen(["b", "c"], now)
    assert "a" not in traffic.rate()
    assert traffic.together() == {("b", "c"): pytest.approx(1.0)}
    assert traffic.rate()["b"] == pytest.approx(1.5 * math.log(2))
    with pytest.raises(EngineError, match="half_life_s must be"):
        Traffic(half_life_s=0.0)
