import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.converters import Choice, convert, write_routerarena
from data.scores import ScoreTableError

PROMPT = "Please solve this.\n\nContext: None\n\nQuestion: What is 2 + 2?"
ENTRY = {
    "global index": "Sums_112",
    "prompt": PROMPT,
    "prediction": "small-1",
    "generated_result": {
        "generated_answer": "\\boxed{4}",
        "success": True,
        "token_usage": {"input_tokens": 30, "output_tokens": 7, "total_tokens": 37},
        "provider": "somewhere",
        "error": None,
    },
    "cost": 5.79e-05,
    "accuracy": 1.0,
    "for_optimality": False,
}
CACHED = {
    "global_index": "Talk_de_3",
    "question": "Who are you?",
    "llm_selected": "org/big",
    "generated_answer": "A model.",
    "token_usage": {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13},
    "success": True,
    "provider": "somewhere",
    "error": None,
    "run_number": 1,
    "evaluation_result": {"extracted_answer": "A model.", "ground_truth": "A", "score": 0.5, "metric": "f1", "inference_cost": 0.002},
}
CHOICE = Choice("Sums_112", PROMPT, "small-1", "\\boxed{4}", prompt_tokens=30, completion_tokens=7, cost=5.79e-05, score=1.0)


def test_graded_entries_become_rows(write: Callable[..., Path], rows: Callable[..., Any]) -> None:
    failed = {
        "prediction": "org/big",
        "generated_result": {"generated_answer": "", "success": False},
        "accuracy": 0,
        "for_optimality": True,
    }
    shared = {"query_id": "Sums_112", "query": PROMPT, "category": "Sums"}
    assert rows(convert("routerarena", write("router.json", [ENTRY, ENTRY | failed]))) == [
        shared
        | {"expert": "small-1", "score": 1.0, "response": "\\boxed{4}", "prompt_tokens": 30, "completion_tokens": 7, "cost": 5.79e-05},
        shared | {"expert": "org/big", "score": 0.0, "response": "", "cost": 5.79e-05},
    ]


def test_cached_answers_of_a_model_become_rows(write: Callable[..., Path], rows: Callable[..., Any]) -> None:
    ungraded = CACHED | {"global_index": "Talk_de_4", "evaluation_result": None}
    answer = {"response": "A model.", "prompt_tokens": 9, "completion_tokens": 4, "cost": 0.002, "answer": "A"}
    assert rows(convert("routerarena", write("org_big.jsonl", f"{json.dumps(CACHED)}\n\n{json.dumps(ungraded)}\n"))) == [
        {"query_id": "Talk_de_3", "query": "Who are you?", "category": "Talk_de", "expert": "org/big", "score": 0.5} | answer
    ]


def test_entries_of_older_files_are_read(write: Callable[..., Path]) -> None:
    older = {"global_index": 7, "prompt_formatted": "2 + 2?", "prediction": "a", "generated_result": "4", "accuracy": True}
    table = convert("routerarena", write("router.json", [older]))
    assert table.to_dict("records") == [{"query_id": "7", "query": "2 + 2?", "expert": "a", "score": 1.0, "response": "4"}]


def test_an_entry_that_is_not_graded_is_no_row(write: Callable[..., Path]) -> None:
    open_ = ENTRY | {"global index": "Sums_113", "generated_result": None, "cost": None, "accuracy": None}
    assert convert("routerarena", write("router.json", [open_, ENTRY]))["query_id"].tolist() == ["Sums_112"]


