"""Which of the questions that were asked before means the same as a new one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from data.encoders import get_encoder
from data.encoders.base import unit
from serving.wording import Reading, read_question

Encode = Callable[[Sequence[str]], np.ndarray]
"""Texts to vectors, shape (n, dim)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a question stands among others.

    Attributes:
        scope: All that must be equal to the letter: whose it is, its options, the turns before it, its facts.
        reading: Its wording.
        vector: Its meaning, of length one, or zeros.
    """

    scope: tuple[str, tuple[str, ...]]
    reading: Reading
    vector: np.ndarray


class Likeness:
    """Find a question that means the same, among those that are equal in all that must be equal.

    Two questions mean the same where the cosine of their vectors reaches the threshold, and so does the cosine of the words that only one
    of them has: in a long question one other word hardly moves the whole, and is often what matters. What `Reading.rests` refuses is
    never the same.

    Args:
        similarity: The threshold, above 0.
        encode: Maps n texts to vectors, shape (n, dim).

    Example:
        >>> likeness = Likeness(0.97, encoder_of("static"))
        >>> likeness.add("first", likeness.place("ann", "What is the capital of France?"))
        >>> likeness.nearest(likeness.place("ann", "what's the capital of France"))
        'first'
        >>> likeness.nearest(likeness.place("ann", "What is the capital of Spain?"))
        >>> likeness.nearest(likeness.place("bob", "What is the capital of France?"))
    """

    def __init__(self, similarity: float, encode: Encode) -> None:
        self.similarity = similarity
        self._encode = encode
        self._scopes: dict[tuple[str, tuple[str, ...]], _Rows] = {}

    def place(self, scope: str, question: str) -> Place | None:
        """Where a question stands; None where it is not to be compared by its meaning.

        Args:
            scope: Whose it is, its options and the turns before it.
            question: Its text.
        """
        reading = read_question(question)
        return None if reading is None else Place((scope, reading.facts), reading, self._vector(" ".join(reading.words)))

    def nearest(self, place: Place) -> str | None:
        """The name of the nearest question that means the same."""
        rows = self._scopes.get(place.scope)
        if rows is None:
            return None
        cosines = rows.vectors @ place.vector
        near = np.flatnonzero(cosines >= self.similarity)
        nearest_first: list[int] = near[np.argsort(-cosines[near], kind="stable")].tolist()
        for at in nearest_first:
            if self._same(place.reading, rows.readings[at]):
                return rows.names[at]
        return None

    def add(self, name: str, place: Place) -> None:
        """Add a question."""
        self._scopes.setdefault(place.scope, _Rows(len(place.vector))).add(name, place)

    def remove(self, name: str, place: Place) -> None:
        """Take a question out."""
        rows = self._scopes[place.scope]
        rows.remove(name)
        if not rows.names:
            del self._scopes[place.scope]

    def clear(self) -> None:
        """Forget all."""
        self._scopes.clear()

    def _same(self, one: Reading, other: Reading) -> bool:
        rests = one.rests(other)
        return rests is not None and (rests == ("", "") or bool(self._vector(rests[0]) @ self._vector(rests[1]) >= self.similarity))

    def _vector(self, text: str) -> np.ndarray:
        return unit(self._encode([text])[0])


class _Rows:
    """The questions of one scope, their vectors in one matrix that grows as they come."""

    def __init__(self, dim: int) -> None:
        self.names: list[str] = []
        self.readings: list[Reading] = []
        self._matrix = np.zeros((1, dim), dtype=np.float32)

    @property
    def vectors(self) -> np.ndarray:
        """Shape (n, dim)."""
        return self._matrix[: len(self.names)]

    def add(self, name: str, place: Place) -> None:
        if len(self.names) == len(self._matrix):
            self._matrix = np.concatenate([self._matrix, np.zeros_like(self._matrix)])
        self._matrix[len(self.names)] = place.vector
        self.names.append(name)
        self.readings.append(place.reading)

    def remove(self, name: str) -> None:
        at, last = self.names.index(name), len(self.names) - 1
        self._matrix[at], self.names[at], self.readings[at] = self._matrix[last], self.names[last], self.readings[last]
        self.names.pop()
        self.readings.pop()


def encoder_of(name: str) -> Encode:
    """Load the encoders of a name like `static` or `static+all-MiniLM-L6-v2`, their vectors side by side.

    Raises:
        CounterpointError: One is not there, or must be fitted first, as `style` and `tfidf` must.
    """
    parts = [get_encoder(part) for part in name.split("+")]
    return lambda texts: np.concatenate([part(texts) for part in parts], axis=1)
