"""From scores to a route: which experts are asked, and how much each weighs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from data.records import Request, Route
from router.base import RouterError


class Policy(Protocol):
    """Chooses experts for one request from that request's scores alone."""

    def choose(self, request: Request, scores: Mapping[str, float]) -> Route:
        """Choose.

        Raises:
            RouterError: No expert may answer.
        """
        ...


def candidates(request: Request, scores: Mapping[str, float]) -> list[str]:
    """The experts that a request allows, best first; equals keep the pool's order.

    Raises:
        RouterError: The request names an expert that is not there, or allows none.

    Example:
        >>> candidates(Request("r", (), exclude=("b",)), {"a": 0.1, "b": 0.9, "c": 0.5})
        ['c', 'a']
    """
    named = (*(request.experts or ()), *request.exclude)
    if unknown := [name for name in named if name not in scores]:
        raise RouterError(f"no expert is called {unknown[0]!r}; the mixture has {', '.join(scores)}")
    allowed = [name for name in scores if (request.experts is None or name in request.experts) and name not in request.exclude]
    if not allowed:
        raise RouterError("the request allows no expert: experts and exclude leave none")
    return sorted(allowed, key=lambda name: -scores[name])  # sorted is stable


def route_of(chosen: list[str], scores: Mapping[str, float]) -> Route:
    """Make a route of the chosen experts, weighted by their share of the scores."""
    total = sum(scores[name] for name in chosen)
    weights = tuple(scores[name] / total if total > 0 else 1 / len(chosen) for name in chosen)
    return Route(tuple(chosen), weights, chosen[0], dict(scores))


@dataclass(frozen=True, slots=True)
class FixedK:
    """Ask the k best experts.

    Attributes:
        k: How many, where the request does not say.

    Example:
        >>> FixedK(2).choose(Request("r", ()), {"a": 0.2, "b": 0.6, "c": 0.4}).experts
        ('b', 'c')
    """

    k: int = 3

    def choose(self, request: Request, scores: Mapping[str, float]) -> Route:
        """Choose the k best of those allowed, fewer where fewer are."""
        return route_of(candidates(request, scores)[: request.k or self.k], scores)


@dataclass(frozen=True, slots=True)
class Mass:
    """Ask the fewest experts whose scores, as shares, reach a mass.

    Attributes:
        mass: Share of the scores to reach, in (0, 1].
        k_min: Fewest experts.
        k_max: Most experts.

    Source:
        Huang et al. 2024, Harder Tasks Need More Experts, arXiv:2403.07652 (top-p routing inside a model).

    Example:
        >>> Mass(0.7).choose(Request("r", ()), {"a": 0.9, "b": 0.1}).experts
        ('a',)
    """

    mass: float = 0.9
    k_min: int = 1
    k_max: int = 3

    def choose(self, request: Request, scores: Mapping[str, float]) -> Route:
        """Choose the fewest that reach the mass, or as many as the request asks for."""
        order = candidates(request, scores)
        total, reached, k = sum(scores[name] for name in order), 0.0, 0
        for name in order:
            reached, k = reached + scores[name], k + 1
            if total <= 0 or reached >= self.mass * total:
                break
        k = request.k or min(max(k, self.k_min), self.k_max)
        return route_of(order[:k], scores)
