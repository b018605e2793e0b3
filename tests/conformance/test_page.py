"""The examples of docs/use-it-from.md, as they stand there."""

import json
from pathlib import Path

import pytest

from tests.conformance.endpoint import OURS, THEIRS, Live, section, sections

pytestmark = pytest.mark.conformance
SORTED = "fig, pear, plum"


def test_every_section_has_a_test() -> None:
    tested = ["curl", "OpenAI's client", "LiteLLM", "LangChain", "lm-evaluation-harness", "inspect_ai", "vLLM's serving benchmark"]
    assert sections() == tested
    assert all(section(title)[1] for title in tested)


def test_curl(live: Live, tmp_path: Path) -> None:
    answer = json.loads(live.follow("curl", tmp_path))
    assert answer["choices"][0]["message"]["content"] == SORTED
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]


def test_curl_streams(live: Live, tmp_path: Path) -> None:
    commands = section("curl")[1]
    streaming = commands.replace("curl -sS", "curl -sSN").replace('{"model"', '{"stream": true, "model"')
    assert streaming.count("-sSN") == streaming.count('"stream": true') == 1
    lines = live.run(["bash", "-c", streaming.replace("http://127.0.0.1:8000", live.url)], tmp_path).split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    deltas = [json.loads(line.removeprefix("data: "))["choices"][0]["delta"] for line in lines[:-2]]
    assert "".join(delta.get("content", "") for delta in deltas) == SORTED


@pytest.mark.parametrize("where", [OURS, THEIRS], ids=["openai 2", "openai 3"])
def test_openais_client(live: Live, tmp_path: Path, where: Path) -> None:
    whole, asked, streamed = live.follow("OpenAI's client", tmp_path, where).splitlines()
    assert whole == streamed == SORTED
    assert asked.split()[:2] == ["asked:", "words"]
    assert len(asked.split()) == 3


def test_litellm(live: Live, tmp_path: Path) -> None:
    assert live.follow("LiteLLM", tmp_path, OURS).splitlines() == [SORTED, SORTED]


def test_langchain(live: Live, tmp_path: Path) -> None:
    whole, tokens, streamed = live.follow("LangChain", tmp_path).splitlines()
    assert whole == streamed == SORTED
    assert int(tokens.removesuffix(" tokens")) > 0


def test_lm_evaluation_harness(live: Live, tmp_path: Path) -> None:
    live.follow("lm-evaluation-harness", tmp_path)
    wanted = [json.loads(line) for line in section("lm-evaluation-harness")[0]["capitals.jsonl"].splitlines()]
    (report,) = (tmp_path / "results" / "counterpoint").glob("results_*.json")
    (samples,) = (tmp_path / "results" / "counterpoint").glob("samples_capitals_*.jsonl")
    result = json.loads(report.read_text())
    sampled = [json.loads(line) for line in samples.read_text().splitlines()]
    assert result["n-samples"]["capitals"]["effective"] == len(wanted)
    assert [sample["doc"] for sample in sampled] == wanted
    assert all(sample["filtered_resps"][0].strip() for sample in sampled)
    right = [float(doc["capital"] in sample["filtered_resps"][0]) for doc, sample in zip(wanted, sampled, strict=True)]
    assert result["results"]["capitals"]["contains,none"] == pytest.approx(sum(right) / len(right))


def test_inspect_ai(live: Live, tmp_path: Path) -> None:
    live.follow("inspect_ai", tmp_path)
    (path,) = (tmp_path / "logs").glob("*.json")
    log = json.loads(path.read_text())
    assert (log["status"], len(log["samples"])) == ("success", 4)
    texts = [(sample["target"], sample["output"]["choices"][0]["message"]["content"]) for sample in log["samples"]]
    right = sum(target.lower() in text.lower() for target, text in texts) / len(texts)
    assert log["results"]["scores"][0]["metrics"]["accuracy"]["value"] == pytest.approx(right)


def test_vllms_serving_benchmark(live: Live, tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    live.follow("vLLM's serving benchmark", tmp_path, OURS)
    asked = len(section("vLLM's serving benchmark")[0]["prompts.jsonl"].splitlines())
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["completed"], result["failed"]) == (asked, 0)
    assert asked <= result["total_output_tokens"] <= asked * 16 * 2
    assert result["total_input_tokens"] > asked
    assert result["mean_e2el_ms"] > 0
