"""What can be asked, and who would be."""

from __future__ import annotations

import uuid

from fastapi import APIRouter
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse, Response

from serving import shapes
from serving.operations import told
from serving.protocol import ChatRequest, error_json, parse_chat, route_json, with_defaults
from serving.routes.common import body_of, gateway_of, key_of

router = APIRouter()


@router.get("/v1/models", openapi_extra=told(shapes.Models))
async def models(http: HTTPRequest) -> Response:
    """List the mixture, and each expert that may be asked."""
    key, pipeline = await key_of(http), gateway_of(http).pipeline
    names = [pipeline.name, *(name for name in pipeline.pool if key.allows(name))]
    return JSONResponse({"object": "list", "data": [_model(name) for name in names]})


@router.get("/v1/models/{id}", openapi_extra=told(shapes.Model, fails=(404,)))
async def model(http: HTTPRequest, id: str) -> Response:
    """Tell of the mixture, or of an expert that may be asked."""
    key, pipeline = await key_of(http), gateway_of(http).pipeline
    if id == pipeline.name or (id in pipeline.pool and key.allows(id)):
        return JSONResponse(_model(id))
    return JSONResponse(error_json(f"no model is called {id[:80]!r}", code="model_not_found"), 404)


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "counterpoint"}


@router.post("/v1/route", openapi_extra=told(shapes.RouteAnswer, body=ChatRequest, fails=(404,)))
async def route(http: HTTPRequest) -> Response:
    """Say who would be asked, and why, without asking anybody."""
    key, gateway = await key_of(http), gateway_of(http)
    asked = parse_chat(with_defaults(await body_of(http), key.defaults))
    pipeline, id = gateway.pipeline, f"route-{uuid.uuid4().hex}"
    request, *_ = gateway.door.requests(key, asked, id, pipeline.name, list(pipeline.pool))
    return JSONResponse({"object": "counterpoint.route", "model": asked.model, **route_json(pipeline.route(request))})
