"""What SDKs of others make of whole and streamed answers of real models."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.endpoint import OURS, THEIRS, Live

pytestmark = pytest.mark.conformance
TOOLS = Path(__file__).parent / "tools"
SORT = "Sort these words alphabetically: pear, fig, plum."
FRANCE = "What is the capital of France?"

CASES = {
    "openai 2": ("ask_openai.py", OURS),
    "openai 3": ("ask_openai.py", THEIRS),
    "litellm": ("ask_litellm.py", OURS),
    "langchain": ("ask_langchain.py", THEIRS),
}


@pytest.fixture(scope="module", params=CASES)
def ask(request: pytest.FixtureRequest, live: Live, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Asks by one of the SDKs, and gives what it says of the answers."""
    script, where = CASES[request.param]
    folder = tmp_path_factory.mktemp("sdk")

    @cache
    def asked(model: str, question: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(live.run(["python", str(TOOLS / script), live.url, model, question], folder, where))
        if request.param.startswith("openai"):
            assert told["version"].split(".")[0] == request.param[-1]
        return told

    return asked


def counts(usage: dict[str, Any]) -> dict[str, int]:
    return {name: usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}


def test_one_expert_says_the_same_whole_and_streamed(ask: Any) -> None:
    said = ask("general", FRANCE)
    assert "Paris" in said["text"]
    assert said["streamed_text"] == said["text"]
    assert said["streamed_finish"] == [said["finish"]] == ["stop"]
    assert counts(said["streamed_usage"]) == counts(said["usage"])
    assert set(said.get("batch", [said["text"]])) == {said["text"]}


def test_the_mixture_says_the_same_whole_and_streamed(ask: Any) -> None:
    said = ask("counterpoint", SORT)
    assert "fig" in said["text"]
    assert said["streamed_text"] == said["text"]
    assert said["streamed_finish"] == [said["finish"]]


@pytest.mark.parametrize("model", ["general", "counterpoint"])
def test_usage_adds_up(ask: Any, model: str) -> None:
    said = ask(model, SORT)
    for usage in (said["usage"], said["streamed_usage"]):
        assert min(usage["prompt_tokens"], usage["completion_tokens"]) > 0
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert said["usage"]["completion_tokens"] <= 24 * (1 if model == "general" else 2)


def test_an_answer_can_be_sent_back_as_a_turn(ask: Any) -> None:
    said = ask("general", FRANCE)
    assert said["again"] > said["usage"]["prompt_tokens"] + said["usage"]["completion_tokens"]


def test_errors_are_those_that_people_catch(ask: Any) -> None:
    errors = ask("general", FRANCE)["errors"]
    assert "AuthenticationError" in errors["key"]
    assert "NotFoundError" in errors["model"]
    assert "BadRequestError" in errors["length"]


@pytest.mark.parametrize(
    ("ask", "kind"), [("litellm", "ContextWindowExceededError"), ("langchain", "ContextOverflowError")], indirect=["ask"]
)
def test_a_question_that_is_too_long_is_known_as_one(ask: Any, kind: str) -> None:
    assert kind in ask("general", FRANCE)["errors"]["length"]
