"""Errors in OpenAI's shape, with its status codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

from data.records import Answer, CounterpointError
from experts.base import EngineError
from serving.database import StoreError
from serving.keys import Unauthorised
from serving.limits import LimitError
from serving.patience import DeadlineError, LeftError
from serving.pipeline import ContextError
from serving.protocol import error_json, status_of
from serving.store import BudgetError


async def refused(http: HTTPRequest, error: CounterpointError) -> JSONResponse:
    """A request that is not let in or cannot be answered as it stands, in OpenAI's form."""
    if isinstance(error, (StoreError, EngineError)) and not isinstance(error, BudgetError):
        return JSONResponse(error_json(str(error), "service_unavailable_error", "unavailable"), 503)
    if isinstance(error, BudgetError):
        return JSONResponse(error_json(str(error), "insufficient_quota", "insufficient_quota"), 429)
    if isinstance(error, Unauthorised):
        return JSONResponse(error_json(str(error), "authentication_error", "invalid_api_key"), 401, {"www-authenticate": "Bearer"})
    if isinstance(error, LimitError):
        headers = {} if error.retry_after is None else {"retry-after": error.retry_after}
        if error.code == "request_too_large":
            return JSONResponse(error_json(str(error), code=error.code), 400)
        return JSONResponse(error_json(str(error), error.kind, error.code), 429, headers)
    if isinstance(error, DeadlineError):
        return JSONResponse(error_json(str(error), "timeout_error", "deadline_exceeded"), 504)
    missing = str(error).startswith("no model is called")
    code = "model_not_found" if missing else "context_length_exceeded" if isinstance(error, ContextError) else None
    return JSONResponse(error_json(str(error), code=code), 404 if missing else 400)


async def unknown_path(http: HTTPRequest, error: HTTPException) -> JSONResponse:
    """A path or method that is not there, in OpenAI's form; where the path is there, with the methods that it has."""
    matched = [route for route in http.app.routes if isinstance(route, Route) and route.matches(http.scope)[0] is not Match.NONE]
    allowed = {"allow": ", ".join(sorted({method for route in matched for method in route.methods or ()}))}
    told = error_json(f"{http.method} {http.url.path[:80]}: {error.detail}")
    return JSONResponse(told, error.status_code, allowed if error.status_code == 405 else None)


async def left(http: HTTPRequest, error: LeftError | ClientDisconnect) -> Response:
    """The end of a request whose caller has left, maybe in the middle of its body; nobody reads it."""
    return Response(status_code=499)


HANDLERS: dict[Any, Callable[..., Any]] = {LeftError: left, ClientDisconnect: left, CounterpointError: refused, HTTPException: unknown_path}


def failed(answer: Answer) -> JSONResponse:
    """An answer's error in OpenAI's form; one that was refused says when to try again."""
    status, kind, code = status_of(answer)
    headers = {} if answer.retry_after_s is None else {"retry-after": str(max(1, round(answer.retry_after_s)))}
    return JSONResponse(error_json(answer.error or "", kind, code), status, headers)
