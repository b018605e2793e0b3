import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data.converters import convert, write_llmrouterbench
from data.scores import ScoreTableError

RECORD = {
    "index": 1,
    "origin_query": "2 + 2",
    "prompt": "What is 2 + 2?\nLet's think.",
    "prompt_tokens": 15,
    "completion_tokens": 5,
    "cost": 0.0001,
    "score": 1.0,
    "prediction": "4",
    "ground_truth": "4",
    "raw_output": "It is 4.",
    "extra_fields": {},
}


def result(model: str, *changes: dict[str, Any], **head: Any) -> dict[str, Any]:
    """A result file whose records differ from the first by some fields."""
    records = [RECORD | {"index": number} | change for number, change in enumerate(changes, start=1)]
    known = {"performance": 1.0, "time_taken": 3.5, "prompt_tokens": 15, "completion_tokens": 5, "cost": 0.0001, "counts": len(records)}
    about = {"model_name": model, "dataset_name": "sums", "split": "test", "demo": False, "extra_metrics": {}, "data_fingerprint": "0"}
    return known | about | {"records": records} | head


def named(model: str, stamp: str = "20250901_120000", dataset: str = "sums") -> str:
    return f"bench/{dataset}/test/{model}/{dataset}-test-{model}-{stamp}.json"


def test_the_records_of_all_files_become_rows(tmp_path: Path, write: Callable[..., Path], rows: Callable[..., Any]) -> None:
    write(
        named("big"),
        result("big", {}, {"prompt": "And 3 + 3?", "ground_truth": 6, "prediction": ["6", "six"], "raw_output": {"text": "6"}}),
    )
    write(named("small"), result("small", {"score": 0.25, "prediction": "", "cost": 0, "raw_output": "Five."}))
    first = {"query_id": "sums/test/1", "query": "What is 2 + 2?\nLet's think.", "answer": "4", "split": "test", "category": "sums"}
    tokens = {"prompt_tokens": 15, "completion_tokens": 5}
    second = {"query_id": "sums/test/2", "query": "And 3 + 3?", "answer": "6", "split": "test", "category": "sums"}
    answer = {"prediction": '["6", "six"]', "response": '{"text": "6"}'}
    assert rows(convert("llmrouterbench", tmp_path / "bench")) == [
        first | tokens | {"expert": "big", "score": 1.0, "prediction": "4", "response": "It is 4.", "cost": 0.0001},
        second | tokens | answer | {"expert": "big", "score": 1.0, "cost": 0.0001},
        first | tokens | {"expert": "small", "score": 0.25, "prediction": "", "response": "Five.", "cost": 0.0},
    ]


def test_one_file_is_a_table_too(write: Callable[..., Path]) -> None:
    assert convert("llmrouterbench", write("result.json", result("big", {})))["expert"].tolist() == ["big"]


def test_the_latest_run_counts_and_a_demo_never(tmp_path: Path, write: Callable[..., Path]) -> None:
    write(named("big", "20250901_120000"), result("big", {"score": 0.25}))
    write(named("big", "20251001_090000"), result("big", {"score": 0.5}))
    write(named("big", "20251101_090000"), result("big", {"score": 0.75}, demo=True))
    write("bench/sums/test/big/result.json", result("big", {"score": 1.0}))
    assert convert("llmrouterbench", tmp_path / "bench")["score"].tolist() == [0.5]


def test_a_record_without_a_score_is_no_row(write: Callable[..., Path]) -> None:
    failed = {"score": None, "prompt": "", "prediction": "", "raw_output": "Processing failed: timeout"}
    assert convert("llmrouterbench", write("result.json", result("big", failed, {})))["query_id"].tolist() == ["sums/test/2"]


def test_a_record_without_a_prompt_has_its_question(write: Callable[..., Path]) -> None:
    assert convert("llmrouterbench", write("result.json", result("big", {"prompt": ""})))["query"].tolist() == ["2 + 2"]


def test_another_prompt_under_the_same_index_is_another_query(tmp_path: Path, write: Callable[..., Path]) -> None:
    write(named("big"), result("big", {}))
    write(named("mid"), result("mid", {"prompt": "Another?"}))
    write(named("small"), result("small", {"prompt": "Another?"}))
    table = convert("llmrouterbench", tmp_path / "bench")
    assert table["query_id"].tolist() == ["sums/test/1", "sums/test/1#2", "sums/test/1#2"]


