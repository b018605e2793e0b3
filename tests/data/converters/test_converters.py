import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.converters import CONVERTERS, convert
from data.scores import ScoreTableError, read_scores, write_scores

ENDING = {"embedllm": ".csv", "llmrouterbench": ".json", "routerarena": ".json", "routerbench": ".csv", "routerdc": ".json"}
KINDS = pytest.mark.parametrize("kind", CONVERTERS)


def test_an_unknown_kind_is_told_the_known_ones() -> None:
    with pytest.raises(ScoreTableError) as caught:
        convert("routerbrench", Path("table.csv"))
    known = "embedllm, llmrouterbench, routerarena, routerbench, routerdc"
    assert str(caught.value) == f"no converter is called 'routerbrench'; there are {known}"


@KINDS
def test_a_missing_path_is_named(kind: str, tmp_path: Path, refusal: Callable[..., str]) -> None:
    assert refusal(kind, tmp_path / "absent.json").startswith("nothing at absent.json: wanted a file ending in .")


@KINDS
def test_another_ending_is_refused(kind: str, write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    assert refusal(kind, write("table.txt", "x")).startswith("table.txt is not of this format: wanted a file ending in .")


@KINDS
def test_a_folder_without_such_files_is_refused(kind: str, write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    folder = write("folder/notes.txt", "x").parent
    assert refusal(kind, folder).startswith(f"no file {'below' if kind == 'llmrouterbench' else 'in'} folder ends in .")


@KINDS
@pytest.mark.parametrize("name", ["routerbench_0shot.pkl", "table.pickle"])
def test_a_pickle_is_never_read_and_the_way_out_is_told(
    kind: str, name: str, tmp_path: Path, write: Callable[..., Path], refusal: Callable[..., str]
) -> None:
    path = write(name, f"cos\nmkdir\n(S'{tmp_path / 'ran'}'\ntR.")
    told = refusal(kind, path)
    assert told.startswith(f"{name} is a pickle, and reading one runs any program in it; wanted .")
    if kind in ("embedllm", "routerbench", "routerdc"):
        command = f"python -c \"import pandas; pandas.read_pickle('{name}').to_parquet('{Path(name).stem}.parquet')\""
        assert told.endswith(f"; on a machine where you trust the file, run {command}")
    if kind != "llmrouterbench":
        assert refusal(kind, tmp_path) == told
    assert not (tmp_path / "ran").exists()


@KINDS
def test_an_empty_file_is_refused(kind: str, write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    path = write(f"train{ENDING[kind]}", "")
    reason = "No columns to parse from file" if path.suffix == ".csv" else "it is empty"
    assert refusal(kind, path) == f"{path.name} cannot be read as {path.suffix[1:]}: {reason}"


@pytest.mark.parametrize("kind", [kind for kind, ending in ENDING.items() if ending == ".json"])
def test_cut_json_is_refused_with_the_place_of_the_cut(kind: str, write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    assert refusal(kind, write("cut.json", '[{"question": "2 +')) == (
        "cut.json cannot be read as json: Unterminated string starting at: line 1 column 15 (char 14)"
    )


@pytest.mark.parametrize("kind", ["routerarena", "routerdc"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([], "file.json has no rows"),
        ({"a": 1}, "file.json: wanted a list of objects, not {'a': 1}"),
        ([{"question": "x", "scores": {"a": 1}}, 5], "file.json, row 2: wanted an object, not 5"),
    ],
)
def test_json_of_another_shape_is_refused(
    kind: str, content: Any, told: str, write: Callable[..., Path], refusal: Callable[..., str]
) -> None:
    assert refusal(kind, write("file.json", content)) == told


def test_json_too_deep_to_read_is_refused(write: Callable[..., Path], refusal: Callable[..., str]) -> None:
    assert refusal("routerdc", write("deep.json", "[" * 200_000)).startswith("deep.json cannot be read as json: ")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path, refusal: Callable[..., str]) -> None:
    for name, kind in (("half.json", "routerdc"), ("half.csv", "embedllm"), ("half.parquet", "routerbench")):
        (tmp_path / name).write_bytes(b"\xff\xfe\xfa")
        assert refusal(kind, tmp_path / name).startswith(f"{name} cannot be read as {name[5:]}: ")


def test_a_converted_table_survives_being_written_and_read(tmp_path: Path, write: Callable[..., Path]) -> None:
    first = {"question": "2 + 2?\n", "scores": {"a": 0.1 + 0.2, "b": 1}}
    table = convert("routerdc", write("sums-train.json", [first, first | {"question": "NA"}]))
    for ending in (".parquet", ".jsonl", ".csv"):
        write_scores(table, tmp_path / f"scores{ending}")
        pd.testing.assert_frame_equal(read_scores(tmp_path / f"scores{ending}"), table)


RECORDS: dict[str, dict[str, Any]] = {
    "llmrouterbench": {"index": 1, "prompt": "2?", "score": 1, "cost": 0, "prompt_tokens": 1, "prediction": "2", "raw_output": "2"},
    "routerarena": {"global index": "a_1", "prompt": "2?", "prediction": "a", "accuracy": 1, "cost": 0, "generated_result": {}},
    "routerbench": {"sample_id": "s", "prompt": "['2?']", "eval_name": "e", "a": 1, "a|model_response": "2", "a|total_cost": 0},
    "routerdc": {"question": "2?", "scores": {"a": 1, "b": 0}},
}
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
ANYTHING = VALUES | st.lists(VALUES, max_size=2) | st.dictionaries(st.sampled_from(["score", "token_usage", "a"]), VALUES, max_size=2)


@pytest.mark.parametrize("kind", RECORDS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_any_value_in_any_field_is_read_or_refused_in_one_line(kind: str, data: st.DataObject, write: Callable[..., Path]) -> None:
    good = RECORDS[kind]
    change = st.dictionaries(st.sampled_from(list(good)), ANYTHING, max_size=2)
    content: Any = [good, *(good | data.draw(change) for _ in range(2))]
    if kind == "llmrouterbench":
        content = {"dataset_name": "d", "split": "s", "model_name": "m", "records": content}
    lines = kind == "routerbench"
    path = write("any.jsonl" if lines else "any.json", "\n".join(map(json.dumps, content)) if lines else content)
    try:
        told = None
        assert convert(kind, path)["score"].between(0, 1).all()
    except ScoreTableError as error:
        told = str(error)
    assert told is None or (told.startswith(f"{path}, row ") and "\n" not in told)
