import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.graders import GRADERS, READERS, grade, prediction

CASES = json.loads((Path(__file__).parents[1] / "golden" / "graders.json").read_text(encoding="utf-8"))
LONG = [
    "answer is ",
    "A, ",
    "A or ",
    "1",
    "1,",
    "1,234,",
    "{",
    '{"a":[',
    "(a",
    "the is ",
    "it is ",
    " ",
    "\n",
    ",\n",
    "not A ",
    "```\n",
    "the ",
    "- a\n",
    "\u00e9",
]


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_a_case_is_graded_as_a_reasonable_person_would(case: dict[str, object]) -> None:
    text, answer = str(case["text"]), str(case["answer"])
    assert grade(str(case["grader"]), text, answer) is case["right"]


@pytest.mark.parametrize("grader", GRADERS)
def test_what_cannot_be_read_is_wrong_and_predicts_nothing(grader: str) -> None:
    answers = {case["answer"] for case in CASES if case["grader"] == grader}
    assert prediction(grader, "") is None
    assert not any(grade(grader, "", answer) for answer in answers)


def test_a_choice_or_number_is_right_exactly_where_it_is_read_as_the_answer_is() -> None:
    for case in CASES:
        if case["grader"] in ("choice", "number"):
            read, wanted = (prediction(case["grader"], case[part]) for part in ("text", "answer"))
            assert (read == wanted) is case["right"], case["id"]


@given(st.sampled_from(sorted(GRADERS)), st.text(), st.text())
def test_no_text_breaks_a_grader(grader: str, text: str, answer: str) -> None:
    assert grade(grader, text, answer) in (True, False)
    assert prediction(grader, text) is None or READERS[grader](text) is not None


@given(st.integers(-(10**15), 10**15))
def test_a_number_is_read_as_it_was_written(number: int) -> None:
    assert prediction("number", f"{number}") == prediction("number", f"It is {number:,}.")
    assert grade("number", f"The answer is {number:,}.", str(number))
    assert not grade("number", f"The answer is {number}.", str(number + 10**16))


@given(st.integers(0, 9))
def test_every_letter_from_a_to_j_is_read(index: int) -> None:
    letter = "ABCDEFGHIJ"[index]
    for text in (letter, f"({letter})", f"{letter}.", f"The answer is {letter}.", f"{letter.lower()})", f"**{letter}**"):
        assert prediction("choice", text) == letter


@given(st.lists(st.sampled_from(["apple", "bird", "boat", "cat", "17", "-4"]), min_size=2, unique=True))
def test_a_list_is_read_however_it_is_laid_out(items: list[str]) -> None:
    for text in (
        ", ".join(items),
        "\n".join(f"- {item}" for item in items),
        "\n".join(f"{at}. {item}" for at, item in enumerate(items, 1)),
    ):
        assert grade("list", text, ", ".join(items))
        assert grade("set", text, ", ".join(reversed(items)))
    assert not grade("list", ", ".join(reversed(items)), ", ".join(items))


@given(st.dictionaries(st.text(min_size=1), st.one_of(st.text(), st.integers(), st.booleans(), st.none()), min_size=1))
def test_an_object_is_right_in_prose_and_in_a_fence(value: dict[str, object]) -> None:
    text = json.dumps(value)
    for around in (text, f"It is {text}.", f"```json\n{json.dumps(value, indent=2)}\n```"):
        assert grade("json", around, text)


@pytest.mark.parametrize("grader", GRADERS)
@pytest.mark.parametrize("piece", LONG, ids=repr)
def test_a_text_of_100_000_characters_does_not_take_the_square_of_its_length(grader: str, piece: str) -> None:
    text = piece * (100_000 // len(piece))
    began = time.process_time()
    grade(grader, text, "42")
    assert time.process_time() - began < 10  # each way that once took the square took minutes


def test_a_megabyte_of_it_is_takes_no_longer_than_its_length_says() -> None:
    began = time.process_time()
    assert prediction("exact", "it is " * (1 << 17) + "Ben") == "Ben"
    assert time.process_time() - began < 10  # much more, where every "it is" copies the rest


def test_an_unknown_grader_is_named_beside_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no grader is called 'essay'; there are choice, number, exact, list, set, json"):
        grade("essay", "text", "answer")
