from collections.abc import Awaitable, Callable, Sequence

import pytest

from aggregator import DEFENCES, KINDS, Aggregator, AggregatorError, Ask, Vote, defended, make_aggregator
from aggregator.checks import (
    CHECKS,
    Make,
    check_a_failure_is_marked,
    check_other_requests_change_nothing,
    check_support_is_in_order,
)
from data.records import Answer, Request, Route


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_an_aggregator_is_as_every_aggregator_must_be(
    check: Callable[[Make], Awaitable[None]], kind: str, make: Callable[[str], Make]
) -> None:
    await check(make(kind))


@pytest.mark.parametrize("name", DEFENCES)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_a_defended_combiner_is_as_every_aggregator_must_be(
    check: Callable[[Make], Awaitable[None]], name: str, make: Callable[[str], Make]
) -> None:
    await check(lambda: defended(make("learned")(), name))


class First(Vote):
    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        return next(answer for answer in answers if answer.error is None)


class Remembers(Vote):
    last: Answer | None = None

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        before, self.last = self.last, answers[0]
        return before or answers[0]


class Shuffles(Vote):
    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        return Answer("5", "bob", support=(("6", 1.0), ("5", 1.0)))


@pytest.mark.parametrize(
    ("kind", "check", "sentence"),
    [
        (First, check_a_failure_is_marked, "with degraded False"),
        (Remembers, check_other_requests_change_nothing, "changes with the requests beside it"),
        (Shuffles, check_support_is_in_order, "not in the order of the route"),
    ],
)
async def test_a_check_finds_what_it_looks_for(kind: type[Aggregator], check: Callable[[Make], Awaitable[None]], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        await check(kind)


def test_an_unknown_kind_or_setting_is_named() -> None:
    with pytest.raises(AggregatorError, match="no aggregator is called 'dice'; there are best, vote, "):
        make_aggregator("dice")
    with pytest.raises(AggregatorError, match="the aggregator 'vote' has no setting 'loud'; it has none"):
        make_aggregator("vote", loud=True)


@pytest.mark.parametrize("kind", KINDS)
def test_an_aggregator_knows_the_name_of_its_kind(kind: str, make: Callable[[str], Make]) -> None:
    assert make(kind)().kind == kind
