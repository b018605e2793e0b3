"""What a router has learned of its experts, in a table that people can read: who is good at what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from router.base import Router
from router.baselines import CategoryOracleRouter
from router.category import CategoryRouter
from router.cluster import ClusterRouter
from router.knn import KNNRouter
from router.life import LivingRouter
from router.skill import SkillRouter
from router.stack import StackRouter

MOST_ROWS = 60
"""Rows of a profile; of more, those with most questions."""


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """Mean quality of each expert on each kind of question.

    Attributes:
        by: What a row is; `overall` has one row for all questions.
        rows: Their names.
        experts: The columns.
        quality: Shape (n_rows, n_experts), NaN where nothing is known.
        questions: Questions of each row, or None where the artefact does not hold their numbers.
        of: Rows that there are in all.
    """

    by: Literal["category", "skill", "cluster", "overall"]
    rows: tuple[str, ...]
    experts: tuple[str, ...]
    quality: np.ndarray
    questions: tuple[int, ...] | None
    of: int


def fitted(router: Router) -> Router:
    """What was fitted: a living router's base, else the router."""
    while isinstance(router, LivingRouter):
        router = router._base
    return router


def parts_of(router: Router) -> Iterator[Router]:
    """A fitted router, then a stack's members."""
    base = fitted(router)
    yield base
    if isinstance(base, StackRouter):
        yield from base.routers_


def profile_of(router: Router, most: int = MOST_ROWS) -> Profile | None:
    """Read a router's profile: by categories, skills or clusters where it or a member has such, else each expert's mean.

    Args:
        router: A fitted router.
        most: Rows that are given.

    Returns:
        The profile, or None where the router holds none, such as a regression alone.

    Example:
        >>> import pandas as pd
        >>> rows = [{"query_id": q, "query": q, "category": c, "expert": e, "score": float(e == c)}
        ...         for q, c in [("two plus two", "sums"), ("spell cat", "words")] for e in ("sums", "words")]
        >>> found = profile_of(CategoryRouter(prior=0.0).fit(pd.DataFrame(rows)))
        >>> found.rows, found.quality.tolist()
        (('sums', 'words'), [[1.0, 0.0], [0.0, 1.0]])
    """
    experts = tuple(fitted(router).experts_)
    for part in parts_of(router):
        match part:
            case CategoryRouter():
                return _ranked("category", part.categories_, experts, part.quality_, None, most)
            case SkillRouter():
                quality = np.where(part.seen_ > 0, part.right_ / np.maximum(part.seen_, 1), np.nan)
                return _ranked("skill", part.keywords_, experts, quality, part.seen_.max(axis=1), most)
            case ClusterRouter():
                names = [f"cluster {at}" for at in range(len(part.size_))]
                return _ranked("cluster", names, experts, part.quality_, part.size_, most)
            case CategoryOracleRouter():
                return _ranked("category", [*part.means_], experts, np.array([*part.means_.values()]), None, most)
    means = means_of(router)
    return None if means is None else Profile("overall", ("all questions",), experts, means[None], None, 1)


def means_of(router: Router) -> np.ndarray | None:
    """Each expert's mean score on the training questions, shape (n_experts,); None where the router does not hold it."""
    return next((np.asarray(part.mean_) for part in parts_of(router) if hasattr(part, "mean_")), None)


def questions_of(router: Router) -> int | None:
    """How many training questions a router holds; of more than its `most`, a knn router holds that many. None where it holds none."""
    for part in parts_of(router):
        match part:
            case KNNRouter():
                return len(part.quality_)
            case ClusterRouter():
                return int(part.size_.sum())
    return None


def answers_of(router: Router) -> dict[str, int] | None:
    """How many of these questions each expert was measured on; None where the router does not hold that."""
    part = next((part for part in parts_of(router) if isinstance(part, KNNRouter)), None)
    return None if part is None else dict(zip(fitted(router).experts_, (~np.isnan(part.quality_)).sum(axis=0).tolist(), strict=True))


def _ranked(
    by: Literal["category", "skill", "cluster"],
    names: list[str],
    experts: tuple[str, ...],
    quality: np.ndarray,
    questions: np.ndarray | None,
    most: int,
) -> Profile:
    """The rows with most questions first; without their numbers, in their own order."""
    order = np.arange(len(names)) if questions is None else np.argsort(-questions, kind="stable")
    order = order[:most]
    counts = None if questions is None else tuple(int(questions[at]) for at in order)
    return Profile(by, tuple(names[at] for at in order), experts, np.asarray(quality)[order], counts, len(names))
