"""The nearest-questions router: an expert is as good as it was on the questions most like this one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from data.encoders import DEFAULT
from data.encoders.features import Features
from router.artefact import RouterError
from router.base import EmbeddingRouter


class KNNRouter(EmbeddingRouter):
    """Score each expert by its kernel-weighted mean on the k nearest training questions, shrunk towards its overall mean.

    Args:
        k: Neighbours that count.
        temperature: Width of the kernel `exp((similarity - nearest) / temperature)`.
        prior: Weight of the overall mean, in neighbours.
        most: Training questions that are kept at most, drawn by the seed 0; more would be slower, and hardly better.
        texts: Whether the artefact holds the training questions' texts, by which it explains its routes.
        encoder: Names of text encoders, joined by `+`; the first one tells what is near.

    Source:
        Hu et al. 2024, RouterBench, arXiv:2403.12031 (the kNN router); Li et al. 2025, C3PO, arXiv:2504.07964 (weighing by the
        success of neighbours); the shrinkage is ours.

    Example:
        >>> row = {"query_id": "1", "query": "two plus two", "expert": "a", "score": 1.0}
        >>> router = KNNRouter(k=1, prior=0.0).fit(pd.DataFrame([row]))
        >>> router.scores(["three plus three"]).round(2).tolist()
        [[1.0]]
    """

    kind = "knn"

    def __init__(
        self,
        *,
        k: int = 150,
        temperature: float = 0.1,
        prior: float = 5.0,
        most: int = 20_000,
        texts: bool = True,
        encoder: str = DEFAULT,
    ) -> None:
        super().__init__(encoder=encoder)
        self.k = k
        self.temperature = temperature
        self.prior = prior
        self.most = most
        self.texts = texts

    def _prepare(self, features: Features, experts: Sequence[str]) -> None:
        self.dim_ = features.first([""]).shape[1]

    def _adopt(self, other: KNNRouter, known: np.ndarray) -> None:
        self.dim_ = other.dim_

    def _fit(self, vectors: np.ndarray, scores: np.ndarray, queries: pd.DataFrame) -> None:
        if self.k < 1 or self.temperature <= 0 or self.prior < 0 or self.most < 1:
            settings = f"k={self.k}, temperature={self.temperature}, prior={self.prior}, most={self.most}"
            raise RouterError(f"the knn router wants k and most of at least 1, a temperature above 0 and a prior from 0, not {settings}")
        self.mean_ = np.nanmean(scores, axis=0)
        if len(vectors) > self.most:
            kept = np.sort(np.random.default_rng(0).permutation(len(vectors))[: self.most])
            vectors, scores, queries = vectors[kept], scores[kept], queries.iloc[kept]
        meant = vectors[:, : self.dim_]
        self.scale_ = (np.maximum(np.abs(meant).max(axis=1), 1e-12) / 127).astype(np.float32)
        self.vectors_ = np.rint(meant / self.scale_[:, None]).astype(np.int8)  # a quarter of the artefact; what is fitted is what is saved
        self.quality_ = scores.astype(np.float32)
        self.queries_ = list(queries["query"]) if self.texts else []
        self._unpack()

    def _unpack(self) -> None:
        self._search = self.vectors_ * self.scale_[:, None]
        self._known = ~np.isnan(self.quality_)
        self._right = np.nan_to_num(self.quality_)

    def _nearest(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        similarity = self._search @ vector[: self.dim_]
        k = min(self.k, len(similarity))
        edge = np.partition(similarity, -k)[-k]
        close = np.flatnonzero(similarity >= edge)  # in file order, so that the stable sort keeps it among equals
        nearest = close[np.argsort(-similarity[close], kind="stable")][:k]
        return nearest, similarity[nearest]

    def _score(self, vector: np.ndarray) -> np.ndarray:
        nearest, similarity = self._nearest(vector)
        weight = np.exp((similarity - similarity[0]) / self.temperature)
        right = weight @ self._right[nearest] + self.prior * self.mean_
        total = weight @ self._known[nearest] + self.prior
        return np.asarray(np.where(total > 0, right / np.maximum(total, 1e-12), self.mean_))

    def _reasons(self, vector: np.ndarray, experts: Sequence[str]) -> tuple[str, ...]:
        """Name the three nearest training questions and who was right on them."""
        if not self.queries_:
            return ()
        nearest, similarity = self._nearest(vector)
        lines = []
        for row, close in list(zip(nearest, similarity, strict=True))[:3]:
            right = [name for name, score in zip(experts, self.quality_[row], strict=True) if score >= 0.5]
            text = self.queries_[row]
            lines.append(f"{close:.2f} {text[:200] + '…' if len(text) > 200 else text!r}: right were {', '.join(right) or 'none'}")
        return tuple(lines)

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        arrays = {"vectors": self.vectors_, "scale": self.scale_, "quality": self.quality_, "mean": self.mean_}
        return {"queries": self.queries_, "dim": self.dim_}, arrays

    def _restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.queries_, self.vectors_, self.quality_, self.mean_ = meta["queries"], arrays["vectors"], arrays["quality"], arrays["mean"]
        # version 1 kept the vectors in 16 bits, without a scale
        self.scale_ = arrays.get("scale", np.ones(len(self.vectors_), dtype=np.float32))
        self.dim_ = meta.get("dim", self.vectors_.shape[1])
        self._unpack()
