"""The linear router: one logistic regression on the embedding for each expert."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd

from data.encoders import MINILM
from router.base import EmbeddingRouter, RouterError


class LinearRouter(EmbeddingRouter):
    """Score each expert by a logistic regression on the question's embedding; graded scores count as part right, part wrong.

    Args:
        strength: Inverse of the ridge penalty (`C` of scikit-learn).
        encoder: Name of the text encoder.

    Example:
        >>> rows = [{"query_id": q, "query": q, "expert": "a", "score": s} for q, s in [("two plus two", 1.0), ("spell cat", 0.0)]]
        >>> router = LinearRouter().fit(pd.DataFrame(rows))
        >>> bool(router.scores(["three plus four"])[0, 0] > router.scores(["spell dog"])[0, 0])
        True
    """

    kind: ClassVar[str] = "linear"

    def __init__(self, *, strength: float = 10.0, encoder: str = MINILM) -> None:
        super().__init__(encoder=encoder)
        self.strength = strength

    def _fit(self, vectors: np.ndarray, scores: np.ndarray, queries: pd.DataFrame) -> None:
        from sklearn.linear_model import LogisticRegression

        if self.strength <= 0:
            raise RouterError(f"the linear router wants a strength above 0, not {self.strength}")
        self.coef_ = np.zeros((scores.shape[1], vectors.shape[1]))
        self.intercept_ = np.zeros(scores.shape[1])
        for expert, column in enumerate(scores.T):
            known = ~np.isnan(column)
            x, y = vectors[known], column[known]
            mean = float(np.clip(y.mean(), 0.5 / len(y), 1 - 0.5 / len(y)))
            if np.all(y == 0) or np.all(y == 1):  # nothing to tell apart: the smoothed base rate stands
                self.intercept_[expert] = np.log(mean / (1 - mean))
                continue
            labels = np.r_[np.ones(len(y)), np.zeros(len(y))]
            model = LogisticRegression(C=self.strength, max_iter=2000)
            model.fit(np.r_[x, x], labels, sample_weight=np.r_[y, 1 - y])
            self.coef_[expert], self.intercept_[expert] = model.coef_[0], model.intercept_[0]

    def _score(self, vector: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-(self.coef_ @ vector + self.intercept_))))

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return {"strength": self.strength}, {"coef": self.coef_, "intercept": self.intercept_}

    def _restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.strength = meta["strength"]
        self.coef_, self.intercept_ = arrays["coef"], arrays["intercept"]
