import json
from dataclasses import replace
from pathlib import Path

import pytest

from data.graders import NAMES
from data.skills import generate
from data.tasks import TaskFileError, read_tasks, write_tasks

LINE = {"query": "2 + 2?", "answer": "4", "grader": "number"}


def refusal(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(TaskFileError) as caught:
        read_tasks(path)
    return str(caught.value).replace(str(path), path.name)


def test_tasks_come_back_as_they_were_written(tmp_path: Path) -> None:
    odd = "one\u2028two\u0085three\rfour\nfive \u00e9"
    tasks = [*generate("test", 3), replace(generate("tune", 1)[0], query=odd, answer=odd)]
    write_tasks(tasks, tmp_path / "deep" / "tasks.jsonl")
    assert read_tasks(tmp_path / "deep" / "tasks.jsonl") == tasks


def test_a_line_needs_only_a_query_an_answer_and_a_grader(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n" + json.dumps(LINE | {"answer": 4}) + "\r\n", encoding="utf-8")
    (task,) = read_tasks(path)
    assert (task.query_id, task.query, task.answer, task.category, task.split) == ("line-2", "2 + 2?", "4", "", "test")


@pytest.mark.parametrize("name", LINE)
def test_what_is_missing_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    partial = {key: value for key, value in LINE.items() if key != name}
    message = refusal(tmp_path / "tasks.jsonl", json.dumps(LINE), json.dumps(partial))
    assert message == f"tasks.jsonl, line 2: {name} is missing; wanted query, answer, grader"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "tasks.jsonl, line 2: no JSON: "),
        ("[1]", "tasks.jsonl, line 2: wanted an object, not list"),
        (json.dumps(LINE | {"grader": "essay"}), "tasks.jsonl, line 2: no grader is called 'essay'; there are choice, "),
        (json.dumps(LINE | {"query_id": "line-1"}), "tasks.jsonl, line 2: query_id 'line-1' stands twice"),
    ],
)
def test_a_line_that_is_no_task_is_named(tmp_path: Path, line: str, message: str) -> None:
    assert refusal(tmp_path / "tasks.jsonl", json.dumps(LINE), line).startswith(message)


def test_programs_and_pairs_are_read_only_by_whoever_sees_to_them(tmp_path: Path) -> None:
    assert refusal(tmp_path / "tasks.jsonl", json.dumps(LINE | {"grader": "code"})).startswith(
        "tasks.jsonl, line 1: no grader is called 'code'"
    )
    assert read_tasks(tmp_path / "tasks.jsonl", NAMES)[0].grader == "code"


def test_an_empty_or_absent_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "tasks.jsonl", "", "  ") == "tasks.jsonl has no tasks"
    with pytest.raises(TaskFileError, match=r"no tasks at .*absent.jsonl: No such file or directory"):
        read_tasks(tmp_path / "absent.jsonl")


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(TaskFileError, match=r"cannot write .*tasks.jsonl: "):
        write_tasks([], tmp_path / "file" / "tasks.jsonl")
