"""Log-probabilities of choices: the words that an answer may begin with, such as option letters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

TOLD = 20
"""Likeliest tokens that a server is asked to tell: as many as they commonly do."""

LEAST = -100.0
"""No log-probability is less, so that all can be summed and written as JSON."""


def logprobs_of(choices: Sequence[str], told: Iterable[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """Sum over the tokens that are a choice but for white space; one that is not told stands at the least that is.

    Args:
        choices: The words.
        told: Tokens, each with its natural log-probability.

    Returns:
        Each choice and its log-probability; empty where nothing is told.

    Example:
        >>> logprobs_of(("A", "B"), [("A", -1.0), (" A", -1.0), ("The", -2.0)])
        (('A', -0.3068...), ('B', -2.0))
    """
    known = [(token.replace("\u2581", " ").strip(), max(value, LEAST)) for token, value in told if math.isfinite(value)]
    if not choices or not known:
        return ()
    least = min(value for _, value in known)
    return tuple((choice, _log_sum([value for token, value in known if token == choice] or [least])) for choice in choices)


def _log_sum(values: Sequence[float]) -> float:
    """The logarithm of the sum of probabilities, given as logarithms."""
    most = max(values)
    return min(0.0, most + math.log(math.fsum(math.exp(value - most) for value in values)))


def tokens_of(tokenizer: Any, choice: str) -> list[int]:
    """The tokens of a model that are a choice, with and without a space before it."""
    ids: list[int] = []
    for text in (choice, f" {choice}"):
        row = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids += row if len(row) == 1 else []
    vocabulary = tokenizer.get_vocab()
    ids += [vocabulary[text] for text in (choice, f"\u2581{choice}") if text in vocabulary]  # what a tokenizer with dummy spaces hides
    return list(dict.fromkeys(ids))


def first_token(told: Any) -> list[tuple[str, float]]:
    """Read what a chat completion tells of its first token; nothing where it is not as the protocol says.

    Example:
        >>> first_token({"content": [{"token": "A", "logprob": -0.1, "top_logprobs": [{"token": "A", "logprob": -0.1}]}]})
        [('A', -0.1)]
        >>> first_token(None), first_token({"content": "A"})
        ([], [])
    """
    try:
        told = told if isinstance(told, dict) or told is None else told.model_dump()
        likeliest = {str(one["token"]): float(one["logprob"]) for one in told["content"][0]["top_logprobs"]}
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return []
    return list(likeliest.items())
