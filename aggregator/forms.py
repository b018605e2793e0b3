"""The form by which two answers count as the same."""

from __future__ import annotations

import json
import re
from functools import lru_cache

from data.graders import NUMBER, prediction, read_choice, read_exact, read_json, read_list, read_number
from data.records import Answer

_OPTIONS = re.compile(r"(?:^|\s)\(?([A-J])[).:]\s")
REMEMBERED = 1 << 14
"""Characters of the longest question that is remembered with its options."""
LETTERS = "ABCDEFGHIJ"
"""The letters of options."""
_LINES = re.compile(r"^[ \t]*\(?([A-J])[).:][ \t]+", re.MULTILINE)
_NUMERIC = re.compile(
    r"\bhow (?:many|much|often|old|long|far|tall)\b|\b(?:which|what) year\b|\d\s*[-+*/\u00d7\u00f7^]\s*\d|"
    r"\b(?:numbers?|sum|difference|product|plus|minus|times|divided|total|average|area|count|next|term|sequence|"
    r"add|subtract|convert|express|calculate|compute|evaluate|solve)\b",
    re.IGNORECASE,
)
_YES_NO = re.compile(r"\W{0,3}(yes|no)\b(?=\W*$|[,.;:!*])", re.IGNORECASE)
_SHORT_WORDS = 6
_BRIEF_WORDS = 25


def divided(question: str) -> tuple[str, list[str]]:
    """Divide a question into what is asked and the texts of its lettered options, from A on; none where there are fewer than two.

    Example:
        >>> divided("Which is true? A) one B) two C) three"), divided("What is 2 + 2?")
        (('Which is true?', ['one', 'two', 'three']), ('What is 2 + 2?', []))
    """
    stem, options = _divided(question) if len(question) <= REMEMBERED else _divided.__wrapped__(question)
    return stem, [*options]


@lru_cache(maxsize=1024)
def _divided(question: str) -> tuple[str, tuple[str, ...]]:
    for pattern in (_LINES, _OPTIONS):  # "Franklin D. Roosevelt" within a line is no option where lines are
        found = list(pattern.finditer(question))
        letters = "".join(one[1] for one in found)
        found = found[max(letters.rfind("A"), 0) :]  # "Vitamin A: which is true? A) one B) two"
        letters = "".join(one[1] for one in found)
        if len(found) > 1 and LETTERS.startswith(letters):
            ends = [*(one.start() for one in found[1:]), len(question)]
            texts = [question[one.end() : end].strip() for one, end in zip(found, ends, strict=True)]
            return question[: found[0].start()].strip(), (*texts[:-1], texts[-1].partition("\n\n")[0].strip())
    return question, ()


def options_of(question: str) -> list[str]:
    """The texts of a question's lettered options, none where it offers fewer than two."""
    return divided(question)[1]


def choices_of(question: str) -> int:
    """Count the lettered options that a question offers; 0 where it offers none.

    Example:
        >>> choices_of("Which is true? A) one B) two C) three"), choices_of("What is 2 + 2?")
        (3, 0)
    """
    return len(options_of(question))


def form(question: str, text: str) -> str:
    """Bring an answer into the form by which it is compared.

    A letter where the question offers options; a JSON object by its content; yes or no; a list by its items; a number where
    the question asks for one or the answer is one; else the words, a short answer without what surrounds it.

    Example:
        >>> form("What is 12 + 30?", "42."), form("What is 12 + 30?", "The sum of 12 and 30 is a nice 42.")
        ('42', '42')
    """
    options = choices_of(question)
    if options and (letter := read_choice(text)) and letter in LETTERS[:options]:
        return letter
    if (value := read_json(text)) is not None:
        return json.dumps(_flat(value), sort_keys=True, ensure_ascii=False)
    if yes_no := _YES_NO.match(text):
        return yes_no[1].lower()
    short = read_exact(text) or ""
    alone = NUMBER.fullmatch(short.strip("$€£% ")) is not None and "\n" not in text.strip()
    if not alone and _is_list(items := read_list(text) or []):
        return ", ".join(items)
    if read_number(text) is not None and (alone or _NUMERIC.search(question)):
        return str(prediction("number", text))
    brief = len(short.split()) <= _SHORT_WORDS and len(text.split()) <= _BRIEF_WORDS  # an essay is not its heading
    whole = short if brief else " ".join(text.split()).strip(" *`\"'.!")
    return whole if whole.isupper() else whole.lower()


def shape(question: str, answer: Answer) -> str:
    """The form of an answer, by what it comes to where that is known.

    Example:
        >>> shape("Which? A) x B) y", Answer("Let me think ...", "ann", parsed="B"))
        'B'
    """
    return form(question, answer.text if answer.parsed is None else answer.parsed)


def same(question: str, one: str, other: str) -> bool:
    """Whether two answers to a question say the same.

    Example:
        >>> same("What is 12 + 30?", "It is 42.", "42"), same("What is 12 + 30?", "It is 42.", "")
        (True, False)
    """
    return bool(one.strip()) == bool(other.strip()) and form(question, one) == form(question, other)


def _is_list(items: list[str]) -> bool:
    """Whether the parts of a text are the items of a list: numbers, or at least three of one or two words."""
    numbers = len(items) > 1 and all(map(NUMBER.fullmatch, items))
    return numbers or (len(items) > 2 and all(len(item.split()) < 3 for item in items))


def _flat(value: object) -> object:
    """A JSON value with its texts in small letters and its numbers as texts, as graders compare them."""
    if isinstance(value, dict):
        return {key: _flat(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_flat(part) for part in value]
    text = str(value).strip().lower()
    return prediction("number", text) if NUMBER.fullmatch(text) else text
