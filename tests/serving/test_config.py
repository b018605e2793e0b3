from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.config import ConfigError, expert_specs, load_config
from serving.demo import MIXTURE

ONE = {"name": "a", "model": "-", "engine": "scripted"}


def test_the_mixture_that_ships_is_valid() -> None:
    config = load_config(MIXTURE)
    assert {"general", "numbers", "words", "logic", "records"} <= {expert.name for expert in config.experts}
    assert len({spec.engine_key for spec in expert_specs(config)}) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agregator": {"kind": "vote"}}, "agregator: no such key; did you mean aggregator?"),
        ({"experts": [{**ONE, "prise": {"input": 1}}]}, "experts.a.prise: no such key; did you mean price?"),
        ({"experts": [ONE, ONE]}, "two experts are called 'a'"),
        ({"experts": []}, "experts: List should have at least 1 item"),
        ({"experts": [{"name": "a"}]}, "experts.a: wanted either model, or base with adapter"),
        ({"experts": [{**ONE, "engine": "vlm"}]}, "experts.a: no engine is called 'vlm'"),
        ({"experts": [{**ONE, "name": "a b"}]}, "experts.a b.name"),
        (
            {"experts": [ONE, {"name": "b", "base": "z", "adapter": "x"}]},
            "expert 'b': base must be an expert with a model of its own, not 'z'",
        ),
        ({"experts": [ONE, {"name": "b", "base": "a", "adapter": "nowhere"}]}, "experts.b.adapter: no LoRA adapter at "),
        ({"aggregator": {"kind": "votes"}}, "aggregator: no aggregator is called 'votes'; there are vote, weighted, fuse"),
        ({"aggregator": {"kind": "fuse", "expert": "z"}}, "aggregator: no expert is called 'z'"),
        ({"version": 2}, "version: Input should be 1, not 2"),
        ({"serving": {"port": 99999}}, "serving.port: "),
        ({"name": "a", "experts": [ONE]}, "the mixture and an expert are both called 'a'"),
        ({"experts": [{"name": "a", "model": "./nowhere", "engine": "transformers"}]}, "experts.a.model: nothing at "),
    ],
)
def test_a_mistake_is_one_line_with_its_place(mixture: Callable[..., Path], changes: dict[str, Any], message: str) -> None:
    path = mixture(**changes)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [("a: [", "is no YAML"), ("- 1", "wanted a mapping"), ("", "wanted a mapping")])
def test_a_file_that_is_no_mixture_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mixture.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no config at"):
        load_config(tmp_path / "none.yaml")


def test_an_adapter_takes_its_bases_engine_and_model(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    path = tmp_path / "m.yaml"
    path.write_text(
        "version: 1\nexperts:\n"
        "- {name: base, model: owner/model, engine: vllm, dtype: float32}\n"
        "- {name: special, base: base, adapter: adapter, max_tokens: 9}\n"
    )
    base, special = expert_specs(load_config(path))
    assert base.engine_key == special.engine_key
    assert special.adapter == str(tmp_path / "adapter")
    assert special.max_tokens == 9
