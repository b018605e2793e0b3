"""Batches, as OpenAI's."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse, Response

from serving import shapes
from serving.jobs import batch_json
from serving.operations import told
from serving.protocol import BatchBody, parse
from serving.routes.common import body_of, gateway_of, kept_by, key_of, page_of, unknown
from serving.routes.pages import paged

router = APIRouter()


@router.post("/v1/batches", openapi_extra=told(shapes.Batch, body=BatchBody))
async def begin_batch(http: HTTPRequest) -> Response:
    """Begin a batch over an uploaded file."""
    key, (jobs, _) = await key_of(http), kept_by(http)
    asked = parse(BatchBody, await body_of(http))
    made = await jobs.create(key, asked.input_file_id, asked.endpoint, asked.metadata)
    return JSONResponse(batch_json(made))


@router.get("/v1/batches", openapi_extra=told(shapes.Batches, takes=("limit", "after")))
async def batches(http: HTTPRequest) -> Response:
    """List the caller's own batches, newest first."""
    key, (_, store) = await key_of(http), kept_by(http)
    limit, after = page_of(http)
    return paged(await asyncio.to_thread(store.batches, key.id, limit + 1, after), limit, batch_json)


@router.get("/v1/batches/{id}", openapi_extra=told(shapes.Batch, fails=(404, 405)))
async def batch(http: HTTPRequest, id: str) -> Response:
    """Tell how one of the caller's own batches stands."""
    key, (_, store) = await key_of(http), kept_by(http)
    found = await asyncio.to_thread(store.batch, key.id, id)
    return unknown("batch", id) if found is None else JSONResponse(batch_json(found))


@router.post("/v1/batches/{id}/cancel", openapi_extra=told(shapes.Batch, fails=(404, 405)))
async def cancel_batch(http: HTTPRequest, id: str) -> Response:
    """End one of the caller's own batches early; what was answered stays."""
    key, _ = await key_of(http), kept_by(http)
    found = await gateway_of(http).cancel_batch(key, id)
    return unknown("batch", id) if found is None else JSONResponse(batch_json(found))
