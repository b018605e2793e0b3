import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.forms import choices_of, form
from data.skills import FAMILIES, generate

GROUPS = json.loads((Path(__file__).parents[1] / "golden" / "forms.json").read_text(encoding="utf-8"))
SAME = [group for group in GROUPS if "same" in group]
DIFFERENT = [group for group in GROUPS if "different" in group]


@pytest.mark.parametrize("group", SAME, ids=[group["id"] for group in SAME])
def test_equivalent_answers_have_one_form(group: dict[str, Any]) -> None:
    forms = {text: form(group["question"], text) for text in group["same"]}
    assert len(set(forms.values())) == 1, forms


@pytest.mark.parametrize("group", DIFFERENT, ids=[group["id"] for group in DIFFERENT])
def test_different_answers_have_different_forms(group: dict[str, Any]) -> None:
    forms = {text: form(group["question"], text) for text in group["different"]}
    assert len(set(forms.values())) == len(forms), forms


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_has_the_same_form_bare_and_in_a_sentence_and_another_one_has_not(family: str) -> None:
    tasks = generate("test", 60, families=(family,))
    for task, other in pairwise(tasks):
        bare = form(task.query, task.answer)
        for text in (f"The answer is {task.answer}.", f"**{task.answer}**", f" {task.answer}\n", f"It is {task.answer}."):
            assert form(task.query, text) == bare
        assert (form(task.query, other.answer) == bare) is (other.answer == task.answer)


@pytest.mark.parametrize(
    ("question", "count"),
    [
        ("Which is true? A) one B) two C) three D) four", 4),
        ("Which?\nA. one\nB. two", 2),
        ("Which? (A) one (B) two (C) three", 3),
        ("Which? A: one B: two", 2),
        ("What is 2 + 2?", 0),
        ("Is it A) or not?", 0),
        ("Which? B) one C) two", 0),
        ("Which? A) one C) two", 0),
        ("Vitamin A: which is true? A) one B) two", 2),
        ("", 0),
    ],
)
def test_options_are_counted(question: str, count: int) -> None:
    assert choices_of(question) == count


@given(st.text(), st.text())
def test_every_text_has_a_form(question: str, text: str) -> None:
    assert isinstance(form(question, text), str)
