"""What a router is: texts in, one probability per expert out."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import pandas as pd

from data.artefact import Parts
from data.encoders import DEFAULT
from data.encoders.base import one_thread
from data.encoders.features import Features, Tick
from data.scores import check_scores, experts_of, pivot
from router.artefact import RouterError, write_artefact
from router.calibration import Calibration
from router.crossfit import out_of_fold


class Router(Protocol):
    """Predicts how likely each expert is to answer right.

    A text's scores depend on that text only, to the last bit, whatever else is scored in the same call.
    """

    kind: ClassVar[str]
    experts_: list[str]

    def fit(self, table: pd.DataFrame, tick: Tick | None = None) -> Self:
        """Learn from a score table; `tick` is told of texts read and their total."""
        ...

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Predict the probability of a right answer, shape (n_texts, n_experts), each in [0, 1]."""
        ...

    def reasons(self, text: str) -> tuple[str, ...]:
        """Say in a few lines what speaks for the scores of a text."""
        ...

    def state(self) -> Parts:
        """What an artefact holds: what goes into JSON, and the arrays."""
        ...

    def save(self, folder: Path) -> None:
        """Write an artefact: JSON and safetensors, nothing that runs."""
        ...


class BaseRouter(ABC):
    """What all routers share: settings, the fitted check, and the artefact.

    A constructor only stores its arguments, under their names; what is fitted ends in `_`.
    """

    kind: ClassVar[str]
    learns: ClassVar[bool] = True
    """Whether it learns from questions what it can say of questions that it has not seen; baselines don't."""

    experts_: list[str]

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments."""
        known = inspect.signature(type(self).__init__).parameters.values()
        return {entry.name: getattr(self, entry.name) for entry in known if entry.kind is entry.KEYWORD_ONLY}

    @abstractmethod
    def fit(self, table: pd.DataFrame, tick: Tick | None = None) -> Self:
        """Learn from a score table; `tick` is told of texts read and their total."""

    @abstractmethod
    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Predict the probability of a right answer, shape (n_texts, n_experts)."""

    def reasons(self, text: str) -> tuple[str, ...]:
        """Say nothing beyond the scores."""
        self._check_fitted()
        return ()

    @abstractmethod
    def _state(self) -> Parts:
        """The fitted state: what goes into JSON, and the arrays."""

    @abstractmethod
    def _restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None: ...

    def state(self) -> Parts:
        """What an artefact holds.

        Raises:
            RouterError: The router is not fitted.
        """
        self._check_fitted()
        meta, arrays = self._state()
        return {"kind": self.kind, "experts": self.experts_, "settings": self.settings(), "state": meta}, arrays

    def save(self, folder: Path) -> None:
        """Write `router.json` and `weights.safetensors`.

        Raises:
            RouterError: The router is not fitted, or the folder cannot be written.
        """
        write_artefact(folder, self.state())

    @classmethod
    def restore(cls, head: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        """Make a fitted router of an artefact's parts."""
        router = cls(**head["settings"])
        router.experts_ = list(head["experts"])
        router._restore(head["state"], arrays)
        return router

    def _check_fitted(self) -> None:
        if not hasattr(self, "experts_"):
            raise RouterError(f"the {self.kind} router is not fitted: call fit, or load an artefact")


class EmbeddingRouter(BaseRouter):
    """What routers on text features share: encoding, scoring one row at a time, calibration.

    Args:
        encoder: Names of text encoders, joined by `+`.
    """

    def __init__(self, *, encoder: str = DEFAULT) -> None:
        self.encoder = encoder

    def fit(self, table: pd.DataFrame, tick: Tick | None = None) -> Self:
        """Learn from a score table.

        Args:
            table: A score table; a query may lack rows of some experts.
            tick: Told of texts read and their total.

        Raises:
            ScoreTableError: The table is not one.
            RouterError: A setting is out of its range, or the table lacks a column that this kind needs.
        """
        import scipy.linalg  # noqa: F401  # brings its own linear algebra, which must be there to be held to one thread

        one_thread()
        table = check_scores(table)
        queries, scores = pivot(table)
        texts = list(queries["query"])
        features = Features(self.encoder).fit(texts)
        vectors = features(texts, tick)
        self._prepare(features, experts_of(table))
        self._fit(vectors, scores, queries)
        self.calibration_ = self._calibrate(vectors, scores, queries)
        self._features = features
        self.experts_ = experts_of(table)
        return self

    def _prepare(self, features: Features, experts: Sequence[str]) -> None:
        """Do what has to be done once, and needs more than the numbers, before fitting."""

    def _adopt(self, other: Self, known: np.ndarray) -> None:
        """Take over what another router of the same settings prepared, for some of its experts only."""

    def _calibrate(self, vectors: np.ndarray, scores: np.ndarray, queries: pd.DataFrame) -> Calibration:
        rows, predicted = out_of_fold(self, vectors, scores, queries)
        return Calibration.fit(predicted, scores[rows])

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Encode texts as this router sees them, shape (n, dim)."""
        self._check_fitted()
        return self._features(texts)

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Predict the probability of a right answer, shape (n_texts, n_experts)."""
        self._check_fitted()
        # row by row: a matrix product rounds by its shape, and a route must not depend on who shares the batch
        rows = [self.calibration_(self._score(vector)) for text in texts for vector in self._features([text])]
        return np.stack(rows) if rows else np.zeros((0, len(self.experts_)))

    def reasons(self, text: str) -> tuple[str, ...]:
        """Say in a few lines what speaks for the scores of a text."""
        return self._reasons(self.vectors([text])[0], self.experts_)

    def _reasons(self, vector: np.ndarray, experts: Sequence[str]) -> tuple[str, ...]:
        return ()

    @abstractmethod
    def _fit(self, vectors: np.ndarray, scores: np.ndarray, queries: pd.DataFrame) -> None:
        """Learn from features, shape (n, dim), and scores, shape (n, n_experts), NaN where a cell is missing."""

    @abstractmethod
    def _score(self, vector: np.ndarray) -> np.ndarray:
        """Predict from one vector, shape (n_experts,), about the probability of a right answer."""

    def state(self) -> Parts:
        """What an artefact holds, the encoder's fitted parts among it."""
        head, arrays = super().state()
        features, own = self._features.state()
        head["features"], head["calibration"] = features, [self.calibration_.slope, self.calibration_.offset]
        return head, arrays | {f"features.{name}": array for name, array in own.items()}

    @classmethod
    def restore(cls, head: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        """Make a fitted router of an artefact's parts."""
        one_thread()
        router = super().restore(head, arrays)
        own = {name.removeprefix("features."): array for name, array in arrays.items() if name.startswith("features.")}
        router._features = Features(router.encoder).restore(head["features"], own)
        router.calibration_ = Calibration(*head["calibration"])
        return router


def centred(scores: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split scores into how hard a question is and how good each expert is on it beside the others.

    Args:
        scores: Shape (n, n_experts), NaN where a cell is missing.
        means: Each expert's own mean, shape (n_experts,).

    Returns:
        Each question's ease, shape (n, 1): what it lifts all experts above their means; and what is left of each cell, same
        shape as the scores, NaN where they are.

    Example:
        >>> ease, rest = centred(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([0.5, 0.0]))
        >>> ease.ravel().tolist(), rest.tolist()
        ([0.25, -0.25], [[0.25, -0.25], [-0.25, 0.25]])
    """
    rest = scores - means
    known = ~np.isnan(rest)
    ease = np.where(known, rest, 0).sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)
    return ease, rest - ease
