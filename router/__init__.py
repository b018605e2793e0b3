"""Text to scores to Route: predictors of each expert's success, and the policies that choose by them."""

from pathlib import Path
from typing import Any

import numpy as np

from router.artefact import RouterError, read_artefact
from router.base import BaseRouter, EmbeddingRouter, Router
from router.baselines import BestSingleRouter, CategoryOracleRouter, OracleRouter, RandomRouter
from router.category import CategoryRouter
from router.cluster import ClusterRouter
from router.description import DescriptionRouter
from router.knn import KNNRouter
from router.life import LivingRouter
from router.linear import LinearRouter
from router.mf import MFRouter
from router.mlp import MLPRouter
from router.policy import FixedK, Mass, Policy
from router.skill import SkillRouter
from router.stack import StackRouter

KINDS: dict[str, type[BaseRouter]] = {
    kind.kind: kind
    for kind in (
        RandomRouter,
        BestSingleRouter,
        CategoryOracleRouter,
        OracleRouter,
        KNNRouter,
        LinearRouter,
        MLPRouter,
        ClusterRouter,
        MFRouter,
        SkillRouter,
        CategoryRouter,
        DescriptionRouter,
        StackRouter,
    )
}
"""Every kind of router, by the name that configs and artefacts use."""

DEFAULT_KIND = StackRouter.kind
"""The kind that is fitted where none is named."""


def load_router(folder: Path) -> Router:
    """Load a fitted router.

    Raises:
        RouterError: There is none, it is damaged, or its kind is unknown.
    """
    head, arrays = read_artefact(folder)
    try:
        return restore_router(head, arrays)
    except RouterError as error:
        raise RouterError(f"the router in {folder} {error}") from error


def restore_router(head: dict[str, Any], arrays: dict[str, np.ndarray]) -> Router:
    """Make a fitted router of an artefact's parts, whatever its kind.

    Raises:
        RouterError: The kind is unknown.
    """
    known = KINDS | {LivingRouter.kind: LivingRouter}
    if head.get("kind") not in known:
        raise RouterError(f"is of kind {head.get('kind')!r}; known are {', '.join(KINDS)}")
    return known[head["kind"]].restore(head, arrays)


__all__ = [
    "DEFAULT_KIND",
    "KINDS",
    "BaseRouter",
    "BestSingleRouter",
    "CategoryOracleRouter",
    "EmbeddingRouter",
    "FixedK",
    "KNNRouter",
    "LinearRouter",
    "LivingRouter",
    "Mass",
    "OracleRouter",
    "Policy",
    "RandomRouter",
    "Router",
    "RouterError",
    "StackRouter",
    "load_router",
    "restore_router",
]
