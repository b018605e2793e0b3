"""The perceptron router: one hidden layer shared by all experts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from data.encoders import DEFAULT
from router.artefact import RouterError
from router.base import EmbeddingRouter
from router.gradient import Weights, minimise, sigmoid, start_logits


class MLPRouter(EmbeddingRouter):
    """Score each expert by a multilayer perceptron with one hidden layer on the question's features.

    Args:
        hidden: Hidden units.
        decay: Penalty on squared weights.
        steps: Iterations at most.
        seed: Seed of the first weights.
        encoder: Names of text encoders, joined by `+`.

    Source:
        Hu et al. 2024, RouterBench, arXiv:2403.12031 (the MLP router).

    Example:
        >>> rows = [{"query_id": q, "query": q, "expert": "a", "score": s} for q, s in [("two plus two", 1.0), ("spell cat", 0.0)]]
        >>> router = MLPRouter(decay=1e-4).fit(pd.DataFrame(rows))
        >>> bool(router.scores(["three plus four"])[0, 0] > router.scores(["spell dog"])[0, 0])
        True
    """

    kind = "mlp"

    def __init__(self, *, hidden: int = 32, decay: float = 5e-4, steps: int = 200, seed: int = 0, encoder: str = DEFAULT) -> None:
        super().__init__(encoder=encoder)
        self.hidden = hidden
        self.decay = decay
        self.steps = steps
        self.seed = seed

    def _fit(self, vectors: np.ndarray, scores: np.ndarray, queries: pd.DataFrame) -> None:
        if self.hidden < 1 or self.decay < 0 or self.steps < 1:
            raise RouterError(
                f"the mlp router wants hidden and steps from 1 and decay from 0, not {self.hidden}, {self.steps}, {self.decay}"
            )
        x = vectors.astype(np.float64)
        rng = np.random.default_rng(self.seed)
        start = {
            "inner": rng.normal(0, 1, (x.shape[1], self.hidden)) / np.sqrt(x.shape[1]),
            "bias_inner": np.zeros(self.hidden),
            "outer": rng.normal(0, 0.1, (self.hidden, scores.shape[1])) / np.sqrt(self.hidden),
            "bias": start_logits(scores),
        }

        def forward(w: Weights, x: np.ndarray) -> Any:
            h = np.tanh(x @ w["inner"] + w["bias_inner"])

            def backward(g: np.ndarray) -> Weights:
                inside = (g @ w["outer"].T) * (1 - h**2)
                return {"inner": x.T @ inside, "bias_inner": inside.sum(axis=0), "outer": h.T @ g, "bias": g.sum(axis=0)}

            return h @ w["outer"] + w["bias"], backward

        self.weights_ = minimise(start, forward, x, scores, self.decay, self.steps)

    def _score(self, vector: np.ndarray) -> np.ndarray:
        w = self.weights_
        return sigmoid(np.tanh(vector @ w["inner"] + w["bias_inner"]) @ w["outer"] + w["bias"])

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return {}, dict(self.weights_)

    def _restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.weights_ = {name: arrays[name] for name in ("inner", "bias_inner", "outer", "bias")}
