"""Text to scores to Route: predictors of each expert's success, and the policies that choose by them."""

from pathlib import Path

from router.base import EmbeddingRouter, Router, RouterError, read_artefact
from router.knn import KNNRouter
from router.linear import LinearRouter
from router.policy import FixedK, Mass, Policy

KINDS: dict[str, type[EmbeddingRouter]] = {"knn": KNNRouter, "linear": LinearRouter}
"""Every kind of router, by the name that configs and artefacts use."""


def load_router(folder: Path) -> Router:
    """Load a fitted router.

    Raises:
        RouterError: There is none, it is damaged, or its kind is unknown.
    """
    head, arrays = read_artefact(folder)
    if head.get("kind") not in KINDS:
        raise RouterError(f"the router in {folder} is of kind {head.get('kind')!r}; known are {', '.join(KINDS)}")
    return KINDS[head["kind"]].restore(head, arrays)


__all__ = ["KINDS", "EmbeddingRouter", "FixedK", "KNNRouter", "LinearRouter", "Mass", "Policy", "Router", "RouterError", "load_router"]
