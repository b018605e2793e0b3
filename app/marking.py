"""How two answers differ, word by word."""

from __future__ import annotations

from difflib import SequenceMatcher
from functools import lru_cache

from app.harmless import plain

MOST_WORDS = 500
"""Longer answers are not compared: the work can grow with the cube of their length."""

Words = list[tuple[bool, str]]


@lru_cache(maxsize=256)
def differences(text: str, other: str) -> Words | None:
    """Cut a text into stretches that the other has too, and those that it has not.

    Returns:
        Pairs of whether the stretch is the text's alone, and its words; None where the texts are too long.

    Example:
        >>> differences("The capital is Rome", "The capital is Paris")
        [(False, 'The capital is'), (True, 'Rome')]
    """
    own, others = text.split(), other.split()
    if max(len(own), len(others)) > MOST_WORDS:
        return None
    folded = [[word.casefold().strip(".,;:!?") or word for word in words] for words in (own, others)]
    found: Words = []
    for kind, start, end, _, _ in SequenceMatcher(None, folded[0], folded[1], autojunk=False).get_opcodes():
        if end > start:
            found.append((kind != "equal", " ".join(own[start:end])))
    return found


def marked(text: str, other: str) -> str | None:
    """Write a text as Markdown in which what the other has not stands bold on a coloured ground.

    Example:
        >>> marked("It is Rome", "It is Paris")
        'It is :orange-background[**Rome**]'
        >>> marked("Paris.", "paris") is None
        True
    """
    found = differences(text, other)
    if found is None or not any(alone for alone, _ in found):
        return None
    return " ".join(f":orange-background[**{plain(words)}**]" if alone else plain(words) for alone, words in found)
