"""The distinct answers to a question, and who stands behind each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aggregator.base import is_usable
from aggregator.forms import LETTERS, options_of, shape
from data.encoders import STATIC, get_encoder
from data.graders import NUMBER
from data.records import Answer
from data.skills import in_words

PROSE = 8
"""Words of a form above which two answers count as the same where their vectors are near."""
NEAR = 0.9
"""Cosine from which they are."""
_WORD = re.compile(r"[a-z]+(?:['\u2019]t\b)?")
_COUNTS = frozenset(part for number in range(100) for part in in_words(number).split("-"))
_DENIALS = frozenset("not no never none neither nor cannot without".split())


@dataclass(frozen=True, slots=True)
class Candidate:
    """One distinct answer.

    Attributes:
        form: Its form.
        text: What it says: the option's own text for a letter.
        backers: Places of the answers that give it, in their order.
    """

    form: str
    text: str
    backers: tuple[int, ...]


def candidates_of(question: str, answers: Sequence[Answer]) -> list[Candidate]:
    """Group answers that say the same, in the order of their first one.

    Answers are the same where their forms are equal; those in prose also where their texts' vectors are near, unless they differ
    in a number or one denies.

    Example:
        >>> answers = [Answer("It is 4.", "ann"), Answer("5", "bob"), Answer("4", "cid")]
        >>> [(one.form, one.backers) for one in candidates_of("What is 2 + 2?", answers)]
        [('4', (0, 2)), ('5', (1,))]
    """
    shapes = {at: shape(question, answer) for at, answer in enumerate(answers) if is_usable(answer)}
    prose = [form for form in dict.fromkeys(shapes.values()) if len(form.split()) > PROSE]
    vectors = {form: get_encoder(STATIC)([form])[0] for form in prose} if len(prose) > 1 else {}
    groups: dict[str, list[int]] = {}
    for at, form in shapes.items():
        groups.setdefault(_alike(form, groups, vectors) or form, []).append(at)
    texts = dict(zip(LETTERS, options_of(question), strict=False))
    return [Candidate(form, texts.get(form, form), tuple(backers)) for form, backers in groups.items()]


def _alike(form: str, groups: dict[str, list[int]], vectors: dict[str, np.ndarray]) -> str | None:
    """The group that an answer in prose belongs to by what it says."""
    if form in groups or form not in vectors:
        return None
    near = {other: float(vectors[form] @ vectors[other]) for other in groups if other in vectors}
    alike = [other for other, cosine in near.items() if cosine >= NEAR and _facts(other) == _facts(form)]
    return max(alike, key=near.__getitem__, default=None)


def _facts(text: str) -> tuple[list[str], int]:
    """What vectors do not tell apart: the numbers of a text, and how often it denies."""
    words = _WORD.findall(text.lower())
    numbers = [one.replace(",", "") for one in NUMBER.findall(text)]
    counts = [word for word in words if word in _COUNTS]
    return sorted(numbers + counts), sum(word in _DENIALS or not word.isalpha() for word in words)  # not alone letters: "isn't"
