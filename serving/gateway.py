"""The endpoint: OpenAI's protocol in front of the pipeline, as a Ray Serve application."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from data.records import Answer, CounterpointError, Request, Route, Trace, Usage
from experts.base import EngineError
from serving.asking import Draft, Written
from serving.config import MixtureConfig, ServingConfig
from serving.database import StoreError
from serving.door import Door
from serving.jobs import Jobs, batch_json, file_json
from serving.keys import Key, Unauthorised
from serving.limits import Admission, LimitError
from serving.metrics import exposition
from serving.pipeline import ContextError, Finished, Pipeline, RequestError
from serving.protocol import (
    Asked,
    BatchBody,
    ChatRequest,
    CompletionRequest,
    FeedbackBody,
    answer_json,
    chunk_json,
    completion_json,
    error_json,
    explain_json,
    parse,
    parse_chat,
    parse_json,
    route_json,
    status_of,
    usage_json,
)
from serving.store import BudgetError, Store, default_url

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MAX_FILE_BYTES = 200 << 20
"""Largest file of a batch, as OpenAI's."""
MAX_BODY_BYTES = 4 << 20
"""Largest request body."""

app = FastAPI(title="Counterpoint", openapi_url=None, docs_url=None, redoc_url=None)


class Gateway:
    """Turn HTTP into requests, and answers into HTTP.

    Args:
        config: The mixture.
    """

    def __init__(self, config: MixtureConfig) -> None:
        self.config = config
        self.pipeline = Pipeline.of(config)
        self.door = Door(config.serving)
        self.jobs = None if self.door.store is None else Jobs(self.pipeline, self.door, self.door.store, journals(config.serving))
        self._tidying: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the pool, and load the engine that most experts share."""
        await self.pipeline.pool.start()
        await self.pipeline.pool.warm()
        self._tidying = asyncio.create_task(self._tidy())
        if self.jobs is not None and self.door.keys is not None:
            self.jobs.resume([*self.door.keys.list(), self.door.keys.local()])

    async def _tidy(self) -> None:
        """Delete once an hour what is kept no longer."""
        while True:
            with suppress(CounterpointError):  # a store that is busy will be tidied the next time
                await self.door.tidy()
            await asyncio.sleep(3600)

    async def stop(self) -> None:
        """Stop the pool, and close the store."""
        if self._tidying is not None:
            self._tidying.cancel()
        if self.jobs is not None:
            await self.jobs.stop()
        await self.pipeline.pool.stop()
        self.door.close()

    async def reload(self, config: dict[str, Any]) -> str:
        """Take over another config, and say in a line what came and went, or why nothing did."""
        try:
            new = MixtureConfig.model_validate(config)
            new = new.model_copy(update={"serving": self.config.serving})  # where it listens and who may come in need a restart
            came, went = await self.pipeline.reload(new)
        except CounterpointError as error:
            return f"not reloaded: {error}"
        self.config = new
        return f"reloaded: {', '.join(came) or 'nobody'} came, {', '.join(went) or 'nobody'} went"

    @app.get("/healthz")
    async def healthz(self) -> dict[str, str]:
        """Tell that the endpoint is up."""
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics(self, http: HTTPRequest) -> Response:
        """Give the pool's figures to Prometheus; where keys are wanted, to an admin's."""
        if self.config.serving.keys and not self._key(http).admin:
            return JSONResponse(error_json("the figures are for keys of admins", code="forbidden"), 403)
        text, kind = exposition(self.pipeline.pool)
        return Response(text, media_type=kind)

    def _key(self, http: HTTPRequest) -> Key:
        if self.config.serving.host in LOOPBACK and http.url.hostname not in LOOPBACK:
            raise CounterpointError(f"this endpoint serves {', '.join(LOOPBACK)}, not {http.url.hostname}")
        origin = http.headers.get("origin")
        if not self.config.serving.keys and origin is not None and urlsplit(origin).hostname not in LOOPBACK:
            raise CounterpointError("a page of another site may not ask this endpoint without a key")
        return self.door.key(http.headers.get("authorization"))

    @app.get("/v1/models")
    async def models(self, http: HTTPRequest) -> Response:
        """List the mixture, and each expert that may be asked."""
        key = self._key(http)
        names = [self.pipeline.name, *(name for name in self.pipeline.pool if key.allows(name))]
        rows = [{"id": name, "object": "model", "created": 0, "owned_by": "counterpoint"} for name in names]
        return JSONResponse({"object": "list", "data": rows})

    @app.get("/readyz")
    async def readyz(self) -> Response:
        """Tell whether questions would be answered now: 503 while no expert's engine can be had."""
        broken = [name for name in self.pipeline.pool if self.pipeline.pool.is_broken(name)]
        if len(broken) == len(list(self.pipeline.pool)):
            return JSONResponse({"status": "no expert can be had", "experts": broken}, 503)
        return JSONResponse({"status": "ready", "broken": broken})

    @app.post("/v1/route")
    async def route(self, http: HTTPRequest) -> Response:
        """Say who would be asked, and why, without asking anybody."""
        key = self._key(http)
        asked = parse_chat(with_defaults(await self._body(http), key.defaults))
        request = asked.record(f"route-{uuid.uuid4().hex}", self.pipeline.name, list(self.pipeline.pool))
        request = self.door.narrowed(key, request, list(self.pipeline.pool))
        return JSONResponse({"object": "counterpoint.route", "model": asked.model, **route_json(self.pipeline.route(request))})

    @app.post("/v1/chat/completions")
    async def chat(self, http: HTTPRequest) -> Response:
        """Answer a conversation, at once or as a stream."""
        return await self._complete(http, ChatRequest, "chatcmpl")

    @app.post("/v1/completions")
    async def complete(self, http: HTTPRequest) -> Response:
        """Answer prompts, each as a user's only turn."""
        return await self._complete(http, CompletionRequest, "cmpl")

    async def _complete(self, http: HTTPRequest, kind: type[ChatRequest] | type[CompletionRequest], prefix: str) -> Response:
        id = f"{prefix}-{uuid.uuid4().hex}"
        key = self._key(http)
        asked = parse(kind, with_defaults(await self._body(http), key.defaults))
        experts = list(self.pipeline.pool)
        requests = [self.door.narrowed(key, one, experts) for one in asked.records(id, self.pipeline.name, experts)]
        routes = [self.pipeline.route(request) for request in requests]
        if (refusal := next((told for route in routes if (told := self.pipeline.refusal(route)) is not None), None)) is not None:
            return _error(refusal)
        admission = await self.door.admit(key, requests, routes, self.pipeline.aggregator_of(requests[0]), self.pipeline.pool.specs)
        if asked.stream:
            return Stream(self._stream(asked, id, requests, routes, key, admission), admission)
        with admission or nullcontext():
            answers = (self._answered(key, *entry) for entry in zip(requests, routes, strict=True))
            pairs = await asyncio.gather(*answers)
            await self.door.settle(admission, sum((answer.usage for answer, _ in pairs), Usage()))
        if (failed := next((answer for answer, _ in pairs if answer.error is not None), None)) is not None:
            return _error(failed)
        return JSONResponse(completion_json(asked, id, *pairs))

    async def _answered(self, key: Key, request: Request, route: Route) -> tuple[Answer, Trace]:
        answer, trace = await self.pipeline.answer(request, route)
        await self.door.keep(key, request, answer, trace)
        return answer, trace

    @app.get("/v1/traces/{id}")
    async def trace(self, http: HTTPRequest, id: str) -> Response:
        """Tell how one of the caller's own answers came about."""
        found = await self.door.trace(self._key(http), id)
        if found is None:
            return JSONResponse(error_json(f"no trace has the id {id[:80]!r}; {self._kept()}", code="trace_not_found"), 404)
        return JSONResponse({"id": id, "object": "counterpoint.trace", "created": int(found.at), **found.body})

    def _kept(self) -> str:
        return "traces are kept where serving.store names a place" if self.door.store is None else "only who asked sees a trace"

    @app.post("/v1/feedback")
    async def feedback(self, http: HTTPRequest) -> Response:
        """Take what somebody thinks of an answer of theirs; aggregators that learn from that do so."""
        key, given = self._key(http), parse(FeedbackBody, await self._body(http))
        kept = await self.door.feedback(key, given.id, given.score, given.comment)
        learned = self.pipeline.learn(given.id, given.score) if kept or self.door.store is None else False
        if not kept and not learned:
            return JSONResponse(error_json(f"no answer has the id {given.id[:80]!r}; {self._kept()}", code="trace_not_found"), 404)
        return JSONResponse({"object": "counterpoint.feedback", "id": given.id, "kept": kept, "learned": learned})

    def _kept_here(self) -> tuple[Jobs, Store]:
        if self.jobs is None or self.door.store is None:
            raise CounterpointError("files and batches are kept where serving.store names a place; this endpoint has none")
        return self.jobs, self.door.store

    @app.post("/v1/files")
    async def upload(self, http: HTTPRequest) -> Response:
        """Keep a file for a batch."""
        key, (_, store) = self._key(http), self._kept_here()
        length = http.headers.get("content-length", "")
        if not length.isdigit() or int(length) > MAX_FILE_BYTES:
            raise CounterpointError(f"a file is sent with its length, at most {MAX_FILE_BYTES} bytes")
        if not http.headers.get("content-type", "").startswith("multipart/form-data"):
            raise CounterpointError("a file comes as multipart/form-data, with the fields purpose and file")
        async with http.form(max_files=1, max_fields=10) as form:
            file, purpose = form.get("file"), form.get("purpose")
            if purpose != "batch" or not isinstance(file, UploadFile):
                raise CounterpointError("wanted the fields purpose, batch, and file")
            content, name = await file.read(), (file.filename or "batch.jsonl")[:200]
        made = await asyncio.to_thread(store.add_file, key.id, f"file-{uuid.uuid4().hex}", name, "batch", content)
        return JSONResponse(file_json(made))

    @app.get("/v1/files")
    async def files(self, http: HTTPRequest) -> Response:
        """List the caller's own files."""
        key, (_, store) = self._key(http), self._kept_here()
        found = await asyncio.to_thread(store.files, key.id, *_page(http))
        return JSONResponse({"object": "list", "data": [file_json(file) for file in found], "has_more": False})

    @app.get("/v1/files/{id}")
    async def file(self, http: HTTPRequest, id: str) -> Response:
        """Tell of one of the caller's own files."""
        key, (_, store) = self._key(http), self._kept_here()
        found = await asyncio.to_thread(store.file, key.id, id)
        return _unknown("file", id) if found is None else JSONResponse(file_json(found))

    @app.get("/v1/files/{id}/content")
    async def content(self, http: HTTPRequest, id: str) -> Response:
        """Give what one of the caller's own files holds."""
        key, (_, store) = self._key(http), self._kept_here()
        found = await asyncio.to_thread(store.file_content, key.id, id)
        return _unknown("file", id) if found is None else Response(found, media_type="application/jsonl")

    @app.delete("/v1/files/{id}")
    async def delete_file(self, http: HTTPRequest, id: str) -> Response:
        """Delete one of the caller's own files."""
        key, (_, store) = self._key(http), self._kept_here()
        gone = await asyncio.to_thread(store.delete_file, key.id, id)
        return JSONResponse({"id": id, "object": "file", "deleted": True}) if gone else _unknown("file", id)

    @app.post("/v1/batches")
    async def begin_batch(self, http: HTTPRequest) -> Response:
        """Begin a batch over an uploaded file."""
        key, (jobs, _) = self._key(http), self._kept_here()
        asked = parse(BatchBody, await self._body(http))
        made = await jobs.create(key, asked.input_file_id, asked.endpoint, asked.metadata)
        return JSONResponse(batch_json(made))

    @app.get("/v1/batches")
    async def batches(self, http: HTTPRequest) -> Response:
        """List the caller's own batches, newest first."""
        key, (_, store) = self._key(http), self._kept_here()
        found = await asyncio.to_thread(store.batches, key.id, *_page(http))
        return JSONResponse({"object": "list", "data": [batch_json(batch) for batch in found], "has_more": False})

    @app.get("/v1/batches/{id}")
    async def batch(self, http: HTTPRequest, id: str) -> Response:
        """Tell how one of the caller's own batches stands."""
        key, (_, store) = self._key(http), self._kept_here()
        found = await asyncio.to_thread(store.batch, key.id, id)
        return _unknown("batch", id) if found is None else JSONResponse(batch_json(found))

    @app.post("/v1/batches/{id}/cancel")
    async def cancel_batch(self, http: HTTPRequest, id: str) -> Response:
        """End one of the caller's own batches early; what was answered stays."""
        key, (jobs, _) = self._key(http), self._kept_here()
        found = await jobs.cancel(key, id)
        return _unknown("batch", id) if found is None else JSONResponse(batch_json(found))

    async def _body(self, http: HTTPRequest) -> object:
        if http.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise CounterpointError("the body must be application/json")  # a foreign web page cannot send that unasked
        raw = b""
        async for part in http.stream():
            raw += part
            if len(raw) > MAX_BODY_BYTES:
                raise CounterpointError(f"the body is larger than {MAX_BODY_BYTES} bytes")
        try:
            return parse_json(raw)
        except ValueError as error:
            raise CounterpointError(f"the body is no JSON: {error}") from error

    async def _stream(
        self,
        asked: Asked,
        id: str,
        requests: Sequence[Request],
        routes: Sequence[Route],
        key: Key,
        admission: Admission | None,
    ) -> AsyncIterator[str]:
        """Write answers as server-sent events: news in our field where asked for, then the text; choices as they come."""
        usage = Usage()
        failed = False
        choices = [self._choice(asked, id, key, at, *entry) for at, entry in enumerate(zip(requests, routes, strict=True))]
        with admission or nullcontext():
            async with aclosing(merged(choices)) as lines:
                async for line in lines:
                    if isinstance(line, Answer):
                        usage += line.usage
                        failed |= line.error is not None
                    else:
                        yield line
            await self.door.settle(admission, usage)
        if not failed and asked.stream_options is not None and asked.stream_options.include_usage:
            yield f"data: {json.dumps(chunk_json(asked, id) | {'usage': usage_json(usage)})}\n\n"
        yield "data: [DONE]\n\n"

    async def _choice(self, asked: Asked, id: str, key: Key, index: int, request: Request, route: Route) -> AsyncGenerator[str | Answer]:
        """The lines of one choice, and in the end its answer."""
        explain = asked.counterpoint.explain
        written = ""

        def line(delta: dict[str, str] | None = None, finish: str | None = None, **ours: Any) -> str:
            return f"data: {json.dumps(chunk_json(asked, id, delta, finish, index, **ours))}\n\n"

        yield line({"role": "assistant", "content": ""}, None, **({"route": route_json(route)} if explain else {}))
        async with aclosing(self.pipeline.progress(request, route)) as progress:
            async for event in progress:
                if isinstance(event, Written):
                    written += event.text
                    yield line({"content": event.text})
                elif isinstance(event, Answer) and explain:
                    yield line(answer=answer_json(event))
                elif isinstance(event, Draft) and explain:
                    yield line(draft=answer_json(event.answer))
                elif isinstance(event, Finished):
                    answer, trace = event.answer, event.trace
                    await self.door.keep(key, request, answer, trace)
                    if answer.error is not None:
                        _, kind, code = status_of(answer)
                        yield f"data: {json.dumps(error_json(answer.error, kind, code))}\n\n"
                    else:
                        corrected: dict[str, Any] = {"correction": True} if explain and written.strip() else {}
                        for piece in _rest(written, answer.text):
                            yield line({"content": piece}, **corrected)
                        yield line({}, answer.finish_reason, **(explain_json(answer, trace) if explain else {}))
                    yield answer


