"""What each part of a mixture adds or loses: router, pool of experts, aggregator."""

from __future__ import annotations

import numpy as np

from data.statistics import Interval
from router.metrics import calibration_error, hit_rate, oracle
from serving.evaluation.report.amounts import gap_cell, gap_of, percent, score_of, spread
from serving.evaluation.report.blocks import Block, Cell, Section, Table, Text, unmeasured
from serving.evaluation.report.board import Board, Mixture
from serving.evaluation.report.length import length_bias
from serving.evaluation.report.replaying import NoReplayError, majority

Row = tuple[str | Cell, ...]


def parts(board: Board) -> list[Block]:
    """A section for each system of the mixture."""
    if not board.mixtures:
        return [unmeasured("Router, experts and aggregator", "the run has no system of the mixture")]
    if board.best is None:
        return [unmeasured("Router, experts and aggregator", "no expert was asked alone")]
    return [Section(mixture.name, tuple(_of(board, mixture))) for mixture in board.mixtures]


def first_choice(board: Board, mixture: Mixture) -> np.ndarray:
    """What whom a mixture asked first scores alone, shape (n,), NaN where it is not known."""
    right = np.full(len(board.ids), np.nan)
    for at, asked in enumerate(mixture.asked):
        if asked and asked[0] in board.experts:
            right[at] = board.truth[at, board.experts.index(asked[0])]
    return right


def asked_oracle(board: Board, mixture: Mixture) -> np.ndarray:
    """The best score among those whom a mixture asked, shape (n,), NaN where none of theirs is known."""
    right = np.full(len(board.ids), np.nan)
    for at, asked in enumerate(mixture.asked):
        scores = [board.truth[at, board.experts.index(name)] for name in asked if name in board.experts]
        known = [score for score in scores if not np.isnan(score)]
        right[at] = max(known) if known else np.nan
    return right


def predictions(board: Board, mixture: Mixture) -> tuple[np.ndarray, np.ndarray]:
    """Predicted probabilities and recorded scores, shape (m, n_experts), of the m questions where all are predicted."""
    known = [at for at, row in enumerate(mixture.predicted) if all(name in row for name in board.experts)]
    predicted = np.array([[mixture.predicted[at][name] for name in board.experts] for at in known]).reshape(len(known), len(board.experts))
    return predicted, board.truth[known]


def _of(board: Board, mixture: Mixture) -> list[Block]:
    first, reached = first_choice(board, mixture), asked_oracle(board, mixture)
    best, top = board.column(board.best or ""), oracle(board.truth)
    own, seed = mixture.system.right, board.seed
    gaps: list[tuple[str, str, Interval | None]] = [
        ("router", "first choice - best single", gap_of(first, best, seed)),
        ("router", "first choice - oracle of the pool (regret, negative)", gap_of(first, top, seed)),
        ("experts", "oracle of the pool - best single: what routing could gain", gap_of(top, best, seed)),
        ("experts", "oracle of those asked - oracle of the pool: lost by not asking", gap_of(reached, top, seed)),
        ("aggregator", "mixture - its own first choice", gap_of(own, first, seed)),
        ("aggregator", "mixture - oracle of those asked: right answers not taken", gap_of(own, reached, seed)),
    ]
    notes: list[Block] = []
    try:
        plain = majority(board, mixture)
        gaps.insert(5, ("aggregator", "mixture - plain majority of the same answers", gap_of(own, plain, seed)))
    except NoReplayError as error:
        notes.append(unmeasured("Plain majority of the same answers", str(error)))
    rows: list[Row] = [(part, words, gap_cell(interval)) for part, words, interval in gaps]
    caption = "Differences in points, paired by question, with 95% intervals."
    return [
        Table(("part", "difference", "points"), tuple(rows), caption, left=2),
        _figures(board, mixture, first),
        *_length(board, mixture),
        *notes,
    ]


def _figures(board: Board, mixture: Mixture, first: np.ndarray) -> Block:
    interval = score_of(first, board.seed)
    rows: list[Row] = [("first choice alone, score in %", f"{percent(interval.mean)} [{spread(interval)}]" if interval else "not measured")]
    predicted, truth = predictions(board, mixture)
    if len(predicted) and not np.isnan(truth).all():
        rows.append(
            ("first choice by predicted probability is among the best, % (where scores differ)", percent(hit_rate(predicted, truth)))
        )
        rows.append(("calibration error of predicted probabilities (ECE, 15 bins), %", percent(calibration_error(predicted, truth))))
    else:
        rows.append(("calibration", "not measured: the run holds no predicted probabilities of all experts"))
    return Table(("router", "is"), tuple(rows))


def _length(board: Board, mixture: Mixture) -> list[Block]:
    bias = length_bias(board, mixture)
    if bias is None:
        return [unmeasured("Length bias", "no question has answers of several experts of which one was taken")]

    def words(interval: Interval | None) -> str:
        return "not measured" if interval is None else f"{interval.mean:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"

    text = (
        f"Length bias: among the answers to one question, length correlates {words(bias.chosen)} with being taken and {words(bias.right)} "
        f"with being right ({bias.questions} questions; on {bias.left_out} others the final answer is nobody's, or everybody's). "
        "A first figure well above the second means that long answers win because they are long."
    )
    return [Text(text)]
