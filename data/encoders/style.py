"""How a text looks, in two dozen numbers: length, script, digits, punctuation, options. It tells tasks apart in microseconds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from data.encoders.base import remembering

FEATURES = (
    "characters", "words", "lines", "longest_word", "digits", "capitals", "punctuation", "code", "maths", "not_ascii", "cjk",
    "numbers", "longest_number", "options", "has_options", "sentences", "questions", "quotes", "dollars", "backslashes", "blanks",
    "ends_in_question", "ends_in_colon", "starts_capital", "indented", "word_length", "stem", "numeric_options",
)  # fmt: skip
"""What is counted: amounts as logarithms, shares of the characters, and marks that are there or not."""

_CLASSES = {
    "digits": "0123456789",
    "capitals": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "punctuation": ".,;:?!'\"",
    "code": "{}[]_()=#",
    "maths": "\\$^+-*/<>=|",
}
_IN_CLASS = np.array([[chr(code) in members for members in _CLASSES.values()] for code in range(129)], dtype=np.float64)
_OPTION = re.compile(r"(?:^|\n)[ \t]*\(?([A-P])[.):][ \t]*([-+$€£]?[0-9.])?")
"""A lettered option, and the beginning of a number where it is one."""
_NUMBER = re.compile(r"[0-9]+")
_WORD = re.compile(r"\S+")
_CLIP = 3.0


def count_style(text: str) -> np.ndarray:
    r"""Count what `FEATURES` names, shape (28,).

    Example:
        >>> counted = dict(zip(FEATURES, count_style("What is 6 * 7?\nA. 42\nB. 13"), strict=True))
        >>> float(counted["options"]), float(counted["cjk"])
        (0.2, 0.0)
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    ascii_counts = np.bincount(np.minimum(codes, 128), minlength=129)
    n = max(len(codes), 1)
    shares = (ascii_counts @ _IN_CLASS) / n
    cjk = int(np.count_nonzero((codes >= 0x4E00) & (codes <= 0x9FFF))) if ascii_counts[128] else 0
    words = _WORD.findall(text)
    numbers = _NUMBER.findall(text)
    found = list(_OPTION.finditer(text))
    options = len({match[1] for match in found})
    numeric = sum(match[2] is not None for match in found) / max(len(found), 1)
    stem = found[0].start() if found else len(text)
    end = text.rstrip()
    amounts = np.log1p([
        len(codes), len(words), ascii_counts[10], max(map(len, words), default=0), len(numbers), max(map(len, numbers), default=0),
        ascii_counts[46], ascii_counts[63], ascii_counts[34], ascii_counts[36], ascii_counts[92], stem,
    ])  # fmt: skip
    characters, count, lines, longest, many, digits, stops, questions, quotes, dollars, slashes, before = amounts.tolist()
    return np.array([
        characters, count, lines, longest, *shares, ascii_counts[128] / n, cjk / n, many, digits, options / 10, options > 0, stops,
        questions, quotes, dollars, slashes, "__" in text, end.endswith(("?", "\uff1f")), end.endswith((":", "\uff1a")),
        text[:1].isupper(), "\n    " in text, len(codes) / max(len(words), 1), before, numeric,
    ], dtype=np.float64)  # fmt: skip


class StyleEncoder:
    """Encode how a text looks: each feature in standard deviations of the training texts, cut at three, the whole of length near one."""

    name = "style"

    def __init__(self) -> None:
        self._counted = remembering(count_style)

    def fit(self, texts: Sequence[str]) -> Self:
        """Learn each feature's mean and spread."""
        counted = np.stack([self._counted(text) for text in texts])
        self.mean_ = counted.mean(axis=0)
        self.scale_ = 1 / (np.maximum(counted.std(axis=0), 1e-3) * np.sqrt(len(FEATURES)))
        return self

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Encode n texts, shape (n, 28), float32."""
        limit = _CLIP / np.sqrt(len(FEATURES))
        rows = [np.clip((self._counted(text) - self.mean_) * self.scale_, -limit, limit) for text in texts]
        return np.array(rows, dtype=np.float32) if rows else np.zeros((0, len(FEATURES)), dtype=np.float32)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Means and scales."""
        return {}, {"mean": self.mean_, "scale": self.scale_}

    def restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Take means and scales."""
        self.mean_, self.scale_ = arrays["mean"], arrays["scale"]