class Stream(StreamingResponse):
    """Server-sent events, and what was set aside given back where the caller had left before the first.

    Args:
        lines: The events.
        admission: What was set aside, settled by whoever writes the lines; None where nothing is counted.
    """

    def __init__(self, lines: AsyncIterator[str], admission: Admission | None) -> None:
        super().__init__(lines, media_type="text/event-stream")
        self.admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self.admission is not None:
                self.admission.release()


T = TypeVar("T")


async def merged(sources: Sequence[AsyncGenerator[T]]) -> AsyncGenerator[T]:
    """Yield what several generators give, as it comes; closing it closes them."""
    if len(sources) == 1:
        async with aclosing(sources[0]) as source:
            async for each in source:
                yield each
        return
    came: asyncio.Queue[tuple[T] | None] = asyncio.Queue()

    async def drain(source: AsyncGenerator[T]) -> None:
        try:
            async with aclosing(source):
                async for each in source:
                    came.put_nowait((each,))
        finally:
            came.put_nowait(None)

    tasks = [asyncio.create_task(drain(source)) for source in sources]
    try:
        left = len(tasks)
        while left:
            if (one := await came.get()) is None:
                left -= 1
            else:
                yield one[0]
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def with_defaults(body: object, defaults: Mapping[str, Any]) -> object:
    """A body with a key's own options where it sets none.

    Example:
        >>> with_defaults({"model": "m", "counterpoint": {"k": 1}}, {"k": 3, "explain": True})
        {'model': 'm', 'counterpoint': {'k': 1, 'explain': True}}
    """
    own = body.get("counterpoint", {}) if isinstance(body, dict) else None
    if not defaults or not isinstance(body, dict) or not isinstance(own, dict):
        return body
    return body | {"counterpoint": {**defaults, **own}}


