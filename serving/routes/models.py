"""What can be asked, and who would be."""

from __future__ import annotations

import uuid

from fastapi import APIRouter
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse, Response

from serving.protocol import parse_chat, route_json
from serving.routes.common import body_of, gateway_of, key_of, with_defaults

router = APIRouter()


@router.get("/v1/models")
async def models(http: HTTPRequest) -> Response:
    """List the mixture, and each expert that may be asked."""
    key, pipeline = key_of(http), gateway_of(http).pipeline
    names = [pipeline.name, *(name for name in pipeline.pool if key.allows(name))]
    rows = [{"id": name, "object": "model", "created": 0, "owned_by": "counterpoint"} for name in names]
    return JSONResponse({"object": "list", "data": rows})


@router.post("/v1/route")
async def route(http: HTTPRequest) -> Response:
    """Say who would be asked, and why, without asking anybody."""
    key, gateway = key_of(http), gateway_of(http)
    asked = parse_chat(with_defaults(await body_of(http), key.defaults))
    experts = list(gateway.pipeline.pool)
    request = asked.record(f"route-{uuid.uuid4().hex}", gateway.pipeline.name, experts)
    request = gateway.door.narrowed(key, request, experts)
    return JSONResponse({"object": "counterpoint.route", "model": asked.model, **route_json(gateway.pipeline.route(request))})
