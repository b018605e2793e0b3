"""What counts beside quality: price, size, latency, age, staying with an expert, and who is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from router.artefact import RouterError
from router.cards import Card, Situation

TERMS = {"price": "usd", "size": "size_b", "latency": "latency_s", "age": "age_days"}
"""The terms of an objective, and the entries of a card that they weigh."""

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Preference:
    """What an expert's predicted probability is worth against everything else.

    Attributes:
        objective: Weight of each term; a term is the expert's share of the largest in the pool, from 0 to 1, so a weight of 0.1
            gives up ten points of probability for the difference between nothing and the largest.
        sticky: Predicted gain up to which a conversation stays with its last experts: a switch loses their prefix cache.
        resident_within: Predicted loss that is accepted for an expert whose weights are loaded. Not zero makes routes depend on
            what others asked.

    Source:
        Hari and Thomson 2023, Tryage, arXiv:2308.11601 (quality minus weighted constraints).

    Example:
        >>> situation = Situation({"big": Card(size_b=70.0), "small": Card(size_b=7.0)})
        >>> Preference({"size": 0.5}).utilities(["big", "small"], {"big": 0.9, "small": 0.5}, situation)
        {'big': 0.4, 'small': 0.45}
    """

    objective: Mapping[str, float] = field(default_factory=dict)
    sticky: float = 0.0
    resident_within: float = 0.0

    def utilities(
        self, names: Sequence[str], scores: Mapping[str, float], situation: Situation, objective: Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """What each expert is worth.

        Args:
            names: The experts in question.
            scores: Predicted probabilities.
            situation: Cards, loaded experts, the last route.
            objective: Weights instead of the policy's own.

        Raises:
            RouterError: The objective has an unknown term, or a weight below 0.
        """
        weights = self.objective if objective is None else objective
        utility = {name: scores[name] for name in names}
        for term, weight in weights.items():
            if term not in TERMS:
                raise RouterError(f"no objective is called {term!r}; there are {', '.join(TERMS)}")
            if not 0 <= weight < float("inf"):
                raise RouterError(f"the objective {term} must have a weight from 0, not {weight}")
            amount = {name: float(getattr(situation.card(name), TERMS[term])) for name in names}
            most = max((getattr(card, TERMS[term]) for card in situation.cards.values()), default=0.0)
            if most > 0:
                utility = {name: utility[name] - weight * amount[name] / most for name in names}
        for bonus, favoured in ((self.sticky, situation.last), (self.resident_within, situation.resident)):
            if bonus > 0:  # a hair more, so that a difference of exactly the bonus is within it
                utility = {name: worth + (bonus + _ROUNDING) * (name in favoured) for name, worth in utility.items()}
        return utility


__all__ = ["TERMS", "Card", "Preference"]
