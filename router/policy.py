"""From scores to a route: which experts are asked, and how much each weighs. Every policy looks at one request only."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Protocol

from data.records import Request, Route
from router.artefact import RouterError
from router.budget import Limits, best_subset
from router.cards import NOTHING_KNOWN, Situation
from router.preference import Preference
from router.skill import recruit


class Policy(Protocol):
    """Chooses experts for one request from that request's scores, prices and permissions."""

    def choose(self, request: Request, scores: Mapping[str, float], situation: Situation = NOTHING_KNOWN) -> Route:
        """Choose.

        Raises:
            RouterError: No expert may answer, or none fits the budget.
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


def route_of(chosen: Sequence[str], scores: Mapping[str, float]) -> Route:
    """Make a route of the chosen experts, weighted by their share of the scores."""
    total = sum(scores[name] for name in chosen)
    weights = tuple(scores[name] / total if total > 0 else 1 / len(chosen) for name in chosen)
    return Route(tuple(chosen), weights, chosen[0], dict(scores))


@dataclass(frozen=True, slots=True, kw_only=True)
class CountingPolicy(ABC):
    """What all policies share: permissions, constant and shared experts, preferences and budgets. They differ in how many.

    Attributes:
        preference: What counts beside quality.
        limits: Hard limits, beside those that a request brings.
    """

    preference: Preference = field(default_factory=Preference)
    limits: Limits = field(default_factory=Limits)

    def choose(self, request: Request, scores: Mapping[str, float], situation: Situation = NOTHING_KNOWN) -> Route:
        """Choose among the experts that the request allows, never beyond its budget."""
        always, order, room, utility = self._admitted(request, scores, situation)
        k = min(request.k or self.count(order, scores), len(order))
        chosen = order[:k]
        if not room.holds(chosen, situation):
            chosen = best_subset(order, utility, situation, k, room)
        return replace(route_of([*chosen, *always], scores), regret=_regret(chosen, request, scores, situation))

    @abstractmethod
    def count(self, order: Sequence[str], scores: Mapping[str, float]) -> int:
        """How many of the experts, best first, are asked where the request does not say."""

    def _admitted(
        self, request: Request, scores: Mapping[str, float], situation: Situation
    ) -> tuple[list[str], list[str], Limits, dict[str, float]]:
        """Who is asked in any case; who of the others fits, best first; what is left for them; and what each is worth.

        Raises:
            RouterError: The request allows no expert, or none fits.
        """
        allowed = candidates(request, scores)
        limits = self.limits.tightened(request.budget_usd, request.max_latency_s)
        for name in allowed:
            if situation.card(name).matches(request.question) and limits.holds([name], situation):
                return [name], [], limits, {}
        shared = [name for name in allowed if situation.card(name).role == "shared"]
        routed = [name for name in allowed if situation.card(name).role == "routed"]
        if not routed + shared:
            raise RouterError("the request allows no expert that answers such a question")
        if not limits.holds(shared, situation):
            raise RouterError(f"what is asked for every question does not fit {limits}: {', '.join(shared)}")
        room = limits.after(shared, situation)
        utility = self.preference.utilities(routed, scores, situation, request.objective)
        order = [name for name in sorted(routed, key=lambda name: -utility[name]) if room.holds([name], situation)]
        if not order + shared:
            raise RouterError(f"no expert fits {limits}: the request allows {', '.join(routed)}")
        return shared, order, room, utility


def _regret(chosen: Sequence[str], request: Request, scores: Mapping[str, float], situation: Situation) -> float:
    """Mean score that the chosen lack of as many best ones that the request allows, those beyond its budget among them."""
    if any(situation.card(name).role != "routed" for name in chosen):
        return 0.0
    allowed = [name for name in candidates(request, scores) if situation.card(name).role == "routed"]
    best = [scores[name] for name in allowed[: len(chosen)]]
    lost = sum(best) - sum(scores[name] for name in chosen)
    return round(max(0.0, lost / max(len(chosen), 1)), 6)


@dataclass(frozen=True, slots=True)
class FixedK(CountingPolicy):
    """Ask the k best experts.

    Attributes:
        k: How many, where the request does not say.
        null: Score of an expert that says nothing: the k best are asked up to the first below it, but always the first.

    Source:
        Zeng et al. 2024, AdaMoE, arXiv:2406.13233 (null experts, inside a model).

    Example:
        >>> FixedK(2).choose(Request("r", ()), {"a": 0.2, "b": 0.6, "c": 0.4}).experts
        ('b', 'c')
        >>> FixedK(2, null=0.5).choose(Request("r", ()), {"a": 0.2, "b": 0.6, "c": 0.4}).experts
        ('b',)
    """

    k: int = 3
    null: float = 0.0

    def count(self, order: Sequence[str], scores: Mapping[str, float]) -> int:
        """Count the k best, without those below the null expert."""
        return max(1, len(list(takewhile(lambda name: scores[name] >= self.null, order[: self.k]))))


@dataclass(frozen=True, slots=True)
class Mass(CountingPolicy):
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

    def count(self, order: Sequence[str], scores: Mapping[str, float]) -> int:
        """Count the fewest that reach the mass."""
        total, reached, k = sum(scores[name] for name in order), 0.0, 0
        for name in order:
            reached, k = reached + scores[name], k + 1
            if total <= 0 or reached >= self.mass * total:
                break
        return min(max(k, self.k_min), self.k_max)


@dataclass(frozen=True, slots=True)
class EntropyGate(CountingPolicy):
    """Ask one expert where the scores point at one, and several where they don't.

    Attributes:
        gate: Entropy of the scores' shares, from 0 (one expert has all) to 1 (all are equal), above which k are asked.
        k: How many then.
        sharpness: Power of the scores before they become shares; calibrated scores of similar experts differ little.
        q: Order of the Tsallis entropy; 1 is Shannon's.

    Source:
        Li et al. 2025, DynMoLE, arXiv:2504.00661 (a gate by Tsallis entropy, inside a model).

    Example:
        >>> EntropyGate(0.5, k=2).choose(Request("r", ()), {"a": 0.9, "b": 0.1}).experts
        ('a',)
        >>> EntropyGate(0.5, k=2).choose(Request("r", ()), {"a": 0.5, "b": 0.4}).experts
        ('a', 'b')
    """

    gate: float = 0.9
    k: int = 3
    sharpness: float = 4.0
    q: float = 1.0

    def count(self, order: Sequence[str], scores: Mapping[str, float]) -> int:
        """Count one or k, by the entropy."""
        return self.k if entropy([scores[name] ** self.sharpness for name in order], self.q) > self.gate else 1


def entropy(amounts: Sequence[float], q: float = 1.0) -> float:
    """Tsallis entropy of amounts as shares, as a part of the most that it could be.

    Example:
        >>> entropy([1.0, 1.0]), entropy([1.0, 0.0]), round(entropy([3.0, 1.0], q=2.0), 2)
        (1.0, 0.0, 0.75)
    """
    total = sum(amounts)
    if len(amounts) < 2:
        return 0.0
    if total <= 0:
        return 1.0
    shares = [amount / total for amount in amounts if amount > 0]
    if math.isclose(q, 1):
        part = -sum(share * math.log(share) for share in shares) / math.log(len(amounts))
    else:
        part = (1 - sum(share**q for share in shares)) / (1 - len(amounts) ** (1 - q))
    return max(0.0, min(float(part), 1.0))  # rounding must not pass a gate of 1


@dataclass(frozen=True, slots=True)
class Cascade(CountingPolicy):
    """Ask the cheapest expert that is good enough, and the next ones only where its answer does not stand.

    The first are the cheapest that are good enough, by price, then by size. The reserve, best first, is asked where the first
    fail, or where less than `agreement` of the weight stands behind their leading answer.

    Attributes:
        floor: Predicted probability that is good enough; where nobody reaches it, the best one is asked.
        first: How many are asked at once; from two on they can disagree.
        agreement: Share of the weight that the leading answer needs.
        k_max: Most experts, the reserve among them.

    Source:
        Chen et al. 2023, FrugalGPT, arXiv:2305.05176 (the cascade); agreement as the sign of confidence: Yue et al. 2023,
        arXiv:2310.03094.

    Example:
        >>> from router.cards import Card
        >>> cheap_first = Situation({"a": Card(usd=1.0), "b": Card(usd=0.1)})
        >>> route = Cascade(0.5).choose(Request("r", ()), {"a": 0.9, "b": 0.6}, cheap_first)
        >>> route.experts, route.reserve
        (('b',), ('a',))
    """

    floor: float = 0.5
    first: int = 1
    agreement: float = 0.6
    k_max: int = 3

    def choose(self, request: Request, scores: Mapping[str, float], situation: Situation = NOTHING_KNOWN) -> Route:
        """Choose the cheapest that are good enough, and who follows."""
        always, order, room, _ = self._admitted(request, scores, situation)
        if not order:
            return route_of(always, scores)
        most, price = request.k or self.k_max, {name: (situation.card(name).usd, situation.card(name).size_b) for name in order}
        enough = sorted((name for name in order if scores[name] >= self.floor), key=lambda name: price[name]) or order[:1]
        first = [*enough, *(name for name in order if name not in enough)][: min(self.first, most)]
        if not room.holds(first, situation):
            first = best_subset(order, scores, situation, len(first), room)
        reserve: list[str] = []
        for name in order:  # all that may be asked must fit together, since all of it may be spent
            if name not in first and len(first) + len(reserve) < most and room.holds([*first, *reserve, name], situation):
                reserve.append(name)
        return replace(route_of([*first, *always], scores), reserve=tuple(reserve), agreement=self.agreement)

    def count(self, order: Sequence[str], scores: Mapping[str, float]) -> int:
        """Count those asked at once."""
        return self.first


@dataclass(frozen=True, slots=True)
class SelfSample(CountingPolicy):
    """Ask the best expert k times: its samples are put together like the answers of several.

    Attributes:
        k: Samples.

    Source:
        Li et al. 2025, Rethinking Mixture-of-Agents, arXiv:2502.00674 (Self-MoA).

    Example:
        >>> SelfSample(3).choose(Request("r", ()), {"a": 0.2, "b": 0.6}).experts
        ('b', 'b', 'b')
    """

    k: int = 3

    def count(self, order: Sequence[str], scores: Mapping[str, float]) -> int:
        """Count one expert."""
        return 1

    def choose(self, request: Request, scores: Mapping[str, float], situation: Situation = NOTHING_KNOWN) -> Route:
        """Choose the best one, as often as the budget allows."""
        always, order, room, _ = self._admitted(request, scores, situation)
        best, times = order[:1], request.k or self.k
        while times > 1 and not room.holds(best * times, situation):
            times -= 1
        return replace(route_of([*best * times, *always], scores), regret=_regret(best, request, scores, situation))


@dataclass(frozen=True, slots=True)
class Recruit(CountingPolicy):
    """Draw k experts by their scores, with replacement; the same question always draws the same.

    Attributes:
        k: Draws; an expert that is drawn twice gives two samples.
        seed: Seed of the draws.

    Source:
        Chen et al. 2025, Symbolic Mixture-of-Experts, arXiv:2503.05641.

    Example:
        >>> Recruit(2).choose(Request("r", ()), {"a": 0.0, "b": 0.6}).experts
        ('b', 'b')
    """

    k: int = 3
    seed: int = 0

    def count(self, order: Sequence[str], scores: Mapping[str, float]) -> int:
        """Count all that are there: the draw is among them."""
        return len(order)

    def choose(self, request: Request, scores: Mapping[str, float], situation: Situation = NOTHING_KNOWN) -> Route:
        """Draw among those that the request allows, as often as the budget allows."""
        always, order, room, _ = self._admitted(request, scores, situation)
        drawn = recruit(request.asked, {name: scores[name] for name in order}, request.k or self.k, self.seed) if order else []
        while len(drawn) > 1 and not room.holds(drawn, situation):
            drawn.pop()
        return route_of([*sorted(drawn, key=order.index), *always], scores)
