"""What `--benchmark` names, as questions: generated skills, task files, and the questions of score tables."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from data.records import CounterpointError
from data.scores import normalised, read_scores, rows_of
from data.skills import FAMILIES, Task, generate
from data.tasks import read_tasks
from serving.evaluation.suite import Question

PER_FAMILY = 40
"""Questions of each generated family where no limit is given."""
FORMS = "skills, skills:FAMILY,FAMILY, file:TASKS.jsonl, or scores:TABLE (its questions and answers, whose answers are letters of options)"


def loaded(names: Sequence[str], *, split: str, limit: int | None, seed: int) -> tuple[list[Question], list[dict[str, Any]]]:
    """Load benchmarks.

    Args:
        names: What `--benchmark` named.
        split: The split that is asked.
        limit: Questions of each, drawn evenly over its categories; None is all.
        seed: Seed of the draw.

    Returns:
        The questions, and of each benchmark its name, source, number of questions and of those left out because they stand twice.

    Raises:
        CounterpointError: A name is none, or its file cannot be used.
    """
    questions: list[Question] = []
    about: list[dict[str, Any]] = []
    seen: set[str] = set()
    for name in names:
        title, tasks = _tasks(name, split, limit)
        if any(entry["name"] == title for entry in about):
            raise CounterpointError(f"--benchmark {name}: there is a benchmark called {title!r} already")
        texts = normalised(pd.Series([task.query for task in tasks], dtype=str)).tolist()
        first = dict(zip(reversed(texts), reversed(range(len(texts))), strict=True))
        fresh = [task for at, (task, text) in enumerate(zip(tasks, texts, strict=True)) if text not in seen and first[text] == at]
        seen.update(texts)
        drawn = sample(fresh, limit, seed)
        if not drawn:
            raise CounterpointError(f"--benchmark {name}: it has no questions of the split {split!r}")
        questions += [Question(title, replace(task, query_id=f"{title}/{task.query_id}")) for task in drawn]
        about.append({"name": title, "source": name, "split": split, "questions": len(drawn), "dropped": len(tasks) - len(fresh)})
    return questions, about


def sample(tasks: Sequence[Task], limit: int | None, seed: int) -> list[Task]:
    """Draw tasks evenly over their categories; the order stays.

    Example:
        >>> tasks = [Task(str(at), "?", "", "exact", "ab"[at % 2], "test") for at in range(10)]
        >>> sorted(task.category for task in sample(tasks, 4, 0))
        ['a', 'a', 'b', 'b']
    """
    if limit is None or limit >= len(tasks):
        return [*tasks]
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for at, task in enumerate(tasks):
        groups[task.category].append(at)
    rng = random.Random(seed)
    for group in groups.values():
        rng.shuffle(group)
    ranked = sorted((place, name, at) for name, group in groups.items() for place, at in enumerate(group))
    return [tasks[at] for at in sorted(at for _, _, at in ranked[:limit])]


def weights_of(given: Sequence[str], about: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Each benchmark's weight in the mean over benchmarks, 1 unless told.

    Raises:
        CounterpointError: One names no benchmark, or is no positive number.
    """
    weights = {entry["name"]: 1.0 for entry in about}
    for text in given:
        name, _, number = text.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = float("nan")
        if name not in weights or not 0 < weight < float("inf"):
            raise CounterpointError(f"--weight wants BENCHMARK=NUMBER, the number above 0, of {', '.join(weights)}; not {text!r}")
        weights[name] = weight
    return weights


def _tasks(name: str, split: str, limit: int | None) -> tuple[str, list[Task]]:
    """A benchmark's title and its tasks of a split."""
    kind, _, rest = name.partition(":")
    if kind == "skills":
        families = tuple(part for part in rest.split(",") if part)
        if unknown := [family for family in families if family not in FAMILIES]:
            raise CounterpointError(f"--benchmark {name}: no family is called {unknown[0]!r}; there are {', '.join(FAMILIES)}")
        count = len(families or FAMILIES)
        return name, generate(split, PER_FAMILY if limit is None else -(-limit // count), families=families or None)
    if kind == "file" and rest:
        return Path(rest).stem, [task for task in read_tasks(Path(rest)) if task.split == split]
    if kind == "scores" and rest:
        return Path(rest).stem, _of_scores(Path(rest), split)
    raise CounterpointError(f"--benchmark {name}: wanted {FORMS}")


def _of_scores(path: Path, split: str) -> list[Task]:
    """The questions of a score table, with lettered options as answers."""
    table = rows_of(read_scores(path), [split])
    if "answer" not in table.columns:
        raise CounterpointError(f"{path} holds no answers: wanted a column answer beside query and score")
    rows = table.drop_duplicates("query_id")
    categories = rows["category"].fillna("") if "category" in rows.columns else [""] * len(rows)
    cells = zip(rows["query_id"], rows["query"], rows["answer"], categories, strict=True)
    tasks = [Task(str(id), str(query), str(answer), "choice", str(category), split) for id, query, answer, category in cells]
    wrong = Counter(task.answer for task in tasks if not (len(task.answer) == 1 and task.answer.isupper()))
    if wrong:
        raise CounterpointError(f"{path}: wanted the letter of an option as answer, not {wrong.most_common(1)[0][0][:40]!r}")
    return tasks
