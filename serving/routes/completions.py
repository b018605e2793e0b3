"""Completions: conversations and prompts answered, at once or as a stream."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import nullcontext

from fastapi import APIRouter
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse, Response

from data import tracing
from data.records import Answer, Request, Route, Trace, Usage
from serving import shapes
from serving.account import account
from serving.gateway import Gateway
from serving.keys import Key
from serving.operations import told
from serving.patience import all_of, while_wanted
from serving.protocol import Asked, ChatRequest, CompletionRequest, completion_json, parse, with_defaults
from serving.recall import Recall, parted, with_cached
from serving.routes.common import body_of, gateway_of, key_of
from serving.routes.errors import failed
from serving.streaming import Stream, lines_of

router = APIRouter()

_FAILS = (404, 502, 504)
CHAT = told(shapes.ChatCompletion, body=ChatRequest, takes=("cache-control",), fails=_FAILS, stream=shapes.ChatCompletionChunk)
TEXT = told(shapes.TextCompletion, body=CompletionRequest, takes=("cache-control",), fails=_FAILS, stream=shapes.TextCompletionChunk)


@router.post("/v1/chat/completions", openapi_extra=CHAT)
async def chat(http: HTTPRequest) -> Response:
    """Answer a conversation, at once or as a stream."""
    return await _complete(http, ChatRequest, "chatcmpl")


@router.post("/v1/completions", openapi_extra=TEXT)
async def complete(http: HTTPRequest) -> Response:
    """Answer prompts, each as a user's only turn."""
    return await _complete(http, CompletionRequest, "cmpl")


async def _complete(http: HTTPRequest, kind: type[ChatRequest] | type[CompletionRequest], prefix: str) -> Response:
    id, gateway, key = f"{prefix}-{uuid.uuid4().hex}", gateway_of(http), await key_of(http)
    pipeline, door = gateway.pipeline, gateway.door
    asked = await _parsed(kind, with_defaults(await body_of(http), key.defaults))
    experts, told = list(pipeline.pool), account()
    told.asked(id, asked.model, [pipeline.name, *experts], asked.stream)
    requests = door.requests(key, asked, id, pipeline.name, experts)
    recall = Recall(gateway.cache, pipeline, key.id, requests, http.headers.get("cache-control", ""))
    with tracing.span("route", kind=getattr(pipeline.router, "kind", "none"), policy=type(pipeline.policy).__name__) as span:
        routes = [pipeline.route(request) for request in requests]
        told.routed(routes)
        span.set(chosen=told.experts, k=told.k)
    new = [(pipeline.limited(request, route), route) for request, route in zip(requests, routes, strict=True) if not recall.has(request)]
    if (refusal := next((late for _, route in new if (late := pipeline.refusal(route)) is not None), None)) is not None:
        return failed(refusal)
    admission = await door.admit(key, *parted(new), pipeline.aggregator_of(requests[0]), pipeline.pool.specs)
    if asked.stream:
        stream = Stream(lines_of(gateway, key, asked, id, [*zip(requests, routes, strict=True)], admission, recall), admission, failed)
        stream.headers.update(recall.headers)
        return stream
    with admission or nullcontext():
        work = all_of([_answered(gateway, key, recall, *entry) for entry in zip(requests, routes, strict=True)])
        pairs = await while_wanted(http, work, gateway.limit_s(asked))
        await door.settle(admission, sum((answer.usage for answer, _ in pairs), Usage()))
    if (wrong := next((answer for answer, _ in pairs if answer.error is not None), None)) is not None:
        return failed(wrong)
    return JSONResponse(with_cached(completion_json(asked, id, *pairs), [trace for _, trace in pairs]), headers=recall.headers)


async def _parsed(kind: type[Asked], body: object) -> Asked:
    """A body read; schemas may take a while, which others must not wait for."""
    if isinstance(body, dict) and not body.keys().isdisjoint(("response_format", "tools")):
        return await asyncio.to_thread(parse, kind, body)
    return parse(kind, body)


async def _answered(gateway: Gateway, key: Key, recall: Recall, request: Request, route: Route) -> tuple[Answer, Trace]:
    answer, trace = await recall.answer(request, route)
    await gateway.door.keep(key, request, answer, trace)
    return answer, trace
