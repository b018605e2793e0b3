"""Predictions for questions that they were not learned from: what calibration and stacking are fitted on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from router.base import EmbeddingRouter

FOLDS = 5
MOST = 20_000
"""Questions that take part at most, drawn by the seed; more would move nothing but the clock."""


def fold_of(n: int, folds: int = FOLDS, seed: int = 0) -> np.ndarray:
    """Assign n questions to folds of equal size at random, shape (n,)."""
    return np.random.default_rng(seed).permutation(n) % folds


def out_of_fold(
    router: EmbeddingRouter, vectors: np.ndarray, scores: np.ndarray, queries: pd.DataFrame, folds: int = FOLDS, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Predict each question by a router that was fitted on the other folds.

    Returns:
        The rows predicted, at most `MOST`, and their predictions, shape (n_rows, n_experts); NaN where the other folds know
        nothing of an expert.
    """
    n = len(vectors)
    if n > MOST:
        some = np.sort(np.random.default_rng(seed).permutation(n)[:MOST])
        rows, predicted = out_of_fold(router, vectors[some], scores[some], queries.iloc[some].reset_index(drop=True), folds, seed)
        return some[rows], predicted
    if n < 2 * folds:  # too few to hold any out
        return np.arange(0), np.zeros((0, scores.shape[1]))
    fold = fold_of(n, folds, seed)
    predicted = np.full(scores.shape, np.nan)
    for held in range(folds):
        learn, check = np.flatnonzero(fold != held), np.flatnonzero(fold == held)
        known = ~np.isnan(scores[learn]).all(axis=0)
        part = type(router)(**router.settings())
        part._adopt(router, known)
        part._fit(vectors[learn], scores[np.ix_(learn, known)], queries.iloc[learn].reset_index(drop=True))
        predicted[np.ix_(check, known)] = np.stack([part._score(vector) for vector in vectors[check]])
    rows = np.flatnonzero(np.isfinite(predicted).any(axis=1))
    return rows, predicted[rows]
