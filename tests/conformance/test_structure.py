"""What SDKs of others make of objects and log-probabilities of a real model, and of calls of tools."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.endpoint import OURS, THEIRS, Live

pytestmark = pytest.mark.conformance
TOOLS = Path(__file__).parent / "tools"
SDKS = {"openai 2": ("openai", OURS), "openai 3": ("openai", THEIRS), "langchain": ("langchain", THEIRS), "litellm": ("litellm", OURS)}


def run(live: Live, kind: str, sdk: str, folder: Path, model: str, question: str) -> Any:
    name, where = SDKS[sdk]
    return json.loads(live.run(["python", str(TOOLS / f"{kind}_{name}.py"), live.url, model, question], folder, where))


@pytest.fixture(scope="module", params=["openai 2", "openai 3", "langchain"])
def said(request: pytest.FixtureRequest, live: Live, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a real model answers to one of the SDKs."""
    return run(live, "structure", request.param, tmp_path_factory.mktemp("structure"), "general", "What is the capital of France?")


def test_an_object_has_the_fields_of_its_class(said: Any) -> None:
    assert set(said["object"]) == {"country", "capital"}


def test_every_token_has_its_log_probability(said: Any) -> None:
    assert said["tokens"].strip() == said["text"]
    for logprob, *likeliest in said["logprobs"]:
        assert len(likeliest) == 2
        assert max(likeliest) == pytest.approx(logprob)  # at temperature 0 the likeliest token is taken
        assert logprob <= 0


@pytest.mark.parametrize("sdk", SDKS)
def test_a_tool_is_called_and_its_result_is_read(live: Live, tmp_path: Path, sdk: str) -> None:
    said = run(live, "call", sdk, tmp_path, "caller", "What is the weather in Paris?")
    assert said["whole"] == {"calls": [["weather", {"city": "Paris"}]], "finish": "tool_calls"}
    assert said["streamed"] == said["whole"]
    assert said["after"] == "Take an umbrella."
