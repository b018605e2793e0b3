"""What the endpoint makes of the fields that tools send."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.conformance.endpoint import Live

pytestmark = pytest.mark.conformance
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
CAPITAL = {"type": "object", "properties": {"capital": {"type": "string"}}, "required": ["capital"], "additionalProperties": False}

NEUTRAL: list[dict[str, Any]] = [
    {"n": 1},
    {"stop": None, "seed": None, "temperature": None, "top_p": None, "max_tokens": None, "user": None, "stream_options": None},
    {"top_p": 1, "temperature": 0},
    {"metadata": {"project": "a"}},
    {"stream": None},
    {"logprobs": False},
    {"logprobs": None, "top_logprobs": None},
    {"tools": None, "tool_choice": None},
    {"response_format": {"type": "text"}},
    {"frequency_penalty": 0, "presence_penalty": 0},
    {"repetition_penalty": 1.0},
    {"logit_bias": {}},
    {"store": False},
    {"service_tier": "auto"},
    {"modalities": ["text"]},
    {"ignore_eos": False},
    {"safety_identifier": "a", "prompt_cache_key": "b"},
]
"""Fields that SDKs and benchmarks send at values that ask for nothing."""

FEATURES: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], object]]] = {
    "logprobs": ({"logprobs": True, "top_logprobs": 2}, lambda choice: len(choice["logprobs"]["content"][0]["top_logprobs"]) == 2),
    "tools": ({"tools": [WEATHER], "tool_choice": "required"}, lambda choice: choice["message"]["tool_calls"]),
    "response_format": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "capital", "strict": True, "schema": CAPITAL}}},
        lambda choice: "capital" in httpx.Response(200, text=choice["message"]["content"]).json(),
    ),
}
"""Fields that ask for something: what obeys them holds true for the choice that comes back."""


@pytest.fixture(scope="module")
def http(live: Live) -> Any:
    with httpx.Client(base_url=f"{live.url}/v1", headers={"authorization": f"Bearer {live.key}"}, timeout=120) as client:
        yield client


def post(http: httpx.Client, **fields: Any) -> httpx.Response:
    return http.post("/chat/completions", json={"model": "general", "messages": FRANCE, **fields})


@pytest.mark.parametrize("fields", [pytest.param(each, id="-".join(each)) for each in NEUTRAL])
def test_a_field_that_asks_for_nothing_changes_nothing(http: httpx.Client, fields: dict[str, Any]) -> None:
    answer = post(http, **fields)
    assert answer.status_code == 200, answer.text
    assert "Paris" in answer.json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize("name", FEATURES)
def test_a_field_that_asks_for_something_is_obeyed_or_refused_by_its_name(http: httpx.Client, name: str) -> None:
    fields, obeys = FEATURES[name]
    answer = post(http, max_tokens=64, **fields)
    if answer.status_code == 400:
        assert name in answer.json()["error"]["message"]
    else:
        assert answer.status_code == 200, answer.text
        assert obeys(answer.json()["choices"][0])


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "content": "Paris.", "refusal": None, "audio": None, "function_call": None, "tool_calls": None},
        {"role": "assistant", "content": "Paris.", "name": "helper"},
        {"role": "assistant", "content": [{"type": "text", "text": "Paris."}]},
    ],
    ids=["fields of an answer", "a name", "parts"],
)
def test_turns_may_look_as_tools_write_them(http: httpx.Client, turn: dict[str, Any]) -> None:
    answer = post(http, messages=[*FRANCE, turn, *FRANCE])
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["prompt_tokens"] > post(http).json()["usage"]["prompt_tokens"]


def test_one_model_can_be_looked_up(http: httpx.Client) -> None:
    answer = http.get("/models/counterpoint")
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] == "counterpoint"


def test_vllms_benchmark_of_completions_is_answered(http: httpx.Client) -> None:
    asked = {"model": "general", "prompt": "Paris is", "repetition_penalty": 1.0, "max_tokens": 4, "logprobs": None}
    assert http.post("/completions", json=asked).status_code == 200
