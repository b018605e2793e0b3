"""The errors of the client: one small tree, one plain sentence each."""

from __future__ import annotations

import math
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from counterpoint.types import Batch


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


class StillRunningError(CounterpointError):
    """A batch has not ended yet.

    Attributes:
        batch: How it stood when it was last looked at.
    """

    def __init__(self, message: str, batch: Batch) -> None:
        super().__init__(message)
        self.batch = batch


def retry_after_s(header: str | None, now: float | None = None) -> float | None:
    """Read the header Retry-After, which holds seconds or a date; None where it says nothing.

    Example:
        >>> retry_after_s("7"), retry_after_s("soon"), retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", now=20.0)
        (7.0, None, 40.0)
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - (time.time() if now is None else now)
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def error_from(status: int, body: Any, retry_s: float | None = None) -> ServerError:
    """Make the error of a status and a body, which may be anything."""
    try:
        message, code = str(body["error"]["message"]), body["error"].get("code")
    except (KeyError, TypeError, AttributeError):
        message, code = f"the endpoint answered {status}: {str(body)[:200]}", None
    if status in (429, 503):
        return OverloadedError(message, status, code, retry_s)
    if status in (401, 403):
        return AuthenticationError(message, status, code)
    return (BadRequestError if 400 <= status < 500 else ServerError)(message, status, code)


def error_of(response: httpx.Response) -> ServerError:
    """Read the error that a response bears; its body must have been read."""
    try:
        body = response.json()
    except ValueError:
        body = response.text
    return error_from(response.status_code, body, retry_after_s(response.headers.get("retry-after")))
