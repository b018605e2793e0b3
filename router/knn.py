"""The nearest-questions router: an expert is as good as it was on the questions most like this one."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd

from data.encoders import MINILM
from router.base import EmbeddingRouter, RouterError


class KNNRouter(EmbeddingRouter):
    """Score each expert by its kernel-weighted mean on the k nearest training questions, shrunk towards its overall mean.

    Args:
        k: Neighbours that count.
        temperature: Width of the kernel `exp((cosine - 1) / temperature)`.
        prior: Weight of the overall mean, in neighbours.
        encoder: Name of the text encoder.

    Source:
        Hu et al. 2024, RouterBench, arXiv:2403.12031 (the kNN router); the kernel and the shrinkage are ours.

    Example:
        >>> row = {"query_id": "1", "query": "two plus two", "expert": "a", "score": 1.0}
        >>> router = KNNRouter(k=1, prior=0.0).fit(pd.DataFrame([row]))
        >>> router.scores(["three plus three"]).round(2).tolist()
        [[1.0]]
    """

    kind: ClassVar[str] = "knn"

    def __init__(self, *, k: int = 20, temperature: float = 0.1, prior: float = 0.5, encoder: str = MINILM) -> None:
        super().__init__(encoder=encoder)
        self.k = k
        self.temperature = temperature
        self.prior = prior

    def _fit(self, vectors: np.ndarray, scores: np.ndarray, queries: pd.DataFrame) -> None:
        if self.k < 1 or self.temperature <= 0 or self.prior < 0:
            settings = f"k={self.k}, temperature={self.temperature}, prior={self.prior}"
            raise RouterError(f"the knn router wants k of at least 1, a temperature above 0 and a prior of at least 0, not {settings}")
        self.vectors_ = vectors.astype(np.float16)  # half the artefact; what is fitted is what is saved
        self.quality_ = scores.astype(np.float32)
        self.mean_ = np.nanmean(scores, axis=0)
        self.queries_ = list(queries["query"])
        self.categories_ = list(queries["category"].fillna("")) if "category" in queries else [""] * len(queries)
        self._search = self.vectors_.astype(np.float32)

    def _nearest(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        similarity = self._search @ vector
        nearest = np.argsort(-similarity, kind="stable")[: self.k]  # stable: ties keep file order
        return nearest, similarity[nearest]

    def _score(self, vector: np.ndarray) -> np.ndarray:
        nearest, similarity = self._nearest(vector)
        weight = np.exp((similarity - similarity[0]) / self.temperature)[:, None]
        quality = self.quality_[nearest]
        known = ~np.isnan(quality)
        right = (weight * np.where(known, quality, 0)).sum(axis=0) + self.prior * self.mean_
        total = (weight * known).sum(axis=0) + self.prior
        return np.asarray(np.where(total > 0, right / np.maximum(total, 1e-12), self.mean_))

    def reasons(self, text: str) -> tuple[str, ...]:
        """Name the three nearest training questions and who was right on them."""
        self._check_fitted()
        nearest, similarity = self._nearest(self._vectors([text])[0])
        lines = []
        for row, close in list(zip(nearest, similarity, strict=True))[:3]:
            right = [name for name, score in zip(self.experts_, self.quality_[row], strict=True) if score >= 0.5]
            lines.append(f"{close:.2f} {self.queries_[row]!r}: right were {', '.join(right) or 'none'}")
        return tuple(lines)

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        settings = {"k": self.k, "temperature": self.temperature, "prior": self.prior}
        texts = {"queries": self.queries_, "categories": self.categories_}
        return settings | texts, {"vectors": self.vectors_, "quality": self.quality_, "mean": self.mean_}

    def _restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.k, self.temperature, self.prior = meta["k"], meta["temperature"], meta["prior"]
        self.queries_, self.categories_ = meta["queries"], meta["categories"]
        self.vectors_, self.quality_, self.mean_ = arrays["vectors"], arrays["quality"], arrays["mean"]
        self._search = self.vectors_.astype(np.float32)
