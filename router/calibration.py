"""Calibration: a predicted 0.7 is right seven times of ten. One curve for all experts, so it never changes who is best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

_EDGE = 0.01
"""Nearer to 0 and 1 the log-odds go on in a gentle line, so that predictions beyond them keep their order."""

_FAR = 15.0
"""Log-odds beyond which probabilities differ in the seventh digit only."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The curve `1 / (1 + exp(-(slope * logit(p) + offset)))`, the same for every expert.

    Attributes:
        slope: How much sharper than the raw prediction; above 0, so the order of experts stays.
        offset: How much more likely right.

    Source:
        Platt 1999, Probabilistic Outputs for Support Vector Machines; on log-odds as in Guo et al. 2017, arXiv:1706.04599.

    Example:
        >>> Calibration(1.0, 0.0)(np.array([0.25, 0.5])).round(4).tolist()
        [0.25, 0.5]
    """

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, predicted: np.ndarray) -> np.ndarray:
        """Calibrate predictions of any shape."""
        if self == Calibration():
            return _inside(np.asarray(predicted, dtype=float))
        odds = self.slope * _logit(predicted) + self.offset
        far = np.maximum(np.abs(odds) - _FAR, 0)  # beyond it they grow slowly, so that no two of them become one
        return np.asarray(1 / (1 + np.exp(-np.sign(odds) * (np.minimum(np.abs(odds), _FAR) + np.log1p(far)))))

    @classmethod
    def fit(cls, predicted: np.ndarray, scores: np.ndarray) -> Self:
        """Find slope and offset by Newton's method on the log loss; fewer than 100 cells change nothing.

        Args:
            predicted: Predictions for questions that they were not learned from, shape (n, n_experts).
            scores: What came, same shape, NaN where it is not known; graded scores count as part right, part wrong.
        """
        known = ~np.isnan(scores) & np.isfinite(predicted)
        z, y = _logit(predicted[known]), scores[known]
        if len(y) < 100 or z.std() < 1e-6:
            return cls()
        x = np.stack([z, np.ones_like(z)], axis=1)
        prior, ridge = np.array([1.0, 0.0]), np.array([10.0, 1.0])  # as if some had been seen that need no correction

        def loss(w: np.ndarray) -> float:
            odds = x @ w
            return float((np.logaddexp(0, odds) - y * odds).sum() + (ridge * (w - prior) ** 2).sum() / 2)

        w = prior
        for _ in range(50):
            p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
            gradient = x.T @ (p - y) + ridge * (w - prior)
            step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + np.diag(ridge), gradient)
            while loss(w - step) > loss(w) and np.abs(step).max() > 1e-9:
                step = step / 2  # far from the minimum a whole step can overshoot
            w = w - step
            if np.abs(step).max() < 1e-8:
                break
        if not np.isfinite(w).all() or w[0] < 0.05:  # predictions that say nothing keep their order all the same
            return cls(0.05, float(_logit(y.mean())))
        return cls(float(w[0]), float(w[1]))


def _logit(p: np.ndarray) -> np.ndarray:
    inside = np.clip(p, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(inside / (1 - inside)) + 4 * (p - inside))


def _inside(p: np.ndarray) -> np.ndarray:
    """Bring what lies beyond 0 and 1 just inside, in its order."""
    edge = 1e-6
    low = edge**2 / np.maximum(2 * edge - p, edge)
    high = 1 - edge**2 / np.maximum(p - (1 - 2 * edge), edge)
    return np.asarray(np.where(p < edge, low, np.where(p > 1 - edge, high, p)))
