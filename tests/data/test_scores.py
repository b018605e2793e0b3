import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.scores import FORMATS, ScoreTableError, check_scores, experts_of, pivot, read_scores, rows_of, write_scores

ROW = {"query_id": "1", "query": "2 + 2?", "expert": "a", "score": 1.0}
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(lambda text: text.strip() != "")


def rows(*changes: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame([ROW | {"query_id": str(at)} | change for at, change in enumerate(changes)])


def refusal(path: Path) -> str:
    with pytest.raises(ScoreTableError) as caught:
        read_scores(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), path.name)


@pytest.fixture(params=FORMATS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"scores{request.param}"


def test_a_table_comes_back_as_it_was_written(path: Path, score_table: pd.DataFrame) -> None:
    write_scores(score_table, path)
    pd.testing.assert_frame_equal(read_scores(path), check_scores(score_table))


def test_texts_that_look_like_something_else_stay_texts(path: Path) -> None:
    odd = [
        "007",
        "NA",
        "null",
        "None",
        "nan",
        "1e5",
        "True",
        "2024-01-01",
        "",
        ' "a", b',
        "line\none",
        "a\r\nb",
        "\u2028",
        "[1]",
        "=1+1",
        " x ",
    ]
    table = rows(*({"query": f"{text}?", "answer": text, "prediction": text} for text in odd))
    table["query_id"] = [f"00{at}" for at in range(len(odd))]
    write_scores(table, path)
    read = read_scores(path)
    assert read["query_id"].tolist() == table["query_id"].tolist()
    assert read["query"].tolist() == table["query"].tolist()
    for column in ("answer", "prediction"):
        assert read[column].fillna("").tolist() == odd  # CSV knows no difference between an empty text and none


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(cells=st.lists(st.tuples(TEXT, st.floats(0, 1), st.none() | TEXT, st.none() | st.floats(0, 1e6)), min_size=1))
def test_any_text_and_any_score_survive_to_the_last_bit(path: Path, cells: list[tuple[Any, ...]]) -> None:
    table = rows(*({"query": query, "score": score, "response": response, "cost": cost} for query, score, response, cost in cells))
    write_scores(table, path)
    pd.testing.assert_frame_equal(read_scores(path), check_scores(table), check_exact=True)


def test_mixed_types_in_a_column_become_text(path: Path) -> None:
    write_scores(rows({"answer": 5, "category": None}, {"answer": "five", "category": 3}, {"answer": None, "category": "x"}), path)
    read = read_scores(path)
    assert read["answer"].tolist()[:2] == ["5", "five"]
    assert read["category"].tolist()[1:] == ["3", "x"]
    assert read["answer"].isna().tolist() == [False, False, True]


def test_half_an_emoji_does_not_break_a_table(path: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.jsonl"
    source.write_text(json.dumps(ROW | {"response": "cut \ud83d"}) + "\n", encoding="utf-8")
    write_scores(read_scores(source), path)
    assert read_scores(path)["response"].tolist() == ["cut ?"]


def test_counts_of_tokens_stay_whole_and_may_be_missing(path: Path) -> None:
    write_scores(rows({"prompt_tokens": 12, "completion_tokens": 3}, {"prompt_tokens": 7}), path)
    read = read_scores(path)
    assert read["prompt_tokens"].tolist() == [12, 7]
    assert read["prompt_tokens"].dtype == "int64"
    assert read["completion_tokens"].isna().tolist() == [False, True]


def test_columns_of_ones_own_are_kept(path: Path) -> None:
    write_scores(rows({"note": "mine"}, {"note": "yours"}), path)
    assert read_scores(path)["note"].tolist() == ["mine", "yours"]


def test_the_given_table_is_left_as_it_was() -> None:
    table = rows({"answer": 5, "score": 1}, {"answer": None, "score": 0})
    before = table.copy()
    check_scores(table)
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize("name", ["query_id", "query", "expert", "score"])
def test_a_missing_column_is_named_beside_those_found(path: Path, name: str) -> None:
    table = rows({}).drop(columns=name)
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_csv(path, index=False)
    found = [column for column in ROW if column != name]
    assert refusal(path) == f"{path.name} has no column '{name}'; wanted query_id, query, expert, score, found {', '.join(found)}"


@pytest.mark.parametrize("name", ["query_id", "query", "expert"])
@pytest.mark.parametrize("empty", [None, "", "  ", float("nan")])
def test_an_empty_cell_is_found_by_row_and_column(path: Path, name: str, empty: object) -> None:
    write_scores(rows({}, {}, {name: empty}), path)
    assert refusal(path) == f"{path.name}, row 3, column {name}: empty"


@pytest.mark.parametrize(
    ("score", "shown"), [(1.5, "1.5"), (-0.1, "-0.1"), (float("nan"), "nan"), (float("inf"), "inf"), ("good", "'good'"), ([1], "[1]")]
)
def test_a_score_that_is_no_number_from_0_to_1_is_shown_with_its_row(score: object, shown: str) -> None:
    with pytest.raises(ScoreTableError, match=r"^scores.csv, row 2") as caught:
        check_scores(rows({}, {"score": score}), "scores.csv")
    assert str(caught.value) == f"scores.csv, row 2, column score: wanted a number from 0 to 1, not {shown}"


@pytest.mark.parametrize(
    ("line", "shown"), [("1,2 + 2?,a,2", "'2'"), ("1,2 + 2?,a,", "nan"), ("1,2 + 2?,a,high", "'high'"), ("1,2 + 2?,a", "nan")]
)
def test_a_score_in_a_file_is_refused_with_its_row(tmp_path: Path, line: str, shown: str) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(f"query_id,query,expert,score\n0,1 + 1?,a,1\n{line}\n", encoding="utf-8")
    assert refusal(path) == f"scores.csv, row 2, column score: wanted a number from 0 to 1, not {shown}"


@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens", "cost"])
@pytest.mark.parametrize(("amount", "shown"), [("many", "'many'"), (-1, "-1"), (float("inf"), "inf")])
def test_an_amount_that_is_none_is_shown_with_its_row(name: str, amount: object, shown: str) -> None:
    with pytest.raises(ScoreTableError) as caught:
        check_scores(rows({name: 1}, {name: amount}))
    assert str(caught.value).startswith(f"the table, row 2, column {name}: wanted a number from 0, not {shown}")


def test_a_row_that_stands_twice_is_named(path: Path) -> None:
    write_scores(rows({"query_id": "x"}, {}, {"query_id": "x"}), path)
    assert refusal(path) == f"{path.name}, row 3: expert 'a' stands twice for query 'x'"


def test_two_texts_for_one_query_are_refused(path: Path) -> None:
    write_scores(rows({"query_id": "x"}, {}, {"query_id": "x", "query": "3 + 3?", "expert": "b"}), path)
    assert refusal(path) == f"{path.name}, row 3, column query: another text than before for query 'x'"


def test_a_column_that_stands_twice_is_refused() -> None:
    table = pd.DataFrame([["1", "2 + 2?", "a", 1.0, 0.0]], columns=[*ROW, "score"])
    with pytest.raises(ScoreTableError, match="the table has the column 'score' twice"):
        check_scores(table)


def test_an_empty_file_is_refused(path: Path) -> None:
    path.write_bytes(b"")
    assert refusal(path).startswith((f"{path.name} cannot be read as", f"{path.name} has no column 'query_id'"))


def test_a_file_with_a_header_only_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("query_id,query,expert,score\n", encoding="utf-8")
    assert refusal(path) == "scores.csv has no rows"


def test_bytes_that_are_no_table_are_refused(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00 this is no table \x80")
    assert refusal(path).startswith(f"{path.name} cannot be read as {path.suffix[1:]}: ")


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text('{"query_id": "1", "query": "q", "expert": "a", "score": 1}\n\n{"query_id": "2", "que', encoding="utf-8")
    assert refusal(path).startswith("scores.jsonl cannot be read as jsonl: line 3: ")


def test_a_line_that_is_no_object_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text("[1, 2]\n", encoding="utf-8")
    assert refusal(path) == "scores.jsonl cannot be read as jsonl: line 1: wanted an object, not [1, 2]"


def test_a_row_with_more_cells_than_the_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("query_id,query,expert,score\n1,2 + 2?,a,1,1\n", encoding="utf-8")
    assert refusal(path).startswith("scores.csv cannot be read as csv: ")


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("query_id,query,expert,score\n1,2 + 2?,a,1\n", encoding="utf-8-sig")
    (tmp_path / "scores.jsonl").write_text('{"query_id": 1, "query": "2 + 2?", "expert": "a", "score": true}\n', encoding="utf-8-sig")
    for name in ("scores.csv", "scores.jsonl"):
        assert read_scores(tmp_path / name).to_dict("records") == [ROW]


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "scores.csv") == "no score table at scores.csv"


def test_an_unknown_ending_is_refused_in_reading_and_writing(tmp_path: Path) -> None:
    path = tmp_path / "scores.xlsx"
    assert refusal(path) == "scores.xlsx is no score table: wanted a file ending in .parquet, .jsonl, .csv"
    with pytest.raises(ScoreTableError, match=r"cannot write .*scores.xlsx: wanted a file ending in .parquet, .jsonl, .csv"):
        write_scores(rows({}), path)


def test_a_path_that_cannot_be_written_is_named(path: Path) -> None:
    path.parent.joinpath("file").write_text("", encoding="utf-8")
    for unwritable in (path.parent / "file" / path.name, path.parent / "folder" / path.name):
        (path.parent / "folder" / path.name).mkdir(parents=True, exist_ok=True)
        with pytest.raises(ScoreTableError, match=r"^cannot write ") as caught:
            write_scores(rows({}), unwritable)
        assert str(unwritable) in str(caught.value)


def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    write_scores(rows({}), tmp_path / "a" / "b" / "scores.csv")
    assert len(read_scores(tmp_path / "a" / "b" / "scores.csv")) == 1


def test_experts_keep_the_order_of_the_table(score_table: pd.DataFrame) -> None:
    assert experts_of(score_table) == ["math", "language", "general"]


def test_missing_cells_are_nan_and_queries_keep_their_order(score_table: pd.DataFrame) -> None:
    holes = score_table.drop(index=[1, 3]).reset_index(drop=True)  # language on add, math on sum
    queries, scores = pivot(holes)
    assert queries["query_id"].tolist() == ["add", "sum", "spell", "rhyme"]
    assert queries["category"].tolist() == ["sums", "sums", "words", "words"]
    assert experts_of(holes) == ["math", "general", "language"]
    nan = float("nan")
    np.testing.assert_array_equal(scores, [[1, 1, nan], [nan, 0.5, 0.25], [0, 0.5, 1], [0, 1, 1]])


def test_experts_may_be_picked_in_another_order(score_table: pd.DataFrame) -> None:
    _, scores = pivot(score_table, ["general", "math"])
    np.testing.assert_array_equal(scores[:2], [[1.0, 1.0], [0.5, 1.0]])


def test_an_expert_outside_the_table_is_named(score_table: pd.DataFrame) -> None:
    with pytest.raises(ScoreTableError, match="the score table has no expert 'chess'; it has math, language, general"):
        pivot(score_table, ["math", "chess"])


def test_train_loses_the_queries_that_also_stand_in_test() -> None:
    table = rows(
        {"split": "train", "query": "What is  TWO?"}, {"split": "train", "query": "three"}, {"split": "test", "query": " what is two? "}
    )
    assert rows_of(table, ["train"])["query"].tolist() == ["three"]
    assert rows_of(table, ["test"])["query"].tolist() == [" what is two? "]
    assert rows_of(table, None) is table


def test_tune_loses_them_too() -> None:
    table = rows({"split": "tune", "query": "two"}, {"split": "tune", "query": "three"}, {"split": "test", "query": "Two"})
    assert rows_of(table, ["train", "tune"])["query"].tolist() == ["three"]


def test_when_all_of_train_stands_in_test_it_is_said() -> None:
    table = rows({"split": "train", "query": "two"}, {"split": "test", "query": "Two"})
    with pytest.raises(ScoreTableError, match="every query with split train also stands in test"):
        rows_of(table, ["train"])


def test_an_absent_split_is_named_beside_those_there(score_table: pd.DataFrame) -> None:
    with pytest.raises(ScoreTableError, match="no rows with split test; there are train"):
        rows_of(score_table, ["test"])
    with pytest.raises(ScoreTableError, match="the score table has no column 'split', so test cannot be picked"):
        rows_of(score_table.drop(columns="split"), ["test"])


@pytest.mark.parametrize("cell", ["A", "[1]", "3", '{"A": "x"}', '{"A": 0.5}', '{"A": -Infinity}', '{"A": NaN}', '{"A": null}'])
def test_log_probabilities_that_are_none_are_told_with_their_row(cell: str) -> None:
    rows = [{"query_id": str(at), "query": "x", "expert": "a", "score": 1, "logprobs": text} for at, text in enumerate(('{"A": -1}', cell))]
    with pytest.raises(ScoreTableError, match=r"the table, row 2, column logprobs: wanted a JSON object of log-probabilities, not "):
        check_scores(pd.DataFrame(rows))
