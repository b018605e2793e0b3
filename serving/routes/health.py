"""Whether the endpoint is up and ready, and its figures."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse, Response

from serving import shapes
from serving.metrics import exposition
from serving.operations import told
from serving.routes.admins import refusal
from serving.routes.common import gateway_of

router = APIRouter()


@router.get("/healthz", openapi_extra=told(shapes.Health, open=True))
async def healthz() -> dict[str, str]:
    """Tell that the endpoint is up."""
    return {"status": "ok"}


@router.get("/readyz", openapi_extra=told(shapes.Ready, also={503: shapes.NotReady}, open=True))
async def readyz(http: HTTPRequest) -> Response:
    """Tell whether questions would be answered now: 503 while no expert's engine can be had."""
    pool = gateway_of(http).pipeline.pool
    broken = [name for name in pool if pool.is_broken(name)]
    if len(broken) == len(list(pool)):
        return JSONResponse({"status": "no expert can be had", "experts": broken}, 503)
    return JSONResponse({"status": "ready", "broken": broken})


@router.get("/metrics", openapi_extra=told({"text/plain": {"type": "string"}}, fails=(403,)))
async def metrics(http: HTTPRequest) -> Response:
    """Give the figures of all gateways and of the pool to Prometheus; where keys are wanted, to an admin's."""
    if (refused := await refusal(http)) is not None:
        return refused
    text, kind = exposition(*await gateway_of(http).samples())
    return Response(text, media_type=kind)
