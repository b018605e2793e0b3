import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from data import tracing
from data.records import CounterpointError
from serving.config import MixtureConfig
from serving.gateway import Gateway
from serving.pipeline import Pipeline, one_question
from serving.routes import make_app

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

CANARY = "xyzzy-plugh-7431"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SCRIPT = [{"match": "break", "fail": f"told to fail by {CANARY}"}, {"match": ".", "say": f"the answer is {CANARY}"}]


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield exporter
    tracing.stop()


def config(**changes: Any) -> MixtureConfig:
    experts = [{"name": name, "model": "-", "engine": "scripted", "options": {"script": SCRIPT}} for name in "ab"]
    aggregator = {"kind": "fuse", "expert": "a"}
    return MixtureConfig.model_validate({"version": 1, "name": "mix", "experts": experts, "aggregator": aggregator} | changes)


@asynccontextmanager
async def served(config: MixtureConfig) -> AsyncIterator[httpx.AsyncClient]:
    gateway = Gateway(config)
    await gateway.start()
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(make_app(gateway)), base_url="http://127.0.0.1") as client:
            yield client
    finally:
        await gateway.stop()


async def ask(body: dict[str, Any], config: MixtureConfig, headers: dict[str, str] | None = None) -> httpx.Response:
    async with served(config) as client:
        return await client.post("/v1/chat/completions", json=body, headers=headers or {})


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "mix", "messages": [{"role": "user", "content": text}], "counterpoint": {"k": 2}} | more


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return {name.removeprefix(tracing.PREFIX): value for name, value in (span.attributes or {}).items()}


def tree(finished: tuple[ReadableSpan, ...]) -> dict[str, list[str]]:
    """The names of what began within each span, in alphabetical order."""
    names = {span.context.span_id: span.name for span in finished}
    children: dict[str, list[str]] = {}
    for span in finished:
        parent = names.get(span.parent.span_id, "outside") if span.parent else "nobody"
        children[parent] = sorted([*children.get(parent, []), span.name])
    return children


@pytest.mark.parametrize("stream", [False, True])
async def test_each_step_of_a_request_is_a_span_in_its_callers_trace(spans: InMemorySpanExporter, stream: bool) -> None:
    response = await ask(chat("Who?", stream=stream), config(), {"traceparent": PARENT})
    finished = spans.get_finished_spans()
    assert response.status_code == 200
    assert tree(finished) == {
        "outside": ["request"],
        "request": ["aggregate", "call a", "call b", "route"],
        "aggregate": ["call a"],
    }
    assert {f"{span.context.trace_id:032x}" for span in finished} == {PARENT.split("-")[1]}
    request = attributes(next(span for span in finished if span.name == "request"))
    assert (request["model"], request["stream"], request["status"], request["k"]) == ("mix", stream, 200, 2)
    assert (request["experts"], request["key"]) == (("a", "b"), "local")
    assert request["request_id"] == response.headers["x-request-id"]
    call = attributes(next(span for span in finished if span.name == "call b"))
    assert (call["expert"], call["completion_tokens"], call["finish_reason"]) == ("b", 4, "stop")
    assert call["waited_s"] >= 0
    assert attributes(next(span for span in finished if span.name == "route"))["chosen"] == ("a", "b")
    assert attributes(next(span for span in finished if span.name == "aggregate"))["kind"] == "fuse"


async def test_a_failed_call_says_what_kind_of_failure_and_not_its_words(spans: InMemorySpanExporter) -> None:
    response = await ask(chat("please break"), config())
    finished = {span.name: span for span in spans.get_finished_spans()}
    assert response.status_code == 502
    assert not finished["call b"].status.is_ok
    assert attributes(finished["call b"])["error"] == "failed"
    assert (attributes(finished["request"])["error"], attributes(finished["request"])["status"]) == ("upstream_error", 502)


@pytest.mark.parametrize(
    "body",
    [
        chat(f"Who is {CANARY}?"),
        chat(f"Who is {CANARY}?", stream=True),
        chat(f"break {CANARY}"),
        chat("Who?", model=CANARY),
        chat("Who?", nonsense=CANARY),
        chat("Who?", user=CANARY, metadata={"note": CANARY}),
        chat("Who?", counterpoint={"experts": [CANARY]}),
        chat("Who?", counterpoint={"aggregator": CANARY}),
    ],
    ids=lambda body: "-".join(name for name, value in body.items() if CANARY in str(value)) + ("-stream" if body.get("stream") else ""),
)
async def test_no_span_bears_text_or_a_secret(spans: InMemorySpanExporter, body: dict[str, Any]) -> None:
    await ask(body, config(), {"authorization": f"Bearer {CANARY}", "cookie": CANARY, "user-agent": CANARY})
    finished = spans.get_finished_spans()
    assert finished
    assert not [span.name for span in finished if CANARY in span.to_json()]


