"""Slots and experts come and go while the pool runs."""

import asyncio
import time
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from data.records import Call, Message
from experts import EngineError, ExpertSpec
from experts.pool import ExpertPool, PoolSettings
from experts.slot import start_ray
from experts.upkeep import IDLE_S, replan, resize


def scripted(name: str, model: str, **options: Any) -> ExpertSpec:
    rules = [{"match": "slow", "say": "late", "delay_s": 1.5}, {"match": ".", "say": f"{name} says hello"}]
    return ExpertSpec(name, model, "scripted", options={"slot": True, "script": rules, **options})


def call(expert: str, id: str, text: str = "hi", *, batch: bool = False) -> Call:
    return Call(id, expert, (Message("user", text),), batch=batch)


@pytest.fixture(scope="module", autouse=True)
def ray_session() -> Iterator[None]:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed here")
    start_ray(2)
    yield
    import ray

    ray.shutdown()


async def test_a_slot_joins_and_leaves_while_calls_run() -> None:
    async with ExpertPool([scripted("a", "one"), scripted("b", "two")]) as pool:
        slow = asyncio.create_task(pool.answer(call("a", "1", "slow")))
        second = pool.add_slot()
        assert (await pool.answer(call("b", "2"))).text == "b says hello"
        first = next(id for id in pool.scheduler.slots if id != second)
        pool.remove_slot(str(first))
        assert (await slow).text == "late"  # drained, not cut
        await asyncio.sleep(0.1)
        assert [*pool.scheduler.slots] == [second]
        assert (await pool.answer(call("a", "3"))).text == "a says hello"
        with pytest.raises(EngineError, match="no slot is called 'slot-99'"):
            pool.remove_slot("slot-99")


async def test_an_expert_comes_and_goes_without_a_restart() -> None:
    async with ExpertPool([scripted("a", "one")]) as pool:
        await pool.prepare([scripted("b", "two")])
        assert (await pool.answer(call("b", "1"))).text == "b says hello"
        await pool.prepare([scripted("b", "three")])
        assert pool.specs["b"] == scripted("b", "two")  # what is known stays as it is
        slow = asyncio.create_task(pool.answer(call("b", "2", "slow")))
        await asyncio.sleep(0.1)
        pool.leave(["b"])
        assert [*pool] == ["a"]
        assert (await pool.answer(call("b", "decided on before"))).text == "b says hello"
        await pool.settle([scripted("a", "one")], 1)
        assert (await slow).text == "late"
        with pytest.raises(EngineError, match="no expert is called 'b'"):
            await pool.answer(call("b", "3"))
        assert (await pool.answer(call("a", "4"))).text == "a says hello"


async def test_an_adapter_that_joins_an_engine_has_it_started_anew() -> None:
    async with ExpertPool([scripted("a", "one")]) as pool:
        await pool.answer(call("a", "1"))
        await pool.prepare([scripted("c", "one")])
        assert (await pool.answer(call("c", "2"))).text == "c says hello"
        assert (await pool.answer(call("a", "3"))).text == "a says hello"
        assert pool.stats.loads == 2


async def test_an_engine_that_is_evicted_sleeps_and_wakes() -> None:
    specs = [scripted(name, model, memory_bytes=100) for name, model in (("a", "one"), ("b", "two"))]
    async with ExpertPool(specs, PoolSettings(awake_bytes=150, asleep_bytes=1000)) as pool:
        for at in range(4):
            assert (await pool.answer(call("ab"[at % 2], str(at)))).error is None
        assert (pool.stats.loads, pool.stats.wakes) == (2, 2)


async def test_engines_that_fit_together_are_awake_together() -> None:
    specs = [scripted(name, model, memory_bytes=100) for name, model in (("a", "one"), ("b", "two"), ("c", "three"))]
    async with ExpertPool(specs, PoolSettings(awake_bytes=250)) as pool:
        for at in range(6):
            await pool.answer(call("ab"[at % 2], str(at)))
        assert pool.stats.loads == 2
        assert pool.resident == {"a", "b"}
        await pool.answer(call("c", "6"))
        assert len(pool.resident) == 2


def test_an_engine_larger_than_its_slot_is_told_before_anything_starts() -> None:
    with pytest.raises(EngineError, match=r"'a' needs 2\.0 GB, and a slot has 1\.0"):
        ExpertPool([scripted("a", "one", memory_bytes=2_000_000_000)], PoolSettings(awake_bytes=10**9))


async def test_what_cannot_start_in_time_is_refused_with_the_seconds_to_wait() -> None:
    specs = [scripted("a", "one", start_s=0.2, max_num_seqs=1), scripted("b", "two", start_s=0.2, max_num_seqs=1)]
    async with ExpertPool(specs, PoolSettings(max_wait_s=4.0)) as pool:
        for at in range(2):  # how long calls take is measured, not known; batch calls are never refused
            await pool.answer(call("a", f"first{at}", "slow", batch=True))
        running = [asyncio.create_task(pool.answer(call("a", str(at), "slow"))) for at in range(6)]
        await asyncio.sleep(0.1)
        assert pool.refused("a") is not None
        answers = await asyncio.gather(*running)
        refused = [answer for answer in answers if answer.error_code == "overloaded"]
        assert refused
        assert all(answer.retry_after_s and answer.retry_after_s >= 1 for answer in refused)
        assert any(answer.text == "late" for answer in answers)
        assert pool.stats.refused == len(refused)
        assert pool.stats.late == sum(answer.error_code == "late" for answer in answers)
        batch = await asyncio.gather(*(pool.answer(call("a", f"b{at}", "slow", batch=True)) for at in range(3)))
        assert all(answer.text == "late" for answer in batch)  # whoever waits for nobody is never refused


async def test_slots_are_added_while_calls_wait_long_and_given_back_when_idle() -> None:
    specs = [scripted("a", "one"), scripted("b", "two")]
    async with ExpertPool(specs, PoolSettings(max_slots=2)) as pool:
        now = time.monotonic()
        waiting = asyncio.create_task(pool.answer(call("a", "1", "slow")))
        await asyncio.sleep(0)
        resize(pool, now + 100)
        assert len(pool.scheduler.slots) == 2
        resize(pool, now + 100)
        assert len(pool.scheduler.slots) == 2
        await waiting
        resize(pool, time.monotonic() + IDLE_S + 10)
        await asyncio.sleep(0.1)
        assert len(pool.scheduler.slots) == 1


async def test_engines_are_placed_by_what_is_asked() -> None:
    specs = [scripted(name, name) for name in "abc"]
    async with ExpertPool(specs, PoolSettings(slots=2, placement=True)) as pool:
        for at in range(12):
            await asyncio.gather(*(pool.answer(call(name, f"q{at}/{name}")) for name in "ab"))
        await replan(pool)
        groups = pool.scheduler.groups
        on = {key: group.on for key, group in groups.items()}
        assert all(on.values())
        a, b = (on[next(key for key in on if f":{name}:" in key)] for name in "ab")
        assert a
        assert b
        assert not a & b  # asked together, so on different slots
        assert (await pool.answer(call("c", "last"))).error is None
