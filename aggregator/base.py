"""What an aggregator is: the answers of several experts in, one answer out."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import ClassVar, Protocol

from data.records import Answer, CounterpointError, Message, Request, Route, Usage


class AggregatorError(CounterpointError):
    """An aggregator that is set up wrongly."""


class Ask(Protocol):
    """The mixture as an aggregator sees it: calls through the pool, grouped with all others."""

    def __call__(self, expert: str, messages: Sequence[Message], *, final: bool = False, **sampling: object) -> Awaitable[Answer]:
        """Ask one expert.

        Args:
            expert: Its name.
            messages: The conversation to continue.
            final: Whether its words are the answer's, so that they may be streamed.
            sampling: What differs from the request's own sampling.
        """
        ...

    def route(self, text: str) -> Route:
        """Say whom the mixture would ask a question of its own, such as a part of the request."""
        ...

    def draft(self, answer: Answer) -> None:
        """Tell the caller how the answer stands, before it is final."""
        ...


class Aggregator(Protocol):
    """Makes one answer of several.

    It sees one request only, so its answer never depends on who shares the batch.

    Attributes:
        kind: The name that configs use.
        llm: Whether it asks an LLM.
        asks: Whether it asks the experts itself; it is then given no answers, but the route.
        expert: An expert that it will ask once the others have answered, or None.
    """

    kind: ClassVar[str]
    llm: bool = False
    asks: bool = False
    expert: str | None = None

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        """Combine.

        Args:
            request: What was asked.
            answers: The experts' answers, in the route's order; failed ones bear an error.
            route: Who was asked, with weights and scores.
            ask: Calls an expert, for aggregators that need one.

        Returns:
            The answer; its usage counts the aggregator's own calls only.
        """
        ...

    @property
    def replays(self) -> bool:
        """Whether it can do with answers that are given, and ask nobody."""
        return not (self.llm or self.asks)

    def is_called(self, kind: str) -> bool:
        """Whether a request that names a kind means this aggregator."""
        return kind == self.kind

    def learn(self, request_id: str, reward: float) -> bool:
        """Learn how good the answer to a request was, from 0 to 1, and say whether it did; most learn nothing."""
        return False

    def suited(self, request: Request, route: Route) -> Aggregator:
        """The aggregator that a request gets: this one, but for one that chooses among others."""
        return self

    def more(self, request: Request, answers: Sequence[Answer], route: Route, final: Answer) -> int:
        """Say how many of the route's reserve to ask next; 0 is for an answer that stands.

        Args:
            request: What was asked.
            answers: What was answered so far.
            route: Who was asked so far, and the reserve.
            final: What `aggregate` made of it.
        """
        return 0 if stands(final, route.agreement) else len(route.reserve)


class Nobody:
    """An `Ask` that refuses, for answers that are given.

    Args:
        kind: The aggregator's kind, for the error.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    async def __call__(self, expert: str, messages: Sequence[Message], *, final: bool = False, **sampling: object) -> Answer:
        """Refuse.

        Raises:
            AggregatorError: Always.
        """
        raise AggregatorError(f"the aggregator {self.kind!r} asks an LLM, so given answers cannot replay it")

    def route(self, text: str) -> Route:
        """Refuse.

        Raises:
            AggregatorError: Always.
        """
        raise AggregatorError(f"the aggregator {self.kind!r} routes parts of a request, so given answers cannot replay it")

    def draft(self, answer: Answer) -> None:
        """Tell nobody."""


def stands(answer: Answer, agreement: float) -> bool:
    """Whether an answer is good enough not to ask the reserve: there is one, and enough weight stands behind it.

    Example:
        >>> stands(Answer("4", "a", support=(("4", 1.0), ("5", 1.0))), 0.6)
        False
    """
    total = sum(weight for _, weight in answer.support)
    return answer.error is None and (total <= 0 or answer.support[0][1] >= agreement * total)


def with_reserve(route: Route, asked: int | None = None) -> Route:
    """The route once experts of its reserve were asked, too: the first so many, or all."""
    count = len(route.reserve) if asked is None else asked
    experts = (*route.experts, *route.reserve[:count])
    total = sum(route.scores[name] for name in experts)
    weights = tuple(route.scores[name] / total if total > 0 else 1 / len(experts) for name in experts)
    return replace(route, experts=experts, weights=weights, reserve=route.reserve[count:])


def usable(answers: Sequence[Answer]) -> list[Answer]:
    """The answers without an error that say or call something."""
    return [answer for answer in answers if is_usable(answer)]


def is_usable(answer: Answer) -> bool:
    """Whether an answer says something, or calls a tool."""
    return answer.error is None and bool(answer.text.strip() or answer.tool_calls) and answer.parsed != ""


def degraded(answers: Sequence[Answer]) -> bool:
    """Whether an expert failed, so that the others answer without it."""
    return any(answer.error is not None for answer in answers)


def chosen(answer: Answer, answers: Sequence[Answer], support: Sequence[tuple[str, float]]) -> Answer:
    """One of the answers as the aggregate's: free of further usage, and marked where others failed."""
    ordered = tuple(sorted(support, key=lambda pair: -pair[1]))
    return Answer(
        answer.text, answer.expert, Usage(), answer.finish_reason, degraded=degraded(answers), support=ordered, parsed=answer.parsed
    )


def fallen(answers: Sequence[Answer], route: Route, usage: Usage) -> Answer:
    """What stands where the aggregator's own calls failed: the primary's answer, else the first that there is."""
    good = usable(answers)
    if not good:
        return replace(none_usable(answers), usage=usage)
    stands_in = next((answer for answer in good if answer.expert == route.primary), good[0])
    return Answer(stands_in.text, stands_in.expert, usage, stands_in.finish_reason, degraded=True, parsed=stands_in.parsed)


def none_usable(answers: Sequence[Answer]) -> Answer:
    """What to say where no expert answered: nothing, or why all failed."""
    if silent := next((answer for answer in answers if answer.error is None), None):
        return Answer("", silent.expert, Usage(), silent.finish_reason, degraded=degraded(answers))
    errors = "; ".join(f"{answer.expert}: {answer.error}" for answer in answers)
    return Answer("", "", Usage(), "error", error=f"no expert answered: {errors or 'none was asked'}")