def test_of_several_entries_for_a_query_and_a_model_the_first_counts(write: Callable[..., Path]) -> None:
    write("arena/a.json", [ENTRY, ENTRY | {"accuracy": 0.0, "for_optimality": True}])
    write("arena/a-robustness.json", [ENTRY | {"prompt": "Asked otherwise", "accuracy": None}])
    folder = write("arena/b.json", [ENTRY | {"accuracy": 0.25}, ENTRY | {"prediction": "b", "accuracy": 0.5}]).parent
    assert convert("routerarena", folder)[["expert", "score"]].to_numpy().tolist() == [["small-1", 1.0], ["b", 0.5]]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"accuracy": 2}, "router.json, row 2, column accuracy: wanted a number from 0 to 1, not 2"),
        ({"accuracy": float("nan")}, "router.json, row 2, column accuracy: wanted a number from 0 to 1, not nan"),
        ({"accuracy": "yes"}, "router.json, row 2, column accuracy: wanted a number from 0 to 1, not 'yes'"),
        ({"cost": -1}, "router.json, row 2, column cost: wanted a number from 0, not -1"),
        ({"global index": None}, "router.json, row 2, column global index: empty"),
        ({"prompt": ""}, "router.json, row 2, column prompt: empty"),
        ({"prediction": None}, "router.json, row 2, column prediction: empty"),
        ({"prompt": "Another?"}, "router.json, row 2, column prompt: another text than before for 'Sums_112'"),
    ],
)
def test_a_bad_entry_is_named(change: dict[str, Any], told: str, write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    assert refusal("routerarena", write("router.json", [ENTRY, ENTRY | {"prediction": "b"} | change])) == told


def test_a_bad_cached_answer_is_named(write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    path = write("a.jsonl", json.dumps(CACHED | {"evaluation_result": {"score": -1}}))
    assert refusal("routerarena", path) == "a.jsonl, row 1, column evaluation_result: wanted a number from 0 to 1, not -1"


@pytest.mark.parametrize("name", ["global index", "prompt", "prediction"])
def test_a_missing_field_is_named(name: str, write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    entry = {key: value for key, value in ENTRY.items() if key != name}
    told = f"router.json has no column '{name}'; wanted global index, prompt, prediction, found {', '.join(entry)}"
    assert refusal("routerarena", write("router.json", [entry])) == told


def test_a_file_without_grades_is_told_how_to_get_them(tmp_path: Path, refusal: Callable[..., str]) -> None:
    write_routerarena([Choice("Sums_1", "2 + 2?", "a")], tmp_path / "router.json")
    told = "router.json has no scores: no entry is graded; run RouterArena's llm_evaluation/run.py on it first"
    assert refusal("routerarena", tmp_path / "router.json") == told


def test_a_choice_is_written_as_routerarena_writes_it(tmp_path: Path) -> None:
    write_routerarena([CHOICE], tmp_path / "predictions" / "router.json")
    result = ENTRY["generated_result"] | {"provider": "counterpoint"}  # type: ignore[operator]
    assert json.loads((tmp_path / "predictions" / "router.json").read_text()) == [ENTRY | {"generated_result": result}]


def test_a_choice_without_an_answer_leaves_the_rest_to_routerarena(tmp_path: Path) -> None:
    write_routerarena([Choice("Sums_112", PROMPT, "small-1")], tmp_path / "router.json")
    left = {"generated_result": None, "cost": None, "accuracy": None}
    assert json.loads((tmp_path / "router.json").read_text()) == [ENTRY | left]


def test_an_empty_answer_is_a_failed_call(tmp_path: Path) -> None:
    write_routerarena([Choice("Sums_112", PROMPT, "small-1", response=" ")], tmp_path / "router.json")
    (entry,) = json.loads((tmp_path / "router.json").read_text())
    assert (entry["generated_result"]["success"], entry["generated_result"]["generated_answer"]) == (False, " ")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    choices = [
        CHOICE,
        Choice("Sums_112", PROMPT, "org/big", "No \u2028 four 🂡", 30, 9, cost=0.0, score=0.1 + 0.2, for_optimality=True),
        Choice("Talk_de_3", "Who are you?", "small-1", "", score=0.0),
    ]
    write_routerarena(iter(choices), tmp_path / "router.json")
    columns = ["query_id", "query", "expert", "response", "prompt_tokens", "completion_tokens", "cost", "score"]
    table = convert("routerarena", tmp_path / "router.json")
    assert table[columns].astype(object).where(table[columns].notna(), None).to_numpy().tolist() == [
        [getattr(choice, name) for name in columns] for choice in choices
    ]


def test_a_table_that_was_read_can_be_written_again(tmp_path: Path, write: Callable[..., Path]) -> None:
    first = convert("routerarena", write("router.json", [ENTRY, ENTRY | {"global index": "Sums_113"}]))
    names = ["query_id", "query", "expert", "response", "prompt_tokens", "completion_tokens", "cost", "score"]
    write_routerarena((Choice(**row) for row in first[names].to_dict("records")), tmp_path / "again.json")
    assert convert("routerarena", tmp_path / "again.json").equals(first)


def test_numbers_of_numpy_are_written(tmp_path: Path) -> None:
    counts = {"prompt_tokens": np.int64(3), "completion_tokens": np.int64(4)}
    write_routerarena([Choice("a_1", "2?", "a", "4", cost=np.float64(0.5), score=np.float32(1), **counts)], tmp_path / "r.json")  # type: ignore[arg-type]
    (entry,) = json.loads((tmp_path / "r.json").read_text())
    assert (entry["cost"], entry["accuracy"], entry["generated_result"]["token_usage"]["total_tokens"]) == (0.5, 1.0, 7)


def test_half_an_emoji_is_written_as_a_question_mark(tmp_path: Path) -> None:
    write_routerarena([Choice("a_1", "2?", "a", response="cut \ud83d")], tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())[0]["generated_result"]["generated_answer"] == "cut ?"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"query_id": ""}, "choice 2, query_id: wanted a text, not ''"),
        ({"query": None}, "choice 2, query: wanted a text, not None"),
        ({"expert": 5}, "choice 2, expert: wanted a text, not 5"),
        ({"response": 4}, "choice 2, response: wanted a text or None, not 4"),
        ({"score": 1.5}, "choice 2, score: wanted a number from 0 to 1, not 1.5"),
        ({"score": float("nan")}, "choice 2, score: wanted a number from 0 to 1, not nan"),
        ({"cost": float("inf")}, "choice 2, cost: wanted a number from 0, not inf"),
        ({"cost": "free"}, "choice 2, cost: wanted a number from 0, not 'free'"),
        ({"prompt_tokens": None}, "choice 2, prompt_tokens: wanted a number from 0, not None"),
        ({"completion_tokens": -1}, "choice 2, completion_tokens: wanted a number from 0, not -1"),
        ({"query_id": "a_1"}, "choice 2: query 'a_1' has a choice already; others are for_optimality"),
    ],
)
def test_a_bad_choice_is_named_and_nothing_is_written(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    good = {"query_id": "a_1", "query": "2?", "expert": "a"}
    with pytest.raises(ScoreTableError) as caught:
        write_routerarena([Choice(**good), Choice(**(good | {"query_id": "a_2"} | change))], tmp_path / "r.json")
    assert str(caught.value) == told
    assert not (tmp_path / "r.json").exists()


def test_no_choices_or_no_place_for_them_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScoreTableError, match="there are no choices"):
        write_routerarena([], tmp_path / "r.json")
    with pytest.raises(ScoreTableError, match=r"RouterArena takes a file ending in \.json"):
        write_routerarena([CHOICE], tmp_path / "r.jsonl")
    (tmp_path / "file").touch()
    with pytest.raises(ScoreTableError, match=r"cannot write .*r\.json: "):
        write_routerarena([CHOICE], tmp_path / "file" / "r.json")
