import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.candidates import candidates_of
from data.records import Answer

OPTIONS = "Which is true? A) one B) two C) three D) four"
OPEN = "Tell me about it."
PLANTS = "Plants turn sunlight into sugar by means of chlorophyll inside leaves, while releasing oxygen"


def groups(question: str, *texts: str) -> list[tuple[int, ...]]:
    return [one.backers for one in candidates_of(question, [Answer(text, f"e{at}") for at, text in enumerate(texts)])]


def test_prose_that_says_the_same_is_one_candidate() -> None:
    other = "By means of chlorophyll inside leaves, plants turn sunlight into sugar while releasing oxygen"
    strange = "Old bridges collapse during storms since iron rusts faster under salty water and wind"
    assert groups(OPEN, PLANTS, strange, other) == [(0, 2), (1,)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("in 1812", "in 1813"),
        ("for .5 miles", "for .6 miles"),
        ("for three days", "for four days"),
        ("for 1,000 days", "for 1,001 days"),
        ("over and was", "over and was not"),
        ("and it did", "and it didn't"),
    ],
)
def test_prose_with_other_numbers_or_a_denial_is_another_candidate(one: str, other: str) -> None:
    text = "The battle near the small town beside the river {} fought by the emperor and all of his soldiers"
    assert groups(OPEN, text.format(one), text.format(other)) == [(0,), (1,)]


def test_numbers_in_prose_are_the_same_with_and_without_commas() -> None:
    text = "The battle near the small town beside the river cost {} of his soldiers and horses their lives"
    assert groups(OPEN, text.format("1,000"), text.format("1000").replace("horses", "their horses")) == [(0, 1)]


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=6))
def test_numbers_are_one_candidate_only_where_they_are_equal(numbers: list[int]) -> None:
    wanted = [tuple(at for at, other in enumerate(numbers) if other == number) for number in dict.fromkeys(numbers)]
    assert groups("What is 2 + 2?", *map(str, numbers)) == wanted


def test_letters_are_told_by_the_option_and_its_text() -> None:
    answers = [Answer("The answer is (B).", "ann"), Answer("D", "bob"), Answer("I think b) it is", "cid", parsed="B")]
    assert [(one.form, one.text, one.backers) for one in candidates_of(OPTIONS, answers)] == [("B", "two", (0, 2)), ("D", "four", (1,))]


@pytest.mark.parametrize(
    ("question", "texts", "wanted"),
    [
        ("Is it?", ("Yes, it is.", "yes", "No."), [(0, 1), (2,)]),
        ("Give JSON.", ('{"a": 1, "b": 2}', 'Here: {"b": 2.0, "a": "1"}', '{"a": 2}'), [(0, 1), (2,)]),
        ("Sort them.", ("pear, plum, fig", "1. pear\n2. plum\n3. fig", "fig, plum, pear"), [(0, 1), (2,)]),
        ("What is 1 + 1?", ("It is 2.", "2.0", "two", "3"), [(0, 1, 2), (3,)]),
        ("Who?", ("Ada", "It is Ada.", "Ben"), [(0, 1), (2,)]),
    ],
)
def test_closed_answers_are_compared_by_form(question: str, texts: tuple[str, ...], wanted: list[tuple[int, ...]]) -> None:
    assert groups(question, *texts) == wanted


def test_what_says_nothing_is_no_candidate() -> None:
    answers = [Answer.failed("ann", "gone"), Answer("", "bob"), Answer("Let me think", "cid", parsed=""), Answer("B", "dee")]
    assert [one.backers for one in candidates_of(OPTIONS, answers)] == [(3,)]
    assert candidates_of(OPTIONS, answers[:3]) == []
    assert candidates_of(OPTIONS, []) == []


@given(st.lists(st.text(max_size=60), max_size=6))
def test_every_answer_that_says_something_backs_just_one_candidate(texts: list[str]) -> None:
    backers = sorted(at for one in groups(OPEN, *texts) for at in one)
    assert backers == [at for at, text in enumerate(texts) if text.strip()]


def test_a_single_long_answer_is_not_encoded() -> None:
    start = time.process_time()
    assert groups(OPEN, "river stone cloud " * 60_000) == [(0,)]
    assert time.process_time() - start < 3