def journals(config: ServingConfig) -> Path:
    """Where journals of running batches are: beside the store's file, or in the user's own folder."""
    url = config.store or default_url()
    base = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else Path(default_url().removeprefix("sqlite:///"))
    return base.parent / "batches"


def _page(http: HTTPRequest) -> tuple[int, str | None]:
    """The `limit` and `after` of a list.

    Raises:
        RequestError: The limit is no number from 1 to 10,000.
    """
    limit = http.query_params.get("limit", "100")
    if not (limit.isascii() and limit.isdigit() and len(limit) < 6 and 1 <= int(limit) <= 10_000):
        raise RequestError(f"limit: wanted a number from 1 to 10000, not {limit[:20]!r}")
    return int(limit), http.query_params.get("after")


def _unknown(kind: str, id: str) -> JSONResponse:
    return JSONResponse(error_json(f"no {kind} of yours has the id {id[:80]!r}", code=f"{kind}_not_found"), 404)


@app.exception_handler(CounterpointError)
async def refused(http: HTTPRequest, error: CounterpointError) -> JSONResponse:
    """A request that is not let in or cannot be answered as it stands, in OpenAI's form."""
    if isinstance(error, (StoreError, EngineError)) and not isinstance(error, BudgetError):
        return JSONResponse(error_json(str(error), "service_unavailable_error", "unavailable"), 503)
    if isinstance(error, BudgetError):
        return JSONResponse(error_json(str(error), "insufficient_quota", "insufficient_quota"), 429)
    if isinstance(error, Unauthorised):
        return JSONResponse(error_json(str(error), "authentication_error", "invalid_api_key"), 401, {"www-authenticate": "Bearer"})
    if isinstance(error, LimitError):
        headers = {} if error.retry_after is None else {"retry-after": error.retry_after}
        return JSONResponse(error_json(str(error), error.kind, error.code), 429, headers)
    missing = str(error).startswith("no model is called")
    code = "model_not_found" if missing else "context_length_exceeded" if isinstance(error, ContextError) else None
    return JSONResponse(error_json(str(error), code=code), 404 if missing else 400)


