"""The pool: what each slot holds, what waits, what it did lately."""

from __future__ import annotations

from math import isfinite

from fastapi import APIRouter
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse, Response

from serving import shapes
from serving.operations import told
from serving.pipeline import RequestError
from serving.routes.admins import refusal
from serving.routes.common import gateway_of

router = APIRouter()


@router.get("/v1/pool", openapi_extra=told(shapes.Pool, takes=("since",), fails=(403,)))
async def pool(http: HTTPRequest) -> Response:
    """Give the pool's figures and the samples of the last minutes; with `since`, only those after that time."""
    if (refused := await refusal(http)) is not None:
        return refused
    history, since = gateway_of(http).history, _since(http)
    figures = await gateway_of(http).figures()
    past = {"every_s": history.every_s, "samples": history.samples(since)}
    return JSONResponse({"object": "counterpoint.pool", **figures, "recent": history.recent(figures), "history": past})


def _since(http: HTTPRequest) -> float:
    given = http.query_params.get("since", "0")
    try:
        since = float(given)
    except ValueError:
        since = float("nan")
    if not isfinite(since):
        raise RequestError(f"since: wanted seconds since 1970, not {given[:20]!r}")
    return since
