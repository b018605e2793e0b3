"""A bound on the requests that are under way at once: what comes beyond it is told to come again."""

from __future__ import annotations

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.protocol import error_json

WAIT_S = 1
"""Seconds after which a request that was turned away may come again."""


class Crowd:
    """Let so many requests in at once, streams until their end, and answer the others with 429.

    Args:
        app: What answers.
        most: Requests under way at once.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app = app
        self.most = most
        self.running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or turn it away; probes and figures always come through."""
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self.app(scope, receive, send)
            return
        if self.running >= self.most:
            told = error_json(f"{self.most} requests are under way already: try again in {WAIT_S} s", "overloaded_error", "overloaded")
            await JSONResponse(told, 429, {"retry-after": str(WAIT_S)})(scope, receive, send)
            return
        self.running += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.running -= 1
