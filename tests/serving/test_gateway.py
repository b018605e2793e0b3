import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serving import gateway as module
from serving.config import MixtureConfig
from serving.gateway import Gateway

SCRIPT = [{"match": "capital of France", "say": "Paris"}, {"match": "break", "fail": "told to fail"}, {"match": ".", "say": "unsure"}]


def config(**changes: Any) -> MixtureConfig:
    experts = [{"name": name, "model": "-", "engine": "scripted", "options": {"script": SCRIPT}} for name in "ab"]
    return MixtureConfig.model_validate({"version": 1, "name": "mix", "experts": experts, "aggregator": {"kind": "vote"}} | changes)


@asynccontextmanager
async def served(**changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The endpoint's routes on a gateway in this process, without Ray Serve's proxy."""
    made = Gateway(config(**changes))
    app = FastAPI()
    for route in module.app.routes:
        if hasattr(route, "endpoint") and hasattr(made, route.endpoint.__name__):
            app.add_api_route(route.path, getattr(made, route.endpoint.__name__), methods=[*(route.methods or ())])  # type: ignore[attr-defined]
    await made.start()
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            yield client
    finally:
        await made.pipeline.pool.stop()


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "mix", "messages": [{"role": "user", "content": text}]} | more


FRANCE = "What is the capital of France?"


async def test_several_choices_are_several_answers_and_their_usage_adds_up() -> None:
    async with served() as client:
        one = (await client.post("/v1/chat/completions", json=chat(FRANCE))).json()
        three = (await client.post("/v1/chat/completions", json=chat(FRANCE, n=3))).json()
    assert [choice["index"] for choice in three["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in three["choices"]} == {"Paris"}
    assert three["usage"]["total_tokens"] == 3 * one["usage"]["total_tokens"]


async def test_several_choices_are_streamed_by_their_index() -> None:
    async with served() as client:
        body = chat(FRANCE, n=2, stream=True, stream_options={"include_usage": True})
        lines = (await client.post("/v1/chat/completions", json=body)).text.split("\n\n")
    assert lines[-2] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] > 0
    texts = {0: "", 1: ""}
    for chunk in chunks[:-1]:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content", "")
    assert {text.strip() for text in texts.values()} == {"Paris"}
    assert len({chunk["id"] for chunk in chunks}) == 1


async def test_prompts_are_completed_each_for_itself() -> None:
    async with served() as client:
        body = {"model": "mix", "prompt": [FRANCE, "And now?"], "max_tokens": 5}
        made = (await client.post("/v1/completions", json=body)).json()
        streamed = (await client.post("/v1/completions", json={**body, "prompt": FRANCE, "stream": True})).text
    assert (made["object"], [choice["text"] for choice in made["choices"]]) == ("text_completion", ["Paris", "unsure"])
    pieces = [json.loads(line.removeprefix("data: ")) for line in streamed.split("\n\n")[:-2]]
    assert "".join(piece["choices"][0]["text"] for piece in pieces if piece["choices"]).strip() == "Paris"


async def test_a_route_is_told_without_asking_anybody() -> None:
    async with served() as client:
        told = (await client.post("/v1/route", json=chat(FRANCE, counterpoint={"k": 1}))).json()
        metrics = (await client.get("/metrics")).text
    assert (told["object"], told["experts"], set(told["scores"])) == ("counterpoint.route", ["a"], {"a", "b"})
    assert 'calls_total{expert="a"} 1' not in metrics


async def test_it_is_ready_while_an_expert_can_be_had() -> None:
    async with served() as client:
        assert (await client.get("/readyz")).json() == {"status": "ready", "broken": []}
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "message"),
    [
        ("/v1/chat/completions", chat(FRANCE) | {"model": "nobody"}, 404, "model_not_found", "no model is called 'nobody'"),
        ("/v1/route", chat(FRANCE) | {"model": "nobody"}, 404, "model_not_found", "no model is called 'nobody'"),
        ("/v1/chat/completions", chat(""), 400, None, "the question is empty"),
        ("/v1/chat/completions", chat(FRANCE, tools=[{"type": "function"}]), 400, None, "tools: not supported"),
        ("/v1/chat/completions", chat(FRANCE, response_format={"type": "json_object"}), 400, None, "response_format: not supported"),
        ("/v1/chat/completions", chat(FRANCE, n=99), 400, None, "n: Input should be less than or equal to 16, not '99'"),
        ("/v1/completions", {"model": "mix", "prompt": []}, 400, None, "prompt"),
        ("/v1/completions", {"model": "mix", "prompt": "x", "suffix": "y"}, 400, None, "suffix: not supported"),
        ("/v1/chat/completions", chat("please break"), 502, None, "told to fail"),
    ],
)
async def test_what_cannot_be_answered_is_an_error_in_openais_form(
    path: str, body: dict[str, Any], status: int, code: str | None, message: str
) -> None:
    async with served() as client:
        response = await client.post(path, json=body)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code)
    assert message in error["message"]
