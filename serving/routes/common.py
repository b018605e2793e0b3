"""What the paths share: whose gateway it is, who asks, what the body holds."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse

from data.records import CounterpointError
from serving.account import account
from serving.config import LOOPBACK
from serving.pipeline import RequestError
from serving.protocol import error_json, parse_json

if TYPE_CHECKING:
    from serving.gateway import Gateway
    from serving.jobs import Jobs
    from serving.keys import Key
    from serving.store import Store

MAX_BODY_BYTES = 4 << 20
"""Largest request body."""


def gateway_of(http: HTTPRequest) -> Gateway:
    """The gateway that answers."""
    gateway: Gateway = http.app.state.gateway
    return gateway


async def key_of(http: HTTPRequest) -> Key:
    """Who asks.

    Raises:
        CounterpointError: The request is for a host that is not this one, or comes from a page that may not ask.
        Unauthorised: Keys are wanted, and it has none that opens anything.
    """
    serving, door = gateway_of(http).config.serving, gateway_of(http).door
    if serving.host in LOOPBACK and http.url.hostname not in LOOPBACK:
        raise CounterpointError(f"this endpoint serves {', '.join(LOOPBACK)}, not {http.url.hostname}")
    origin = http.headers.get("origin")
    if not serving.keys and origin is not None and not _is_here(origin):
        raise CounterpointError("a page of another site may not ask this endpoint without a key")
    key = await door.key(http.headers.get("authorization"))
    account().key = key.id
    return key


def _is_here(origin: str) -> bool:
    """Whether a page comes from this machine."""
    try:
        return urlsplit(origin).hostname in LOOPBACK
    except ValueError:  # brackets that hold no address
        return False


async def body_of(http: HTTPRequest) -> object:
    """The body, which must be JSON of a bearable size.

    Raises:
        CounterpointError: It is not.
    """
    if http.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise CounterpointError("the body must be application/json")  # a foreign web page cannot send that unasked
    raw = b""
    async for part in http.stream():
        raw += part
        if len(raw) > MAX_BODY_BYTES:
            raise CounterpointError(f"the body is larger than {MAX_BODY_BYTES} bytes")
    try:
        return parse_json(raw)
    except ValueError as error:
        raise CounterpointError(f"the body is no JSON: {error}") from error


def kept_by(http: HTTPRequest) -> tuple[Jobs, Store]:
    """What runs batches, and the store.

    Raises:
        CounterpointError: This endpoint keeps nothing.
    """
    gateway = gateway_of(http)
    if gateway.jobs is None or gateway.door.store is None:
        raise CounterpointError("files and batches are kept where serving.store names a place; this endpoint has none")
    return gateway.jobs, gateway.door.store


def page_of(http: HTTPRequest) -> tuple[int, str | None]:
    """The `limit` and `after` of a list.

    Raises:
        RequestError: The limit is no number from 1 to 10,000.
    """
    limit = http.query_params.get("limit", "100")
    if not (limit.isascii() and limit.isdigit() and len(limit) < 6 and 1 <= int(limit) <= 10_000):
        raise RequestError(f"limit: wanted a number from 1 to 10000, not {limit[:20]!r}")
    return int(limit), http.query_params.get("after")


def unknown(kind: str, id: str) -> JSONResponse:
    """The answer to a name that none of the caller's things bears."""
    return JSONResponse(error_json(f"no {kind} of yours has the id {id[:80]!r}", code=f"{kind}_not_found"), 404)
