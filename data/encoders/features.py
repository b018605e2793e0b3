"""What a router sees of a text: one encoder's vector, or several side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data.encoders import DEFAULT, NAMES, Encoder, Learned, get_encoder, make_learned
from data.records import CounterpointError

Tick = Callable[[int, int], None]
"""Told of texts done and their total."""


class Features:
    """Encode by the encoders of a name like `static+style`.

    Args:
        name: Names of encoders, joined by `+`; those that need no training are loaded when first used.

    Example:
        >>> Features("static+style").fit(["two plus two", "What is a noun?"])(["three plus four"]).shape
        (1, 284)
    """

    def __init__(self, name: str = DEFAULT) -> None:
        self.name = name
        self._names = name.split("+")
        if not all(self._names):
            raise CounterpointError(f"the features {name!r} have an empty name: wanted encoders joined by +, such as {DEFAULT}")
        self._parts: list[Encoder | Learned] | None = None

    def fit(self, texts: Sequence[str]) -> Features:
        """Fit the parts that learn from texts; forgets what was fitted before."""
        self._parts = [make_learned(name) or get_encoder(name) for name in self._names]
        for part in self._learned():
            part.fit(texts)
        return self

    def __call__(self, texts: Sequence[str], tick: Tick | None = None) -> np.ndarray:
        """Encode n texts, shape (n, dim), float32; `tick` is told of progress."""
        if self._parts is None:
            self._parts = [make_learned(name) or get_encoder(name) for name in self._names]
        if tick is None:
            vectors = [part(texts) for part in self._parts]
            return vectors[0] if len(vectors) == 1 else np.concatenate(vectors, axis=1)
        rows = []
        for start in range(0, len(texts), 64):
            rows.append(self(texts[start : start + 64]))
            tick(min(start + 64, len(texts)), len(texts))
        return np.concatenate(rows) if rows else self([])

    def first(self, texts: Sequence[str]) -> np.ndarray:
        """Encode by the first part alone: what the texts are about, shape (n, dim of that part)."""
        if self._parts is None:
            raise RuntimeError("the features are not fitted")
        return self._parts[0](texts)

    def _learned(self) -> list[Learned]:
        return [part for part in self._parts or [] if hasattr(part, "fit")]  # type: ignore[misc]

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What the parts learned: what goes into JSON, and the arrays."""
        metas: dict[str, Any] = {}
        arrays: dict[str, np.ndarray] = {}
        for part in self._learned():
            metas[part.name], own = part.state()
            arrays |= {f"{part.name}.{name}": array for name, array in own.items()}
        digests = {part.name: digest_of(part) for part in self._parts or [] if part.name not in NAMES and digest_of(part)}
        return metas | ({"digests": digests} if digests else {}), arrays

    def restore(self, metas: dict[str, Any], arrays: dict[str, np.ndarray]) -> Features:
        """Take what the parts learned."""
        self._parts = []
        for name in self._names:
            part = make_learned(name)
            if part is not None:
                own = {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}
                part.restore(metas[name], own)
            self._parts.append(part or _Later(name, metas.get("digests", {}).get(name)))
        return self


class _Later:
    """An encoder that is loaded when it is first used, so that a router loads in no time; it must be the one that was fitted on."""

    def __init__(self, name: str, digest: str | None) -> None:
        self.name = name
        self.digest = digest

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        encoder = get_encoder(self.name)
        if self.digest is not None and digest_of(encoder) != self.digest:
            raise CounterpointError(f"the encoder in {self.name} is not the one that the router was fitted on: fit the router again")
        return encoder(texts)


def digest_of(encoder: Encoder) -> str | None:
    """The checksum of an encoder that lies in a folder of ours, where it has one."""
    return getattr(encoder, "digest", None)
