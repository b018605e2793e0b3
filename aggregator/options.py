"""How the options of a question look beside each other, whatever is asked."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from aggregator.reading import numbers_in, plain, tokens

LOOKS = ("long", "longer", "alike", "grams", "nearest", "rank", "number", "median", "closest", "round", "digits", "middle", "none", "asked")
"""What is measured of an option: its length against the others' mean and its rank; how many words and letters it shares with
them; its place among numbers, how near they are in proportion, by round factors, digits; whether it refuses, and shares words
with the question."""
_REFUSES = re.compile(r"\b(?:(?:all|none|both|neither|any) of (?:the|these|above)|cannot|not (?:enough|possible))\b", re.IGNORECASE)
_DIGITS = re.compile(r"\d+(?:\.\d+)?")
_FACTORS = np.array([2, 10, 100, 1000, math.pi, 4])


def looks(stem: str, options: Sequence[str]) -> np.ndarray:
    """Measure options beside each other.

    Exams are written by people and programs with habits: right options lie in the middle of their distractors more often
    than chance. That is knowledge of exams, not of the world; questions without options have none of it.

    Args:
        stem: What is asked, without the options.
        options: Their texts, in order.

    Returns:
        The measures of `LOOKS`, shape (n_options, n_looks); zeros for fewer than two.

    Example:
        >>> table = looks("Which?", ["10", "20", "40"])
        >>> table[:, LOOKS.index("rank")].round(2).tolist()
        [-0.33, 0.0, 0.33]
    """
    n = len(options)
    table = np.zeros((n, len(LOOKS)))
    if n < 2:
        return table
    column = {name: table[:, at] for at, name in enumerate(LOOKS)}
    lengths = np.array([len(option) for option in options])
    column["long"][:] = np.log1p(lengths) - np.log1p(lengths).mean()
    column["longer"][:] = [(lengths < length).mean() for length in lengths]
    for name, sets in (("alike", [tokens(option) for option in options]), ("grams", [_grams(option) for option in options])):
        shared = np.array([[len(one & other) / max(len(one | other), 1) for other in sets] for one in sets])
        np.fill_diagonal(shared, 0.0)
        column[name][:] = shared.sum(axis=1) / (n - 1)
        column[name] -= column[name].mean()
        if name == "grams":
            column["nearest"][:] = shared.max(axis=1) - shared.max(axis=1).mean()
    column["none"][:] = [bool(_REFUSES.search(option)) for option in options]
    asked = tokens(stem)
    column["asked"][:] = [len(tokens(option) & asked) / max(len(tokens(option)), 1) for option in options]
    values = [numbers_in(option) for option in options]
    _numbers(column, options, np.array([one[0] if 1 <= len(one) <= 2 else np.nan for one in values]))
    return table


def _numbers(column: dict[str, np.ndarray], options: Sequence[str], values: np.ndarray) -> None:
    """Measure options that are numbers by their place among the others."""
    known = np.flatnonzero(~np.isnan(values))
    if len(known) < 3:
        return
    size = np.abs(values[known])
    size[size > 0] = size[size > 0].clip(1e-150, 1e150)  # their ratios stay finite
    for at, mine in zip(known, size, strict=True):
        column["number"][at] = 1.0
        value, others = values[at], values[known]
        column["rank"][at] = ((others < value).mean() + (others == value).mean() / 2) - 0.5
        rest = size[(size > 0) & (known != at)]
        if mine > 0 and len(rest):
            apart = np.abs(np.log(mine / rest))
            column["median"][at], column["closest"][at] = np.median(apart), apart.min()
            column["round"][at] = (np.abs(np.exp(apart)[:, None] / _FACTORS - 1).min(axis=1) < 0.02).sum()
        found = _DIGITS.search(options[at])
        column["digits"][at] = len(found[0].replace(".", "").lstrip("0")) if found else 0.0
    column["digits"][known] -= column["digits"][known].mean()
    logs = np.log(size + 1e-12)
    column["middle"][known] = np.clip(logs - np.median(logs), -8, 8)


def _grams(text: str) -> set[str]:
    padded = f" {plain(text)} "
    return {padded[at : at + 3] for at in range(len(padded) - 2)}
