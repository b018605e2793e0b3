import json
import logging
import pickle
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from data.records import CounterpointError
from serving.config import MixtureConfig, load_config
from serving.figures import Figures
from serving.gateway import Gateway
from serving.keys import Keys
from serving.logs import LOGGER, open_log
from serving.metrics import exposition, samples
from serving.pipeline import Pipeline
from serving.routes import make_app
from serving.routes.watch import Watch
from serving.store import Store

CANARY = "xyzzy-plugh-7431"
SCRIPT = [{"match": "break", "fail": f"told to fail by {CANARY}"}, {"match": ".", "say": "four words it says"}]
Samples = dict[tuple[str, ...], float]


@pytest.fixture(autouse=True)
def _closed_log() -> Iterator[None]:
    yield
    open_log(None)
    LOGGER.setLevel(logging.NOTSET)


def config(**changes: Any) -> MixtureConfig:
    experts = [
        {"name": name, "model": "-", "engine": "scripted", "options": {"script": SCRIPT}, "price": {"input": 1.0, "output": 2.0}}
        for name in "ab"
    ]
    return MixtureConfig.model_validate({"version": 1, "name": "mix", "experts": experts, "aggregator": {"kind": "vote"}} | changes)


@asynccontextmanager
async def served(**changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    gateway = Gateway(config(**changes))
    await gateway.start()
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(make_app(gateway)), base_url="http://127.0.0.1") as client:
            yield client
    finally:
        await gateway.stop()


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "mix", "messages": [{"role": "user", "content": text}], "counterpoint": {"k": 2}} | more


def told(text: str) -> Samples:
    from prometheus_client.parser import text_string_to_metric_families

    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def log(tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    """The lines of the log in a file at `requests.jsonl`."""
    return lambda: [json.loads(line) for line in (tmp_path / "requests.jsonl").read_text().splitlines()]


@pytest.fixture
def serving(tmp_path: Path) -> dict[str, Any]:
    return {"log": str(tmp_path / "requests.jsonl")}


# ids


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/v1/models", 200),
        ("GET", "/nowhere", 404),
        ("DELETE", "/v1/models", 405),
        ("GET", "/metrics", 200),
    ],
)
async def test_every_answer_bears_an_id(method: str, path: str, status: int) -> None:
    async with served() as client:
        first, second = [await client.request(method, path) for _ in range(2)]
    assert (first.status_code, second.status_code) == (status, status)
    assert first.headers["x-request-id"].startswith("req-")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_completions_id_is_the_requests(stream: bool) -> None:
    async with served() as client:
        response = await client.post("/v1/chat/completions", json=chat("Who?", stream=stream))
    body = json.loads(response.text.partition("\n")[0].removeprefix("data: "))
    assert response.headers["x-request-id"] == body["id"]


async def test_an_id_that_the_caller_gives_comes_back(serving: dict[str, Any], log: Callable[[], list[dict[str, Any]]]) -> None:
    async with served(serving=serving) as client:
        response = await client.post("/v1/chat/completions", json=chat("Who?"), headers={"x-request-id": "order-66/a"})
    (line,) = log()
    assert response.headers["x-request-id"] == line["request_id"] == "order-66/a"
    assert line["completion_id"] == response.json()["id"]


@pytest.mark.parametrize("given", ["", "two words", "x" * 129, "caf\u00e9", "tab\there"])
async def test_an_id_that_is_long_or_not_plain_is_replaced(given: str) -> None:
    async with served() as client:
        response = await client.get("/healthz", headers=[(b"x-request-id", given.encode())])
    assert response.headers["x-request-id"].startswith("req-")


# lines


async def test_a_request_is_one_line_of_json(serving: dict[str, Any], log: Callable[[], list[dict[str, Any]]]) -> None:
    async with served(serving=serving) as client:
        response = await client.post("/v1/chat/completions", json=chat("Who?", stream=True))
        await client.get("/healthz")
    (line,) = log()
    assert line.pop("seconds") >= line.pop("first_token_s") > 0
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "INFO",
        "logger": "serving.requests",
        "event": "request",
        "request_id": response.headers["x-request-id"],
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "key": "local",
        "model": "mix",
        "stream": True,
        "experts": ["a", "b"],
        "k": 2,
        "prompt_tokens": 2,
        "completion_tokens": 8,
        "usd": 0.000018,
    }


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (chat("please break"), 502, "upstream_error"),
        (chat("please break", stream=True), 502, "upstream_error"),
        (chat("please break", stream=True, counterpoint={"explain": True}), 200, "upstream_error"),
        (chat("Who?", model="nobody"), 404, "model_not_found"),
        (chat(""), 400, "invalid_request_error"),
    ],
)
async def test_a_line_says_what_kind_of_error_it_was(
    serving: dict[str, Any], log: Callable[[], list[dict[str, Any]]], body: dict[str, Any], status: int, error: str
) -> None:
    async with served(serving=serving) as client:
        await client.post("/v1/chat/completions", json=body)
    (line,) = log()
    assert (line["status"], line["error"]) == (status, error)


