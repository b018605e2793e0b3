"""What an aggregator is: the answers of several experts in, one answer out."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import ClassVar, Protocol

from data.records import Answer, CounterpointError, Message, Request, Route, Usage


class AggregatorError(CounterpointError):
    """An aggregator that is set up wrongly."""


class Ask(Protocol):
    """A call of an expert through the pool, grouped with all others."""

    def __call__(self, expert: str, messages: Sequence[Message], **sampling: object) -> Awaitable[Answer]:
        """Ask one expert."""
        ...


class Aggregator(Protocol):
    """Makes one answer of several.

    It sees one request only, so its answer never depends on who shares the batch.
    """

    kind: ClassVar[str]

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


def usable(answers: Sequence[Answer]) -> list[Answer]:
    """The answers without an error and with some text."""
    return [answer for answer in answers if answer.error is None and answer.text.strip()]


def degraded(answers: Sequence[Answer]) -> bool:
    """Whether an expert failed, so that the others answer without it."""
    return any(answer.error is not None for answer in answers)


def chosen(answer: Answer, answers: Sequence[Answer], support: Sequence[tuple[str, float]]) -> Answer:
    """One of the answers as the aggregate's: free of further usage, and marked where others failed."""
    ordered = tuple(sorted(support, key=lambda pair: -pair[1]))
    return Answer(answer.text, answer.expert, Usage(), answer.finish_reason, degraded=degraded(answers), support=ordered)


def none_usable(answers: Sequence[Answer]) -> Answer:
    """What to say where no expert answered: nothing, or why all failed."""
    if silent := next((answer for answer in answers if answer.error is None), None):
        return Answer("", silent.expert, Usage(), silent.finish_reason, degraded=degraded(answers))
    errors = "; ".join(f"{answer.expert}: {answer.error}" for answer in answers)
    return Answer("", "", Usage(), "error", error=f"no expert answered: {errors or 'none was asked'}")
