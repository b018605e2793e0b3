"""Completions: conversations and prompts answered, at once or as a stream."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import nullcontext

from fastapi import APIRouter
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse, Response

from data.records import Answer, Request, Route, Trace, Usage
from serving.gateway import Gateway
from serving.keys import Key
from serving.protocol import ChatRequest, CompletionRequest, completion_json, parse
from serving.routes.common import body_of, gateway_of, key_of, with_defaults
from serving.routes.errors import failed
from serving.streaming import Stream, lines_of

router = APIRouter()


@router.post("/v1/chat/completions")
async def chat(http: HTTPRequest) -> Response:
    """Answer a conversation, at once or as a stream."""
    return await _complete(http, ChatRequest, "chatcmpl")


@router.post("/v1/completions")
async def complete(http: HTTPRequest) -> Response:
    """Answer prompts, each as a user's only turn."""
    return await _complete(http, CompletionRequest, "cmpl")


async def _complete(http: HTTPRequest, kind: type[ChatRequest] | type[CompletionRequest], prefix: str) -> Response:
    id, gateway, key = f"{prefix}-{uuid.uuid4().hex}", gateway_of(http), key_of(http)
    pipeline, door = gateway.pipeline, gateway.door
    asked = parse(kind, with_defaults(await body_of(http), key.defaults))
    experts = list(pipeline.pool)
    requests = [door.narrowed(key, one, experts) for one in asked.records(id, pipeline.name, experts)]
    routes = [pipeline.route(request) for request in requests]
    if (refusal := next((told for route in routes if (told := pipeline.refusal(route)) is not None), None)) is not None:
        return failed(refusal)
    admission = await door.admit(key, requests, routes, pipeline.aggregator_of(requests[0]), pipeline.pool.specs)
    if asked.stream:
        return Stream(lines_of(gateway, key, asked, id, [*zip(requests, routes, strict=True)], admission), admission)
    with admission or nullcontext():
        pairs = await asyncio.gather(*(_answered(gateway, key, *entry) for entry in zip(requests, routes, strict=True)))
        await door.settle(admission, sum((answer.usage for answer, _ in pairs), Usage()))
    if (wrong := next((answer for answer, _ in pairs if answer.error is not None), None)) is not None:
        return failed(wrong)
    return JSONResponse(completion_json(asked, id, *pairs))


async def _answered(gateway: Gateway, key: Key, request: Request, route: Route) -> tuple[Answer, Trace]:
    answer, trace = await gateway.pipeline.answer(request, route)
    await gateway.door.keep(key, request, answer, trace)
    return answer, trace
