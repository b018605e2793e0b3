"""The questions that the mixture lost although most experts were right."""

from __future__ import annotations

import numpy as np

from serving.evaluation.report.amounts import percent
from serving.evaluation.report.blocks import Block, Cell, Quote, Section, Table, Text, shortened, unmeasured
from serving.evaluation.report.board import Board, Mixture
from serving.evaluation.report.parts import asked_oracle

MOST = 10


def worst(board: Board) -> list[Block]:
    """Up to ten of the mixture's first system, the largest loss first."""
    if not board.mixtures or board.best is None:
        return [unmeasured("Questions that were lost", "that needs a system of the mixture, and experts that were asked alone")]
    mixture = board.mixtures[0]
    found = lost(board, mixture)
    if not found:
        return [Text(f"{mixture.name} was wrong on no question that most experts had right.")]
    said = (
        f"{mixture.name} was wrong on {len(found)} questions that more than half of the experts had right; here are "
        f"{'all of them' if len(found) <= MOST else f'the {MOST} largest losses'}. A question is lost by the router where nobody who was "
        "asked was right, else by the aggregator. What follows is quoted from the benchmark and from the experts."
    )
    return [Text(said), *(_question(board, mixture, place, at) for place, at in enumerate(found[:MOST], start=1))]


def lost(board: Board, mixture: Mixture) -> list[int]:
    """Questions with a score below one half that most experts had right, by the mean score of the experts less the mixture's."""
    known = ~np.isnan(board.truth)
    count = np.maximum(known.sum(axis=1), 1)
    mean = np.nansum(board.truth, axis=1) / count
    most = ((board.truth >= 0.5) & known).sum(axis=1) / count > 0.5
    own = mixture.system.right
    found = [at for at in range(len(board.ids)) if not np.isnan(own[at]) and own[at] < 0.5 and most[at]]
    return sorted(found, key=lambda at: own[at] - mean[at])


def _question(board: Board, mixture: Mixture, place: int, at: int) -> Section:
    row = board.data.questions.iloc[at]
    reached = asked_oracle(board, mixture)[at]
    by = "router" if reached < 0.5 else "aggregator" if reached >= 0.5 else "mixture: what those asked say alone is not known"
    asked = dict(zip(mixture.asked[at], mixture.weights[at], strict=False))
    rows = []
    for expert in dict.fromkeys([*mixture.asked[at], *board.experts]):
        answer, score = board.responses(expert)[at], board.column(expert)[at]
        how = f"weight {asked[expert]:.2f}" if expert in asked else "not asked"
        sure = mixture.predicted[at].get(expert)
        grade = Cell("not known", "quiet") if np.isnan(score) else Cell(percent(score), "good" if score >= 0.5 else "bad")
        text = shortened(answer, 200) if answer is not None else "not recorded"
        rows.append((expert, text, how, f"{100 * sure:.0f}%" if sure is not None else "not predicted", grade))
    right, known = int((board.truth[at] >= 0.5).sum()), int((~np.isnan(board.truth[at])).sum())
    table = Table(
        ("expert", "answer", "asked with", "predicted right", "score, %"),
        tuple(rows),
        f"{right} of {known} experts were right; the mixture scored {percent(mixture.system.right[at])}%.",
        left=2,
    )
    quotes = (
        Quote("Question", shortened(str(row["query"]), 600)),
        Quote("Right answer", shortened(str(row["answer"]), 300)),
        Quote("The mixture's answer", shortened(mixture.text(at), 400)),
    )
    place_of = f"{row['benchmark']}, {row['category']}" if isinstance(row["category"], str) and row["category"] else str(row["benchmark"])
    return Section(f"{place}. {board.ids[at]} ({place_of}): lost by the {by}", (*quotes, table))
