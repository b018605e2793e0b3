"""Contestants measured in turns: who goes first in which round, and what their figures come to, round against round."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from data.statistics import RESAMPLES, Interval

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Aim:
    """What a ratio of ours to another's should be.

    Attributes:
        what: The figure.
        bound: The bound.
        at_least: Whether it is a lower bound, else an upper one.
    """

    what: str
    bound: float
    at_least: bool

    def verdict(self, ratio: Interval) -> str:
        """Whether a ratio meets the aim: `met` wholly, `met, within noise` by its mean only, or `missed`.

        Example:
            >>> Aim("requests/s", 1.5, at_least=True).verdict(Interval(1.6, 1.4, 1.8))
            'met, within noise'
        """
        sign = 1 if self.at_least else -1
        worst = ratio.low if self.at_least else ratio.high
        if sign * ratio.mean < sign * self.bound:
            return "missed"
        return "met" if sign * worst >= sign * self.bound else "met, within noise"

    def __str__(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {self.bound:.2f}"


def orders(contestants: Sequence[T], rounds: int, seed: int) -> list[list[T]]:
    """Who goes first, second and so on in each round, shuffled.

    Example:
        >>> [sorted(order) for order in orders("ab", 2, seed=0)]
        [['a', 'b'], ['a', 'b']]
    """
    dice = random.Random(seed)
    return [dice.sample(list(contestants), len(contestants)) for _ in range(rounds)]


def ratio(ours: Sequence[float], others: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The ratio of two means, with a percentile interval of rounds drawn in pairs.

    Args:
        ours: One figure a round.
        others: The other's, of the same rounds.
        seed: Seed of the resampling.
        resamples: Number of resamples.

    Source:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13 (percentile intervals).

    Example:
        >>> ratio([2.0, 4.0], [1.0, 2.0])
        Interval(mean=2.0, low=2.0, high=2.0)
    """
    a, b = np.asarray(ours, dtype=float), np.asarray(others, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"both need one figure for each of the same rounds, not {a.shape} and {b.shape}")
    drawn = np.random.default_rng(seed).integers(0, len(a), (resamples, len(a)))
    low, high = np.percentile(a[drawn].mean(axis=1) / b[drawn].mean(axis=1), [2.5, 97.5])
    return Interval(float(a.mean() / b.mean()), float(low), float(high))
