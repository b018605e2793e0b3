"""Benchmarks: questions with known answers, out of files, the model hub, our own families or score tables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from data.benchmarks.choosing import leave_out, stratified
from data.benchmarks.loading import Loaded, load_spec, spec_of
from data.benchmarks.own import load_file, load_scores, load_skills
from data.benchmarks.prompts import PROMPTS
from data.benchmarks.rows import BenchmarkError, way
from data.benchmarks.specs import SPECS, Spec
from data.benchmarks.suite import suite
from data.graders import why_not
from data.skills import Task

__all__ = ["PROMPTS", "SPECS", "BenchmarkError", "Loaded", "Spec", "check", "leave_out", "load", "stratified", "suite", "way"]


def load(
    name: str, *, path: Path | str | None = None, split: str = "test", limit: int | None = None, seed: int = 0, shots: int | None = None
) -> Loaded:
    """Load a benchmark.

    Args:
        name: One of `SPECS`; `skills` or `skills:arithmetic,dates` (our families; also `skills:first-half`); `file:PATH` (a task file of
            one's own); `scores:PATH` (the questions of a score table).
        path: Where the files of a benchmark of `SPECS` are, in the source's own columns; None reads the model hub.
        split: `train`, `tune` or `test`.
        limit: How many questions, stratified by category; None takes all (of `skills`, 50 a family).
        seed: Of everything that is drawn.
        shots: Worked examples out of train before each question; None is none.

    Raises:
        BenchmarkError: It cannot be loaded so; one line says what to do.

    Example:
        >>> loaded = load("skills:dates", limit=2)
        >>> [task.category for task in loaded.tasks], loaded.source
        (['dates', 'dates'], 'generated, seed 0')
    """
    kind, _, rest = name.partition(":")
    if shots is not None and shots < 0:
        raise BenchmarkError(f"shots must be 0 or more, not {shots}")
    if name in SPECS or kind not in ("skills", "file", "scores"):
        return load_spec(spec_of(name), None if path is None else Path(path), split, limit, seed, shots or 0)
    if shots:
        raise BenchmarkError(f"{name} is asked as it is written: it takes no examples (shots: 0)")
    if path is not None:
        raise BenchmarkError(f"{name} takes no path of its own; wanted skills, file:PATH or scores:PATH alone")
    if kind == "skills":
        return load_skills(rest, split, limit, seed)
    return (load_file if kind == "file" else load_scores)(Path(rest).expanduser(), split, limit, seed)


def check(tasks: Iterable[Task], *, allow_code: bool = False, judge: bool = False) -> None:
    """Refuse questions that could not be graded, before anything is asked.

    Args:
        tasks: The questions.
        allow_code: Whether programs that experts wrote may be run.
        judge: Whether there is an expert that judges.

    Raises:
        BenchmarkError: A grader lacks what it needs.

    Example:
        >>> check([Task("1", "Write f.", "{}", "code", "", "test")])
        Traceback (most recent call last):
        ...
        data.benchmarks.rows.BenchmarkError: the grader code runs programs that experts wrote: allow it (allow_code, --allow-code)
    """
    for grader in dict.fromkeys(task.grader for task in tasks):
        if missing := why_not(grader, allow_code=allow_code, judge=judge):
            raise BenchmarkError(missing)
