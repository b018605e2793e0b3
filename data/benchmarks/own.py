"""Questions that are no benchmark of others: our generated families, task files, and the questions of score tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from data.benchmarks.choosing import same_text, stratified, without_doubles
from data.benchmarks.loading import Loaded
from data.benchmarks.rows import BenchmarkError
from data.graders import NAMES, NUMBER
from data.scores import ScoreTableError, count_leaked, pivot, read_scores, rows_of
from data.skills import FAMILIES, SPLITS, Task, generate
from data.tasks import TaskFileError, read_tasks

PER_FAMILY = 50
"""Questions of each family where no limit is given."""

HALVES = {"first-half": tuple(FAMILIES)[: len(FAMILIES) // 2], "second-half": tuple(FAMILIES)[len(FAMILIES) // 2 :]}
"""Names for half of the families each: what is learned on one can be tried on the other."""


def load_skills(families: str, split: str, limit: int | None, seed: int) -> Loaded:
    """Make questions of our families.

    Args:
        families: Their names between commas, `first-half`, `second-half`, or nothing for all.
        split: `train`, `tune` or `test`.
        limit: How many in all; as many of each family as can be.
        seed: The same seed gives the same questions.

    Raises:
        BenchmarkError: No family has such a name.
    """
    names = HALVES.get(families) or tuple(name.strip() for name in families.split(",") if name.strip()) or tuple(FAMILIES)
    if unknown := [name for name in names if name not in FAMILIES]:
        raise BenchmarkError(f"no family of skills is called {unknown[0]!r}; there are {', '.join(FAMILIES)}, {', '.join(HALVES)}")
    if split not in SPLITS:
        raise BenchmarkError(f"skills has no split {split!r}; it has {', '.join(SPLITS)}")
    if limit is not None and limit < 1:
        raise BenchmarkError(f"the limit must be 1 or more, not {limit}")
    each = PER_FAMILY if limit is None else -(-limit // len(names))
    tasks = generate(split, each, seed=seed, families=names)[:limit]
    name = f"skills:{families}" if families else "skills"
    none = {"twice": 0, "in_test": 0}
    return Loaded(name, tasks, f"generated, seed {seed}", "skills-1", none, len(tasks), seed, 0, {name: 1 / len(tasks)})


def load_file(path: Path, split: str, limit: int | None, seed: int) -> Loaded:
    """Load a task file of one's own (`data.tasks`); what stands twice, or in test as well, is dropped.

    Raises:
        BenchmarkError: The file or a line is not what it should be, or has no such question.
    """
    try:
        tasks = read_tasks(path, NAMES)
    except TaskFileError as error:
        raise BenchmarkError(str(error)) from error
    picked = [task for task in tasks if task.split == split]
    test = set() if split == "test" else set(same_text(task.query for task in tasks if task.split == "test"))
    kept, dropped = without_doubles(picked, same_text(task.query for task in picked), test)
    if not kept:
        known = ", ".join(sorted({task.split for task in tasks}))
        raise BenchmarkError(
            f"{path} has no questions in {split}" + (f"; it has {known}" if not picked else " that do not also stand in test")
        )
    chosen = stratified(kept, limit, seed)
    return Loaded(f"file:{path}", chosen, str(path), "as written", dropped, len(kept), seed, 0, {f"file:{path}": 1 / len(chosen)})


def grader_of(answers: Sequence[str]) -> str:
    """Choose the grader of a category by its answers: letters, numbers, else texts.

    Example:
        >>> grader_of(["A", "J"]), grader_of(["12", "1,200"]), grader_of(["A", "Oslo"])
        ('option', 'number', 'exact')
    """
    if all(re.fullmatch(r"\(?[A-J]\)?", answer) for answer in answers):
        return "option"
    return "number" if all(NUMBER.fullmatch(answer) for answer in answers) else "exact"


def load_scores(path: Path, split: str, limit: int | None, seed: int) -> Loaded:
    """Load the questions of a score table, with its own ids, so that recorded answers can be played back beside it; all of them, twins too.

    Raises:
        BenchmarkError: The table cannot be read, has no answers, or no such split.
    """
    try:
        table = read_scores(path)
        splits = [split] if "split" in table.columns else None
        rows, leaked = rows_of(table, splits), count_leaked(table, splits or ["test"])
    except ScoreTableError as error:
        raise BenchmarkError(str(error)) from error
    if "answer" not in rows.columns:
        raise BenchmarkError(f"{path} has no column 'answer', so nothing new can be graded by it")
    queries, _ = pivot(rows)
    answers: dict[str, str] = dict(
        rows.dropna(subset=["answer"]).drop_duplicates("query_id")[["query_id", "answer"]].itertuples(index=False)
    )
    told = [row for row in queries.to_dict("records") if row["query_id"] in answers]
    groups: dict[str, list[str]] = {}
    for row in told:
        groups.setdefault(str(row.get("category", "")), []).append(answers[row["query_id"]])
    graders = {name: grader_of(group) for name, group in groups.items()}
    tasks = []
    for row in told:
        category = str(row.get("category", ""))
        tasks.append(Task(str(row["query_id"]), row["query"], answers[row["query_id"]], graders[category], category, split))
    if not tasks:
        raise BenchmarkError(f"{path} has no questions with an answer in {split}")
    dropped = {"twice": 0, "in_test": leaked}
    chosen, name = stratified(tasks, limit, seed), f"scores:{path}"
    return Loaded(name, chosen, str(path), "as recorded", dropped, len(tasks), seed, 0, {name: 1 / len(chosen)})