def test_datasets_do_not_mix(tmp_path: Path, write: Callable[..., Path]) -> None:
    write(named("big"), result("big", {}))
    write(named("big", dataset="talk"), result("big", {"prompt": "Hello?"}, dataset_name="talk"))
    assert convert("llmrouterbench", tmp_path / "bench")["query_id"].tolist() == ["sums/test/1", "talk/test/1"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"score": 7}, "result.json, row 2, column score: wanted a number from 0 to 1, not 7"),
        ({"score": float("nan")}, "result.json, row 2, column score: wanted a number from 0 to 1, not nan"),
        ({"score": "right"}, "result.json, row 2, column score: wanted a number from 0 to 1, not 'right'"),
        ({"cost": -1}, "result.json, row 2, column cost: wanted a number from 0, not -1"),
        ({"prompt_tokens": "many"}, "result.json, row 2, column prompt_tokens: wanted a number from 0, not 'many'"),
        ({"index": None}, "result.json, row 2, column index: empty"),
        ({"prompt": " "}, "result.json, row 2, column prompt: empty"),
        ({"prompt": ["a", "b"]}, "result.json, row 2, column prompt: wanted a text, not ['a', 'b']"),
        ({"index": 1}, "result.json, row 2: 'big' stands twice for 'sums/test/1'"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, Any], told: str, write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    assert refusal("llmrouterbench", write("result.json", result("big", {}, change))) == told


@pytest.mark.parametrize("name", ["dataset_name", "split", "model_name", "records"])
def test_a_missing_field_of_the_head_is_named(name: str, write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    head = {key: value for key, value in result("big", {}).items() if key != name}
    told = f"result.json has no column '{name}'; wanted dataset_name, split, model_name, records, found {', '.join(head)}"
    assert refusal("llmrouterbench", write("result.json", head)) == told


@pytest.mark.parametrize("name", ["index", "prompt", "score"])
def test_a_missing_field_of_the_records_is_named(name: str, write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    record = {key: value for key, value in RECORD.items() if key != name}
    told = f"result.json has no column '{name}'; wanted index, prompt, score, found {', '.join(record)}"
    assert refusal("llmrouterbench", write("result.json", result("big") | {"records": [record]})) == told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([1], "result.json: wanted an object with dataset_name, split, model_name, records, not a list or a value"),
        (result("big"), "result.json has no rows"),
        (result("big", records={"1": RECORD}), "result.json: wanted a list of objects, not {'1': {"),
        (result("big", {}, model_name=None), "result.json: wanted a text for model_name, not None"),
        (result("big", {}, demo=True), "result.json holds only demo runs; wanted whole ones"),
        (result("big", {"score": None}), "result.json has no scores: each score is missing"),
    ],
)
def test_a_file_that_is_no_result_is_refused(content: Any, told: str, write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    assert refusal("llmrouterbench", write("result.json", content)).startswith(told)


def test_a_cut_file_in_a_folder_is_named(tmp_path: Path, write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    write(named("big"), result("big", {}))
    write(named("small"), '{"performance": 0.')
    assert refusal("llmrouterbench", tmp_path / "bench").startswith(f"{named('small')} cannot be read as json: ")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    known = {"answer": "4", "response": "It is 4.", "prediction": "4", "prompt_tokens": 9, "completion_tokens": 3, "cost": 0.5}
    rows = [
        known | {"query_id": f"q{at}", "query": f"{at} + 1?", "expert": expert, "score": score, "category": "sums/easy", "split": "train"}
        for at in range(3)
        for expert, score in (("maker/big", 1.0), ("..", 0.25))
    ]
    files = write_llmrouterbench(pd.DataFrame(rows), tmp_path / "bench", "20251101_090000")
    assert all(file.resolve().is_relative_to((tmp_path / "bench").resolve()) for file in files)
    head = json.loads(files[0].read_text())
    assert (head["counts"], head["performance"], head["cost"], [record["index"] for record in head["records"]]) == (3, 0.25, 1.5, [1, 2, 3])
    again = convert("llmrouterbench", tmp_path / "bench")
    names = ["query", "expert", "score", "category", "split", "answer", "response", "prediction", "prompt_tokens", "cost"]
    order = ["expert", "query"]
    assert again.sort_values(order)[names].to_dict("records") == pd.DataFrame(rows).sort_values(order)[names].to_dict("records")
    with pytest.raises(ScoreTableError, match="YYYYMMDD_HHMMSS"):
        write_llmrouterbench(pd.DataFrame(rows), tmp_path, "yesterday")
