"""The distinct answers to a question, and who stands behind each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aggregator.base import is_usable
from aggregator.forms import options_of, shape
from data.encoders import STATIC, get_encoder
from data.records import Answer

PROSE = 8
"""Words of a form above which two answers count as the same where their vectors are near."""
NEAR = 0.9
"""Cosine from which they are."""


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

    Answers are the same where their forms are equal; those in prose also where their texts' vectors are near.

    Example:
        >>> answers = [Answer("It is 4.", "ann"), Answer("5", "bob"), Answer("4", "cid")]
        >>> [(one.form, one.backers) for one in candidates_of("What is 2 + 2?", answers)]
        [('4', (0, 2)), ('5', (1,))]
    """
    groups: dict[str, list[int]] = {}
    for at, answer in enumerate(answers):
        if is_usable(answer):
            form = shape(question, answer)
            groups.setdefault(_alike(form, groups) or form, []).append(at)
    texts = dict(zip("ABCDEFGHIJ", options_of(question), strict=False))
    return [Candidate(form, texts.get(form, form), tuple(backers)) for form, backers in groups.items()]


def _alike(form: str, groups: dict[str, list[int]]) -> str | None:
    """The group that an answer in prose belongs to by what it says."""
    if form in groups or len(form.split()) <= PROSE:
        return None
    encode = get_encoder(STATIC)
    mine = encode([form])[0]
    near = {other: float(mine @ encode([other])[0]) for other in groups if len(other.split()) > PROSE}
    best = max(near, key=near.__getitem__, default=None)
    return best if best is not None and near[best] >= NEAR else None
