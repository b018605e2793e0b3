"""The cluster router: questions fall into clusters, and each cluster remembers who was good at it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from data.encoders import DEFAULT
from router.artefact import RouterError
from router.base import EmbeddingRouter


class ClusterRouter(EmbeddingRouter):
    """Cluster the training questions by k-means, and score each expert by its means in the clusters nearest to a question.

    Args:
        clusters: Number of clusters; at most a quarter of the questions.
        nearest: Clusters that count, by a softmax of their similarity.
        sharpness: Factor of the similarity in that softmax.
        prior: Weight of an expert's overall mean in each cluster, in questions.
        by: `accuracy` scores by the mean itself; `rank` by one over the expert's place in the cluster, as the paper's code.
        seed: Seed of k-means.
        encoder: Names of text encoders, joined by `+`.

    Source:
        Zhang et al. 2025, The Avengers, arXiv:2505.19797; the shrinkage and scoring by accuracy are ours.

    Example:
        >>> rows = [{"query_id": q, "query": q, "expert": "a", "score": 1.0} for q in ("two plus two", "spell cat")]
        >>> ClusterRouter().fit(pd.DataFrame(rows)).scores(["six plus one"]).round(2).tolist()
        [[1.0]]
    """

    kind = "cluster"

    def __init__(
        self,
        *,
        clusters: int = 256,
        nearest: int = 24,
        sharpness: float = 12.0,
        prior: float = 10.0,
        by: Literal["accuracy", "rank"] = "accuracy",
        seed: int = 0,
        encoder: str = DEFAULT,
    ) -> None:
        super().__init__(encoder=encoder)
        self.clusters = clusters
        self.nearest = nearest
        self.sharpness = sharpness
        self.prior = prior
        self.by = by
        self.seed = seed

    def _fit(self, vectors: np.ndarray, scores: np.ndarray, queries: pd.DataFrame) -> None:
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits

        if self.clusters < 1 or self.nearest < 1 or self.prior < 0 or self.by not in ("accuracy", "rank"):
            settings = f"clusters={self.clusters}, nearest={self.nearest}, prior={self.prior}, by={self.by!r}"
            raise RouterError(f"the cluster router wants clusters and nearest from 1, a prior from 0, by accuracy or rank, not {settings}")
        distinct = len(np.unique(vectors, axis=0))
        count = max(1, min(self.clusters, len(vectors) // 4, distinct))
        with threadpool_limits(1):  # the order of sums, and with it the clusters, must not depend on the number of cores
            found = KMeans(count, n_init=4, random_state=self.seed).fit(vectors.astype(np.float64))
        mean = np.nanmean(scores, axis=0)
        known = ~np.isnan(scores)
        self.centres_ = found.cluster_centers_.astype(np.float32)
        self.size_ = np.bincount(found.labels_, minlength=count)
        right, seen = np.zeros((count, scores.shape[1])), np.zeros((count, scores.shape[1]))
        np.add.at(right, found.labels_, np.where(known, scores, 0))
        np.add.at(seen, found.labels_, known)
        self.quality_ = (right + self.prior * mean) / np.maximum(seen + self.prior, 1e-12)
        self.quality_ = np.where(seen + self.prior > 0, self.quality_, mean)

    def _near(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        similarity = self.centres_ @ vector - (self.centres_**2).sum(axis=1) / 2  # the order of Euclidean distance
        order = np.argsort(-similarity, kind="stable")[: self.nearest]
        odds = np.exp(self.sharpness * (similarity[order] - similarity[order[0]]))
        return order, odds / odds.sum()

    def _score(self, vector: np.ndarray) -> np.ndarray:
        order, weight = self._near(vector)
        if self.by == "accuracy":
            return np.asarray(weight @ self.quality_[order])
        rank = np.argsort(np.argsort(-self.quality_[order], axis=1, kind="stable"), axis=1)
        return np.asarray(weight @ (0.1 / (rank + 0.1)))

    def _reasons(self, vector: np.ndarray, experts: Sequence[str]) -> tuple[str, ...]:
        """Name the nearest cluster and who is best in it."""
        order, weight = self._near(vector)
        row = self.quality_[order[0]]
        best = int(row.argmax())
        return (f"cluster {order[0]} ({self.size_[order[0]]} questions, weight {weight[0]:.2f}): best is {experts[best]} {row[best]:.2f}",)

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return {}, {"centres": self.centres_, "quality": self.quality_, "size": self.size_}

    def _restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.centres_, self.quality_, self.size_ = arrays["centres"], arrays["quality"], arrays["size"]
