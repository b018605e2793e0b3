"""Several gateways share one pool: it decides, and the words come straight from the slots."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import pytest

from data.records import Answer, Call, Delta, Done, Message
from experts import EngineError, ExpertSpec
from experts.host import PoolHost
from experts.pool import PoolSettings
from experts.shared import SharedPool
from experts.slot import start_ray
from experts.snapshot import snapshot

pytestmark = pytest.mark.slow
RULES = [
    {"match": "slow", "say": "one two three four five six seven eight", "delay_s": 4.0},
    {"match": "bad", "fail": "told to fail"},
    {"match": ".", "say": "it is hello"},
]


def scripted(name: str, model: str, **options: Any) -> ExpertSpec:
    return ExpertSpec(name, model, "scripted", options={"slot": True, "script": RULES, **options})


def call(expert: str, id: str, text: str = "hi", **more: Any) -> Call:
    return Call(id, expert, (Message("user", text),), **more)


class Host(PoolHost):
    """A pool's actor that tells its slots' processes."""

    async def pids(self) -> list[int | None]:
        assert self.pool is not None
        return [place.pid for place in self.pool._places.values()]


@pytest.fixture(scope="module", autouse=True)
def ray_session() -> Iterator[None]:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed here")
    start_ray(2)
    yield
    import ray

    ray.shutdown()


@asynccontextmanager
async def shared(*specs: ExpertSpec, gateways: int = 2, **settings: Any) -> AsyncIterator[tuple[list[SharedPool], Any]]:
    """Several gateways' views of one pool, and its actor's handle."""
    import ray

    host = ray.remote(Host).options(num_cpus=0, max_concurrency=1000).remote()
    pools = [SharedPool(specs, PoolSettings(**settings), lambda: host) for _ in range(gateways)]
    for pool in pools:
        await pool.start()
    try:
        yield pools, host
    finally:
        for pool in pools:
            await pool.stop()
        ray.kill(host)


async def end(pool: SharedPool, asked: Call) -> tuple[list[str], Answer]:
    words: list[str] = []
    async for event in pool.stream(asked):
        if isinstance(event, Delta):
            assert event.call_id == asked.id
            words.append(event.text)
        elif isinstance(event, Done):
            return words, event.answer
    raise AssertionError("no end")


async def test_words_and_ends_are_those_of_a_pool_of_ones_own() -> None:
    local = ExpertSpec("here", "m", "scripted", options={"script": RULES})
    async with shared(scripted("a", "one"), scripted("b", "two"), local, slots=2) as (pools, host):
        for pool in pools:
            assert [*pool] == ["a", "b", "here"]
            for name in ("a", "b", "here"):
                words, answer = await end(pool, call(name, "1"))
                assert "".join(words).strip() == answer.text == "it is hello"
                assert (answer.expert, answer.usage.completion_tokens, answer.error) == (name, 3, None)
                assert (await pool.answer(call(name, "2"))).text == "it is hello"
                failed = await pool.answer(call(name, "3", "bad"))
                assert "told to fail" in (failed.error or "")
        for gateway, pool in zip("vw", pools, strict=True):
            assert snapshot(pool.local)["experts"]["here"]["answered"] == 2  # it is asked in the gateways themselves
            figures = await host.snapshot.remote(gateway, snapshot(pool.local))
        assert {name: each["answered"] for name, each in figures["experts"].items()} == dict.fromkeys(("a", "b", "here"), 4)
        assert (await host.snapshot.remote("w", snapshot(pools[1].local)))["experts"] == figures["experts"]  # not counted twice


async def test_calls_of_several_gateways_are_grouped_by_one_scheduler() -> None:
    async with shared(scripted("a", "one"), scripted("b", "two"), gateways=3) as (pools, host):
        calls = [(pool, call("ab"[at % 2], f"{number}.{at}")) for at in range(10) for number, pool in enumerate(pools)]
        answers = await asyncio.gather(*(pool.answer(each) for pool, each in calls))
        assert {answer.text for answer in answers} == {"it is hello"}
        assert (await host.snapshot.remote("w", snapshot(pools[0].local)))["counters"]["loads"] <= 4  # of 30 calls that alternate


async def test_a_caller_that_leaves_frees_its_place() -> None:
    async with shared(scripted("a", "one", max_num_seqs=1)) as (pools, _):
        slow = asyncio.create_task(end(pools[0], call("a", "1", "slow")))
        await asyncio.sleep(1.0)
        slow.cancel()
        async with asyncio.timeout(2.5):  # the slow one would take four seconds
            assert (await pools[1].answer(call("a", "2"))).text == "it is hello"


async def test_a_slot_that_dies_costs_a_call_nothing_unless_its_words_have_gone_out() -> None:
    async with shared(scripted("a", "one")) as (pools, host):
        silent = asyncio.create_task(pools[0].answer(call("a", "1", "slow")))
        words: list[str] = []

        async def speaking() -> Answer:
            async for event in pools[1].stream(call("a", "2", "slow")):
                if isinstance(event, Delta):
                    words.append(event.text)
                elif isinstance(event, Done):
                    return event.answer
            raise AssertionError("no end")

        spoken = asyncio.create_task(speaking())
        await asyncio.sleep(1.0)
        os.kill((await host.pids.remote())[0], signal.SIGKILL)
        async with asyncio.timeout(60):
            first, second = await silent, await spoken
        assert first.text == "one two three four five six seven eight"
        assert second.text == first.text or (words and "not repeated" in (second.error or ""))


async def test_an_expert_that_is_not_there_is_an_error() -> None:
    async with shared(scripted("a", "one")) as (pools, _):
        with pytest.raises(EngineError, match="no expert is called 'zz'"):
            await pools[0].answer(call("zz", "1"))


async def test_experts_come_and_go_for_all_gateways_and_no_call_is_lost() -> None:
    before, after = [scripted("a", "one"), scripted("b", "two")], [scripted("a", "one"), scripted("c", "three"), scripted("b", "other")]
    async with shared(*before, slots=2) as (pools, _):
        slow = asyncio.create_task(pools[1].answer(call("b", "1", "slow")))
        await asyncio.sleep(0.5)
        for pool in pools:
            await pool.prepare([spec for spec in after if spec.name == "c"])
            pool.leave(["b"])
        assert (await pools[0].answer(call("c", "2"))).text == "it is hello"
        late = asyncio.create_task(pools[0].answer(call("b", "3")))  # decided on before
        await asyncio.sleep(0.2)
        await asyncio.gather(*(pool.settle(after, 2) for pool in pools))
        assert (await slow).error is None
        assert (await late).error is None
        assert [*pools[0]] == [*pools[1]] == ["a", "c", "b"]
        assert (await pools[1].answer(call("b", "4"))).text == "it is hello"


async def test_a_pool_that_dies_ends_its_calls_and_the_next_one_takes_over() -> None:
    import ray

    made: list[Any] = [ray.remote(PoolHost).options(num_cpus=0, max_concurrency=100).remote()]
    pool = SharedPool([scripted("a", "one")], PoolSettings(), lambda: made[-1])
    await pool.start()
    try:
        slow = asyncio.create_task(pool.answer(call("a", "1", "slow")))
        await asyncio.sleep(1.0)
        made.append(ray.remote(PoolHost).options(num_cpus=0, max_concurrency=100).remote())
        ray.kill(made[0])
        async with asyncio.timeout(60):
            answer = await slow
            assert answer.error_code == "unavailable" or answer.text  # told, or asked again
            while pool.is_broken("a") or pool.host is not made[1]:
                await asyncio.sleep(0.1)
            assert (await pool.answer(call("a", "2"))).text == "it is hello"
    finally:
        await pool.stop()
        ray.kill(made[-1])
