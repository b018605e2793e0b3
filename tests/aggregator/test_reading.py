import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.reading import WORDS, near, numbers_in, plain, read, support

MB = 1_000_000


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("2 + 2 makes 4. The answer is (B).", "B"),
        ("the answer is c", "C"),
        ("Answer: **D**", "D"),
        ("The answer is (A). But then the answer is (B).", "A"),
        ("I would say (B).", ""),
        ("The answer is A's", ""),
        ("The answer is (K).", ""),
        ("The answer is Berlin.", ""),
        ("", ""),
    ],
)
def test_the_letter_that_is_stated_is_read(text: str, letter: str) -> None:
    assert read(text).stated == letter


@pytest.mark.parametrize(
    "more", ["\nQuestion: What is 3 + 3? (A) 6\nThe answer is (A).", "\n\n question : next. Answer: A", "\nOptions: (C) 7"]
)
def test_a_question_of_its_own_is_cut_off_and_marked(more: str) -> None:
    alone, longer = read("So it is 4, (B). The answer is (B)."), read("So it is 4, (B). The answer is (B)." + more)
    assert (alone.rambles, longer.rambles) == (False, True)
    assert (longer.stated, longer.words, longer.body, longer.numbers, longer.letters) == (
        *(alone.stated, alone.words, alone.body, alone.numbers, alone.letters),
    )


def test_a_letter_after_a_question_of_its_own_is_not_stated() -> None:
    assert read("So it is 4.\nQuestion: What? The answer is (A).").stated == ""


def test_what_is_measured_of_the_words() -> None:
    words = dict(zip(WORDS, read("However, it may be 4 or 5, (A) or (B). The answer is (A). Sure").words, strict=True))
    assert words["length"] == pytest.approx(math.log1p(len("However, it may be 4 or 5, (A) or (B). The ")))
    assert (words["hedges"], words["letters"]) == (2, 2)
    assert words["numbers"] == pytest.approx(math.log1p(2))
    assert words["after"] == pytest.approx(math.log1p(len("). Sure")))
    assert words["packed"] > 0


def test_an_answer_that_was_cut_states_nothing_but_is_read() -> None:
    reading = read("First, 12 + 30 gives 42. Then we divide by")
    assert (reading.stated, reading.numbers, reading.rambles) == ("", (12.0, 30.0, 42.0), False)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1,200", [1200.0]),
        ("3.5e2", [350.0]),
        ("-7", [-7.0]),
        ("3-5", [3.0, 5.0]),
        ("$50", [50.0]),
        ("5%", [5.0]),
        ("5.", [5.0]),
        ("+5", [5.0]),
        ("1e-3", [0.001]),
        ("١٢", [12.0]),
        ("1e999", []),
        ("nan inf NaN", []),
        ("x2", []),
        ("", []),
    ],
)
def test_numbers_are_read_in_many_spellings(text: str, numbers: list[float]) -> None:
    assert numbers_in(text) == numbers


@given(st.text(alphabet="0123456789.,-eE+ \u0663\u00b2x", max_size=60))
def test_every_number_is_finite(text: str) -> None:
    assert all(map(math.isfinite, numbers_in(text)))


@pytest.mark.parametrize(("one", "other", "same"), [(100, 101, True), (100, 102, False), (0, 0, True), (0, 1e-6, False), (1, -1, False)])
def test_numbers_are_near_but_for_rounding(one: float, other: float, same: bool) -> None:
    assert near(one, other) is same
    assert near(other, one) is same


def test_the_reasoning_supports_what_it_ends_in() -> None:
    reading = read("30 is (A), no. " + "so we go on and on " * 20 + "until 12 and 30 make forty two apples, 42, so the answer is (B).")
    assert support(reading, "B", "42") == (1, 1, 1, 1, 1, 0)
    assert support(reading, "A", "30") == (1, 1, 1, 0, 1, 1)
    assert support(reading, "C", "forty two apples") == (1, 1, 1, 0, 0, 0)
    assert support(reading, "D", "pears") == (0, 0, 0, 0, 0, 0)
    assert support(reading, "", "") == (0, 0, 0, 0, 0, 0)


def test_the_reasoning_supports_what_ends_its_last_sentence() -> None:
    assert support(read("12 and 30 make 42 apples. The answer is (B)."), "B", "42 apples")[:2] == (1, 1)


def test_support_in_the_body_is_told_from_support_at_the_end() -> None:
    reading = read("a green apple, " + "so we go on and on " * 20)
    assert support(reading, "", "green apple")[:2] == (0, 1)


@given(st.text(), st.text())
def test_every_measure_of_any_text_is_finite_and_every_support_in_its_range(text: str, other: str) -> None:
    reading = read(text)
    assert all(map(math.isfinite, (*reading.words, *reading.numbers)))
    assert all(0 <= value <= 1 for value in support(reading, "A", other))
    assert plain(plain(text)) == plain(text)


HUGE = {
    "words": "word " * (MB // 5),
    "digits": "9" * MB,
    "commas": "1," * (MB // 2),
    "letters": "(A) " * (MB // 4),
    "answers": "answer is " * (MB // 10),
    "breaks": "\n" * MB,
    "questions": "\nquestion " * (MB // 10),
    "stars": "*" * MB,
    "dots": "." * MB,
    "hedges": "not " * (MB // 4),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_text_is_read_in_no_time(name: str) -> None:
    start = time.process_time()
    support(read(HUGE[name]), "A", HUGE[name])
    assert time.process_time() - start < 1
