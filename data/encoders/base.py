"""What an encoder is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol, Self

import numpy as np


class Encoder(Protocol):
    """Maps texts to vectors.

    A vector depends on its own text only, to the last bit, whatever else is encoded in the same call.
    """

    name: str

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Encode n texts, shape (n, dim), float32."""
        ...


class Learned(Encoder, Protocol):
    """An encoder that is fitted on training texts, so that its state travels in the artefact of whoever uses it."""

    def fit(self, texts: Sequence[str]) -> Self:
        """Learn from training texts."""
        ...

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What was learned: what goes into JSON, and the arrays."""
        ...

    def restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Take what was learned from an artefact."""
        ...


def clean(text: str) -> str:
    r"""A text that every tokenizer takes: half characters (lone surrogates) become question marks.

    Example:
        >>> clean("a\ud800b")
        'a?b'
    """
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def remembering(encode: Callable[[str], np.ndarray]) -> Callable[[str], np.ndarray]:
    """Remember the vectors of short texts: a route is followed by its reasons, and kinds that are compared read the same texts."""
    remembered = lru_cache(maxsize=1 << 15)(encode)
    return lambda text: remembered(text) if len(text) <= 1 << 12 else encode(text)


def one_thread() -> None:
    """Let linear algebra run on one thread in this process: a decision is too short to gain from more, and threads that spin cost it."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="blas")


def unit(vector: np.ndarray) -> np.ndarray:
    """A vector of length one, or zeros where it has no length."""
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), dtype=np.float32)
