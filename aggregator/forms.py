"""The form by which two answers count as the same."""

from __future__ import annotations

import json
import re

from data.graders import read_choice, read_exact, read_json, read_number

_OPTIONS = re.compile(r"(?:^|\s)\(?([A-J])[).:]\s")
_SHORT_WORDS = 6


def choices_of(question: str) -> int:
    """Count the lettered options that a question offers; 0 where it offers none.

    Example:
        >>> choices_of("Which is true? A) one B) two C) three"), choices_of("What is 2 + 2?")
        (3, 0)
    """
    letters = _OPTIONS.findall(question)
    count = len(letters)
    return count if count >= 2 and letters == [chr(ord("A") + i) for i in range(count)] else 0


def form(question: str, text: str) -> str:
    """Bring an answer into the form by which it is compared.

    A letter where the question offers options; a JSON object by its content; a short answer without case and marks; of a
    longer one the number that it ends in, if it has one.

    Example:
        >>> form("What is 12 + 30?", "42."), form("What is 12 + 30?", "The sum of 12 and 30 is a nice 42.")
        ('42', '42')
    """
    if choices_of(question) and (letter := read_choice(text)):
        return letter
    if (value := read_json(text)) is not None:
        return json.dumps(value, sort_keys=True, ensure_ascii=False).lower()
    short = read_exact(text) or ""
    number = read_number(text)
    if number is not None and (len(short.split()) > _SHORT_WORDS or re.fullmatch(r"[-−$€£]?[\d.,]+%?", short)):
        return f"{number:g}"
    whole = short if len(short.split()) <= _SHORT_WORDS else " ".join(text.split())
    return whole if whole.isupper() else whole.lower()
