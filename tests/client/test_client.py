import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from counterpoint import (
    AsyncCounterpoint,
    AuthenticationError,
    BadRequestError,
    ConnectionFailedError,
    Counterpoint,
    CounterpointError,
    OverloadedError,
    ServerError,
)

ROUTE = {"experts": ["a", "b"], "weights": [0.6, 0.4], "primary": "a", "scores": {"a": 0.9, "b": 0.6}, "reasons": ["near"]}
ANSWER = {"expert": "a", "text": "4", "usage": {}, "latency_s": 0.5, "error": None}
OURS = {"route": ROUTE, "answers": [ANSWER], "aggregator": "vote", "support": [["4", 2.0]], "degraded": False, "cost_usd": 0.001}
WHOLE = {
    "id": "chatcmpl-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    "counterpoint": OURS,
}


def client(answer: Callable[[httpx.Request], httpx.Response]) -> Counterpoint:
    return Counterpoint("http://mixture", retries=0, transport=httpx.MockTransport(answer))


def events(*bodies: dict[str, Any] | str, cut: bool = False) -> httpx.Response:
    lines = [body if isinstance(body, str) else json.dumps(body) for body in bodies]
    lines += [] if cut or lines[-1] == "[DONE]" else ["[DONE]"]
    return httpx.Response(200, text="".join(f"data: {line}\n\n" for line in lines))


def delta(**fields: Any) -> dict[str, Any]:
    return {
        "id": "1",
        "choices": [{"index": 0, "delta": fields.pop("delta", {}), "finish_reason": fields.pop("finish_reason", None)}],
        **fields,
    }


def test_a_question_becomes_a_conversation_and_our_options_travel_apart() -> None:
    seen: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        return httpx.Response(200, json=WHOLE)

    with client(answer) as mixture:
        mixture.chat(
            "What is 2 + 2?", k=2, explain=True, temperature=0.5, seed=None, budget_usd=0.01, max_latency_s=3.0, objective={"price": 0.5},
            primary_first=True,
        )  # fmt: skip
    assert seen == [
        {
            "model": "counterpoint",
            "messages": [{"role": "user", "content": "What is 2 + 2?"}],
            "temperature": 0.5,
            "counterpoint": {
                "k": 2,
                "explain": True,
                "budget_usd": 0.01,
                "max_latency_s": 3.0,
                "objective": {"price": 0.5},
                "primary_first": True,
            },
        }
    ]


def test_an_answer_comes_back_typed() -> None:
    with client(lambda _: httpx.Response(200, json=WHOLE)) as mixture:
        answer = mixture.chat("What is 2 + 2?")
    assert (answer.text, answer.finish_reason, answer.usage.total_tokens) == ("4", "stop", 4)
    assert answer.explanation is not None
    assert answer.explanation.route.experts == ("a", "b")
    assert answer.explanation.answers[0].text == "4"
    assert answer.explanation.support == (("4", 2.0),)


def test_a_stream_yields_route_answers_text_and_the_account() -> None:
    stream = events(
        delta(delta={"role": "assistant", "content": ""}, counterpoint={"route": ROUTE}),
        delta(counterpoint={"answer": ANSWER}),
        delta(delta={"content": "fo"}),
        delta(delta={"content": "ur"}),
        delta(finish_reason="stop", counterpoint=OURS),
        {"id": "1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}},
        "[DONE]",
    )
    with client(lambda _: stream) as mixture:
        chunks = list(mixture.stream("What is 2 + 2?", explain=True))
    assert "".join(chunk.text for chunk in chunks) == "four"
    assert chunks[0].route is not None
    assert chunks[1].answer is not None
    assert chunks[4].explanation is not None
    assert chunks[4].finish_reason == "stop"
    assert chunks[5].usage is not None
    assert chunks[5].usage.total_tokens == 4


def test_a_draft_and_a_correction_are_told_from_the_answer() -> None:
    stream = events(
        delta(delta={"content": "It is 5."}),
        delta(counterpoint={"draft": ANSWER}),
        delta(delta={"content": "4"}, counterpoint={"correction": True}),
    )
    with client(lambda _: stream) as mixture:
        first, draft, second = mixture.stream("What is 2 + 2?", explain=True)
    assert (first.text, first.correction, first.draft) == ("It is 5.", False, None)
    assert draft.draft is not None
    assert (draft.draft.expert, draft.draft.text, draft.answer, draft.text) == ("a", "4", None, "")
    assert (second.text, second.correction) == ("4", True)


@pytest.mark.parametrize("body", ["<html>", [], {}, {"id": "1", "choices": []}])
def test_an_answer_of_something_else_is_told(body: Any) -> None:
    with (
        client(lambda _: httpx.Response(200, json=body)) as mixture,
        pytest.raises(ConnectionFailedError, match="no answer of Counterpoint"),
    ):
        mixture.chat("hi")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (404, BadRequestError),
        (401, AuthenticationError),
        (403, AuthenticationError),
        (500, ServerError),
        (502, ServerError),
    ],
)
def test_an_error_is_one_sentence_with_status_and_code(status: int, kind: type[ServerError]) -> None:
    body = {"error": {"message": "what went wrong", "code": "why"}}
    with client(lambda _: httpx.Response(status, json=body)) as mixture, pytest.raises(kind, match="what went wrong") as caught:
        mixture.chat("hi")
    assert (caught.value.status, caught.value.code) == (status, "why")


def test_a_full_endpoint_tells_when_to_come_back() -> None:
    busy = httpx.Response(429, json={"error": {"message": "full"}}, headers={"retry-after": "7"})
    with client(lambda _: busy) as mixture, pytest.raises(OverloadedError) as caught:
        mixture.chat("hi")
    assert caught.value.retry_after_s == 7


