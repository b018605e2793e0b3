"""Votes over equal answers: one expert one vote, or weighted by what the router knows of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from aggregator.base import Aggregator, AggregatorError, Ask, chosen, is_usable, none_usable, usable
from aggregator.forms import choices_of, shape
from data.records import Answer, Request, Route


def elect(question: str, answers: Sequence[Answer], weights: Sequence[float]) -> Answer:
    """Give the answer whose form has most weight; equals are decided by the order of the answers, best expert first.

    Example:
        >>> two, three = Answer("2", "a"), Answer("3", "b")
        >>> elect("1 + 1?", [three, two, Answer("2.", "c")], [1, 1, 1]).text
        '2'
    """
    good = usable(answers)
    if not good:
        return none_usable(answers)
    support: dict[str, float] = {}
    first: dict[str, Answer] = {}
    for answer, weight in zip(answers, weights, strict=True):
        if is_usable(answer):
            key = shape(question, answer)
            support[key] = support.get(key, 0.0) + weight
            first.setdefault(key, answer)
    best = max(support, key=lambda key: support[key])  # max keeps the first of equals
    return chosen(first[best], answers, [(first[key].text, weight) for key, weight in support.items()])


class Vote(Aggregator):
    """Majority: one expert, one vote."""

    kind: ClassVar[str] = "vote"

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        """Give the answer that most experts agree on."""
        return elect(request.question, answers, [1.0] * len(answers))


class Weighted(Aggregator):
    """Weighted majority: each vote counts as the log-odds that its expert is right against one given wrong choice.

    With p the router's probability and m the number of choices, the weight is log(p (m - 1) / (1 - p)), and 0 for experts
    at or below chance.

    Args:
        open_choices: The m of questions without lettered options, at least 2.

    Raises:
        AggregatorError: There are fewer choices than two.

    Source:
        Nitzan and Paroush 1982, Optimal Decision Rules in Uncertain Dichotomous Choice Situations, for two choices; for
        more, under errors that spread evenly over the wrong ones.
    """

    kind: ClassVar[str] = "weighted"

    def __init__(self, open_choices: int = 10) -> None:
        if open_choices < 2:
            raise AggregatorError(f"open_choices must be at least 2, not {open_choices}")
        self.open_choices = open_choices

    def weight(self, probability: float, choices: int) -> float:
        """Give the weight of one vote.

        Example:
            >>> round(Weighted().weight(0.5, 4), 3), Weighted().weight(0.25, 4)
            (1.099, 0.0)
        """
        p = min(max(probability, 0.001), 0.999)
        return max(0.0, math.log(p * (choices - 1) / (1 - p)))

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        """Give the answer with most evidence; where nobody is above chance, the primary's side."""
        choices = choices_of(request.question) or self.open_choices
        return elect(request.question, answers, [self.weight(route.scores.get(a.expert, 0.0), choices) for a in answers])
