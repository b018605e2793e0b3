"""What a router is: texts in, one probability per expert out; and how a fitted one is kept on disk."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import pandas as pd

from data.encoders import MINILM, Encoder, get_encoder
from data.records import CounterpointError
from data.scores import check_scores, experts_of, pivot

FORMAT_VERSION = 1


class RouterError(CounterpointError):
    """A router that cannot be fitted, saved or loaded."""


class Router(Protocol):
    """Predicts how likely each expert is to answer right.

    A text's scores depend on that text only, to the last bit, whatever else is scored in the same call.
    """

    kind: ClassVar[str]
    experts_: list[str]

    def fit(self, table: pd.DataFrame) -> Self:
        """Learn from a score table."""
        ...

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Predict the probability of a right answer, shape (n_texts, n_experts), each in [0, 1]."""
        ...

    def reasons(self, text: str) -> tuple[str, ...]:
        """Say in a few lines what speaks for the scores of a text."""
        ...

    def save(self, folder: Path) -> None:
        """Write an artefact: JSON and safetensors, nothing that runs."""
        ...


class EmbeddingRouter(ABC):
    """What routers on text embeddings share: encoding, one row at a time, and the artefact.

    Args:
        encoder: Name of the text encoder.
    """

    kind: ClassVar[str]

    def __init__(self, *, encoder: str = MINILM) -> None:
        self.encoder = encoder
        self._encode: Encoder | None = None

    def fit(self, table: pd.DataFrame) -> Self:
        """Learn from a score table.

        Args:
            table: A score table; a query may lack rows of some experts.

        Raises:
            ScoreTableError: The table is not one.
            RouterError: A setting is out of its range.
        """
        table = check_scores(table)
        queries, scores = pivot(table)
        self._fit(self._vectors(list(queries["query"])), scores, queries)
        self.experts_ = experts_of(table)
        return self

    def _check_fitted(self) -> None:
        if not hasattr(self, "experts_"):
            raise RouterError(f"the {self.kind} router is not fitted: call fit, or load an artefact")

    def _vectors(self, texts: Sequence[str]) -> np.ndarray:
        if self._encode is None:
            self._encode = get_encoder(self.encoder)
        return self._encode(texts)

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Predict the probability of a right answer, shape (n_texts, n_experts)."""
        self._check_fitted()
        # row by row: a matrix product rounds by its shape, and a route must not depend on who shares the batch
        rows = [self._score(vector) for vector in self._vectors(texts)]
        return np.stack(rows) if rows else np.zeros((0, len(self.experts_)))

    def reasons(self, text: str) -> tuple[str, ...]:
        """Say nothing beyond the scores."""
        self._check_fitted()
        return ()

    @abstractmethod
    def _fit(self, vectors: np.ndarray, scores: np.ndarray, queries: pd.DataFrame) -> None: ...

    @abstractmethod
    def _score(self, vector: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The fitted state: what goes into JSON, and the arrays."""
        ...

    @abstractmethod
    def _restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None: ...

    def save(self, folder: Path) -> None:
        """Write `router.json` and `weights.safetensors`.

        Raises:
            RouterError: The router is not fitted, or the folder cannot be written.
        """
        from safetensors.numpy import save

        self._check_fitted()
        meta, arrays = self._state()
        weights = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        head = {
            "version": FORMAT_VERSION,
            "kind": self.kind,
            "encoder": self.encoder,
            "experts": self.experts_,
            "state": meta,
        }
        head["sha256"] = _checksum(head, weights)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "weights.safetensors").write_bytes(weights)
            (folder / "router.json").write_text(json.dumps(head, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise RouterError(f"cannot write the router to {folder}: {error.strerror or error}") from error

    @classmethod
    def restore(cls, head: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        """Make a fitted router of an artefact's parts."""
        router = cls(encoder=head["encoder"])
        router.experts_ = list(head["experts"])
        router._restore(head["state"], arrays)
        return router


def _checksum(head: dict[str, Any], weights: bytes) -> str:
    """The checksum of both files, as far as they can be damaged without notice."""
    rest = {name: value for name, value in head.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode() + weights).hexdigest()


def read_artefact(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read and check the parts of a router's artefact.

    Raises:
        RouterError: It is absent, damaged, or of a version that this program does not read.
    """
    from safetensors.numpy import load

    try:
        head = json.loads((folder / "router.json").read_text(encoding="utf-8"))
        weights = (folder / "weights.safetensors").read_bytes()
    except OSError as error:
        name = Path(error.filename or "").name
        raise RouterError(f"no router in {folder}: {name} cannot be read; make one by `counterpoint router fit`") from error
    except ValueError as error:
        raise RouterError(f"{folder / 'router.json'} is no JSON: {error}") from error
    if not isinstance(head, dict):
        raise RouterError(f"{folder / 'router.json'} is damaged: wanted an object, not {type(head).__name__}")
    if head.get("version") != FORMAT_VERSION:
        raise RouterError(f"the router in {folder} has version {head.get('version')}, this program reads {FORMAT_VERSION}")
    if _checksum(head, weights) != head.get("sha256"):
        raise RouterError(f"the router in {folder} is damaged: its checksum is not the one in router.json")
    return head, load(weights)
