"""Files of batches, as OpenAI's."""

from __future__ import annotations

import asyncio
import uuid

from fastapi import APIRouter
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile

from data.records import CounterpointError
from serving import shapes
from serving.jobs import file_json
from serving.operations import told
from serving.routes.common import kept_by, key_of, page_of, unknown
from serving.routes.pages import paged

MAX_FILE_BYTES = 200 << 20
"""Largest file of a batch, as OpenAI's."""
MAX_KEPT_BYTES = 4 << 30
"""Bytes of files that a key keeps at most when it uploads another; answers of batches are filed all the same."""

UPLOAD = {
    "type": "object",
    "required": ["purpose", "file"],
    "properties": {"purpose": {"const": "batch"}, "file": {"type": "string", "contentMediaType": "application/octet-stream"}},
}
"""The form of an upload."""

router = APIRouter()


@router.post("/v1/files", openapi_extra=told(shapes.File, body={"multipart/form-data": UPLOAD}))
async def upload(http: HTTPRequest) -> Response:
    """Keep a file for a batch."""
    key, (_, store) = await key_of(http), kept_by(http)
    length = http.headers.get("content-length", "")
    if not length.isdigit() or int(length) > MAX_FILE_BYTES:
        raise CounterpointError(f"a file is sent with its length, at most {MAX_FILE_BYTES} bytes")
    if not http.headers.get("content-type", "").startswith("multipart/form-data"):
        raise CounterpointError("a file comes as multipart/form-data, with the fields purpose and file")
    async with http.form(max_files=1, max_fields=10) as form:
        file, purpose = form.get("file"), form.get("purpose")
        if purpose != "batch" or not isinstance(file, UploadFile):
            raise CounterpointError("wanted the fields purpose, batch, and file")
        kept = await asyncio.to_thread(store.file_bytes, key.id)
        if kept + (file.size or 0) > MAX_KEPT_BYTES:
            raise CounterpointError(f"this key's files take {kept} of {MAX_KEPT_BYTES} bytes, and this one {file.size}: delete some")
        content, name = await file.read(), (file.filename or "batch.jsonl")[:200]
    made = await asyncio.to_thread(store.add_file, key.id, f"file-{uuid.uuid4().hex}", name, "batch", content)
    return JSONResponse(file_json(made))


@router.get("/v1/files", openapi_extra=told(shapes.Files, takes=("limit", "after")))
async def files(http: HTTPRequest) -> Response:
    """List the caller's own files."""
    key, (_, store) = await key_of(http), kept_by(http)
    limit, after = page_of(http)
    return paged(await asyncio.to_thread(store.files, key.id, limit + 1, after), limit, file_json)


@router.get("/v1/files/{id}", openapi_extra=told(shapes.File, fails=(404, 405)))
async def file(http: HTTPRequest, id: str) -> Response:
    """Tell of one of the caller's own files."""
    key, (_, store) = await key_of(http), kept_by(http)
    found = await asyncio.to_thread(store.file, key.id, id)
    return unknown("file", id) if found is None else JSONResponse(file_json(found))


@router.get("/v1/files/{id}/content", openapi_extra=told({"application/jsonl": {"type": "string"}}, fails=(404, 405)))
async def content(http: HTTPRequest, id: str) -> Response:
    """Give what one of the caller's own files holds."""
    key, (_, store) = await key_of(http), kept_by(http)
    found = await asyncio.to_thread(store.file_content, key.id, id)
    return unknown("file", id) if found is None else Response(found, media_type="application/jsonl")


@router.delete("/v1/files/{id}", openapi_extra=told(shapes.Deleted, fails=(404, 405)))
async def delete_file(http: HTTPRequest, id: str) -> Response:
    """Delete one of the caller's own files."""
    key, (_, store) = await key_of(http), kept_by(http)
    gone = await asyncio.to_thread(store.delete_file, key.id, id)
    return JSONResponse({"id": id, "object": "file", "deleted": True}) if gone else unknown("file", id)
