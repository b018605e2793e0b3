"""Lists, page by page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fastapi.responses import JSONResponse

T = TypeVar("T")


def paged(found: Sequence[T], limit: int, shape: Callable[[T], dict[str, Any]]) -> JSONResponse:
    """A page of a list in OpenAI's form.

    Args:
        found: What there is from where the page begins, one more than it holds where there is more.
        limit: How many it holds.
        shape: Gives an entry's JSON.
    """
    return JSONResponse({"object": "list", "data": [shape(entry) for entry in found[:limit]], "has_more": len(found) > limit})