async def test_a_fault_of_ours_is_told_by_its_kind_only(spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError(CANARY)

    monkeypatch.setattr(Pipeline, "refusal", broken)
    response = await ask(chat("Who?"), config())
    (request,) = [span for span in spans.get_finished_spans() if span.name == "request"]
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert attributes(request)["error"] == "internal_error"
    assert CANARY not in request.to_json() + response.text


async def test_a_step_that_is_left_by_an_exception_names_its_class(spans: InMemorySpanExporter) -> None:
    with pytest.raises(KeyError), tracing.span("step"):
        raise KeyError(CANARY)
    (span,) = spans.get_finished_spans()
    assert (span.status.description, attributes(span), span.events) == ("KeyError", {"error": "KeyError"}, ())


@pytest.mark.parametrize("header", ["nonsense", "00-0-0-01", "00-" + "0" * 32 + "-b7ad6b7169203331-01", ""])
async def test_a_traceparent_that_is_none_begins_a_new_trace(spans: InMemorySpanExporter, header: str) -> None:
    await ask(chat("Who?"), config(), {"traceparent": header})
    assert "outside" not in tree(spans.get_finished_spans())


async def test_a_caller_that_keeps_no_trace_is_not_followed(spans: InMemorySpanExporter) -> None:
    await ask(chat("Who?"), config(), {"traceparent": PARENT.removesuffix("01") + "00"})
    assert spans.get_finished_spans() == ()


async def test_each_line_of_a_batch_is_a_trace_of_its_own(spans: InMemorySpanExporter) -> None:
    async with Pipeline.of(config()) as pipeline:
        questions = [one_question("Who?", id=str(number), k=1) for number in range(3)]
        with tracing.span("upload"):
            assert [answer.error async for _, answer, _ in pipeline.answer_all(questions)] == [None] * 3
    lines = [span for span in spans.get_finished_spans() if span.name == "request"]
    assert len({span.context.trace_id for span in lines}) == 3
    assert [span.parent for span in lines] == [None] * 3
    assert {attributes(span)["request_id"] for span in lines} == {"0", "1", "2"}


async def test_paths_that_machines_ask_all_the_time_have_no_span(spans: InMemorySpanExporter) -> None:
    async with served(config()) as client:
        for path in ("/healthz", "/readyz", "/metrics", "/v1/models"):
            assert (await client.get(path)).status_code == 200
    assert [attributes(span)["path"] for span in spans.get_finished_spans()] == ["/v1/models"]


def test_what_nobody_collects_imports_nothing() -> None:
    code = (
        "import sys\n"
        "import serving.routes\n"
        "from data import tracing\n"
        "before = {name for name in sys.modules if name.startswith('opentelemetry')}\n"
        "tracing.start()\n"
        "with tracing.span('a', b=1) as span: span.set(c=2); span.fail('d')\n"
        "tracing.record('a', '00-1-1-01', 0)\n"
        "tracing.stop()\n"
        "print(sorted(name for name in sys.modules if name.startswith('opentelemetry.sdk') or name in {'opentelemetry.trace'} - before))\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2])
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_without_what_sends_them_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(CounterpointError, match=r"serving\.otlp wants spans sent: pip install 'counterpoint-server\[otel\]'"):
        tracing.start("http://127.0.0.1:4318")


class Collector:
    """Takes spans by OTLP over HTTP, and keeps them."""

    def __init__(self) -> None:
        import threading
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        spans: list[Any] = []
        self.spans = spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                import gzip

                from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

                body = self.rfile.read(int(self.headers["content-length"]))
                body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    service = next(each.value.string_value for each in resource.resource.attributes if each.key == "service.name")
                    spans.extend((self.path, service, span) for scope in resource.scope_spans for span in scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    if find_spec("opentelemetry.exporter.otlp") is None:
        pytest.skip("the exporter is not installed here")
    for name in (tracing.ENDPOINT, tracing.TRACES_ENDPOINT, "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_SERVICE_NAME"):
        monkeypatch.delenv(name, raising=False)
    made = Collector()
    yield made
    tracing.stop()
    made.stop()


async def test_spans_go_where_the_config_says(collector: Collector) -> None:
    await ask(chat("Who?"), config(serving={"otlp": collector.url}))
    tracing.stop()
    assert {(path, service) for path, service, _ in collector.spans} == {("/v1/traces", "counterpoint")}
    assert {span.name for _, _, span in collector.spans} >= {"request", "route", "call a", "call b", "aggregate"}


async def test_opentelemetrys_own_variables_count_more(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracing.ENDPOINT, collector.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    await ask(chat("Who?"), config(serving={"otlp": "http://127.0.0.1:9"}))
    assert tracing.variables() == {}
    tracing.stop()
    assert {service for _, service, _ in collector.spans} == {"mine"}


@pytest.mark.parametrize(("name", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")])
async def test_opentelemetrys_own_variables_turn_it_off(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    tracing.start(collector.url)
    assert tracing.span("step").traceparent is None


@pytest.mark.slow
async def test_slots_tell_of_their_work_in_the_callers_trace(collector: Collector) -> None:
    ray = pytest.importorskip("ray")
    from experts.slot import start_ray

    tracing.stop()
    script = [{"match": ".", "say": f"the answer is {CANARY}"}]
    experts = [
        {"name": name, "model": name, "engine": "scripted", "options": {"slot": True, "script": script, "memory_bytes": 7}} for name in "ab"
    ]
    start_ray(2)
    try:
        async with served(config(experts=experts, serving={"otlp": collector.url})) as client, asyncio.timeout(60):
            await client.post("/v1/chat/completions", json=chat(f"Who is {CANARY}?"), headers={"traceparent": PARENT})
            while len([span for _, _, span in collector.spans if span.name == "slot.generate"]) < 3:
                await asyncio.sleep(0.1)
        tracing.stop()
    finally:
        ray.shutdown()
    spans = [span for _, _, span in collector.spans]
    names = {span.span_id: span.name for span in spans}
    generated = [span for span in spans if span.name == "slot.generate"]
    assert sorted(names[span.parent_span_id] for span in generated) == ["call a", "call a", "call b"]
    assert {span.trace_id.hex() for span in spans} == {PARENT.split("-")[1]}
    assert all(span.start_time_unix_nano < span.end_time_unix_nano for span in generated)
    assert CANARY not in str(spans)
