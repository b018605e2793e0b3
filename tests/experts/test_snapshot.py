import asyncio
import json

from data.records import Call, Message
from experts.base import ExpertSpec
from experts.costs import Measured
from experts.pool import ExpertPool
from experts.queues import Job
from experts.scheduler import Start
from experts.snapshot import COUNTERS, quantile, snapshot, together
from experts.stats import WAIT_BOUNDS_S


def spec(name: str, **more: object) -> ExpertSpec:
    return ExpertSpec(name, "-", "scripted", options={"script": [{"match": ".", "say": "one two three"}], **more})


def call(expert: str) -> Call:
    return Call(f"c-{expert}", expert, (Message("user", "Hello"),))


async def test_what_was_answered_is_counted_by_expert_and_can_travel_as_json() -> None:
    async with ExpertPool([spec("a"), spec("b")]) as pool:
        for _ in range(3):
            await pool.answer(call("a"))
        figures = snapshot(pool)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert (figures["experts"]["a"]["answered"], figures["experts"]["b"]["answered"]) == (3, 0)
    assert figures["experts"]["a"]["tokens"] == 9
    assert figures["experts"]["a"]["waits"]["count"] == figures["waits"]["count"] == 3
    assert figures["experts"]["b"]["waits"]["p95_s"] is None
    assert figures["counters"]["calls"] == 3
    assert {*COUNTERS, "swaps"} <= figures["counters"].keys()
    assert figures["experts"]["a"]["resident"]
    assert (figures["slots"], figures["broken"], figures["tiers"]) == ([], [], {"awake": 0, "asleep": 0})


async def test_a_call_that_runs_counts_as_running_and_not_as_waiting() -> None:
    slow = ExpertSpec("a", "-", "scripted", options={"script": [{"match": ".", "say": "late", "delay_s": 30}]})
    async with ExpertPool([slow]) as pool:
        asked = asyncio.create_task(pool.answer(call("a")))
        while not pool.stats.waits:
            await asyncio.sleep(0.01)
        there = snapshot(pool)["experts"]["a"]
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        gone = snapshot(pool)["experts"]["a"]
    assert (there["running"], there["waiting"]) == (1, 0)
    assert gone["running"] == 0


async def test_a_slot_tells_what_is_awake_asleep_and_on_its_way() -> None:
    pool = ExpertPool([ExpertSpec("a", "x", "transformers"), ExpertSpec("b", "y", "transformers"), ExpertSpec("c", "z", "transformers")])
    keys = {name: spec.engine_key for name, spec in pool.specs.items()}
    scheduler = pool.scheduler
    for group in scheduler.groups.values():
        group.asleep_bytes = 1.0
    scheduler.add_slot("slot-0", budget=1.0, asleep_budget=2.0)
    pool.stats.bytes |= {keys["a"]: 100, keys["b"]: 20}
    scheduler.arrive(Job(1, keys["a"], arrived=0.0), now=0.0)
    scheduler.decide(0.0)
    assert [engine["loading"] for engine in snapshot(pool)["slots"][0]["awake"]] == [True]
    scheduler.loaded("slot-0", 2.0, seconds=2.0)
    started = scheduler.decide(2.0)
    assert isinstance(started[0], Start)
    slot = snapshot(pool)["slots"][0]
    assert (slot["awake"][0]["experts"], slot["awake"][0]["running"], slot["awake_bytes"], slot["asleep"]) == (["a"], 1, 100, [])
    scheduler.finished(started[0].job, 3.0)
    scheduler.arrive(Job(2, keys["b"], arrived=3.0), now=3.0)
    scheduler.decide(3.0)
    scheduler.drain_slot("slot-0")
    figures = snapshot(pool)
    slot = figures["slots"][0]
    assert [(engine["engine"], engine["loading"]) for engine in slot["awake"]] == [("b", True)]
    assert ([engine["engine"] for engine in slot["asleep"]], slot["asleep_bytes"], slot["leaving"]) == (["a"], 100, True)
    assert figures["cold"] == ["c"]
    assert figures["tiers"] == {"awake": 0, "asleep": 100}
    engines = {engine["engine"]: engine for engine in figures["engines"]}
    assert (engines["a"]["load_s"], engines["a"]["wake_s"], engines["b"]["load_s"]) == (2.0, None, None)
    assert not any("x" in engine["engine"] for engine in figures["engines"]), "an engine's own name may be a path"


def test_quantiles_stay_in_their_class_and_below_the_longest_wait() -> None:
    counts = [0] * (len(WAIT_BOUNDS_S) + 1)
    assert quantile(counts, 0.5, 0.0) is None
    counts[0], counts[-1] = 5, 5
    assert quantile(counts, 0.5, 400.0) == WAIT_BOUNDS_S[0]
    high = quantile(counts, 0.95, 400.0)
    assert high is not None
    assert WAIT_BOUNDS_S[-1] < high <= 400.0
    counts[-1] = 0
    assert quantile(counts, 0.95, 0.0) == 0.0


async def test_figures_of_several_pools_add_up() -> None:
    async with ExpertPool([spec("a"), spec("b")]) as one, ExpertPool([spec("b"), spec("c")]) as two:
        for pool, names in ((one, "ab"), (two, "bbc")):
            for name in names:
                await pool.answer(call(name))
        both = together([snapshot(one), snapshot(two)])
        alone = snapshot(one)
    assert {name: figures["answered"] for name, figures in both["experts"].items()} == {"a": 1, "b": 3, "c": 1}
    assert both["counters"]["calls"] == both["waits"]["count"] == 5
    assert both["experts"]["b"]["waits"]["count"] == 3
    assert together([alone]) == alone


def test_a_guess_is_no_measurement() -> None:
    pool = ExpertPool([ExpertSpec("a", "x", "transformers")])
    group = next(iter(pool.scheduler.groups.values()))
    assert snapshot(pool)["engines"][0]["service_s"] is None
    group.service = Measured(9.0)
    group.service.add(1.0)
    assert snapshot(pool)["engines"][0]["service_s"] == 1.0
