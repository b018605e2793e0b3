import asyncio
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from data.records import Call, Done, Message
from experts import EngineError, ExpertSpec
from experts.pool import ExpertPool, PoolSettings
from experts.slot import start_ray


def scripted(name: str, model: str, **options: Any) -> ExpertSpec:
    rules = [{"match": "poison", "die": True}, {"match": "slow", "say": "late", "delay_s": 5}, {"match": ".", "say": f"{name} says hello"}]
    return ExpertSpec(name, model, "scripted", options={"slot": True, "script": rules, **options})


def call(expert: str, id: str, text: str = "hi") -> Call:
    return Call(id, expert, (Message("user", text),))


@pytest.fixture(scope="module", autouse=True)
def ray_session() -> Iterator[None]:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed here")
    start_ray(2)
    yield
    import ray

    ray.shutdown()


async def test_interleaved_calls_load_each_engine_once() -> None:
    async with ExpertPool([scripted("a", "one"), scripted("b", "two"), scripted("c", "one")]) as pool:
        calls = [call("abc"[at % 3], str(at)) for at in range(30)]
        answers = await asyncio.gather(*(pool.answer(each) for each in calls))
        assert [answer.text for answer in answers] == [f"{each.expert} says hello" for each in calls]
        assert pool.stats.loads == 2  # a and c share a base
        assert pool.stats.calls == 30
        assert pool.stats.max_wait_s > 0
        assert sum(pool.stats.tokens.values()) == 90


async def test_order_of_arrival_loads_again_and_again() -> None:
    async with ExpertPool([scripted("a", "one"), scripted("b", "two")], PoolSettings(rule="fifo")) as pool:
        await asyncio.gather(*(pool.answer(call("ab"[at % 2], str(at))) for at in range(6)))
        assert pool.stats.loads == 6


async def test_two_slots_hold_two_engines() -> None:
    async with ExpertPool([scripted("a", "one"), scripted("b", "two")], PoolSettings(slots=2)) as pool:
        for at in range(4):
            await pool.answer(call("ab"[at % 2], str(at)))
        assert pool.stats.loads == 2


async def test_an_unknown_expert_is_named() -> None:
    async with ExpertPool([scripted("a", "one")]) as pool:
        with pytest.raises(EngineError, match="no expert is called 'z'; the pool has a"):
            await pool.answer(call("z", "1"))


async def test_a_call_that_kills_its_engine_fails_alone() -> None:
    async with ExpertPool([scripted("a", "one"), scripted("b", "two")]) as pool:
        calls = [call("a", "1"), call("a", "2", "slow"), call("a", "3", "poison"), call("a", "4"), call("b", "5")]
        answers = await asyncio.gather(*(pool.answer(each) for each in calls))
        assert [answer.text for answer in answers] == ["a says hello", "late", "", "a says hello", "b says hello"]
        assert answers[2].error == "the engine of 'a' died"
        assert pool.stats.failed == 1


async def test_a_slot_whose_process_is_killed_is_replaced() -> None:
    import ray

    async with ExpertPool([scripted("a", "one")]) as pool:
        await pool.answer(call("a", "1"))
        slow = asyncio.create_task(pool.answer(call("a", "2", "slow")))
        await asyncio.sleep(0.5)
        ray.kill(next(iter(pool._places.values())).actor)
        assert (await slow).text == "late"  # given to the new slot: no word of it had gone out
        assert (await pool.answer(call("a", "3"))).text == "a says hello"


async def test_an_engine_that_cannot_start_fails_its_calls_only() -> None:
    broken = ExpertSpec("broken", "nowhere/at-all/three", "transformers")
    async with ExpertPool([broken, scripted("a", "one")]) as pool:
        bad, good = await asyncio.gather(pool.answer(call("broken", "1")), pool.answer(call("a", "2")))
        assert bad.error is not None
        assert "no model at 'nowhere/at-all/three'" in bad.error
        assert "\n" not in bad.error
        assert good.error is None


async def test_a_caller_who_goes_away_leaves_the_queue() -> None:
    async with ExpertPool([scripted("a", "one"), scripted("b", "two")]) as pool:
        slow = asyncio.create_task(pool.answer(call("a", "1", "slow")))
        await asyncio.sleep(0.3)
        waiting = asyncio.create_task(pool.answer(call("b", "2")))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert "scripted:two:::" not in pool.scheduler.backlog
        await slow
        assert pool.stats.loads == 1  # nobody waits for b any more


async def test_words_are_streamed_and_the_last_event_is_the_answer() -> None:
    async with ExpertPool([scripted("a", "one")]) as pool:
        events = [event async for event in pool.stream(call("a", "1"))]
        assert "".join(e.text for e in events if not isinstance(e, Done)).strip() == "a says hello"
        assert isinstance(events[-1], Done)


async def test_stopping_the_pool_ends_the_calls_that_wait() -> None:
    pool = ExpertPool([scripted("a", "one"), scripted("b", "two")])
    await pool.start()
    slow = asyncio.create_task(pool.answer(call("a", "1", "slow")))
    await asyncio.sleep(0.3)
    waiting = asyncio.create_task(pool.answer(call("b", "2")))
    await asyncio.sleep(0.1)
    await pool.stop()
    assert (await asyncio.wait_for(waiting, 5)).error == "the pool was stopped"
    assert (await asyncio.wait_for(slow, 5)).error == "the pool was stopped"
