"""The choice of a judge that compares answers two by two, each pair in both orders."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, ClassVar

from aggregator.base import Aggregator, AggregatorError, Ask, chosen, degraded, none_usable, usable
from aggregator.forms import shape
from aggregator.quoting import GUARD, below, numbered
from data.records import Answer, Message, Request, Route, Usage

INSTRUCTION = (
    f"You are the judge of two answers to the user's last message; they follow. {GUARD} The better answer is the one that is right; "
    "if both are, the one that serves the user better. Their order means nothing. Do not answer the user yourself."
)
RULE = "Which answer is better? Reply with its number alone, 1 or 2."
TERSE: dict[str, Any] = {"max_tokens": 8, "temperature": 0.0, "top_p": 1.0, "stop": ()}
"""How a judge is sampled, whatever the request says."""

Orders = tuple[tuple[int | None, int | None], list[Answer]]
"""The winner of each order, 0 for the first side and 1 for the second or None, and the judge's answers."""

_SIDE = re.compile(r"(?<![\w.,])[12](?!\w|[.,]\d)")


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What a judge said of some answers.

    Attributes:
        points: Of each answer, the comparisons that it won; unreadable ones are half a point for both.
        pairs: Pairs of answers that were compared, each in both orders.
        flips: Pairs whose winner changed with the order.
        usage: Sum over the judge's calls.
        failed: Calls that failed.

    Example:
        >>> Verdicts((1.0, 1.0), pairs=1, flips=1, usage=Usage(calls=2)).flip_rate
        1.0
    """

    points: tuple[float, ...]
    pairs: int
    flips: int
    usage: Usage
    failed: int = 0

    @property
    def flip_rate(self) -> float:
        """Share of the pairs whose winner changed with the order: how much the judge goes by the place of an answer."""
        return self.flips / self.pairs if self.pairs else 0.0


class Judge(Aggregator):
    """Give the answer that wins most comparisons with the others; equals are decided by the number of experts that gave them.

    Answers of the same form are compared once. Each pair is asked in both orders, so that a judge that prefers a place cancels out.

    Args:
        judge: The expert that judges, or None for the one with the best score.
        most: Most distinct answers that are compared, at least 2: those that most experts gave.

    Raises:
        AggregatorError: Fewer than two answers would be compared.

    Source:
        Zheng et al. 2023, Judging LLM-as-a-Judge, arXiv:2306.05685 (pairs in both orders; the prompt is ours).
    """

    kind: ClassVar[str] = "judge"
    llm: bool = True

    def __init__(self, judge: str | None = None, most: int = 4) -> None:
        if most < 2:
            raise AggregatorError(f"most must be at least 2, for a pair to compare, not {most}")
        self.expert, self.most = judge, most

    def messages(self, request: Request, one: Answer, other: Answer) -> list[Message]:
        """Write the prompt: the conversation, with two answers quoted below it."""
        return below(request, f"{INSTRUCTION}\n{numbered((one, other))}\n{RULE}")

    async def verdicts(self, request: Request, candidates: Sequence[Answer], route: Route, ask: Ask) -> Verdicts:
        """Compare every candidate with every other, all at once.

        Args:
            request: What was asked.
            candidates: Distinct answers.
            route: Who may judge.
            ask: Calls the judge.
        """
        judge = self.expert or best_scored(request, route)
        pairs = list(combinations(range(len(candidates)), 2))
        judged = await asyncio.gather(*(self._compared(request, candidates[one], candidates[other], judge, ask) for one, other in pairs))
        points = [0.0] * len(candidates)
        for pair, (winners, _) in zip(pairs, judged, strict=True):
            for winner in winners:
                for at, place in enumerate(pair):
                    points[place] += 0.5 if winner is None else float(winner == at)
        flips = sum({*winners} == {0, 1} for winners, _ in judged)
        calls = [call for _, said in judged for call in said]
        failed = sum(call.error is not None for call in calls)
        return Verdicts(tuple(points), len(pairs), flips, sum((call.usage for call in calls), Usage()), failed)

    async def _compared(self, request: Request, one: Answer, other: Answer, judge: str, ask: Ask) -> Orders:
        """Ask of one pair, in both orders."""
        return await in_both_orders(ask, judge, self.messages(request, one, other), self.messages(request, other, one))

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        """Give the winner; answers that all say the same need no judge."""
        good = usable(answers)
        if not good:
            return none_usable(answers)
        groups = backed(request.question, good)
        if len(groups) == 1:
            return chosen(good[0], answers, [(good[0].text, float(len(good)))])
        candidates = sorted(groups, key=lambda group: -group[1])[: self.most]
        verdicts = await self.verdicts(request, [answer for answer, _ in candidates], route, ask)
        winner = max(range(len(candidates)), key=lambda at: verdicts.points[at])  # max keeps the first of equals
        points = {answer.text: score for (answer, _), score in zip(candidates, verdicts.points, strict=True)}
        best = chosen(candidates[winner][0], answers, [(answer.text, points.get(answer.text, 0.0)) for answer, _ in groups])
        return replace(best, usage=verdicts.usage, degraded=degraded(answers) or verdicts.failed > 0)

    def more(self, request: Request, answers: Sequence[Answer], route: Route, final: Answer) -> int:
        """Ask the reserve where the winner has less than the agreed share of its own comparisons."""
        if final.error is not None or not final.support:
            return super().more(request, answers, route, final)
        comparisons = 2 * (min(self.most, len(final.support)) - 1)
        return 0 if final.support[0][1] >= route.agreement * comparisons else len(route.reserve)


def backed(question: str, answers: Sequence[Answer]) -> list[tuple[Answer, int]]:
    """The first of each distinct answer, with the number of experts behind it, in the order of the answers.

    Example:
        >>> [(answer.text, count) for answer, count in backed("1 + 1?", [Answer("3", "a"), Answer("2", "b"), Answer("2.", "c")])]
        [('3', 1), ('2', 2)]
    """
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(shape(question, answer), []).append(answer)
    return [(group[0], len(group)) for group in groups.values()]


def best_scored(request: Request, route: Route, without: Sequence[str] = ()) -> str:
    """The expert with the best score among those that the request allows, else the primary.

    Example:
        >>> best_scored(Request("r", (), exclude=("a",)), Route(("c",), (1.0,), "c", {"a": 0.9, "b": 0.5, "c": 0.3}))
        'b'
    """
    allowed = [name for name in route.scores if request.experts is None or name in request.experts]
    left = [name for name in allowed if name not in request.exclude and name not in without]
    return max(left, key=lambda name: route.scores[name], default=route.primary)


def verdict(text: str) -> int | None:
    """Read the number of the better answer; None where none is named, or both.

    Example:
        >>> verdict("**2**"), verdict("Answer 1."), verdict("1 or 2"), verdict("12"), verdict("Neither")
        (2, 1, None, None, None)
    """
    sides = set(_SIDE.findall(text))
    return int(sides.pop()) if len(sides) == 1 else None


async def in_both_orders(ask: Ask, judge: str, forth: Sequence[Message], back: Sequence[Message]) -> Orders:
    """Ask a judge of two sides, once in each order.

    Args:
        ask: Calls it.
        judge: Its name.
        forth: The question with the first side as answer 1.
        back: The question with the first side as answer 2.

    Returns:
        The winner of each order, 0 for the first side and 1 for the second or None, and the judge's answers.
    """
    said = await asyncio.gather(ask(judge, forth, **TERSE), ask(judge, back, **TERSE))
    one, two = (None if answer.error is not None else verdict(answer.text) for answer in said)
    return (None if one is None else one - 1, None if two is None else 2 - two), list(said)
