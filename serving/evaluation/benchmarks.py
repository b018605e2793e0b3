"""What `--benchmark` names, as the questions of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.benchmarks import SPECS, BenchmarkError, Loaded, leave_out, load, stratified
from data.benchmarks.choosing import same_text, without_doubles
from data.records import CounterpointError
from data.skills import Task
from serving.evaluation.suite import Question

OOD = ", out of distribution"
"""Ends the name of what `--ood` tells apart."""


def loaded(
    names: Sequence[str], *, split: str, limit: int | None, seed: int, shots: int = 0, ood: Sequence[str] = ()
) -> tuple[list[Question], list[dict[str, Any]]]:
    """Load benchmarks.

    Args:
        names: What `--benchmark` named: a name that `data.benchmarks.load` takes, or NAME=PATH where its files lie here.
        split: The split that is asked.
        limit: Questions of each, drawn by the share of its categories; None is all.
        seed: Seed of the draw.
        shots: Worked examples before each question, out of train, for the benchmarks that take them.
        ood: Categories that are told apart from the others, since nothing was learned from them.

    Returns:
        The questions, and of each benchmark its name, source, wording, number of questions and of those left out because they stand twice.

    Raises:
        CounterpointError: A name is none, or what it names cannot be used.
    """
    questions: list[Question] = []
    about: list[dict[str, Any]] = []
    seen: set[str] = set()
    for name in names:
        part = _part(name, split, limit, seed, shots)
        title = _title(name, part)
        if any(entry["name"] == title for entry in about):
            raise CounterpointError(f"--benchmark {name}: there is a benchmark called {title!r} already")
        texts = same_text(task.query for task in part.tasks)
        fresh, twice = without_doubles(part.tasks, texts, seen) if not name.startswith("scores:") else _whole(part.tasks, texts, seen)
        seen.update(texts)
        drawn = stratified(fresh, limit, seed)
        if not drawn:
            raise CounterpointError(f"--benchmark {name}: it has no questions of the split {split!r} that no other benchmark asks")
        questions += [Question(title, replace(task, query_id=f"{title}/{task.query_id}"), task.query_id) for task in drawn]
        dropped = sum(part.dropped.values()) + sum(twice.values())
        entry = {"name": title, "source": part.source, "split": split, "version": part.version, "shots": part.shots}
        about.append(entry | {"questions": len(drawn), "dropped": dropped})
    return (questions, about) if not ood else _told_apart(questions, about, ood)


def _part(name: str, split: str, limit: int | None, seed: int, shots: int) -> Loaded:
    """One benchmark, whole, but for what is generated to order."""
    what, given, path = name.partition("=")
    local = bool(given) and what in SPECS
    generated = name.partition(":")[0] == "skills"
    try:
        return load(
            what if local else name,
            path=path if local else None,
            split=split,
            limit=limit if generated else None,
            seed=seed,
            shots=shots if what in SPECS else None,
        )
    except BenchmarkError as error:
        raise CounterpointError(f"--benchmark {name}: {error}") from error


def _whole(tasks: Sequence[Task], texts: Sequence[str], seen: set[str]) -> tuple[list[Task], dict[str, int]]:
    """A recorded test stays whole: only what another benchmark asks is left out."""
    kept = [task for task, text in zip(tasks, texts, strict=True) if text not in seen]
    return kept, {"twice": len(tasks) - len(kept)}


def _title(name: str, part: Loaded) -> str:
    kind, _, rest = name.partition(":")
    return Path(rest).stem if kind in ("file", "scores") else part.name


def _told_apart(
    questions: Sequence[Question], about: Sequence[dict[str, Any]], ood: Sequence[str]
) -> tuple[list[Question], list[dict[str, Any]]]:
    """Make benchmarks of their own out of the questions of some categories."""
    _, out = leave_out([question.task for question in questions], ood)
    apart = {task.query_id for task in out}
    told = [replace(each, benchmark=f"{each.benchmark}{OOD}") if each.task.query_id in apart else each for each in questions]
    counts = Counter(question.benchmark for question in told)
    entries = [entry | {"name": name, "questions": counts[name]} for entry in about for name in (entry["name"], entry["name"] + OOD)]
    return told, [entry for entry in entries if entry["questions"]]


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
