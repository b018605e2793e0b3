"""The factorisation router: questions and experts as points in one small space."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from data.encoders import DEFAULT
from router.artefact import RouterError
from router.base import EmbeddingRouter
from router.gradient import Weights, minimise, sigmoid, start_logits


class MFRouter(EmbeddingRouter):
    """Score an expert by the inner product of its vector and the question's projected features, plus a bias.

    Args:
        rank: Dimensions of the space.
        decay: Penalty on squared weights.
        steps: Iterations at most.
        seed: Seed of the first weights.
        encoder: Names of text encoders, joined by `+`.

    Source:
        Ong et al. 2024, RouteLLM, arXiv:2406.18665 (matrix factorisation); Zhuang et al. 2024, EmbedLLM, arXiv:2410.02223.

    Example:
        >>> rows = [{"query_id": q, "query": q, "expert": "a", "score": s} for q, s in [("two plus two", 1.0), ("spell cat", 0.0)]]
        >>> router = MFRouter(decay=1e-4).fit(pd.DataFrame(rows))
        >>> bool(router.scores(["three plus four"])[0, 0] > router.scores(["spell dog"])[0, 0])
        True
    """

    kind = "mf"

    def __init__(self, *, rank: int = 8, decay: float = 5e-4, steps: int = 200, seed: int = 0, encoder: str = DEFAULT) -> None:
        super().__init__(encoder=encoder)
        self.rank = rank
        self.decay = decay
        self.steps = steps
        self.seed = seed

    def _fit(self, vectors: np.ndarray, scores: np.ndarray, queries: pd.DataFrame) -> None:
        if self.rank < 1 or self.decay < 0 or self.steps < 1:
            settings = f"rank={self.rank}, steps={self.steps}, decay={self.decay}"
            raise RouterError(f"the mf router wants rank and steps from 1 and decay from 0, not {settings}")
        x = vectors.astype(np.float64)
        rng = np.random.default_rng(self.seed)
        start = {
            "project": rng.normal(0, 1, (x.shape[1], self.rank)) / np.sqrt(x.shape[1]),
            "expert": rng.normal(0, 0.3, (self.rank, scores.shape[1])),
            "bias": start_logits(scores),
        }

        def forward(w: Weights, x: np.ndarray) -> Any:
            h = x @ w["project"]
            return h @ w["expert"] + w["bias"], lambda g: {
                "project": x.T @ (g @ w["expert"].T),
                "expert": h.T @ g,
                "bias": g.sum(axis=0),
            }

        self.weights_ = minimise(start, forward, x, scores, self.decay, self.steps)

    def _score(self, vector: np.ndarray) -> np.ndarray:
        w = self.weights_
        return sigmoid((vector @ w["project"]) @ w["expert"] + w["bias"])

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return {}, dict(self.weights_)

    def _restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.weights_ = {name: arrays[name] for name in ("project", "expert", "bias")}
