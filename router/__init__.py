"""Text to scores to Route: predictors of each expert's success, and the policies that choose by them."""

from pathlib import Path

from router.artefact import RouterError, read_artefact
from router.base import BaseRouter, EmbeddingRouter, Router
from router.baselines import BestSingleRouter, CategoryOracleRouter, OracleRouter, RandomRouter
from router.category import CategoryRouter
from router.cluster import ClusterRouter
from router.description import DescriptionRouter
from router.knn import KNNRouter
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
    if head.get("kind") not in KINDS:
        raise RouterError(f"the router in {folder} is of kind {head.get('kind')!r}; known are {', '.join(KINDS)}")
    return KINDS[head["kind"]].restore(head, arrays)


__all__ = [
    "KINDS",
    "BaseRouter",
    "EmbeddingRouter",
    "FixedK",
    "KNNRouter",
    "LinearRouter",
    "Mass",
    "Policy",
    "Router",
    "RouterError",
    "load_router",
]
