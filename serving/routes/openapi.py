"""The endpoint's own OpenAPI document."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse, Response

from serving.openapi import document
from serving.operations import told
from serving.routes.common import gateway_of, key_of

router = APIRouter()


@router.get("/openapi.json", openapi_extra=told({"application/json": {"type": "object"}}))
async def openapi(http: HTTPRequest) -> Response:
    """Describe all paths, as OpenAPI does; where keys are wanted, to any valid one."""
    await key_of(http)
    state = http.app.state
    if not hasattr(state, "document"):
        state.document = document(http.app.routes, keys=gateway_of(http).config.serving.keys)
    return JSONResponse(state.document)
