"""What a path's own module says of it for the endpoint's OpenAPI document, beside the code that answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serving import shapes

JSON = "application/json"
MEANINGS = {
    200: "Done.",
    400: "The request cannot be answered as it stands.",
    401: "No valid key.",
    403: "Only for keys of admins.",
    404: "There is no such thing, or it is not the caller's.",
    405: "The path has no such method.",
    429: "A limit of the key, or more to do than can be started in time.",
    500: "A fault of the endpoint; its log says more.",
    502: "Every expert failed, each with its reason.",
    503: "The experts or the store cannot be had.",
    504: "The request's time was up.",
}
ALWAYS = (400, 401, 429, 500, 503)
"""Errors that every path of `/v1/` can give."""
PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "limit": {"schema": {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 100}, "description": "Entries of a page."},
    "after": {"schema": {"type": "string"}, "description": "Id of the entry before the page's first."},
    "q": {"schema": {"type": "string", "maxLength": 200}, "description": "What a title or a message must contain."},
    "since": {"schema": {"type": "number", "default": 0}, "description": "Only samples after that time, in seconds since 1970."},
    "format": {"schema": {"enum": ["html", "md"], "default": "html"}, "description": "The report's form."},
    "a": {"schema": {"type": "string"}, "required": True, "description": "Id of the first run."},
    "b": {"schema": {"type": "string"}, "required": True, "description": "Id of the second run."},
    "cache-control": {"in": "header", "schema": {"type": "string"}, "description": "`no-cache` or `no-store`: see the cache."},
    "x-request-id": {"in": "header", "schema": {"type": "string"}, "description": "The caller's own name for the request."},
    "traceparent": {"in": "header", "schema": {"type": "string"}, "description": "The trace that ours joins (W3C)."},
}
"""Parameters by name; those without `in` are of the query."""
ID: Mapping[str, Any] = {"in": "path", "required": True, "schema": {"type": "string", "minLength": 1, "pattern": "^[^/]+$"}}
"""An id in a path."""
HEADERS: Mapping[str, Mapping[str, Any]] = {
    "x-request-id": {"schema": {"type": "string"}, "description": "The request's id: its caller's own, else ours.", "required": True},
    "retry-after": {"schema": {"type": "string", "pattern": "^[0-9]+$"}, "description": "Seconds after which to come again."},
    "www-authenticate": {"schema": {"const": "Bearer"}, "description": "How to come in.", "required": True},
    "allow": {"schema": {"type": "string"}, "description": "The path's methods.", "required": True},
    "x-counterpoint-cache": {"schema": {"enum": ["hit", "miss"]}, "description": "Whether it was recalled, where there is a cache."},
}
"""Headers of answers by name."""

_OF_ERRORS = {401: ("www-authenticate",), 405: ("allow",), 429: ("retry-after",), 502: ("retry-after",), 503: ("retry-after",)}


def errors() -> dict[str, Any]:
    """The responses of errors, by the names under which paths refer to them."""
    return {
        f"error_{status}": _response(status, {JSON: {"schema": shapes.Error}}, _OF_ERRORS.get(status, ()))
        for status in MEANINGS
        if status >= 400
    }


def told(
    answer: Any,
    *,
    body: Any = None,
    takes: Sequence[str] = (),
    fails: Sequence[int] = (),
    also: Mapping[int, Any] | None = None,
    stream: Any = None,
    open: bool = False,
) -> dict[str, Any]:
    """Describe a path, as the argument `openapi_extra` of its decorator; Python types stand where the document has their schemas.

    Args:
        answer: The shape of what it answers, or a mapping from content types to shapes.
        body: The shape of the body that it takes, or a mapping from content types to shapes.
        takes: Names of its parameters; ids in its path need no mention.
        fails: Errors that it can give beyond those that every path can.
        also: Shapes of other answers, by status; they stand in place of that status's error.
        stream: The shape of an event, where it can answer as a stream.
        open: Whether it wants no key, and lets everybody in.

    Example:
        >>> made = told(shapes.Health, open=True)
        >>> sorted(made["responses"]), made["security"]
        (['200', '500'], [])
    """
    statuses = sorted({*((500,) if open else ALWAYS), *fails} - {*(also or ())})
    content = {kind: {"schema": shape} for kind, shape in _by_type(answer).items()}
    recalled = ("x-counterpoint-cache",) if stream else ()
    if stream is not None:
        content["text/event-stream"] = {"schema": {"type": "string"}, "x-event": stream}
    made: dict[str, Any] = {
        "parameters": [_parameter(name) for name in (*takes, "x-request-id", "traceparent")],
        "responses": {"200": _response(200, content, recalled)}
        | {str(status): _response(status, {JSON: {"schema": shape}}) for status, shape in (also or {}).items()}
        | {str(status): {"$ref": f"#/components/responses/error_{status}"} for status in statuses},
    }
    if body is not None:
        made["requestBody"] = {"required": True, "content": {kind: {"schema": shape} for kind, shape in _by_type(body).items()}}
    return made | ({"security": []} if open else {})


def _by_type(shape: Any) -> Mapping[str, Any]:
    return shape if isinstance(shape, Mapping) else {JSON: shape}


def _parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "query", **PARAMETERS[name]}


def _response(status: int, content: Mapping[str, Any], headers: Sequence[str] = ()) -> dict[str, Any]:
    return {"description": MEANINGS[status], "headers": {name: HEADERS[name] for name in ("x-request-id", *headers)}, "content": content}
