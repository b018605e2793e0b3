import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml
from starlette.requests import ClientDisconnect

from experts.base import EngineError
from serving import endpoint
from serving.config import MixtureConfig
from serving.control import SharedBuckets
from serving.gateway import Gateway
from serving.keys import Keys
from serving.limits import Limiter
from serving.patience import all_of
from serving.routes import make_app
from serving.store import Store
from serving.streaming import Stream

SCRIPT = [{"match": "capital of France", "say": "Paris"}, {"match": "break", "fail": "told to fail"}, {"match": ".", "say": "unsure"}]


def config(**changes: Any) -> MixtureConfig:
    experts = [{"name": name, "model": "-", "engine": "scripted", "options": {"script": SCRIPT}} for name in "ab"]
    return MixtureConfig.model_validate({"version": 1, "name": "mix", "experts": experts, "aggregator": {"kind": "vote"}} | changes)


@asynccontextmanager
async def served(**changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The endpoint's routes on a gateway in this process, without Ray Serve's proxy."""
    made = Gateway(config(**changes))
    await made.start()
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(make_app(made)), base_url="http://127.0.0.1") as client:
            yield client
    finally:
        await made.stop()


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "mix", "messages": [{"role": "user", "content": text}]} | more


Run = Callable[..., tuple[int, str, str]]
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
        ("/v1/chat/completions", chat(FRANCE, tools=[{"type": "function"}]), 400, None, "tools.0.function: Field required"),
        ("/v1/chat/completions", chat(FRANCE, audio={"voice": "alloy"}), 400, None, "audio: not supported"),
        ("/v1/chat/completions", chat(FRANCE, n=99), 400, None, "n: Input should be less than or equal to 16, not '99'"),
        ("/v1/completions", {"model": "mix", "prompt": []}, 400, None, "prompt"),
        ("/v1/completions", {"model": "mix", "prompt": "x", "suffix": "y"}, 400, None, "suffix: Input should be '', not 'y'"),
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


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


def made_key(url: str, **limits: Any) -> dict[str, str]:
    """Make a key, and give the header that bears its secret."""
    with Store(url) as opened:
        _, secret = Keys(opened).create("test", **limits)
    return {"authorization": f"Bearer {secret}"}


async def test_where_keys_are_wanted_nobody_comes_in_without(store: str) -> None:
    mine = made_key(store)
    async with served(serving={"keys": True, "store": store}) as client:
        for headers in ({}, {"authorization": "Bearer cp-nonsense"}, {"authorization": "Basic abc"}):
            for path in ("/v1/chat/completions", "/v1/completions", "/v1/route", "/v1/feedback"):
                response = await client.post(path, json=chat(FRANCE), headers=headers)
                assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
            assert (await client.get("/v1/models", headers=headers)).status_code == 401
            assert (await client.get("/v1/traces/x", headers=headers)).status_code == 401
        assert (await client.post("/v1/chat/completions", json=chat(FRANCE), headers=mine)).status_code == 200
        assert (await client.get("/healthz")).status_code == 200


async def test_a_key_reaches_only_the_experts_that_it_may_ask(store: str) -> None:
    mine = made_key(store, denied_experts=("a",))
    async with served(serving={"keys": True, "store": store}) as client:
        models = (await client.get("/v1/models", headers=mine)).json()["data"]
        answer = (await client.post("/v1/chat/completions", json=chat(FRANCE, counterpoint={"explain": True}), headers=mine)).json()
        named = await client.post("/v1/chat/completions", json=chat(FRANCE) | {"model": "a"}, headers=mine)
        other = await client.post("/v1/route", json=chat(FRANCE) | {"model": "c"}, headers=mine)
        wished = await client.post("/v1/chat/completions", json=chat(FRANCE, counterpoint={"experts": ["a", "b"]}), headers=mine)
    assert [model["id"] for model in models] == ["mix", "b"]
    assert [part["expert"] for part in answer["counterpoint"]["answers"]] == ["b"]
    assert (wished.status_code, "this key may not ask 'a'" in wished.json()["error"]["message"]) == (400, True)
    for refused, name in ((named, "a"), (other, "c")):  # one that it may not reach is for it as one that is not there
        assert (refused.status_code, refused.json()["error"]["message"]) == (404, f"no model is called '{name}'; there are mix, b")


@pytest.mark.parametrize("keys", [True, False])
async def test_keys_are_read_beside_the_loop_so_that_a_slow_store_holds_up_nobody_else(
    store: str, keys: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, read = made_key(store), Store.key
    threads: list[str] = []

    def slow(self: Store, id: str) -> Any:
        threads.append(threading.current_thread().name)
        return read(self, id)

    async with served(serving={"keys": keys, "store": store}) as client:
        monkeypatch.setattr(Store, "key", slow)
        for headers in (mine, mine, {"authorization": "Bearer cp-nonsense"}):
            await client.get("/v1/models", headers=headers)
    assert threads
    assert threading.main_thread().name not in threads
    assert len(threads) <= 3  # what was read a moment ago is not read again


async def test_a_keys_defaults_hold_where_a_request_sets_none(store: str) -> None:
    mine = made_key(store, defaults={"k": 1, "explain": True})
    async with served(serving={"keys": True, "store": store}) as client:
        own = (await client.post("/v1/chat/completions", json=chat(FRANCE), headers=mine)).json()
        other = (await client.post("/v1/chat/completions", json=chat(FRANCE, counterpoint={"k": 2}), headers=mine)).json()
    assert [len(body["counterpoint"]["answers"]) for body in (own, other)] == [1, 2]


async def test_who_has_used_up_the_limit_is_told_when_to_come_again(store: str) -> None:
    mine = made_key(store, requests_per_minute=2)
    async with served(serving={"keys": True, "store": store}) as client:
        codes = [(await client.post("/v1/chat/completions", json=chat(FRANCE), headers=mine)) for _ in range(3)]
    assert [response.status_code for response in codes] == [200, 200, 429]
    assert 1 <= int(codes[2].headers["retry-after"]) <= 30
    assert codes[2].json()["error"]["code"] == "rate_limit_exceeded"


async def test_spend_is_kept_of_answers_at_once_and_streamed(store: str) -> None:
    mine = made_key(store)
    async with served(serving={"keys": True, "store": store}) as client:
        one = (await client.post("/v1/chat/completions", json=chat(FRANCE), headers=mine)).json()["usage"]
        await client.post("/v1/chat/completions", json=chat(FRANCE, stream=True), headers=mine)
    with Store(store) as opened:
        spent = opened.spend(Keys(opened).list()[0].id)
    assert (spent.requests, spent.prompt_tokens, spent.completion_tokens) == (2, 2 * one["prompt_tokens"], 2 * one["completion_tokens"])


async def test_a_trace_is_seen_by_who_asked_alone_and_holds_no_text_unless_told(store: str) -> None:
    mine, other = made_key(store), made_key(store)
    async with served(serving={"keys": True, "store": store}) as client:
        id = (await client.post("/v1/chat/completions", json=chat(FRANCE), headers=mine)).json()["id"]
        seen = await client.get(f"/v1/traces/{id}", headers=mine)
        assert (await client.get(f"/v1/traces/{id}", headers=other)).status_code == 404
        assert (await client.post("/v1/feedback", json={"id": id, "score": 1.0}, headers=other)).status_code == 404
        assert (await client.post("/v1/feedback", json={"id": id, "score": 1.0}, headers=mine)).json()["kept"] is True
        assert (await client.post("/v1/feedback", json={"id": id, "score": 2.0}, headers=mine)).status_code == 400
    assert (seen.status_code, seen.json()["aggregator"]) == (200, "vote")
    assert "Paris" not in seen.text
    assert "France" not in seen.text
    async with served(serving={"keys": True, "store": store, "keep_text": True}) as client:
        id = (await client.post("/v1/chat/completions", json=chat(FRANCE), headers=mine)).json()["id"]
        seen = await client.get(f"/v1/traces/{id}", headers=mine)
    assert seen.json()["messages"] == [{"role": "user", "content": FRANCE}]
    assert seen.json()["text"] == "Paris"


async def test_feedback_teaches_the_aggregator_that_learns_from_it() -> None:
    async with served(aggregator={"kind": "bandit"}) as client:
        id = (await client.post("/v1/chat/completions", json=chat(FRANCE))).json()["id"]
        first = await client.post("/v1/feedback", json={"id": id, "score": 1.0, "comment": "good"})
        again = await client.post("/v1/feedback", json={"id": id, "score": 1.0})
    assert (first.status_code, first.json()["learned"]) == (200, True)
    assert again.status_code == 404  # it counts once, and nothing is kept without a store


async def test_figures_are_for_admins_where_keys_are_wanted(store: str) -> None:
    mine, admin = made_key(store), made_key(store, admin=True)
    async with served(serving={"keys": True, "store": store}) as client:
        codes = [(await client.get("/metrics", headers=headers)).status_code for headers in ({}, mine, admin)]
    assert codes == [401, 403, 200]


def test_beyond_loopback_it_listens_with_keys_or_where_told_so(
    run: Callable[..., tuple[int, str, str]], mixture: Callable[..., Path]
) -> None:
    code, _, error = run("serve", "-c", mixture(), "--host", "0.0.0.0")
    assert (code, "without keys the endpoint listens on loopback only, not on 0.0.0.0" in error) == (2, True)


def test_what_rays_own_command_takes_is_written_and_nothing_started(run: Run, mixture: Callable[..., Path], tmp_path: Path) -> None:
    schema = pytest.importorskip("ray.serve.schema")
    out = tmp_path / "serve.yaml"
    code, _, error = run("serve", "-c", mixture(), "--port", 8765, "--emit", out)
    assert code == 0, error
    read = schema.ServeDeploySchema.model_validate(yaml.safe_load(out.read_text(encoding="utf-8")))
    assert (read.http_options.port, read.applications[0].import_path) == (8765, "serving.deploy:app")
    assert Path(read.applications[0].args["config"]).is_file()
    code, _, error = run("serve", "--emit", out)
    assert (code, "--emit names a mixture's YAML" in error) == (2, True)


async def test_a_denied_expert_is_not_asked_by_the_aggregator_either(store: str) -> None:
    mine = made_key(store, denied_experts=("b",))
    for aggregator in ({"kind": "fuse", "expert": "b"}, {"kind": "judge", "judge": "b"}, {"kind": "layers", "proposers": ["a", "b"]}):
        async with served(aggregator=aggregator, serving={"keys": True, "store": store}) as client:
            answer = (await client.post("/v1/chat/completions", json=chat(FRANCE, counterpoint={"explain": True}), headers=mine)).json()
            admin = made_key(store, admin=True)
            metrics = (await client.get("/metrics", headers=admin)).text
        assert answer["choices"][0]["message"]["content"] == "Paris"
        assert 'answers_total{expert="b"} 1' not in metrics


async def test_pages_of_other_sites_and_names_of_other_hosts_are_refused_where_no_key_is_wanted() -> None:
    async with served() as client:
        for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}):
            assert (await client.get("/v1/models", headers=headers)).status_code == 400
            assert (await client.get("/metrics", headers=headers)).status_code == 400
            assert (await client.post("/v1/chat/completions", json=chat(FRANCE), headers=headers)).status_code == 400
        assert (await client.get("/v1/models", headers={"origin": "http://localhost:8501"})).status_code == 200


async def test_what_was_set_aside_for_a_stream_that_nobody_reads_is_given_back(store: str) -> None:
    made_key(store, budget_usd=1.0)
    with Store(store) as opened:
        key = Keys(opened).list()[0]
        admission = Limiter(opened).admit(key, tokens=10, usd=0.5)

        async def lines() -> AsyncIterator[str]:
            yield "never read"

        async def gone(message: Any) -> None:
            raise OSError("the caller has left")

        with pytest.raises(ClientDisconnect):
            await Stream(lines(), admission)({"type": "http", "asgi": {"spec_version": "2.4"}}, gone, gone)
        assert (opened.held(key.id), opened.spend(key.id).usd) == (0, 0)


async def test_a_path_that_is_not_there_is_an_error_in_openais_form() -> None:
    async with served() as client:
        assert (await client.get("/v1/nothing")).json()["error"]["message"].startswith("GET /v1/nothing: Not Found")
        assert (await client.get("/v1/chat/completions")).status_code == 405


@pytest.mark.parametrize("limit", ["0", "²", "9" * 5000, "x", "-1"])
async def test_a_lists_limit_is_a_number(store: str, limit: str) -> None:
    async with served(serving={"store": store}) as client:
        assert (await client.get("/v1/batches", params={"limit": limit})).status_code == 400


async def test_a_stream_whose_time_is_up_before_its_first_word_says_so_by_its_status() -> None:
    slow = [{"name": "a", "model": "-", "engine": "scripted", "options": {"script": [{"match": ".", "say": "late", "delay_s": 30}]}}]
    async with served(experts=slow) as client:
        for stream in (False, True):
            body = chat(FRANCE, stream=stream, counterpoint={"timeout_s": 0.2})
            response = await client.post("/v1/chat/completions", json=body)
            assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")


@pytest.mark.parametrize("own", [None, {"k": None}])
async def test_a_keys_defaults_hold_where_a_request_says_null(store: str, own: dict[str, Any] | None) -> None:
    mine = made_key(store, defaults={"k": 1, "explain": True})
    async with served(serving={"keys": True, "store": store}) as client:
        answer = (await client.post("/v1/chat/completions", json=chat(FRANCE, counterpoint=own), headers=mine)).json()
    assert len(answer["counterpoint"]["answers"]) == 1


async def test_the_chunks_of_a_stream_are_of_one_time_and_their_usage_is_still_to_come() -> None:
    async with served() as client:
        body = chat(FRANCE, stream=True, stream_options={"include_usage": True})
        lines = (await client.post("/v1/chat/completions", json=body)).text.split("\n\n")
        plain = (await client.post("/v1/chat/completions", json=chat(FRANCE, stream=True))).text
    *chunks, last = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    assert {chunk["created"] for chunk in chunks} == {last["created"]}
    assert {chunk["usage"] for chunk in chunks} == {None}
    assert last["usage"]["total_tokens"] > 0
    assert '"usage"' not in plain


@pytest.mark.parametrize("field", ["audio", "function_call"])
async def test_what_a_turn_bears_and_nobody_reads_is_refused(field: str) -> None:
    turns = [{"role": "user", "content": FRANCE, "name": "me"}, {"role": "assistant", "content": "Paris", field: {"id": "x"}}]
    async with served() as client:
        response = await client.post("/v1/chat/completions", json={"model": "mix", "messages": [*turns, turns[0]]})
        turns[1][field] = None  # type: ignore[assignment]
        fine = await client.post("/v1/chat/completions", json={"model": "mix", "messages": [*turns, turns[0]]})
    assert (response.status_code, response.json()["error"]["message"].startswith(f"messages.1.{field}: ")) == (400, True)
    assert fine.status_code == 200


async def test_where_one_of_several_works_fails_the_others_are_cancelled() -> None:
    ended: list[str] = []

    async def lasting() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append("lasting")

    async def failing() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await all_of([lasting(), failing()])
    await asyncio.sleep(0)
    assert ended == ["lasting"]


async def test_gateways_that_start_later_keep_the_door_of_the_first(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    remembered: list[dict[str, Any]] = []

    class Method:
        async def remote(self, config: dict[str, Any]) -> None:
            remembered.append(config)

    async def peers(*_: object) -> list[object]:
        return []

    monkeypatch.setattr(endpoint, "_control", lambda: SimpleNamespace(remember=Method()))
    gateway = Gateway(config(serving={"keys": True, "store": store}), peers=peers)
    replica: Any = SimpleNamespace(gateway=gateway)
    await gateway.start()
    try:
        sent = config(name="other", serving={"keys": False, "port": 9}).model_dump(exclude_unset=True)
        assert (await endpoint.GatewayReplica.begin_reload(replica, sent)).startswith("reloaded")
    finally:
        await gateway.stop()
    assert [(each["name"], each["serving"]) for each in remembered] == [("other", {"keys": True, "store": store})]


def test_buckets_that_nobody_gives_are_an_engines_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: object, **__: object) -> None:
        raise TimeoutError("late")

    monkeypatch.setattr("ray.get", late)
    shared = SharedBuckets(SimpleNamespace(host=SimpleNamespace(take=SimpleNamespace(remote=lambda *_: None))))
    with pytest.raises(EngineError, match=r"the shared pool cannot be reached \(TimeoutError\)"):
        shared.take("k", [("requests", 1.0, 1.0)])
