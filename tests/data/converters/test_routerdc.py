from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.converters import convert

GOLDEN = [
    {"question": "What is 2 + 2?\n", "scores": {"org/big": 1.0, "org/small": 0.3}, "cluster_id": 4},
    {"question": "Who are you?", "scores": {"org/big": 0.0, "org/small": 1.0}, "cluster_id": 2},
]
WIDE = ",sample_id,prompt,eval_name,org/big,org/big|model_response,org/big|total_cost,oracle_model_to_route_to,cluster_id\n"


def test_questions_with_scores_become_rows(write: Callable[..., Path], rows: Callable[..., Any]) -> None:
    first = {"query_id": "hard_sums_train-1", "query": "What is 2 + 2?\n", "category": "hard_sums", "split": "train"}
    second = {"query_id": "hard_sums_train-2", "query": "Who are you?", "category": "hard_sums", "split": "train"}
    assert rows(convert("routerdc", write("hard_sums_train.json", GOLDEN))) == [
        first | {"expert": "org/big", "score": 1.0},
        second | {"expert": "org/big", "score": 0.0},
        first | {"expert": "org/small", "score": 0.3},
        second | {"expert": "org/small", "score": 1.0},
    ]


def test_the_wide_tables_of_a_folder_have_the_splits_of_their_names(write: Callable[..., Path], rows: Callable[..., Any]) -> None:
    write("wide/sums_train.csv", WIDE + "20,sums.1,['2 + 2?'],sums,1.0,['4'],0.1,org/big,3\n")
    folder = write("wide/sums_test.csv", WIDE + "21,sums.2,['3 + 3?'],sums,0.0,['5'],0.2,no_model_correct,3\n").parent
    shared = {"category": "sums", "expert": "org/big"}
    assert rows(convert("routerdc", folder)) == [
        {"query_id": "sums.2", "query": "3 + 3?", "score": 0.0, "response": "5", "cost": 0.2, "split": "test"} | shared,
        {"query_id": "sums.1", "query": "2 + 2?", "score": 1.0, "response": "4", "cost": 0.1, "split": "train"} | shared,
    ]


@pytest.mark.parametrize(
    ("name", "category", "split"),
    [("sums-test", "sums", "test"), ("sums_train", "sums", "train"), ("sums", "sums", None), ("latest", "latest", None)],
)
def test_category_and_split_come_from_the_name(name: str, category: str, split: str | None, write: Callable[..., Path]) -> None:
    table = convert("routerdc", write(f"{name}.json", GOLDEN))
    assert table["category"].unique().tolist() == [category]
    assert (table["split"].unique().tolist() if split else "split" in table.columns) == ([split] if split else False)


def test_a_file_without_a_split_beside_others_leaves_it_open(write: Callable[..., Path]) -> None:
    write("data/sums-train.json", GOLDEN)
    table = convert("routerdc", write("data/talk.json", GOLDEN).parent)
    assert table["split"].fillna("").tolist() == ["train"] * 4 + [""] * 4


def test_a_model_may_miss_questions(write: Callable[..., Path]) -> None:
    gaps = [GOLDEN[0] | {"scores": {"a": 1, "b": None}}, GOLDEN[1] | {"scores": {"b": 0.5}}]
    table = convert("routerdc", write("sums.json", gaps))
    assert table[["query_id", "expert", "score"]].to_numpy().tolist() == [["sums-1", "a", 1.0], ["sums-2", "b", 0.5]]


def test_a_question_asked_twice_is_two_queries(write: Callable[..., Path]) -> None:
    assert convert("routerdc", write("sums.json", [GOLDEN[0], GOLDEN[0]]))["query_id"].nunique() == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"scores": {"a": 1.01}}, "sums.json, row 3, column scores.a: wanted a number from 0 to 1, not 1.01"),
        ({"scores": {"a": float("nan")}}, "sums.json, row 3, column scores.a: wanted a number from 0 to 1, not nan"),
        ({"scores": {"a": [1]}}, "sums.json, row 3, column scores.a: wanted a number from 0 to 1, not [1]"),
        ({"scores": [1, 0]}, "sums.json, row 3, column scores: wanted a score per model, not [1, 0]"),
        ({"scores": None}, "sums.json, row 3, column scores: wanted a score per model, not None"),
        ({"question": ""}, "sums.json, row 3, column question: empty"),
        ({"question": 5}, "sums.json, row 3, column question: wanted a text, not 5"),
    ],
)
def test_a_bad_entry_is_named(change: dict[str, Any], told: str, write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    assert refusal("routerdc", write("sums.json", [*GOLDEN, GOLDEN[0] | change])) == told


@pytest.mark.parametrize("name", ["question", "scores"])
def test_a_missing_field_is_named(name: str, write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    entry = {key: value for key, value in GOLDEN[0].items() if key != name}
    told = f"sums.json has no column '{name}'; wanted question, scores, found {', '.join(entry)}"
    assert refusal("routerdc", write("sums.json", [entry])) == told


def test_entries_without_models_are_refused(write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    assert refusal("routerdc", write("sums.json", [{"question": "Why?", "scores": {}}])) == "sums.json has no models: each scores is empty"


def test_entries_without_scores_are_refused(write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    path = write("sums.json", [{"question": "Why?", "scores": {"a": None}}])
    assert refusal("routerdc", path) == "sums.json has no scores: each score is missing"
