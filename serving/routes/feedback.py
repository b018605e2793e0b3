"""How answers came about, and what is thought of them."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse, Response

from serving import shapes
from serving.door import Door
from serving.operations import told
from serving.protocol import FeedbackBody, error_json, parse
from serving.routes.common import body_of, gateway_of, key_of

router = APIRouter()


@router.get("/v1/traces/{id}", openapi_extra=told(shapes.TraceAnswer, fails=(404, 405)))
async def trace(http: HTTPRequest, id: str) -> Response:
    """Tell how one of the caller's own answers came about."""
    door = gateway_of(http).door
    found = await door.trace(await key_of(http), id)
    if found is None:
        return _without_trace(door, id)
    return JSONResponse({"id": id, "object": "counterpoint.trace", "created": int(found.at), **found.body})


@router.post("/v1/feedback", openapi_extra=told(shapes.FeedbackTaken, body=FeedbackBody, fails=(404,)))
async def feedback(http: HTTPRequest) -> Response:
    """Take what somebody thinks of an answer of theirs; aggregators that learn from that do so."""
    gateway, key = gateway_of(http), await key_of(http)
    given = parse(FeedbackBody, await body_of(http))
    kept = await gateway.door.feedback(key, given.id, given.score, given.comment)
    learned = await gateway.learn(given.id, given.score) if kept or gateway.door.store is None else False
    if not kept and not learned:
        return _without_trace(gateway.door, given.id)
    return JSONResponse({"object": "counterpoint.feedback", "id": given.id, "kept": kept, "learned": learned})


def _without_trace(door: Door, id: str) -> JSONResponse:
    why = "traces are kept where serving.store names a place" if door.store is None else "only who asked sees a trace"
    return JSONResponse(error_json(f"no trace has the id {id[:80]!r}; {why}", code="trace_not_found"), 404)
