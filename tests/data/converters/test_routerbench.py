import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data.converters import convert

HEADER = "sample_id,prompt,eval_name,org/big,small,small|model_response,org/big|model_response,small|total_cost,org/big|total_cost"
GOLDEN = f"""{HEADER},oracle_model_to_route_to
sums.dev.1,['What is 2 + 2?'],sums,1.0,0.0,['Five.'],"[""It's 4.""]",0.0001,0.002,org/big
talk.dev.7,"['Hello.\\n', 'Who are you?']",talk,0.75,0.5,['A model.'],"['Hi!', 'A \\'big\\' model.']",0.0002,0.004,org/big
sums.dev.2,['What is 3 + 3?'],sums,,1.0,['6'],,,,small
"""
ROW = {"sample_id": "s1", "prompt": "['2 + 2?']", "eval_name": "sums", "a": 1.0, "a|model_response": "['4']", "a|total_cost": 0.1}


def wide(**changes: Any) -> str:
    """A wide table of two rows, the second one changed, as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ROW)
    writer.writeheader()
    writer.writerows([ROW, ROW | {"sample_id": "s2"} | changes])
    return text.getvalue()


def test_the_wide_table_becomes_a_row_per_prompt_and_model(write: Callable[..., Path], rows: Callable[..., Any]) -> None:
    big, small = {"expert": "org/big"}, {"expert": "small"}
    first = {"query_id": "sums.dev.1", "query": "What is 2 + 2?", "category": "sums"}
    second = {"query_id": "talk.dev.7", "query": "Hello.\n\n\nWho are you?", "category": "talk"}
    third = {"query_id": "sums.dev.2", "query": "What is 3 + 3?", "category": "sums"}
    assert rows(convert("routerbench", write("0shot.csv", GOLDEN))) == [
        first | big | {"score": 1.0, "response": "It's 4.", "cost": 0.002},
        second | big | {"score": 0.75, "response": "Hi!\n\nA 'big' model.", "cost": 0.004},
        first | small | {"score": 0.0, "response": "Five.", "cost": 0.0001},
        second | small | {"score": 0.5, "response": "A model.", "cost": 0.0002},
        third | small | {"score": 1.0, "response": "6"},
    ]


def test_parquet_and_jsonl_say_the_same_as_csv(tmp_path: Path, write: Callable[..., Path]) -> None:
    table = pd.read_csv(write("0shot.csv", GOLDEN))
    table.to_parquet(tmp_path / "0shot.parquet")
    write(
        "0shot.jsonl",
        "".join(json.dumps({k: None if pd.isna(v) else v for k, v in row.items()}) + "\n" for row in table.to_dict("records")),
    )
    wanted = convert("routerbench", tmp_path / "0shot.csv")
    for ending in (".parquet", ".jsonl"):
        pd.testing.assert_frame_equal(convert("routerbench", tmp_path / f"0shot{ending}"), wanted)


def test_turns_may_be_lists_in_parquet(tmp_path: Path) -> None:
    pd.DataFrame([ROW | {"prompt": ["One?", "Two?"]}]).to_parquet(tmp_path / "0shot.parquet")
    assert convert("routerbench", tmp_path / "0shot.parquet")["query"].tolist() == ["One?\n\nTwo?"]


@pytest.mark.parametrize("text", ["[1, 2]", "['a", "['a'] and 'b'", "[]", "['\\d']", "[x]", "What?", "[" * 3000, "['a', 1]"])
def test_a_text_that_only_looks_like_a_list_stays_as_it_is(text: str, write: Callable[..., Path]) -> None:
    assert convert("routerbench", write("t.csv", wide(prompt=text)))["query"].tolist() == ["2 + 2?", text]


def test_bools_are_scores_too(write: Callable[..., Path]) -> None:
    assert convert("routerbench", write("t.csv", wide(a=False)))["score"].tolist() == [1.0, 0.0]
    assert convert("routerbench", write("t.jsonl", json.dumps(ROW | {"a": True})))["score"].tolist() == [1.0]


def test_ids_of_any_length_become_text(tmp_path: Path, write: Callable[..., Path]) -> None:
    long = 12345678901234567890123
    assert convert("routerbench", write("t.csv", wide(sample_id=long)))["query_id"].tolist() == ["s1", str(long)]
    assert convert("routerbench", write("t.jsonl", json.dumps(ROW | {"sample_id": long})))["query_id"].tolist() == [str(long)]
    pd.DataFrame([ROW | {"sample_id": 2**62 + 1}]).to_parquet(tmp_path / "t.parquet")
    assert convert("routerbench", tmp_path / "t.parquet")["query_id"].tolist() == [str(2**62 + 1)]


def test_of_several_rows_with_one_id_the_first_counts(write: Callable[..., Path]) -> None:
    table = convert("routerbench", write("t.csv", wide(sample_id="s1", a=0.0)))
    assert table["score"].tolist() == [1.0]


def test_a_model_may_have_no_costs(write: Callable[..., Path]) -> None:
    table = convert("routerbench", write("t.csv", "sample_id,prompt,eval_name,a,a|model_response\ns1,2 + 2?,sums,1,4\n"))
    assert table.columns.tolist() == ["query_id", "query", "category", "expert", "score", "response"]


def test_a_folder_is_one_table(write: Callable[..., Path]) -> None:
    write("both/a.csv", wide())
    folder = write("both/b.csv", wide().replace("s1", "s3").replace("s2", "s4")).parent
    assert convert("routerbench", folder)["query_id"].tolist() == ["s1", "s2", "s3", "s4"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"a": 1.5}, "t.csv, row 2, column a: wanted a number from 0 to 1, not '1.5'"),
        ({"a": -1}, "t.csv, row 2, column a: wanted a number from 0 to 1, not '-1'"),
        ({"a": "nan"}, "t.csv, row 2, column a: wanted a number from 0 to 1, not 'nan'"),
        ({"a": "good"}, "t.csv, row 2, column a: wanted a number from 0 to 1, not 'good'"),
        ({"a|total_cost": -0.1}, "t.csv, row 2, column a|total_cost: wanted a number from 0, not '-0.1'"),
        ({"a|total_cost": "inf"}, "t.csv, row 2, column a|total_cost: wanted a number from 0, not 'inf'"),
        ({"sample_id": ""}, "t.csv, row 2, column sample_id: empty"),
        ({"prompt": "['']"}, "t.csv, row 2, column prompt: empty"),
    ],
)
def test_a_bad_cell_is_named_by_row_and_column_of_the_wide_table(
    changes: dict[str, Any], told: str, write: Callable[..., Path], refusal: Callable[..., str]
) -> None:
    assert refusal("routerbench", write("t.csv", wide(**changes))) == told


@pytest.mark.parametrize("name", ["sample_id", "prompt", "eval_name"])
def test_a_missing_column_is_named_beside_those_found(name: str, write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    left = [column for column in ROW if column != name]
    path = write("t.csv", pd.DataFrame([ROW])[left].to_csv(index=False))
    assert refusal("routerbench", path) == f"t.csv has no column '{name}'; wanted sample_id, prompt, eval_name, found {', '.join(left)}"


def test_a_model_without_scores_is_named(write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    path = write("t.csv", "sample_id,prompt,eval_name,b|total_cost\ns1,2 + 2?,sums,0.1\n")
    assert refusal("routerbench", path) == "t.csv has no column 'b'; wanted b, found sample_id, prompt, eval_name, b|total_cost"


def test_a_table_without_models_is_told_what_one_looks_like(write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    path = write("t.csv", "sample_id,prompt,eval_name,a\ns1,2 + 2?,sums,1\n")
    columns = "the columns MODEL (its score), MODEL|model_response and MODEL|total_cost"
    assert refusal("routerbench", path) == f"t.csv has no models: wanted, for each, {columns}"


def test_a_header_without_rows_is_refused(write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    assert refusal("routerbench", write("t.csv", HEADER + "\n")) == "t.csv has no rows"


def test_a_table_without_a_score_is_refused(write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    path = write("t.csv", "sample_id,prompt,eval_name,a,a|total_cost\ns1,2 + 2?,sums,,0.1\n")
    assert refusal("routerbench", path) == "t.csv has no scores: each score is missing"


def test_a_row_with_too_many_cells_is_refused(write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    assert refusal("routerbench", write("t.csv", "sample_id,prompt,eval_name,a,a|total_cost\ns1,2 + 2?,sums,1,0.1,0.2\n")).startswith(
        "t.csv cannot be read as csv: "
    )


def test_a_broken_line_of_jsonl_is_numbered(write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    path = write("t.jsonl", json.dumps(ROW) + '\n{"sample_id": "s2"\n')
    assert refusal("routerbench", path) == "t.jsonl cannot be read as jsonl: line 2: Expecting ',' delimiter: line 1 column 19 (char 18)"
