import time
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.forms import choices_of, divided, options_of, same, shape
from aggregator.options import LOOKS, looks
from data.records import Answer

SOME = st.one_of(st.text(max_size=12), st.integers(-(10**6), 10**6).map(str), st.floats(allow_nan=False).map(str))


def column(table: np.ndarray, name: str) -> list[float]:
    return [float(value) for value in table[:, LOOKS.index(name)]]


@pytest.mark.parametrize(
    ("question", "texts"),
    [
        ("Which? A) one B) two C) three", ["one", "two", "three"]),
        ("Which?\nA. one\nB. two\n\nAnswer:", ["one", "two"]),
        ("Which?\n(A) Franklin D. Roosevelt\n(B) B. Franklin", ["Franklin D. Roosevelt", "B. Franklin"]),
        ("Which?\nA) \nB) \nC) x", ["", "", "x"]),
        ("Vitamin A: which is true? A) one B) two", ["one", "two"]),
        ("Which? B) one C) two", []),
        ("What is 2 + 2?", []),
        ("", []),
    ],
)
def test_the_texts_of_options_are_read(question: str, texts: list[str]) -> None:
    assert options_of(question) == texts
    assert choices_of(question) == len(texts)


def test_ten_options_without_texts_are_options() -> None:
    question = "Which?\n" + "".join(f"{letter}) \n" for letter in "ABCDEFGHIJ")
    assert options_of(question) == [""] * 10
    assert np.isfinite(looks(question, options_of(question))).all()


def test_the_form_of_an_answer_is_what_it_comes_to_where_that_is_known() -> None:
    assert shape("Which? A) x B) y", Answer("The answer is A.", "ann", parsed="B")) == "B"
    assert shape("Which? A) x B) y", Answer("The answer is A.", "ann")) == "A"


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_saying_the_same_is_mutual_and_everything_says_the_same_as_itself(question: str, one: str, other: str) -> None:
    assert same(question, one, one)
    assert same(question, one, other) is same(question, other, one)


@given(st.lists(SOME, max_size=10))
def test_looks_have_one_finite_row_for_each_option(options: list[str]) -> None:
    table = looks("Which one?", options)
    assert table.shape == (len(options), len(LOOKS))
    assert np.isfinite(table).all()


@given(st.lists(SOME, min_size=2, max_size=8), st.randoms())
def test_looks_do_not_depend_on_the_order_of_the_options(options: list[str], random: object) -> None:
    order = sorted(range(len(options)), key=lambda at: hash((options[at], at, random)))
    unasked = [at for at, name in enumerate(LOOKS) if name != "asked"]  # the words of the question end at the first option
    there, back = looks("?", options), looks("?", [options[at] for at in order])
    np.testing.assert_allclose(back[:, unasked], there[order][:, unasked], atol=1e-9)


@pytest.mark.parametrize("options", [["4", "4", "4"], ["x"] * 10, [""] * 10, ["red fox", "red fox", "1", "2", "3"]])
def test_equal_options_look_alike(options: list[str]) -> None:
    table = looks("Which one?", options)
    for at, text in enumerate(options):
        np.testing.assert_allclose(table[at], table[options.index(text)], atol=1e-12)


def test_numbers_stand_in_their_place_however_they_are_spelled() -> None:
    for options in (["10", "20", "40"], ["10.0", "2e1", "4.0e+1"], ["$10", "$20", "$40"], ["10 km", "20 km", "40 km"]):
        table = looks("Which?", options)
        np.testing.assert_allclose(column(table, "rank"), [-1 / 3, 0, 1 / 3], atol=1e-12)
        assert column(table, "number") == [1, 1, 1]
        assert column(table, "round") == [2, 2, 2]
        np.testing.assert_allclose(column(table, "middle"), [-np.log(2), 0, np.log(2)], atol=1e-9)
    table = looks("Which?", ["1,200", "2,400", "800"])
    assert column(table, "rank") == pytest.approx([0, 1 / 3, -1 / 3])


def test_two_numbers_are_too_few_to_have_a_place() -> None:
    table = looks("Which?", ["10", "20", "blue"])
    assert column(table, "number") == column(table, "rank") == [0, 0, 0]


def test_length_refusal_and_words_of_the_question_are_seen() -> None:
    table = looks("Which planet is it?", ["red planet", "none of the above", "Mars"])
    assert column(table, "none") == [0, 1, 0]
    assert column(table, "asked") == [0.5, 0, 0]
    assert column(table, "longer") == pytest.approx([1 / 3, 2 / 3, 0])


def test_the_words_of_the_question_do_not_end_in_its_middle() -> None:
    question = "Is a red or a blue planet nearer? A) red B) blue"
    assert column(looks(*divided(question)), "asked") == [1, 1]


def test_an_option_alone_looks_like_nothing() -> None:
    assert not looks("Which?", ["4"]).any()
    assert looks("Which?", []).shape == (0, len(LOOKS))


@pytest.mark.parametrize(
    "options", [["1e300", "1e-300", "5"], ["0", "0", "0"], ["1e308", "-1e308", "0"], ["9" * 400, "1" + "0" * 400, "3"]]
)
def test_extreme_numbers_stay_finite_without_a_warning(options: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(looks("Which?", options)).all()


@pytest.mark.parametrize("piece", ["A) ", "\nA) ", " ", "\n", "\t", "(", "x", "(A", "A) a B) b "])
def test_a_huge_question_is_looked_through_in_no_time(piece: str) -> None:
    question, start = piece * (1_000_000 // len(piece)), time.process_time()
    options_of(question)
    assert time.process_time() - start < 2
