import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator import AggregatorError, Vote, Weighted
from aggregator.checks import Writer, question
from aggregator.vote import elect
from data.records import Answer, Request, Route

NAMES = ["ann", "bob", "cid", "dee", "eve"]
LOGIC = "Which is true? A) not true B) true or false C) false D) not true and false"


def answers(*texts: str) -> list[Answer]:
    return [Answer(text, name) for text, name in zip(texts, NAMES, strict=False)]


def route(*scores: float) -> Route:
    names = tuple(NAMES[: len(scores)])
    return Route(names, tuple(1 / len(names) for _ in names), names[0], dict(zip(names, scores, strict=True)))


async def decide(aggregator: Vote | Weighted, request: Request, said: list[Answer], by: Route) -> Answer:
    return await aggregator.aggregate(request, said, by, Writer())


async def test_the_answer_that_most_agree_on_wins_in_the_words_of_the_best_of_them() -> None:
    answer = await decide(Vote(), question(), answers("5", "It is 4.", "4", "6"), route(0.9, 0.2, 0.2, 0.2))
    assert (answer.text, answer.expert) == ("It is 4.", "bob")
    assert answer.support == (("It is 4.", 2.0), ("5", 1.0), ("6", 1.0))


async def test_a_tie_goes_to_the_best_expert() -> None:
    answer = await decide(Vote(), question(), answers("5", "4", "4", "5"), route(0.9, 0.8, 0.7, 0.6))
    assert (answer.text, answer.expert) == ("5", "ann")
    assert (await decide(Vote(), question(), answers("5", "4"), route(0.9, 0.8))).text == "5"


async def test_failed_and_empty_answers_have_no_vote() -> None:
    said = [Answer.failed("ann", "gone"), Answer("", "bob"), Answer(" ", "cid"), Answer("4", "dee")]
    answer = await decide(Vote(), question(), said, route(0.9, 0.8, 0.7, 0.1))
    assert (answer.text, answer.expert, answer.degraded) == ("4", "dee", True)
    assert answer.support == (("4", 1.0),)


async def test_a_weighted_vote_lets_one_good_expert_outweigh_two_poor_ones() -> None:
    said = answers("B", "C", "C")
    assert (await decide(Vote(), question(LOGIC), said, route(0.9, 0.4, 0.4))).text == "C"
    answer = await decide(Weighted(), question(LOGIC), said, route(0.9, 0.4, 0.4))
    # with four options: log(0.9 * 3 / 0.1) = 3.296 against twice log(0.4 * 3 / 0.6) = 0.693
    assert answer.text == "B"
    assert answer.support[0] == ("B", pytest.approx(math.log(27)))
    assert answer.support[1] == ("C", pytest.approx(2 * math.log(2)))


async def test_two_fair_experts_outweigh_one_that_is_a_little_better() -> None:
    answer = await decide(Weighted(), question(LOGIC), answers("B", "C", "C"), route(0.7, 0.6, 0.6))
    assert answer.text == "C"


async def test_an_expert_at_or_below_chance_has_no_weight() -> None:
    answer = await decide(Weighted(), question(LOGIC), answers("C", "C", "B"), route(0.25, 0.1, 0.3))
    assert answer.text == "B"
    assert answer.support == (("B", pytest.approx(math.log(0.9 / 0.7))), ("C", 0.0))


async def test_where_nobody_is_above_chance_the_primary_stands() -> None:
    answer = await decide(Weighted(), question(LOGIC), answers("D", "C", "C"), route(0.2, 0.2, 0.1))
    assert (answer.text, answer.expert) == ("D", "ann")


async def test_an_open_question_supposes_as_many_choices_as_are_set() -> None:
    said, by = answers("4", "5", "5"), route(0.8, 0.45, 0.45)
    # two choices: log 4 against nothing; ten: log 36 against twice log(0.45 * 9 / 0.55), which is more
    assert (await decide(Weighted(open_choices=2), question(), said, by)).text == "4"
    assert (await decide(Weighted(open_choices=10), question(), said, by)).text == "5"


def test_fewer_than_two_choices_are_refused() -> None:
    with pytest.raises(AggregatorError, match="open_choices must be at least 2, not 1"):
        Weighted(open_choices=1)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(2, 10))
def test_a_better_expert_never_weighs_less(a: float, b: float, choices: int) -> None:
    less, more = (Weighted().weight(probability, choices) for probability in sorted((a, b)))
    assert 0 <= less <= more < math.inf


@given(st.integers(2, 10))
def test_chance_weighs_nothing(choices: int) -> None:
    assert Weighted().weight(1 / choices, choices) == pytest.approx(0, abs=1e-9)


@given(st.lists(st.tuples(st.sampled_from("ABCD"), st.floats(0.01, 1)), min_size=1, max_size=5))
def test_the_winner_has_most_weight_in_whatever_order_the_answers_come(votes: list[tuple[str, float]]) -> None:
    said = answers(*(letter for letter, _ in votes))
    weights = [weight for _, weight in votes]
    totals = {letter: math.fsum(weight for other, weight in votes if other == letter) for letter, _ in votes}
    winner = elect(LOGIC, said, weights)
    assert totals[winner.text] == pytest.approx(max(totals.values()))
    backwards = elect(LOGIC, said[::-1], weights[::-1])
    assert totals[backwards.text] == pytest.approx(totals[winner.text])
    assert math.fsum(weight for _, weight in winner.support) == pytest.approx(math.fsum(weights))
