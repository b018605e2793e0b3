"""What goes around every request: its id, its span, its line in the log, its place in the endpoint's figures."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data import tracing
from serving.account import Account, open_account
from serving.figures import Figures
from serving.protocol import error_json

QUIET = ("/healthz", "/readyz", "/metrics")
"""Paths that machines ask all the time; they have no span, and lines of level DEBUG while all is well."""
GONE = 499
"""Status, in figures and lines, of a request whose caller left before it was answered."""

_ID = re.compile(r"[!-~]{1,128}")
_LOG = logging.getLogger("serving.requests")


class Watch:
    """Follow every request of an application.

    Args:
        app: The application.
        figures: Where requests are counted.
        clock: Seconds that only go up.
    """

    def __init__(self, app: ASGIApp, figures: Figures, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.app = app
        self.figures = figures
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and note what came of it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, account = Headers(scope=scope), open_account()
        reply = _Reply(account, headers.get("x-request-id", ""), self._clock, self._clock())

        async def tell(message: Message) -> None:
            reply.see(message)
            await send(message)

        self.figures.running += 1
        followed = scope["path"] not in QUIET
        parent = headers.get("traceparent")
        step = tracing.span("request", parent=parent, server=True, method=scope["method"]) if followed else tracing.Span()
        with step as span:
            try:
                await self.app(scope, receive, tell)
            except Exception:
                _LOG.error("fault", exc_info=True, extra={"fields": {"request_id": reply.id}})
                if reply.status:
                    raise  # which cuts the connection: what was begun cannot be ended well
                fault = JSONResponse(error_json("a fault of the endpoint; its log says more", "server_error", "internal_error"), 500)
                await fault(scope, receive, tell)
            finally:
                self.figures.running -= 1
                self._note(scope, reply, span)

    def _note(self, scope: Scope, reply: _Reply, span: tracing.Span) -> None:
        """Count the request, and write its line and its span's attributes."""
        account, seconds = reply.account, self._clock() - reply.began
        path = getattr(scope.get("route"), "path", "unknown")
        status, error, model = reply.status or GONE, reply.error, account.model or ""
        self.figures.requests[path, str(status), model] += 1
        self.figures.seconds[path].add(seconds)
        if reply.first_s is not None:
            self.figures.first_token[model].add(reply.first_s)
        if error is not None:
            self.figures.refused[error] += 1
        asked = {"key": account.key, "model": account.model, "stream": account.stream if account.id else None}
        took = {"prompt_tokens": account.usage.prompt_tokens, "completion_tokens": account.usage.completion_tokens}
        figures = {"k": account.k, **took, "usd": round(account.usage.cost_usd, 8)} if account.experts else {}
        both = asked | {"experts": [*account.experts] or None, **figures, "error": error, "complete": None if reply.whole else False}
        span.set(request_id=reply.id, completion_id=account.id, path=path, status=status, **both)
        if error is not None and status >= 500:
            span.fail(error)
        level = logging.DEBUG if scope["path"] in QUIET and status < 400 else logging.INFO
        if _LOG.isEnabledFor(level):
            line = {"request_id": reply.id, "completion_id": account.id if account.id != reply.id else None, "method": scope["method"]}
            line |= {"path": scope["path"][:200], "status": status, "seconds": round(seconds, 6)}
            line |= {"first_token_s": None if reply.first_s is None else round(reply.first_s, 6), **both, "trace_id": span.trace_id}
            _LOG.log(level, "request", extra={"fields": {name: value for name, value in line.items() if value is not None}})


@dataclass(slots=True)
class _Reply:
    """What goes out.

    Attributes:
        account: What is noted of the request.
        given: The id that its caller gave it.
        clock: Seconds that only go up.
        began: When it came.
        status: Its status, or 0 before there is one.
        streams: Whether it is a stream of events.
        code: The code of an error in its body.
        first_s: Seconds to the first token of a stream.
        whole: Whether it went out to its end.
    """

    account: Account
    given: str
    clock: Callable[[], float]
    began: float
    status: int = 0
    streams: bool = False
    code: str | None = None
    first_s: float | None = None
    whole: bool = False
    _own: str = ""

    @property
    def id(self) -> str:
        """What the request is called: by its caller, or as its completion, or by us."""
        if _ID.fullmatch(self.given):
            return self.given
        self._own = self.account.id or self._own or f"req-{uuid.uuid4().hex}"
        return self._own

    @property
    def error(self) -> str | None:
        """What kind of error it ended in."""
        return self.code or self.account.error or (f"status_{self.status}" if self.status >= 400 else None)

    def see(self, message: Message) -> None:
        """Take note of a message, and put the id into the head."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.id
            self.streams = headers.get("content-type", "").startswith("text/event-stream")
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            if self.status >= 400 and self.code is None:
                self.code = _code(body)
            elif self.streams and self.first_s is None and _has_token(body):
                self.first_s = self.clock() - self.began
            self.whole = not message.get("more_body", False)


def _code(body: bytes) -> str | None:
    """The code, else the type, of an error in OpenAI's form."""
    try:
        error: dict[str, Any] = json.loads(body)["error"]
        return str(error["code"] or error["type"])
    except (ValueError, KeyError, TypeError):
        return None


def _has_token(body: bytes) -> bool:
    r"""Whether server-sent events bear something of the answer, and not only who speaks.

    Example:
        >>> _has_token(b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n')
        False
        >>> _has_token(b'data: {"choices": [{"delta": {"content": "Paris"}}]}\n\n')
        True
    """
    for line in body.split(b"\n"):
        try:
            choices = json.loads(line.removeprefix(b"data: ")).get("choices", []) if line.startswith(b"data: {") else []
        except ValueError:
            continue
        if any(choice.get("text") or any(value for name, value in choice.get("delta", {}).items() if name != "role") for choice in choices):
            return True
    return False
