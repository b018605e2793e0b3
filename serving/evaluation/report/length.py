"""Whether long answers win because they are long."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.statistics import RESAMPLES, Interval
from serving.evaluation.report.board import Board, Mixture


@dataclass(frozen=True, slots=True)
class LengthBias:
    """How length goes with being taken and with being right, among the answers to one question.

    Attributes:
        chosen: Correlation of length with being the final answer, None where it has none.
        right: Correlation of length with being right, on the same questions.
        questions: How many questions count.
        left_out: Questions on which no answer of those asked is the final one, or all are.
    """

    chosen: Interval | None
    right: Interval | None
    questions: int
    left_out: int


def length_bias(board: Board, mixture: Mixture) -> LengthBias | None:
    """Measure it; None where no question has several answers of which some were taken and some not."""
    responses = {name: board.responses(name) for name in board.experts}
    lengths, taken, right = [], [], []
    left_out = 0
    for at, asked in enumerate(mixture.asked):
        known = [name for name in dict.fromkeys(asked) if name in responses and responses[name][at] is not None]
        if len(known) < 2:
            continue
        texts = [responses[name][at] or "" for name in known]
        same = [text == mixture.text(at) for text in texts]
        if all(same) or not any(same):
            left_out += 1
            continue
        lengths.append([len(text) for text in texts])
        taken.append(same)
        right.append([board.truth[at, board.experts.index(name)] for name in known])
    if not lengths:
        return None
    return LengthBias(within(lengths, taken, board.seed), within(lengths, right, board.seed), len(lengths), left_out)


def within(xs: list[list[int]], ys: list[list[bool]] | list[list[float]], seed: int = 0) -> Interval | None:
    """Correlate two figures of the answers to each question, both less their mean on that question.

    Args:
        xs: A figure of each answer, question by question; in units of its spread on the question.
        ys: Another.
        seed: Seed of the resampling of questions.

    Returns:
        None where one of both never differs within a question.

    Example:
        >>> within([[1, 9], [3, 5]], [[False, True], [False, True]]).mean
        1.0
    """
    sums = np.zeros((len(xs), 3))
    for at, (x, y) in enumerate(zip(xs, ys, strict=True)):
        a, b = np.array(x, dtype=float), np.array(y, dtype=float)
        if a.std() > 0 and not np.isnan(b).any():
            a, b = (a - a.mean()) / a.std(), b - b.mean()
            sums[at] = a @ b, a @ a, b @ b
    both, first, second = sums.sum(axis=0)
    if not first * second > 0:
        return None
    rng = np.random.default_rng(seed)
    drawn = np.array([sums[rng.integers(0, len(sums), len(sums))].sum(axis=0) for _ in range(RESAMPLES)])
    scale = np.sqrt(drawn[:, 1] * drawn[:, 2])
    low, high = np.percentile(drawn[scale > 0, 0] / scale[scale > 0], [2.5, 97.5])
    return Interval(float(both / np.sqrt(first * second)), float(low), float(high))