def test_an_error_in_a_stream_is_raised() -> None:
    with client(lambda _: events({"error": {"message": "no expert answered", "code": None}})) as mixture:
        with pytest.raises(ServerError, match="no expert answered"):
            list(mixture.stream("hi"))


def test_an_error_before_a_stream_is_raised() -> None:
    with client(lambda _: httpx.Response(400, json={"error": {"message": "bad"}})) as mixture, pytest.raises(BadRequestError, match="bad"):
        list(mixture.stream("hi"))


def test_what_is_no_error_of_ours_is_shown_cut() -> None:
    with client(lambda _: httpx.Response(502, text="<html>" + "x" * 5000)) as mixture, pytest.raises(ServerError) as caught:
        mixture.chat("hi")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("failure", "words"),
    [(httpx.ConnectError("refused"), "cannot reach http://mixture"), (httpx.ReadTimeout("slow"), "did not answer in time")],
)
def test_an_endpoint_that_is_not_there_is_told(failure: Exception, words: str) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise failure

    with client(answer) as mixture, pytest.raises(ConnectionFailedError, match=words):
        mixture.chat("hi")


def test_a_stream_of_something_else_is_told() -> None:
    with client(lambda _: events("{half")) as mixture, pytest.raises(ConnectionFailedError, match="no JSON"):
        list(mixture.stream("hi"))


def test_the_key_is_sent_and_not_shown_in_errors() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer secret-key"
        return httpx.Response(401, json={"error": {"message": "wrong key"}})

    with Counterpoint("http://mixture", api_key="secret-key", transport=httpx.MockTransport(answer)) as mixture:
        with pytest.raises(CounterpointError) as caught:
            mixture.chat("hi")
    assert "secret-key" not in repr(caught.value)


async def test_the_asyncio_client_does_the_same() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "counterpoint"}]})
        return events(delta(delta={"content": "4"})) if json.loads(request.content).get("stream") else httpx.Response(200, json=WHOLE)

    async with AsyncCounterpoint("http://mixture", transport=httpx.MockTransport(answer)) as mixture:
        assert (await mixture.chat("hi")).text == "4"
        assert [chunk.text async for chunk in mixture.stream("hi")] == ["4"]
        assert await mixture.models() == ["counterpoint"]


def test_calls_of_tools_and_log_probabilities_come_back_typed() -> None:
    called = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    told = {"content": [{"token": "4", "logprob": -0.1, "bytes": [52], "top_logprobs": [{"token": "5", "logprob": -2, "bytes": [53]}]}]}
    choice = {"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": [called]}, "finish_reason": "tool_calls"}
    with client(lambda _: httpx.Response(200, json={"id": "1", "choices": [{**choice, "logprobs": told}]})) as mixture:
        answer = mixture.chat("What is the weather?", tools=[{"type": "function", "function": {"name": "weather"}}], logprobs=True)
    assert (answer.text, answer.finish_reason) == ("", "tool_calls")
    assert [(call.name, call.values) for call in answer.tool_calls] == [("weather", {"city": "Rome"})]
    assert answer.message == {"role": "assistant", "content": "", "tool_calls": [called]}
    assert [(one.token, one.logprob, one.top) for one in answer.logprobs] == [("4", -0.1, (("5", -2.0),))]


def test_a_prompts_log_probabilities_are_read_from_their_older_shape() -> None:
    told = {"tokens": ["4"], "token_logprobs": [-0.1], "top_logprobs": [{"4": -0.1}], "text_offset": [0]}
    body = {"id": "1", "choices": [{"text": "4", "finish_reason": "stop", "logprobs": told}]}
    with client(lambda _: httpx.Response(200, json=body)) as mixture:
        (one,) = mixture.complete("2 + 2?", logprobs=1).logprobs
    assert (one.token, one.logprob, one.top) == ("4", -0.1, (("4", -0.1),))


def test_a_stream_tells_calls_and_log_probabilities() -> None:
    called = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    last = delta(finish_reason="tool_calls")
    last["choices"][0]["logprobs"] = {"content": [{"token": "4", "logprob": -0.1, "top_logprobs": []}]}
    with client(lambda _: events(delta(delta={"tool_calls": [called]}), last)) as mixture:
        first, second = mixture.stream("What is the weather?")
    assert [call.name for call in first.tool_calls] == ["weather"]
    assert [one.token for one in second.logprobs] == ["4"]


@pytest.mark.parametrize(("address", "key", "words"), [("http://[::1", None, "is no address"), ("http://x", "schlüssel", "an API key has")])
def test_an_address_or_a_key_that_cannot_be_one_is_told_at_once(address: str, key: str | None, words: str) -> None:
    for kind in (Counterpoint, AsyncCounterpoint):
        with pytest.raises(CounterpointError, match=words):
            kind(address, api_key=key)


def test_a_stream_that_ends_before_its_end_is_no_whole_answer() -> None:
    with (
        client(lambda _: events(delta(delta={"content": "4"}), cut=True)) as mixture,
        pytest.raises(ConnectionFailedError, match="cut off"),
    ):
        list(mixture.stream("What is 2 + 2?"))


async def test_an_asynchronous_stream_neither() -> None:
    transport = httpx.MockTransport(lambda _: events(delta(delta={"content": "4"}), cut=True))
    async with AsyncCounterpoint("http://mixture", transport=transport) as mixture:
        with pytest.raises(ConnectionFailedError, match="cut off"):
            [chunk async for chunk in mixture.stream("What is 2 + 2?")]
