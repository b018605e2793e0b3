import re
from pathlib import Path

import pytest

from experts.vllm_settings import Options
from router import load_router
from serving.check import CheckReport, check, gb
from serving.config import MixtureConfig, expert_specs, load_config

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
PARTS = r"# weights (\S+) \+ cache (\S+) \+ other (\S+) = (\S+) GB awake, (\S+) GB asleep\n  - name: (\S+)"
LARGEST = r"[Tt]he largest is (\S+) with (\S+) GB: (\d+) of that size together take (\S+)\.\n"
ASLEEP = r"At most (\d+) engines sleep at once, all but the smallest: (\S+) GB of host memory"
RESIDUE = r"assumed to be (\S+) GB; (\d+) keep (\S+), so that (\S+) \+ (\S+) = (\S+) GB of the (\d+) are spoken for"
TOKENS = r"options: \{kv_cache_gb: (\d+), max_num_seqs: \d+\} +# (\d+) KiB a token: (\d+) tokens"

Read = tuple[str, MixtureConfig, CheckReport]


@pytest.fixture(params=EXAMPLES, ids=lambda path: path.stem)
def read(request: pytest.FixtureRequest) -> Read:
    config = load_config(request.param)
    return request.param.read_text(), config, check(config)


def found(pattern: str, text: str) -> tuple[str, ...]:
    match = re.search(pattern, text)
    assert match, pattern
    return match.groups()


def test_an_example_can_run_without_a_warning(read: Read) -> None:
    _, config, report = read
    assert (report.errors, report.warnings) == ((), ())
    assert config.router is not None
    assert {expert.name for expert in config.experts} <= set(load_router(Path(config.router.path)).experts_)
    assert all(expert.licence and expert.gpus and expert.size_b for expert in config.experts)


def test_the_first_example_has_every_model_of_the_router_that_ships() -> None:
    config = load_config(ROOT / "examples" / "one-gpu-8b.yaml")
    assert config.router is not None
    assert [expert.name for expert in config.experts] == list(load_router(Path(config.router.path)).experts_)


def test_the_bytes_in_the_comments_are_those_of_the_report(read: Read) -> None:
    text, _, report = read
    said = {name: parts for *parts, name in re.findall(PARTS, text)}
    assert said == {e.name: [gb(e.weights), gb(e.cache), gb(e.overhead), gb(e.awake), gb(e.asleep)] for e in report.engines}


def test_the_slots_in_the_comments_are_those_of_the_report(read: Read) -> None:
    text, _, report = read
    slot = report.slot
    assert slot is not None
    assert slot.largest_bytes is not None
    assert slot.fit is not None
    assert found(LARGEST, text) == (slot.largest, gb(slot.largest_bytes), str(slot.fit), gb(slot.fit * slot.largest_bytes))
    assert found(ASLEEP, text) == (str(slot.may_sleep), gb(slot.may_sleep_bytes))
    *said, gpu = found(RESIDUE, text)
    one = report.engines[0].residue
    assert said == [gb(one), str(slot.sleeping), gb(slot.residue), gb(slot.awake_budget), gb(slot.residue), gb(slot.gpu_bytes)]
    assert slot.gpu_bytes is not None
    assert slot.gpu_bytes < int(gpu) * 10**9


def test_every_cache_holds_what_its_comment_says(read: Read) -> None:
    text, config, _ = read
    said = re.findall(TOKENS, text)
    assert len(said) == len(config.experts)
    for (cache, token, tokens), spec in zip(said, expert_specs(config), strict=True):
        assert Options.of(spec).cache_bytes == int(cache) << 30
        assert (int(cache) << 30) // (int(token) << 10) == int(tokens)
        assert int(tokens) >= 2 * spec.max_model_len


def test_every_model_links_its_own_card(read: Read) -> None:
    text, config, _ = read
    assert [expert.model for expert in config.experts] == re.findall(r"    model: \S+ +# https://huggingface\.co/([^\s;]+)", text)


def test_the_examples_page_lists_them_all() -> None:
    page = (ROOT / "examples" / "README.md").read_text()
    assert re.findall(r"^\| \[(\S+)\]\(\1\)", page, re.MULTILINE) == [path.name for path in EXAMPLES]


def test_checking_an_example_prints_its_numbers(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from serving import cli

    monkeypatch.setattr("sys.argv", ["counterpoint", "check", "-c", str(ROOT / "examples" / "one-gpu-8b.yaml")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert "GPU: 64.00 GB awake + 10.50 GB that sleeping engines keep = 74.50 GB on the GPUs of each slot" in capfd.readouterr().out
