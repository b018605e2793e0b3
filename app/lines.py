"""Requests of a batch, as a file of lines holds them."""

from __future__ import annotations

import json
from typing import Any

MOST_BYTES = 20 * 2**20
"""Bytes of a file that the page takes; larger ones go through the client."""


class LinesError(ValueError):
    """A file is no batch; the message names the line."""


def requests_of(content: bytes) -> list[dict[str, Any]]:
    r"""Read lines of JSON: OpenAI's batch format, or the arguments of a chat.

    Raises:
        LinesError: A line is none.

    Example:
        >>> requests_of(b'{"messages": "What is 2 + 2?"}\n\n')
        [{'messages': 'What is 2 + 2?'}]
        >>> requests_of(b'[]')
        Traceback (most recent call last):
        app.lines.LinesError: line 1: wanted an object with `body` or `messages`, not list
    """
    if len(content) > MOST_BYTES:
        raise LinesError(f"the file has {len(content)} bytes, and the page takes {MOST_BYTES}: use the client's `batches.create`")
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise LinesError(f"the file must be UTF-8; byte {error.start} is not") from error
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except RecursionError as error:
            raise LinesError(f"line {number} nests too deep") from error
        except ValueError as error:
            raise LinesError(f"line {number} is no JSON: {error}") from error
        if not isinstance(row, dict) or not ({"body", "messages"} & set(row)):
            what = f"an object of {', '.join(map(str, row)) or 'nothing'}" if isinstance(row, dict) else type(row).__name__
            raise LinesError(f"line {number}: wanted an object with `body` or `messages`, not {what}")
        if "body" not in row and not isinstance(row["messages"], (str, list)):
            raise LinesError(f"line {number}: messages: wanted a question, or a list of turns, not {type(row['messages']).__name__}")
        found.append(row)
    if not found:
        raise LinesError("the file has no lines")
    return found
