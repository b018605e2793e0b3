"""Evaluation runs: what there is, what each found, how two differ."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse, Response

from data.records import CounterpointError
from serving import runs, shapes
from serving.operations import told
from serving.pipeline import RequestError
from serving.routes.admins import refusal
from serving.routes.common import gateway_of, page_of, unknown
from serving.routes.pages import paged
from serving.runs import REPORTS, RunError, Summary

router = APIRouter()

SEALED = {
    "content-security-policy": "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
}
"""Headers under which a report, which may hold what experts wrote, is a picture and nothing that runs."""


REPORT = {kind: {"type": "string"} for kind in ("text/html", "text/markdown")}
"""The forms of a report."""


@router.get("/v1/runs", openapi_extra=told(shapes.Runs, takes=("limit", "after"), fails=(403,)))
async def list_of_runs(http: HTTPRequest) -> Response:
    """List the runs, newest first, those that cannot be read last with the reason."""
    if (refused := await refusal(http)) is not None:
        return refused
    folder, (limit, after) = _folder(http), page_of(http)
    found = await asyncio.to_thread(runs.list_runs, folder)
    begin = 0
    if after is not None:
        begin = next((at + 1 for at, (id, _) in enumerate(found) if id == after), len(found))
    return paged(found[begin : begin + limit + 1], limit, _shape)


@router.get("/v1/runs/compare", openapi_extra=told(shapes.Comparison, takes=("a", "b"), fails=(403, 404)))
async def compare(http: HTTPRequest) -> Response:
    """Compare two runs, system by system."""
    if (refused := await refusal(http)) is not None:
        return refused
    folder, ids = _folder(http), [http.query_params.get(name) for name in ("a", "b")]
    a, b = ids
    if a is None or b is None:
        raise RequestError("wanted the ids of two runs, as ?a=...&b=...")
    for id in (a, b):
        if not runs.has_run(folder, id):
            return unknown("run", id)
    found = await asyncio.to_thread(runs.compare_runs, folder, a, b)
    return JSONResponse({"object": "counterpoint.comparison", "a": a, "b": b, "systems": [each.json() for each in found]})


@router.get("/v1/runs/{id}", openapi_extra=told(shapes.Run, fails=(403, 404, 405)))
async def run(http: HTTPRequest, id: str) -> Response:
    """Give what a run found: its figures, each system by category, its report."""
    if (refused := await refusal(http)) is not None:
        return refused
    folder = _folder(http)
    if not runs.has_run(folder, id):
        return unknown("run", id)
    return JSONResponse(await asyncio.to_thread(_whole, folder, id))


@router.get("/v1/runs/{id}/report", openapi_extra=told(REPORT, takes=("format",), fails=(403, 404, 405)))
async def report(http: HTTPRequest, id: str) -> Response:
    """Give a run's report as it stands, `?format=md` or `html`."""
    if (refused := await refusal(http)) is not None:
        return refused
    folder, form = _folder(http), http.query_params.get("format", "html")
    if form not in ("md", "html"):
        raise RequestError(f"format: wanted md or html, not {form[:20]!r}")
    if not runs.has_run(folder, id):
        return unknown("run", id)
    text = await asyncio.to_thread(runs.read_report, folder, id, "md" if form == "md" else "html")
    if text is None:
        return unknown("report", f"{id}/{form}")
    return Response(text, media_type=f"text/{'markdown' if form == 'md' else 'html'}; charset=utf-8", headers=SEALED)


def _folder(http: HTTPRequest) -> Path:
    path = gateway_of(http).config.serving.runs
    if path is None:
        raise CounterpointError("runs are read where serving.runs names their folder; this endpoint has none")
    return Path(path)


def _shape(entry: tuple[str, Summary | RunError]) -> dict[str, Any]:
    id, found = entry
    head: dict[str, Any] = {"id": id, "object": "counterpoint.run"}
    return head | ({"error": str(found)} if isinstance(found, RunError) else {"error": None, **found.json()})


def _whole(folder: Path, id: str) -> dict[str, Any]:
    """A run with all that can be read of it."""
    made = _shape((id, runs.read_summary(folder, id))) | {"categories": None, "report": None}
    try:
        made["categories"] = runs.by_category(runs.read_questions(folder, id))
        made["report"] = runs.read_report(folder, id, "md")
    except RunError as error:
        made["error"] = str(error)
    links = {form: f"/v1/runs/{id}/report?format={form}" for form, name in REPORTS.items() if (folder / id / name).is_file()}
    return made | {"links": links}