async def test_a_fault_is_a_line_with_its_place_and_not_its_words(
    serving: dict[str, Any], log: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError(CANARY)

    monkeypatch.setattr(Pipeline, "refusal", broken)
    async with served(serving=serving) as client:
        response = await client.post("/v1/chat/completions", json=chat("Who?"))
    fault, request = log()
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert (fault["level"], fault["fault"], fault["at"][-1].rpartition(" ")[2]) == ("ERROR", "ZeroDivisionError", "broken")
    assert fault["request_id"] == request["request_id"] == response.headers["x-request-id"]
    assert CANARY not in json.dumps([fault, request])


async def test_no_line_bears_text_or_a_secret(tmp_path: Path, serving: dict[str, Any]) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with Store(url) as store:
        key, secret = Keys(store).create("test")
    mine = {"authorization": f"Bearer {secret}"}
    async with served(serving=serving | {"store": url, "keys": True}) as client:
        for headers in (mine, {"authorization": f"Bearer {secret}x"}, {"authorization": f"Bearer {CANARY}"}):
            for body in (
                chat(f"Who is {CANARY}?"),
                chat(f"break {CANARY}", stream=True),
                chat("Who?", model=CANARY),
                chat("Who?", user=CANARY, nonsense=CANARY),
                chat("Who?", counterpoint={"experts": [CANARY]}),
            ):
                await client.post(f"/v1/chat/completions?key={CANARY}", json=body, headers=headers | {"cookie": CANARY})
        await client.post("/v1/feedback", json={"id": CANARY, "score": 1, "comment": CANARY}, headers=mine)
    text = (tmp_path / "requests.jsonl").read_text()
    assert len(text.splitlines()) == 16
    assert f'"key": "{key.id}"' in text
    assert [word for word in (CANARY, secret, secret.rpartition("-")[2]) if word in text] == []


async def test_a_text_for_people_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    async with served(serving={"log": "text"}) as client:
        await client.post("/v1/chat/completions", json=chat("Who?"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "INFO request request_id=chatcmpl-" in line
    assert "path=/v1/chat/completions status=200" in line
    assert "experts=a,b k=2 prompt_tokens=2" in line


async def test_json_goes_to_stderr_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    async with served() as client:
        await client.get("/v1/models")
    assert json.loads(capsys.readouterr().err)["path"] == "/v1/models"
    async with served(serving={"log": None}) as client:
        await client.get("/v1/models")
    assert capsys.readouterr().err == ""


async def test_a_file_that_was_moved_away_is_begun_again(tmp_path: Path, serving: dict[str, Any]) -> None:
    async with served(serving=serving) as client:
        await client.get("/v1/models")
        (tmp_path / "requests.jsonl").rename(tmp_path / "requests.1")
        await client.get("/v1/models")
    assert [len((tmp_path / name).read_text().splitlines()) for name in ("requests.1", "requests.jsonl")] == [1, 1]


def test_a_file_that_cannot_be_written_is_told_before_anything_is_served(tmp_path: Path) -> None:
    with pytest.raises(CounterpointError, match=r"serving\.log: cannot write .*no/such\.log: No such file"):
        open_log(str(tmp_path / "no" / "such.log"))


def test_the_files_path_starts_from_the_yamls_folder(mixture: Callable[..., Path], tmp_path: Path) -> None:
    serving = load_config(mixture(serving={"log": "requests.jsonl", "runs": "runs"})).serving
    assert (serving.log, serving.runs) == (str(tmp_path / "requests.jsonl"), str(tmp_path / "runs"))
    assert load_config(mixture(serving={"log": "text"})).serving.log == "text"


def test_a_file_in_no_folder_is_refused_with_the_config(mixture: Callable[..., Path]) -> None:
    with pytest.raises(CounterpointError, match=r"serving\.log: no folder at .*/jsno; wanted json, text, or a file"):
        load_config(mixture(serving={"log": "jsno/x"}))


@pytest.mark.parametrize("address", ["collector:4318", "ftp://collector", "http://"])
def test_an_address_of_a_collector_is_a_url(mixture: Callable[..., Path], address: str) -> None:
    with pytest.raises(CounterpointError, match=r"serving\.otlp: .*not '" + address):
        load_config(mixture(serving={"otlp": address}))


# figures


async def test_requests_are_counted_by_path_status_and_model() -> None:
    async with served() as client:
        for body in (chat("Who?"), chat("Who?", model="a", counterpoint={}), chat("Who?", model=CANARY), chat("", stream=True)):
            await client.post("/v1/chat/completions", json=body)
        await client.post("/v1/chat/completions", json=chat("Who?", stream=True))
        for path in ("/v1/traces/one", "/v1/traces/two", f"/{CANARY}", "/v1/models"):
            await client.get(path)
        text = (await client.get("/metrics")).text
    figures = told(text)
    counted = {key[1:]: value for key, value in figures.items() if key[0] == "counterpoint_requests_total"}
    assert counted == {  # model, path, status
        ("mix", "/v1/chat/completions", "200"): 2,
        ("a", "/v1/chat/completions", "200"): 1,
        ("unknown", "/v1/chat/completions", "404"): 1,
        ("mix", "/v1/chat/completions", "400"): 1,
        ("", "/v1/traces/{id}", "404"): 2,
        ("", "unknown", "404"): 1,
        ("", "/v1/models", "200"): 1,
    }
    assert figures["counterpoint_request_seconds_count", "/v1/chat/completions"] == 5
    assert figures["counterpoint_first_token_seconds_count", "mix"] == 1
    assert figures["counterpoint_requests_running",] == 1, "the one that asks"
    assert figures["counterpoint_requests_refused_total", "model_not_found"] == 1
    assert figures["counterpoint_requests_refused_total", "trace_not_found"] == 2
    assert CANARY not in text


async def test_tokens_dollars_and_aggregators_are_counted() -> None:
    async with served() as client:
        for stream in (False, True):
            await client.post("/v1/chat/completions", json=chat("Who is it?", stream=stream))
        figures = told((await client.get("/metrics")).text)
    for name in "ab":
        assert figures["counterpoint_prompt_tokens_total", name] == 6
        assert figures["counterpoint_completion_tokens_total", name] == 8
        assert figures["counterpoint_spent_usd_total", name] == pytest.approx((6 * 1.0 + 8 * 2.0) / 1e6)
    assert figures["counterpoint_aggregation_seconds_count", "vote"] == 2
    assert figures["counterpoint_aggregation_seconds_sum", "vote"] > 0


async def test_the_first_token_is_not_the_line_that_says_who_speaks() -> None:
    now = 0.0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal now
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream; charset=utf-8")]})
        for delta in ({"role": "assistant", "content": ""}, {}, {"content": "a"}, {"content": "b"}):
            now += 1.0
            line = f"data: {json.dumps({'choices': [{'delta': delta}]})}\n\n"
            await send({"type": "http.response.body", "body": line.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})

    figures = Figures()
    watch = Watch(app, figures, clock=lambda: now)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(watch), base_url="http://127.0.0.1") as client:
        await client.get("/")
    assert figures.first_token[""].sum_s == 3.0
    assert figures.seconds["unknown"].sum_s == 4.0


async def test_a_stream_without_a_token_has_no_time_to_the_first() -> None:
    async with served() as client:
        await client.post("/v1/chat/completions", json=chat("please break", stream=True))
        figures = told((await client.get("/metrics")).text)
    assert not [key for key in figures if key[0].startswith("counterpoint_first_token")]
    assert figures["counterpoint_requests_refused_total", "upstream_error"] == 1


async def test_a_caller_that_leaves_before_an_answer_is_counted_and_nothing_runs_on() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise OSError("the caller has gone")

    async def gone(message: Any) -> None:
        raise OSError("the caller has gone")

    figures = Figures()
    with pytest.raises(OSError, match="the caller has gone"):
        await Watch(app, figures)({"type": "http", "method": "GET", "path": "/", "headers": []}, gone, gone)
    assert figures.running == 0
    assert sum(figures.requests.values()) == 1


async def test_figures_of_several_processes_add_up() -> None:
    async with served() as client:
        await client.post("/v1/chat/completions", json=chat("Who?"))
        app: Any = client._transport.app  # type: ignore[attr-defined]
        pipeline = app.state.gateway.pipeline
        here = samples(pipeline.pool, pipeline.figures)
    there = pickle.loads(pickle.dumps(here))
    text, _ = exposition(here, there, samples(None, Figures()))
    one, both = told(exposition(here)[0].decode()), told(text.decode())
    assert both == {key: 2 * value for key, value in one.items()}
    assert both["counterpoint_request_seconds_bucket", "+Inf", "/v1/chat/completions"] == 2
    assert text.count(b"# TYPE counterpoint_requests_total counter") == 1


def test_a_file_of_lines_is_not_for_everybody(tmp_path: Path) -> None:
    open_log(str(tmp_path / "requests.jsonl"))
    assert stat.S_IMODE((tmp_path / "requests.jsonl").stat().st_mode) & 0o007 == 0
