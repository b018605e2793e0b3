"""Graded answers as lessons for combiners, and what combiners make of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from aggregator.evidence import Asked
from aggregator.learned import Example
from data.recorded import Recorded
from data.records import CounterpointError
from data.scores import experts_of, pivot
from router import Router
from router.base import BaseRouter
from router.crossfit import FOLDS, fold_of

Tick = Callable[[str, int, int], None]
"""Told of a stage, what is done and its total."""


def scores_out_of_fold(router: Router, table: pd.DataFrame, experts: Sequence[str], tick: Tick) -> tuple[pd.DataFrame, np.ndarray]:
    """Score each question by a router of the same kind and settings that has not seen it.

    Args:
        router: The router whose kind and settings count.
        table: The questions and scores.
        experts: Whose scores are wanted, in this order.
        tick: Told of folds.

    Returns:
        The questions, and their scores, shape (n, n_experts).

    Raises:
        CounterpointError: There are fewer questions than folds.
    """
    queries, _ = pivot(table, experts)
    if len(queries) < 2 * FOLDS:
        raise CounterpointError(f"a combiner needs at least {2 * FOLDS} questions to learn from, not {len(queries)}")
    fold = fold_of(len(queries))
    scores = np.zeros((len(queries), len(experts)))
    for held in range(FOLDS):
        tick("routing out of fold", held, FOLDS)
        ids = set(queries["query_id"][fold != held])
        settings = router.settings() if isinstance(router, BaseRouter) else {}
        part = type(router)(**settings).fit(table[table["query_id"].isin(ids)])
        known = [at for at, name in enumerate(experts) if name in part.experts_]  # the others answered none of its questions: 0
        columns = [part.experts_.index(experts[at]) for at in known]
        scores[np.ix_(fold == held, known)] = part.scores(list(queries["query"][fold == held]))[:, columns]
    tick("routing out of fold", FOLDS, FOLDS)
    return queries, scores


def examples_of(
    table: pd.DataFrame, queries: pd.DataFrame, experts: Sequence[str], scores: np.ndarray, most: int | None, tick: Tick
) -> list[Example]:
    """Read the answers to each question, the best expert's first.

    Args:
        table: The graded answers.
        queries: The questions.
        experts: The experts, in the order of the scores.
        scores: Each expert's predicted probability of a right answer, shape (n, n_experts).
        most: How many answers count at most; None is all.
        tick: Told of questions.

    Raises:
        CounterpointError: The table holds no answers.
    """
    recorded, examples = Recorded(table), []
    for number, (query_id, query) in enumerate(zip(queries["query_id"], queries["query"], strict=True)):
        if number % 50 == 0:
            tick("reading answers", number, len(queries))
        order = [experts[at] for at in np.argsort(-scores[number], kind="stable")[:most]]
        asked = Asked.of(
            query, [recorded.answer(query_id, name) for name in order], dict(zip(experts, scores[number].tolist(), strict=True))
        )
        examples.append(Example(asked, tuple(recorded.score(query_id, name) for name in order)))
    tick("reading answers", len(queries), len(queries))
    return examples


def experts_in(table: pd.DataFrame, router: Router) -> list[str]:
    """The experts that both a table and a router know.

    Raises:
        CounterpointError: There are fewer than two.
    """
    experts = [name for name in experts_of(table) if name in router.experts_]
    if len(experts) < 2:
        raise CounterpointError(
            f"the router knows {', '.join(router.experts_)}, the score table {', '.join(experts_of(table))}: wanted two in common"
        )
    return experts
