"""What each expert is used for, and what the mixture would be without it."""

from __future__ import annotations

import numpy as np

from serving.evaluation.report.amounts import gap_cell, gap_of, number, percent, score_of
from serving.evaluation.report.blocks import Block, Cell, Section, Table, Text, unmeasured
from serving.evaluation.report.board import Board, Mixture
from serving.evaluation.report.replaying import NoReplayError, Replayed, replayed


def contribution(board: Board) -> list[Block]:
    """A section for each system of the mixture."""
    if not board.mixtures:
        return [unmeasured("Use of experts", "the run has no system of the mixture")]
    return [Section(mixture.name, tuple(_of(board, mixture))) for mixture in board.mixtures]


def usage(board: Board, mixture: Mixture) -> dict[str, tuple[int, int, int | None]]:
    """On how many questions each expert was asked, was asked first, and wrote the final answer to the letter.

    The last is None where the expert's answers were not recorded.
    """
    found = {}
    for expert in dict.fromkeys([*board.data.experts, *(name for asked in mixture.asked for name in asked)]):
        asked = [at for at, names in enumerate(mixture.asked) if expert in names]
        first = sum(mixture.rows["primary"].iloc[at] == expert for at in asked)
        responses = board.responses(expert)
        known = any(text is not None for text in responses)
        won = sum(responses[at] is not None and responses[at] == mixture.text(at) for at in asked) if known else None
        found[expert] = len(asked), int(first), won
    return found


def _of(board: Board, mixture: Mixture) -> list[Block]:
    used, n = usage(board, mixture), int((~np.isnan(mixture.system.right)).sum())
    notes: list[Block] = []
    again: Replayed | None = None
    try:
        again = replayed(board, mixture)
    except NoReplayError as error:
        notes.append(unmeasured("The score without one expert or another", str(error)))
    rows = []
    for expert, (asked, first, won) in used.items():
        shares = [f"{number(count)} ({percent(count / n)}%)" if count is not None and n else "-" for count in (asked, first, won)]
        rows.append((f"{expert}, never asked" if not asked else expert, *shares, *_without(board, again, expert)))
    columns = ("expert", "asked", "asked first", "its words are the answer", "score without it, %", "worth to the mixture")
    caption = "An answer that several experts gave in the same words counts for each of them."
    if again is not None:
        caption += f" Worth: the mixture's score less that without the expert, in points, paired by question. {_how(again)}"
    idle = [expert for expert, (asked, _, _) in used.items() if not asked]
    if idle:
        notes.insert(0, Text(f"Never asked: {', '.join(idle)}. They took part in no answer of this system.", warning=True))
    return [Table(columns, tuple(rows), caption), *notes]


def _without(board: Board, again: Replayed | None, expert: str) -> tuple[str | Cell, str | Cell]:
    if again is None or expert not in again.without:
        return "-", Cell("-", "quiet")
    left = again.without[expert]
    interval = score_of(left, board.seed)
    return percent(interval.mean) if interval else "-", gap_cell(gap_of(again.whole, left, board.seed))


def _how(again: Replayed) -> str:
    routes = (
        "the mixture's policy chose anew among the others" if again.by_policy else "the next best by predicted probability took its place"
    )
    return f"Replayed on recorded answers: {routes}; with all experts it scores as the run did on {percent(again.same)}% of the questions."
