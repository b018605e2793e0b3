"""Intervals and comparisons for reports: paired bootstrap, and ties called ties."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and where it lies with 95% confidence.

    Attributes:
        mean: The observed mean.
        low: Lower end.
        high: Upper end.
    """

    mean: float
    low: float
    high: float

    @property
    def tie(self) -> bool:
        """Whether a difference of zero lies inside."""
        return self.low <= 0 <= self.high


def bootstrap(values: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Give the mean of n values and its percentile bootstrap interval.

    Args:
        values: One number per question, shape (n,); for a paired comparison, the differences.
        seed: Seed of the resampling.
        resamples: Number of resamples.

    Source:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13 (percentile intervals).

    Example:
        >>> bootstrap(np.array([1.0, 1.0, 1.0, 1.0]))
        Interval(mean=1.0, low=1.0, high=1.0)
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values must have shape (n,) with n > 0, not {values.shape}")
    rng = np.random.default_rng(seed)
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)])
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def paired(a: np.ndarray, b: np.ndarray, *, seed: int = 0) -> Interval:
    """Compare two systems on the same questions: the mean of a - b and its interval.

    Example:
        >>> paired(np.array([1, 1, 0, 1]), np.array([0, 1, 0, 1])).tie
        True
    """
    if np.shape(a) != np.shape(b):
        raise ValueError(f"both systems must have the same questions, not {np.shape(a)} and {np.shape(b)}")
    return bootstrap(np.asarray(a, dtype=float) - np.asarray(b, dtype=float), seed=seed)
