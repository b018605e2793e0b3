"""The router: what it has learned, where its questions lie, and what it makes of a text."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from serving import shapes
from serving.operations import told
from serving.protocol import parse
from serving.routes.admins import refusal
from serving.routes.common import body_of, gateway_of

router = APIRouter()


class TryBody(BaseModel):
    """The body of `/v1/routers/try`."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(min_length=1, max_length=100_000)]


@router.get("/v1/routers", openapi_extra=told(shapes.Routers, fails=(403,)))
async def routers(http: HTTPRequest) -> Response:
    """Tell of the mixture's router: its profile, its map, what drift the traffic shows, and feedback by first choice."""
    if (refused := await refusal(http)) is not None:
        return refused
    return JSONResponse({"object": "counterpoint.routers", **await gateway_of(http).outlook.described()})


@router.post("/v1/routers/try", openapi_extra=told(shapes.Tried, body=TryBody, fails=(403,)))
async def try_routers(http: HTTPRequest) -> Response:
    """Score a text by each router, and tell where it lies; nobody is asked, and it is not kept."""
    if (refused := await refusal(http)) is not None:
        return refused
    asked = parse(TryBody, await body_of(http))
    return JSONResponse({"object": "counterpoint.routers.try", **await gateway_of(http).outlook.tried(asked.text)})