@app.exception_handler(HTTPException)
async def unknown(http: HTTPRequest, error: HTTPException) -> JSONResponse:
    """A path or method that is not there, in OpenAI's form."""
    return JSONResponse(error_json(f"{http.method} {http.url.path[:80]}: {error.detail}"), error.status_code)


def _error(answer: Answer) -> JSONResponse:
    """An answer's error in OpenAI's form; one that was refused says when to try again."""
    status, kind, code = status_of(answer)
    headers = {} if answer.retry_after_s is None else {"retry-after": str(max(1, round(answer.retry_after_s)))}
    return JSONResponse(error_json(answer.error or "", kind, code), status, headers)


def _rest(written: str, text: str) -> list[str]:
    """What of the answer has not been streamed yet, in pieces of a few words.

    Example:
        >>> _rest("", "a b"), _rest("a b ", "a b")
        (['a ', 'b'], [])
    """
    if written.strip() == text.strip() or (written.strip() and text.startswith(written.strip())):
        text = text[len(written.strip()) :]
    elif written.strip():  # what was streamed did not stand: the answer follows on a line of its own
        text = f"\n\n{text}"
    words = text.split(" ")
    return [word + (" " if at < len(words) - 1 else "") for at, word in enumerate(words) if word or at < len(words) - 1]
