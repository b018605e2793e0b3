"""Settings that a person wrote, fitted to what takes them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from data.records import CounterpointError


def fitting(owner: str, known: Mapping[str, Any], given: Mapping[str, Any], sign: str = "") -> dict[str, Any]:
    """Check settings against the types that are wanted.

    Args:
        owner: What takes them, for errors.
        known: The type of each setting.
        given: The settings.
        sign: What stands before a setting's name where it was written, for errors.

    Returns:
        The settings, each of its type.

    Raises:
        CounterpointError: One is unknown or does not fit.

    Example:
        >>> fitting("the aggregator 'fuse'", {"expert": str | None}, {"expert": "ann"})
        {'expert': 'ann'}
    """
    made = {}
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            rest = f"did you mean {near[0]}?" if near else f"it has {', '.join(known) or 'none'}"
            raise CounterpointError(f"{owner} has no setting {name!r}; {rest}")
        try:
            made[name] = TypeAdapter(known[name]).validate_python(value)
        except ValidationError as error:
            raise CounterpointError(f"{sign}{name}: {error.errors()[0]['msg']}, not {value!r}") from error
        if isinstance(made[name], float) and not math.isfinite(made[name]):  # also of the text "nan"
            raise CounterpointError(f"{sign}{name}: wanted a number, not {value}")
    return made
