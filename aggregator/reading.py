"""What can be seen in the words of an answer without understanding them."""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass

# No pattern below may backtrack over a long text.

WORDS = ("length", "packed", "hedges", "numbers", "after", "letters")
"""What is measured of the words; lengths and counts by their logarithm."""
_STATED = re.compile(
    r"(?:\b[Aa]nswer(?: is)?:?\s{0,3}\**|\\boxed\{)\(?"
    r"(A(?! (?!because|since|as\b)[a-z])|[B-HJ]|[b-hj](?! [a-z])|I(?! [a-z]))\b(?!')"  # "The answer is a prime", "The answer I get"
)
_NUMBER = re.compile(r"(?<![\w.])-?(?:\d[\d,]{0,20}(?:\.\d{1,20})?|\.\d{1,20})(?:[eE][-+]?\d{1,3})?")
_HEDGE = re.compile(
    r"\b(?:however|closest|approximately|assum\w{1,8}|cannot|can't|unclear|likely|probably|may|might|seems?|incorrect|mistake|"
    r"not (?:given|provided|clear|listed|among|possible|sure)|none of)\b",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"[a-z]+|\d+(?:\.\d+)?")
_PLAIN = re.compile(r"[a-z0-9%+-]+(?:\.[a-z0-9%+-]+)*")
_LETTER = re.compile(r"\(([A-J])\)")
_NEXT = re.compile(r"\n\s{0,9}(?:question|options)\s{0,3}:", re.IGNORECASE)
_TAIL = 220
_ROOM = 10_000
"""Characters that are read of a long answer, at its beginning and at its end."""
_COMMON = frozenset("the a an of to in and or is are for by with on at as that this it its be from which their they not will".split())


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer's words, read once.

    Attributes:
        stated: The letter after "the answer is", or "".
        words: The measures of `WORDS`.
        rambles: Whether the answer goes on with a question of its own.
        body: The words before the stated answer, in plain form.
        tail: Its last part, where the result should stand.
        tokens: Words and numbers of the tail.
        numbers: The last numbers of the body.
        letters: Letters in brackets that the body names.
    """

    stated: str
    words: tuple[float, ...]
    rambles: bool
    body: str
    tail: str
    tokens: frozenset[str]
    numbers: tuple[float, ...]
    letters: frozenset[str]


def read(text: str) -> Reading:
    """Read an answer.

    Example:
        >>> reading = read("2 + 2 makes 4. The answer is (B).")
        >>> reading.stated, reading.numbers
        ('B', (2.0, 2.0, 4.0))
    """
    whole = text if len(text) <= 2 * _ROOM else text[:_ROOM] + text[-_ROOM:]
    cut = _NEXT.split(whole, maxsplit=1)[0]
    found = _STATED.search(cut)
    body, after = (cut, "") if found is None else (cut[: found.start()], cut[found.end() :])
    raw = body.encode("utf-8", "replace")
    numbers = numbers_in(body)
    letters = frozenset(_LETTER.findall(body))
    words = (
        math.log1p(len(body)),
        len(zlib.compress(raw)) / max(len(raw), 1),
        float(len(_HEDGE.findall(body))),
        math.log1p(len(numbers)),
        math.log1p(len(after.strip())),
        float(len(letters)),
    )
    tail = body[-_TAIL:]
    stated = "" if found is None else found[1].upper()
    return Reading(stated, words, len(cut) < len(whole), plain(body), plain(tail), tokens(tail), tuple(numbers[-4:]), letters)


def support(reading: Reading, letter: str, text: str) -> tuple[float, ...]:
    """Say how far an answer's reasoning speaks for something that could be said: at its end, anywhere, in words, in numbers, by letter.

    Args:
        reading: The answer.
        letter: The option's letter, or "".
        text: What the option or the other answer says.

    Example:
        >>> support(read("So 12 + 30 is 42."), "", "42")
        (1.0, 1.0, 1.0, 1.0, 1.0, 0.0)
    """
    said, parts = plain(text), tokens(text) - _COMMON
    long = len(said) > 1
    value = numbers_in(text)
    alone = value[0] if len(value) == 1 else None
    return (
        float(long and f" {said} " in f" {reading.tail} "),
        float(long and f" {said} " in f" {reading.body} "),
        len(parts & reading.tokens) / len(parts) if parts else 0.0,
        float(alone is not None and bool(reading.numbers) and near(reading.numbers[-1], alone)),
        float(alone is not None and any(near(one, alone) for one in reading.numbers)),
        float(letter in reading.letters),
    )


def near(one: float, other: float) -> bool:
    """Whether two numbers are the same but for rounding."""
    return abs(one - other) <= 0.011 * max(abs(one), abs(other), 1e-12)


def plain(text: str) -> str:
    """Small letters, digits and single spaces only.

    Example:
        >>> plain("The  *Sum*: 4.")
        'the sum 4'
    """
    return " ".join(_PLAIN.findall(text.lower()))


def tokens(text: str) -> frozenset[str]:
    """Words and numbers of a text."""
    return frozenset(_TOKEN.findall(text.lower()))


def numbers_in(text: str) -> list[float]:
    """The numbers in a text, in their order.

    Example:
        >>> numbers_in("1,200 of 3.5e2")
        [1200.0, 350.0]
    """
    found = (float(one.replace(",", "")) for one in _NUMBER.findall(text.replace("\u2212", "-")))
    return [one for one in found if math.isfinite(one)]
