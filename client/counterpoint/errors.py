"""The errors of the client: one small tree, one plain sentence each."""

from __future__ import annotations

import httpx


class CounterpointError(Exception):
    """Anything that went wrong between asking and the answer."""


class ConnectionFailedError(CounterpointError):
    """The endpoint is not there, or fell silent."""


class ServerError(CounterpointError):
    """The endpoint answered with an error.

    Attributes:
        status: The HTTP status.
        code: The endpoint's code, such as `context_length_exceeded`, or None.
    """

    def __init__(self, message: str, status: int, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class BadRequestError(ServerError):
    """The request cannot be answered as it stands (400, 404, 413, 422)."""


class AuthenticationError(ServerError):
    """The key is missing, wrong, or not allowed to do this (401, 403)."""


class OverloadedError(ServerError):
    """The endpoint is full (429, 503).

    Attributes:
        retry_after_s: Seconds after which it asks to be tried again, or None.
    """

    def __init__(self, message: str, status: int, code: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, status, code)
        self.retry_after_s = retry_after_s


def error_of(response: httpx.Response) -> ServerError:
    """Read the error that a response bears; its body must have been read."""
    try:
        body = response.json()["error"]
        message, code = str(body["message"]), body.get("code")
    except (ValueError, KeyError, TypeError, AttributeError):
        message, code = f"the endpoint answered {response.status_code}: {response.text[:200]}", None
    status = response.status_code
    if status in (429, 503):
        try:
            retry = float(response.headers["retry-after"])
        except (KeyError, ValueError):
            retry = None
        return OverloadedError(message, status, code, retry)
    if status in (401, 403):
        return AuthenticationError(message, status, code)
    return (BadRequestError if 400 <= status < 500 else ServerError)(message, status, code)
