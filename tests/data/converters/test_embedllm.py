from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data.converters import convert

HEADER = "prompt_id,model_id,category_id,label,model_name,category,prompt"
GOLDEN = f"""{HEADER}
0,0,3,1,org__big,sums,"What is 2 + 2?
A. 4"
0,1,3,0,org__small,sums,"What is 2 + 2?
A. 4"
17,0,5,0,org__big,talk_de,Who are you?
17,1,5,1,org__small,talk_de,Who are you?
17,0,6,1,org__big,talk,Who are you?
17,1,6,1,org__small,talk,Who are you?
"""


def test_rows_become_rows_and_variants_of_a_task_their_mean(write: Callable[..., Path], rows: Callable[..., Any]) -> None:
    first = {"query_id": "0", "query": "What is 2 + 2?\nA. 4", "split": "train", "category": "sums"}
    second = {"query_id": "17", "query": "Who are you?", "split": "train", "category": "talk_de"}
    assert rows(convert("embedllm", write("train.csv", GOLDEN))) == [
        first | {"expert": "org__big", "score": 1.0},
        first | {"expert": "org__small", "score": 0.0},
        second | {"expert": "org__big", "score": 0.5},
        second | {"expert": "org__small", "score": 1.0},
    ]


def test_the_splits_of_a_folder_are_its_files_and_val_is_our_tune(write: Callable[..., Path]) -> None:
    for number, name in enumerate(["test.csv", "train_ours.csv", "val.csv"]):
        write(f"data/{name}", f"{HEADER}\n{number},0,3,1,big,sums,What is {number} + 1?\n")
    write("data/model_order.csv", "model_id,model_name\n0,big\n")
    folder = write("data/question_order.csv", "prompt_id,prompt\n0,What is 0 + 1?\n").parent
    assert convert("embedllm", folder)[["query_id", "split"]].to_numpy().tolist() == [["0", "test"], ["1", "train"], ["2", "tune"]]


def test_a_file_of_another_name_has_no_split(write: Callable[..., Path]) -> None:
    assert "split" not in convert("embedllm", write("some.csv", GOLDEN)).columns


def test_parquet_says_the_same_as_csv(tmp_path: Path, write: Callable[..., Path]) -> None:
    pd.read_csv(write("val.csv", GOLDEN)).to_parquet(tmp_path / "val.parquet")
    pd.testing.assert_frame_equal(convert("embedllm", tmp_path / "val.parquet"), convert("embedllm", tmp_path / "val.csv"))


def test_whole_numbers_that_became_floats_are_ids_without_a_point(tmp_path: Path) -> None:
    row = {"prompt_id": 7.0, "prompt": "2 + 2?", "model_name": "big", "label": 1.0}
    pd.DataFrame([row]).to_parquet(tmp_path / "val.parquet")
    assert convert("embedllm", tmp_path / "val.parquet")["query_id"].tolist() == ["7"]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("3,0,3,2,big,sums,Why?", "train.csv, row 7, column label: wanted a number from 0 to 1, not '2'"),
        ("3,0,3,,big,sums,Why?", "train.csv, row 7, column label: wanted a number from 0 to 1, not nan"),
        ("3,0,3,nan,big,sums,Why?", "train.csv, row 7, column label: wanted a number from 0 to 1, not 'nan'"),
        (",0,3,1,big,sums,Why?", "train.csv, row 7, column prompt_id: empty"),
        ("3,0,3,1, ,sums,Why?", "train.csv, row 7, column model_name: empty"),
        ("3,0,3,1,big,sums,", "train.csv, row 7, column prompt: empty"),
        ("17,2,3,1,third,sums,Why?", "train.csv, row 7, column prompt: another text than before for '17'"),
    ],
)
def test_a_bad_cell_is_named(row: str, told: str, write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    assert refusal("embedllm", write("train.csv", GOLDEN + row + "\n")) == told


@pytest.mark.parametrize("name", ["prompt_id", "prompt", "model_name", "label"])
def test_a_missing_column_is_named_beside_those_found(name: str, write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    left = [column for column in HEADER.split(",") if column != name]
    path = write("train.csv", ",".join(left) + "\n" + ",".join("1" * len(left)) + "\n")
    assert refusal("embedllm", path) == (
        f"train.csv has no column '{name}'; wanted prompt_id, prompt, model_name, label, found {', '.join(left)}"
    )


def test_a_header_without_rows_is_refused(write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    assert refusal("embedllm", write("train.csv", HEADER + "\n")) == "train.csv has no rows"


def test_a_folder_without_splits_is_refused(write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    folder = write("data/question_order.csv", "prompt_id,prompt\n0,Why?\n").parent
    assert refusal("embedllm", folder) == "no file in data is called after train, val or test"


def test_a_prompt_in_two_splits_is_refused(write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    write("data/train.csv", GOLDEN)
    assert "expert 'org__big' stands twice for query '0'" in refusal("embedllm", write("data/val.csv", GOLDEN).parent)
