"""Hard budgets: what does not fit is masked, and of what fits the best set is chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from router.cards import Situation

_ROUNDING = 1e-12
_STEPS = 2**15


@dataclass(frozen=True, slots=True)
class Limits:
    """What the calls of one request may take.

    Attributes:
        usd: US dollars, all calls together.
        latency_s: Seconds; experts answer at the same time, so each one must hold it.
        size_b: Billions of parameters, all experts together.
    """

    usd: float = math.inf
    latency_s: float = math.inf
    size_b: float = math.inf

    def tightened(self, usd: float | None, latency_s: float | None) -> Limits:
        """These limits, and a request's own."""
        if usd is None and latency_s is None:
            return self
        return replace(
            self,
            usd=self.usd if usd is None else min(self.usd, usd),
            latency_s=self.latency_s if latency_s is None else min(self.latency_s, latency_s),
        )

    def after(self, spent: Sequence[str], situation: Situation) -> Limits:
        """What is left when some experts, that fit, are asked in any case."""
        if not spent:
            return self
        usd = sum(situation.card(name).usd for name in spent)
        size = sum(situation.card(name).size_b for name in spent)
        return replace(self, usd=self.usd - usd, size_b=self.size_b - size)

    def holds(self, names: Sequence[str], situation: Situation) -> bool:
        """Whether these experts may be asked together."""
        cards = [situation.card(name) for name in names]
        return (
            sum(card.usd for card in cards) <= self.usd + _ROUNDING
            and sum(card.size_b for card in {name: situation.card(name) for name in names}.values()) <= self.size_b + _ROUNDING
            and all(card.latency_s <= self.latency_s for card in cards)
        )

    def __str__(self) -> str:
        """Say the limits in words.

        Example:
            >>> str(Limits(usd=0.01, latency_s=2.0))
            'a budget of 0.01 US dollars and 2 seconds'
        """
        parts = [
            f"{amount:g} {unit}"
            for amount, unit in ((self.usd, "US dollars"), (self.latency_s, "seconds"), (self.size_b, "billion parameters"))
            if amount < math.inf
        ]
        return f"a budget of {' and '.join(parts) or 'any size'}"


def predicted_quality(names: Sequence[str], scores: Mapping[str, float]) -> float:
    """The probability that one of the experts is right, if they err independently."""
    return 1 - math.prod(1 - min(max(scores[name], 0.0), 1.0) for name in names)


def best_subset(names: Sequence[str], scores: Mapping[str, float], situation: Situation, k: int, limits: Limits) -> list[str]:
    """Choose at most k experts within the limits so that the predicted quality is highest, by branch and bound.

    The logarithm of the chance that all are wrong adds up over experts, so the best remaining ones bound every branch. Up to 14
    experts nothing better can exist; with more, the best that 2^15 steps found stands, since a caller may ask for any k.

    Args:
        names: The experts in question, in the order in which equals are preferred.
        scores: Their predicted probabilities, or utilities.
        situation: Their cards.
        k: How many at most.
        limits: What they may take.

    Returns:
        The chosen, best first; none where none fits.

    Source:
        Jin et al. 2025, MoE^2, arXiv:2501.09410 (mask, renormalise, search the feasible subsets).

    Example:
        >>> from router.cards import Card
        >>> cards = Situation({"a": Card(usd=3.0), "b": Card(usd=2.0), "c": Card(usd=2.0)})
        >>> best_subset(["a", "b", "c"], {"a": 0.6, "b": 0.5, "c": 0.5}, cards, 2, Limits(usd=4.0))
        ['b', 'c']
    """
    fits = [name for name in names if limits.holds([name], situation)]
    worth = {name: -math.log1p(-min(max(scores[name], 1e-9), 1 - 1e-9)) for name in fits}
    order = sorted(fits, key=lambda name: -worth[name])
    best: tuple[float, list[str]] = (-1.0, [])
    steps = 0

    def search(at: int, chosen: list[str], value: float) -> None:
        nonlocal best, steps
        steps += 1
        if value > best[0] + _ROUNDING:
            best = (value, list(chosen))
        if len(chosen) == k or at == len(order) or steps >= _STEPS:
            return
        if value + sum(worth[name] for name in order[at : at + k - len(chosen)]) <= best[0] + _ROUNDING:
            return
        if limits.holds([*chosen, order[at]], situation):
            search(at + 1, [*chosen, order[at]], value + worth[order[at]])
        search(at + 1, chosen, value)

    search(0, [], 0.0)
    return sorted(best[1], key=lambda name: -scores[name])


def budget_tokens(hardness: float, easy: int, hard: int) -> int:
    """Give an answer's limit of tokens by how hard its question is thought to be.

    Args:
        hardness: Predicted probability that the best expert is wrong.
        easy: Tokens at 0.
        hard: Tokens at 1.

    Example:
        >>> budget_tokens(0.25, 100, 500)
        200
    """
    return max(1, round(easy + (hard - easy) * min(max(hardness, 0.0), 1.0)))
