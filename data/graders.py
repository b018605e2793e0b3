"""Graders: is an answer right? What cannot be read as an answer is wrong."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable

_FINAL = re.compile(r"(?:final answer|answer)\s*(?:is|:)\s*", re.IGNORECASE)
_NUMBER = re.compile(r"[-−]?(?<![\w.])\d[\d,]*(?:\.\d+)?(?:/\d+)?|[-−]?\.\d+")
_LETTER = re.compile(r"(?<![A-Za-z])\(?([A-Z])\)?(?![A-Za-z'’])")
_MARKS = str.maketrans("", "", "*_`$")


def _final(text: str) -> str:
    """The part that states the answer: what follows the last "answer is" or "answer:", else everything."""
    parts = _FINAL.split(text)
    return parts[-1] if parts[-1].strip() else text


def read_choice(text: str) -> str | None:
    """Read the letter of a choice.

    Example:
        >>> read_choice("The answer is (C) because B is false."), read_choice("b) it"), read_choice("I do not know.")
        ('C', 'B', None)
    """
    stated = len(_FINAL.split(text)) > 1
    final = _final(text).translate(_MARKS).strip()
    if small := re.match(r"\(?([a-z])(?:[).:]|$)", final):
        return small[1].upper()
    found: list[str] = [m for m in _LETTER.findall(final)]
    if found and found[0] in "AI" and re.match(rf"{found[0]}\s+[a-z]", final):  # the words "A" and "I"
        found = found[1:]
    if not found:
        return None
    leads = _LETTER.match(final) is not None
    return found[0] if stated or leads else found[-1]


def read_number(text: str) -> float | None:
    """Read a number: the first after "answer is", else the last one that stands in the text.

    Example:
        >>> read_number("12 + 30 = 42."), read_number("The answer is 1,200 (not 7)."), read_number("none")
        (42.0, 1200.0, None)
    """
    stated = len(_FINAL.split(text)) > 1
    found = _NUMBER.findall(_final(text).translate(_MARKS))
    if not found:
        return None
    chosen = (found[0] if stated else found[-1]).replace(",", "").replace("−", "-")
    top, _, bottom = chosen.partition("/")
    try:
        return float(top) / float(bottom) if bottom else float(top)
    except (ValueError, ZeroDivisionError):
        return None


def read_exact(text: str) -> str | None:
    """Read a short text: the stated answer or the first line, without quotes, marks and the final stop.

    Example:
        >>> read_exact('The answer is "red-ox".'), read_exact("")
        ('red-ox', None)
    """
    lines = [line for line in _final(text).strip().splitlines() if line.strip()]
    if not lines:
        return None
    bare = lines[0].strip().translate(str.maketrans("", "", "*`$")).strip()
    bare = bare.rstrip(".!").strip().strip("\"'“”‘’").rstrip(".!").strip()
    return " ".join(bare.split()) or None


def read_list(text: str) -> list[str] | None:
    """Read a list: parts between commas, line breaks or bullets.

    Example:
        >>> read_list("The answer is: pear, plum and fig."), read_list("1. pear\\n2. fig")
        (['pear', 'plum', 'fig'], ['pear', 'fig'])
    """
    final = _final(text).strip()
    lines = [re.sub(r"^\s*(?:[-*•]|\d+[.)]\s)\s*", "", line) for line in final.splitlines() if line.strip()]
    parts = re.split(r",|;|\band\b", lines[0]) if len(lines) == 1 else lines
    items = [item for part in parts if (item := part.strip().strip("[](){}*`\"'. ").lower())]
    return items or None


def read_json(text: str) -> dict[str, object] | None:
    """Read the first JSON object in a text.

    Example:
        >>> read_json('Here it is: {"age": 31}.'), read_json("{age}")
        ({'age': 31}, None)
    """
    decoder = json.JSONDecoder()
    for match in re.finditer(r"\{", text):
        try:
            value, _ = decoder.raw_decode(text[match.start() :])
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return None


def _numbers(text: str, answer: str) -> bool:
    got, want = read_number(text), read_number(answer)
    return got is not None and want is not None and math.isclose(got, want, rel_tol=1e-6, abs_tol=1e-9)


def _exact(text: str, answer: str) -> bool:
    # capitals are part of the answer only where it has nothing else: "OX" is the upper case of "ox", but "paris" is Paris
    got, want = read_exact(text), read_exact(answer)
    if got is None or want is None:
        return False
    return got == want if want.isupper() or want.islower() else got.lower() == want.lower()


def _set(text: str, answer: str) -> bool:
    got = read_list(text)
    return got is not None and sorted(got) == sorted(read_list(answer) or [])


def _json(text: str, answer: str) -> bool:
    got, want = read_json(text), read_json(answer)
    if got is None or want is None:
        return False
    return all(key in got and str(got[key]).strip().lower() == str(value).strip().lower() for key, value in want.items())


GRADERS: dict[str, Callable[[str, str], bool]] = {
    "choice": lambda text, answer: read_choice(text) == answer.strip().upper(),
    "number": _numbers,
    "exact": _exact,
    "list": lambda text, answer: (got := read_list(text)) is not None and got == read_list(answer),
    "set": _set,
    "json": _json,
}
"""Each grader tells whether a text gives the right answer."""

READERS: dict[str, Callable[[str], object]] = {
    "choice": read_choice,
    "number": read_number,
    "exact": read_exact,
    "list": read_list,
    "set": lambda text: sorted(items) if (items := read_list(text)) else None,
    "json": read_json,
}
"""What each grader reads out of a text; None is unparsed."""


def grade(grader: str, text: str, answer: str) -> bool:
    """Tell whether a text gives the right answer.

    Args:
        grader: Name of the grader.
        text: What an expert wrote.
        answer: The right answer.

    Raises:
        ValueError: No grader has that name.

    Example:
        >>> grade("number", "It is 42.", "42"), grade("choice", "I am not sure", "B")
        (True, False)
    """
    if grader not in GRADERS:
        raise ValueError(f"no grader is called {grader!r}; there are {', '.join(GRADERS)}")
    return GRADERS[grader](text, answer)


def prediction(grader: str, text: str) -> str | None:
    """Write what a grader reads out of a text, or None where it reads nothing."""
    value = READERS[grader](text)
    if value is None or isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)
