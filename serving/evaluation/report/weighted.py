"""The mean over benchmarks, each with its weight and resampled by itself."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data.statistics import RESAMPLES, Interval


def suite_mean(values: np.ndarray, benchmarks: np.ndarray, weights: Mapping[str, float], seed: int = 0) -> Interval | None:
    """Give the weighted mean of the benchmarks' means, with its 95% interval.

    Args:
        values: A number a question, such as a score or a difference of scores, shape (n,); NaN where it is not known.
        benchmarks: The benchmark of each, shape (n,).
        weights: The weight of each benchmark; one without is left out.
        seed: Seed of the resampling.

    Returns:
        None where a benchmark that counts has no known value: the mean of the others would be of something else.

    Source:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 8 (several samples: each is resampled by itself).

    Example:
        >>> suite_mean(np.array([1.0, 1.0, 0.0]), np.array(["a", "a", "b"]), {"a": 3.0, "b": 1.0}).mean
        0.75
    """
    parts = {name: values[(benchmarks == name) & ~np.isnan(values)] for name, weight in weights.items() if weight > 0}
    if not parts or any(not len(part) for part in parts.values()):
        return None
    total = sum(weights[name] for name in parts)
    rng = np.random.default_rng(seed)
    mean, resampled = 0.0, np.zeros(RESAMPLES)
    for name, part in parts.items():
        share = weights[name] / total
        mean += share * float(part.mean())
        resampled += share * np.array([part[rng.integers(0, len(part), len(part))].mean() for _ in range(RESAMPLES)])
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(mean, float(low), float(high))
