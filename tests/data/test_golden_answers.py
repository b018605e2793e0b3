import json
from pathlib import Path

import pytest

from data.graders import grade, prediction

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = [case for name in ("math", "numbers", "options") for case in json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))]


@pytest.mark.parametrize("case", CASES, ids=[f"{case['grader']}: {case['id']}" for case in CASES])
def test_an_answer_is_graded_as_a_careful_person_would(case: dict[str, object]) -> None:
    assert grade(str(case["grader"]), str(case["text"]), str(case["answer"])) is case["right"]


def test_the_cases_have_names_of_their_own_and_wrong_answers_among_them() -> None:
    assert len({(case["grader"], case["id"]) for case in CASES}) == len(CASES)
    for grader in ("math", "number", "integer", "option", "mmlu-pro"):
        assert {case["right"] for case in CASES if case["grader"] == grader} == {True, False}


@pytest.mark.parametrize("grader", ["math", "integer", "option", "mmlu-pro"])
def test_what_holds_no_answer_predicts_nothing(grader: str) -> None:
    assert prediction(grader, "I do not know.") is None
