"""The linear router: one ridge regression of the score on the text's features for each expert, calibrated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from data.encoders import DEFAULT
from router.artefact import RouterError
from router.base import EmbeddingRouter, centred
from router.crossfit import FOLDS, fold_of

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""What cross-validation chooses from where no penalty is given."""


class LinearRouter(EmbeddingRouter):
    """Score each expert by a ridge regression on the question's features; graded scores are taken as they are.

    Args:
        penalty: Weight of the squared coefficients; None chooses it by cross-validation on the training questions, by how well
            the differences between experts are predicted, since these decide a route.
        encoder: Names of text encoders, joined by `+`.

    Source:
        Hoerl and Kennard 1970, Ridge Regression; the choice by centred error is ours.

    Example:
        >>> rows = [{"query_id": q, "query": q, "expert": "a", "score": s} for q, s in [("two plus two", 1.0), ("spell cat", 0.0)]]
        >>> router = LinearRouter(penalty=0.1).fit(pd.DataFrame(rows))
        >>> bool(router.scores(["three plus four"])[0, 0] > router.scores(["spell dog"])[0, 0])
        True
    """

    kind = "linear"

    def __init__(self, *, penalty: float | None = None, encoder: str = DEFAULT) -> None:
        super().__init__(encoder=encoder)
        self.penalty = penalty

    def _fit(self, vectors: np.ndarray, scores: np.ndarray, queries: pd.DataFrame) -> None:
        if self.penalty is not None and self.penalty <= 0:
            raise RouterError(f"the linear router wants a penalty above 0, not {self.penalty}")
        vectors = vectors.astype(np.float64)
        self.logistic_ = False  # only artefacts of version 1 hold log-odds
        self.penalty_ = self.penalty if self.penalty is not None else choose_penalty(vectors, scores)
        self.coef_, self.intercept_ = (part[0] for part in ridge(vectors, scores, [self.penalty_]))

    def _score(self, vector: np.ndarray) -> np.ndarray:
        value = np.asarray(self.coef_ @ vector + self.intercept_)
        return 1 / (1 + np.exp(-value)) if self.logistic_ else value

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return {"penalty": self.penalty_, "logistic": self.logistic_}, {"coef": self.coef_, "intercept": self.intercept_}

    def _restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.penalty_, self.logistic_ = meta["penalty"], meta["logistic"]
        self.coef_, self.intercept_ = arrays["coef"], arrays["intercept"]


def ridge(vectors: np.ndarray, scores: np.ndarray, penalties: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Fit ridge regressions with an intercept that is not penalised, each expert on the questions that it answered.

    Args:
        vectors: Shape (n, dim).
        scores: Shape (n, n_experts), NaN where a cell is missing.
        penalties: Weights of the squared coefficients.

    Returns:
        Coefficients, shape (n_penalties, n_experts, dim), and intercepts, shape (n_penalties, n_experts).
    """
    coefs = np.zeros((len(penalties), scores.shape[1], vectors.shape[1]))
    intercepts = np.zeros((len(penalties), scores.shape[1]))
    known = ~np.isnan(scores)
    for pattern in np.unique(known, axis=1).T:  # experts that answered the same questions share one decomposition
        columns = np.flatnonzero((known == pattern[:, None]).all(axis=0))
        rows = slice(None) if pattern.all() else pattern
        x, y = vectors[rows], scores[rows][:, columns]
        centre, mean = x.mean(axis=0), y.mean(axis=0)
        x = x - centre
        dual = len(x) < x.shape[1]  # of few questions their own matrix is the smaller one, and gives the same
        values, axes = np.linalg.eigh(x @ x.T if dual else x.T @ x)
        projected = axes.T @ ((y - mean) if dual else x.T @ (y - mean))
        for at, penalty in enumerate(penalties):
            coef = axes @ (projected / (np.maximum(values, 0) + penalty)[:, None])
            coef = x.T @ coef if dual else coef
            coefs[at, columns], intercepts[at, columns] = coef.T, mean - centre @ coef
    return coefs, intercepts


def choose_penalty(vectors: np.ndarray, scores: np.ndarray, seed: int = 0) -> float:
    """Choose the penalty by cross-validation: the one whose predicted differences between experts come nearest to those seen."""
    n = len(vectors)
    if n < 2 * FOLDS:
        return 1.0
    fold = fold_of(n, seed=seed)
    means = np.nanmean(scores, axis=0)
    error = np.zeros(len(PENALTIES))
    for held in range(FOLDS):
        learn, check = fold != held, fold == held
        part = scores[learn]
        part = np.where(np.isnan(part).all(axis=0), means, part)  # an expert that no other fold knows stays at its mean
        coefs, intercepts = ridge(vectors[learn], part, list(PENALTIES))
        _, seen = centred(scores[check], means)
        alone = scores.shape[1] == 1  # one expert has no differences: its own score is what there is to predict
        for at in range(len(PENALTIES)):
            predicted = vectors[check] @ coefs[at].T + intercepts[at]
            _, guessed = centred(np.where(np.isnan(scores[check]), np.nan, predicted), means)
            gap = predicted - scores[check] if alone else guessed - seen
            error[at] += np.nansum(gap**2)
    return PENALTIES[int(error.argmin())]
