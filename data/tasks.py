"""Task files: questions with known answers, one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict
from pathlib import Path

from data.graders import GRADERS, why_not
from data.records import CounterpointError
from data.skills import Task

REQUIRED = ("query", "answer", "grader")


class TaskFileError(CounterpointError):
    """A task file that cannot be used; the text names file and line."""


def write_tasks(tasks: Iterable[Task], path: Path) -> None:
    """Write tasks, one a line.

    Raises:
        TaskFileError: The path cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(asdict(task), ensure_ascii=False) + "\n" for task in tasks), encoding="utf-8")
    except OSError as error:
        raise TaskFileError(f"cannot write {path}: {error.strerror or error}") from error


def read_tasks(path: Path, graders: Collection[str] = tuple(GRADERS)) -> list[Task]:
    """Read tasks; `query`, `answer` and `grader` are required, `query_id`, `category` and `split` are not.

    Args:
        path: The file.
        graders: Graders that may stand there; those that run programs or ask a judge only where whoever asks sees to it.

    Raises:
        TaskFileError: The file or a line is not what it should be.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a text may hold other line separators
    except (OSError, UnicodeDecodeError) as error:
        raise TaskFileError(f"no tasks at {path}: {getattr(error, 'strerror', None) or error}") from error
    tasks: list[Task] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise TaskFileError(f"{place}: no JSON: {error}") from error
        if not isinstance(row, dict):
            raise TaskFileError(f"{place}: wanted an object, not {type(row).__name__}")
        if missing := [name for name in REQUIRED if not str(row.get(name, "")).strip()]:
            raise TaskFileError(f"{place}: {missing[0]} is missing; wanted {', '.join(REQUIRED)}")
        if row["grader"] not in graders:
            raise TaskFileError(f"{place}: no grader is called {row['grader']!r}; there are {', '.join(graders)}")
        if row["grader"] in GRADERS and (lacks := why_not(row["grader"])):
            raise TaskFileError(f"{place}: {lacks}")
        name = str(row.get("query_id") or f"line-{number}")
        if name in seen:
            raise TaskFileError(f"{place}: query_id {name!r} stands twice")
        seen.add(name)
        category, split = str(row.get("category") or ""), str(row.get("split") or "test")
        tasks.append(Task(name, str(row["query"]), str(row["answer"]), row["grader"], category, split))
    if not tasks:
        raise TaskFileError(f"{path} has no tasks")
    return tasks
