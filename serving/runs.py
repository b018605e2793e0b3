"""Evaluation runs on the disk: one folder each, written whole and read with suspicion.

A run's folder holds

- `summary.json`: `version` (1), `name`, `created` (seconds since 1970), `benchmarks` (names), `questions` (their number), and `systems`,
  each `{name, score, low, high, calls, tokens, usd}`: mean score with its 95% interval, and what all questions took; more keys may
  stand there;
- `questions.parquet`: a row for each question, with `question_id` (unique), `category` (may be missing) and, under each system's name, a
  column of scores from 0 to 1, empty where there is none;
- `report.md`, `report.html`: the report, each may be missing.

The folder's name is the run's id: letters, digits, `.`, `_` and `-`, the first one a letter or digit.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from data.records import CounterpointError
from data.statistics import Interval, paired

VERSION = 1
RESERVED = ("compare",)
"""What no run is called, because a path of the endpoint is."""
MOST_BYTES = {"summary.json": 4 << 20, "questions.parquet": 256 << 20, "report.md": 16 << 20, "report.html": 64 << 20}
"""Largest size of each file that is read."""
REPORTS: dict[Literal["md", "html"], str] = {"md": "report.md", "html": "report.html"}

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)


class RunError(CounterpointError):
    """A run that cannot be read or written."""


@dataclass(frozen=True, slots=True)
class System:
    """What one system reached in a run.

    Attributes:
        name: What it is called.
        score: Mean score of its answers.
        low: Lower end of the score's 95% interval.
        high: Upper end.
        calls: Calls of experts that all questions took.
        tokens: Tokens that these generated and read.
        usd: US dollars that they cost.
    """

    name: str
    score: float
    low: float
    high: float
    calls: float
    tokens: float
    usd: float


@dataclass(frozen=True, slots=True)
class Summary:
    """One run in figures.

    Attributes:
        name: What it is called.
        created: When it ended, in seconds since 1970.
        benchmarks: Names of what it measured on.
        questions: How many questions.
        systems: What each system reached.
    """

    name: str
    created: float
    benchmarks: tuple[str, ...]
    questions: int
    systems: tuple[System, ...]

    def json(self) -> dict[str, Any]:
        """As it stands in `summary.json`."""
        made = asdict(self)
        return {"version": VERSION, **made, "benchmarks": list(self.benchmarks), "systems": list(made["systems"])}


@dataclass(frozen=True, slots=True)
class Compared:
    """Two runs' results of one system, on the questions that both have.

    Attributes:
        system: The system.
        questions: How many.
        a: Its mean score in the first run.
        b: Its mean score in the second.
        difference: `a - b`, question by question, with its 95% interval; it is a tie where that holds zero.
    """

    system: str
    questions: int
    a: float
    b: float
    difference: Interval

    def json(self) -> dict[str, Any]:
        """The comparison as JSON, rounded."""
        row, gap = asdict(self), self.difference
        ends = {"difference": round(gap.mean, 4), "low": round(gap.low, 4), "high": round(gap.high, 4), "tie": gap.tie}
        return row | ends


def write_run(
    folder: Path, id: str, summary: Summary, questions: pd.DataFrame, *, markdown: str | None = None, html: str | None = None
) -> Path:
    """Write a run, whole or not at all, and give its folder.

    Args:
        folder: Where runs are.
        id: The run's id.
        summary: Its figures.
        questions: Scores of each question, as `questions.parquet` holds them.
        markdown: Its report.
        html: The same as a page.

    Raises:
        RunError: The id is no id, or is taken, or the scores do not fit.
    """
    if not _fits(id):
        raise RunError(f"a run's id is letters, digits, '.', '_' and '-', the first a letter or digit, and not {RESERVED[0]!r}; not {id!r}")
    target = folder / id
    if target.exists():
        raise RunError(f"there is a run called {id!r} already")
    _checked(questions, [system.name for system in summary.systems])
    part = folder / f".{id}.{uuid.uuid4().hex}"  # no id, so nobody reads it
    try:
        part.mkdir(parents=True)
        (part / "summary.json").write_text(json.dumps(summary.json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        questions.to_parquet(part / "questions.parquet", index=False)
        for name, text in (("report.md", markdown), ("report.html", html)):
            if text is not None:
                (part / name).write_text(text, encoding="utf-8")
        part.rename(target)
    except OSError as error:
        raise RunError(f"the run {id!r} cannot be written: {error.strerror or error}") from error
    except ValueError as error:
        raise RunError(f"the run {id!r} cannot be written: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def list_runs(folder: Path) -> list[tuple[str, Summary | RunError]]:
    """The runs of a folder, newest first; after them those that cannot be read, each with the reason.

    Raises:
        RunError: The folder cannot be read.
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise RunError(f"the folder of runs cannot be read: {error.strerror or error}") from error
    found: list[tuple[str, Summary | RunError]] = []
    for name in names:
        try:
            found.append((name, read_summary(folder, name)))
        except RunError as error:
            found.append((name, error))
    return sorted(found, key=lambda entry: (isinstance(entry[1], RunError), -entry[1].created if isinstance(entry[1], Summary) else 0.0))


def has_run(folder: Path, id: str) -> bool:
    """Whether there is a run of an id; never true of what is no id, or leads out of the folder."""
    return _fits(id) and (folder / id).is_dir() and (folder / id).resolve().parent == folder.resolve()


def read_summary(folder: Path, id: str) -> Summary:
    """Read a run's figures.

    Raises:
        RunError: There is no such run, or its `summary.json` is absent or says something that does not fit.
    """
    raw = _read(folder, id, "summary.json")
    if raw is None:
        raise RunError(f"the run {id[:100]!r} has no summary.json")
    try:
        body = json.loads(raw)
        if not isinstance(body, dict):
            raise ValueError(f"wanted an object, not {type(body).__name__}")
        if body.get("version", VERSION) != VERSION:
            raise ValueError(f"wanted version {VERSION}, not {body['version']!r}")
        systems = tuple(
            System(_text(each, "name"), *(_number(each, field) for field in ("score", "low", "high", "calls", "tokens", "usd")))
            for each in _list(body, "systems", dict)
        )
        questions = _number(body, "questions")
        benchmarks = tuple(_list(body, "benchmarks", str))
        return Summary(_text(body, "name"), _number(body, "created"), benchmarks, int(questions), systems)
    except (ValueError, RecursionError) as error:
        raise RunError(f"summary.json of the run {id!r} does not fit: {error}") from error


def read_report(folder: Path, id: str, form: Literal["md", "html"]) -> str | None:
    """Read a run's report; None where it has none in that form.

    Raises:
        RunError: There is no such run, or the report cannot be read.
    """
    raw = _read(folder, id, REPORTS[form])
    return None if raw is None else raw.decode("utf-8", "replace")


def read_questions(folder: Path, id: str) -> pd.DataFrame:
    """Read the scores of a run's questions.

    Raises:
        RunError: There is no such run, or its `questions.parquet` is absent or does not fit.
    """
    if (raw := _read(folder, id, "questions.parquet")) is None:
        raise RunError(f"the run {id[:100]!r} has no questions.parquet")
    import io

    try:
        table = pd.read_parquet(io.BytesIO(raw))
    except Exception as error:  # pyarrow raises many kinds
        raise RunError(f"questions.parquet of the run {id!r} cannot be read: {str(error).partition(chr(10))[0]}") from error
    try:
        return _checked(table, [system.name for system in read_summary(folder, id).systems])
    except RunError as error:
        raise RunError(f"questions.parquet of the run {id!r} does not fit: {error}") from error


def by_category(questions: pd.DataFrame) -> dict[str, Any] | None:
    """Each system's mean score by category; None where the questions have none."""
    if "category" not in questions or not questions["category"].notna().any():
        return None
    systems = _systems(questions)
    groups = questions.groupby("category", sort=True)
    means = groups[systems].mean()
    return {
        "categories": [str(name) for name in means.index],
        "questions": [int(count) for count in groups.size()],
        "systems": systems,
        "scores": [[None if np.isnan(cell) else round(float(cell), 4) for cell in row] for row in means.to_numpy(dtype=float)],
    }


def compare_runs(folder: Path, a: str, b: str) -> list[Compared]:
    """Compare two runs, system by system, on the questions that both have.

    Raises:
        RunError: One cannot be read, or they have no system or no question in common.
    """
    first, second = (read_questions(folder, id).set_index("question_id") for id in (a, b))
    systems = [name for name in _systems(first) if name in second.columns]
    if not systems:
        raise RunError(f"the runs have no system in common: {', '.join(_systems(first))}; and {', '.join(_systems(second))}")
    common = first.index.intersection(second.index, sort=False)
    if common.empty:
        raise RunError("the runs have no question in common")
    found = compare_scores(first.loc[common, systems], second.loc[common, systems])
    if not found:
        raise RunError("no system of both runs has a score on a question of both")
    return found


def compare_scores(first: pd.DataFrame, second: pd.DataFrame) -> list[Compared]:
    """Compare two tables of scores, each row a question of both, system by system; those without a score in common are left out.

    Raises:
        RunError: They have no system in common.
    """
    systems = [name for name in first.columns if name in second.columns]
    if not systems:
        raise RunError(f"the runs have no system in common: {', '.join(first.columns)}; and {', '.join(second.columns)}")
    found = []
    for name in systems:
        left, right = (table[name].to_numpy(dtype=float) for table in (first, second))
        known = ~(np.isnan(left) | np.isnan(right))
        if known.any():
            left, right = left[known], right[known]
            found.append(Compared(name, len(left), float(left.mean()), float(right.mean()), paired(left, right)))
    return found


def _fits(id: str) -> bool:
    return _ID.fullmatch(id) is not None and id not in RESERVED


def _read(folder: Path, id: str, name: str) -> bytes | None:
    """A file of a run; None where it has none of that name.

    Raises:
        RunError: There is no such run, or the file is too large, or leads out of the run's folder.
    """
    if not has_run(folder, id):
        raise RunError(f"no run has the id {id[:100]!r}")
    path = folder / id / name
    try:
        if path.resolve().parent != (folder / id).resolve():
            raise RunError(f"{name} of the run {id!r} is a link out of its folder")
        if not path.is_file():
            return None
        if path.stat().st_size > MOST_BYTES[name]:
            raise RunError(f"{name} of the run {id!r} has more than {MOST_BYTES[name]} bytes")
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{name} of the run {id!r} cannot be read: {error.strerror or error}") from error


def _checked(questions: pd.DataFrame, systems: Sequence[str]) -> pd.DataFrame:
    """A table of questions with its columns in order.

    Raises:
        RunError: It lacks a column, names a question twice, or has a score that is none.
    """
    if twice := [name for name in systems if systems.count(name) > 1 or name in ("question_id", "category")]:
        raise RunError(f"a system cannot be called {twice[0]!r}: the name is taken")
    if missing := [name for name in ("question_id", *systems) if name not in questions.columns]:
        raise RunError(f"there is no column {missing[0]!r}")
    ids = questions["question_id"]
    if ids.isna().any() or ids.duplicated().any():
        raise RunError("question_id must name each question once")
    for name in systems:
        try:
            scores = questions[name].to_numpy(dtype=float, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise RunError(f"the scores of {name!r} are no numbers") from error
        known = scores[~np.isnan(scores)]
        if ((known < 0) | (known > 1)).any():
            raise RunError(f"the scores of {name!r} must be from 0 to 1")
    columns = ["question_id", *(["category"] if "category" in questions.columns else []), *systems]
    return questions[columns].assign(question_id=ids.astype(str), **{name: questions[name].astype(float) for name in systems})


def _systems(questions: pd.DataFrame) -> list[str]:
    return [name for name in questions.columns if name not in ("question_id", "category")]


def _text(body: dict[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not 0 < len(value) <= 1000:
        raise ValueError(f"{field} must be a text, not {str(value)[:40]!r}")
    return value


def _number(body: dict[str, Any], field: str) -> float:
    value = body.get(field)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e18 or not isfinite(value):
        raise ValueError(f"{field} must be a number, not {str(value)[:40]!r}")
    return value


def _list(body: dict[str, Any], field: str, kind: type) -> list[Any]:
    value = body.get(field)
    if not isinstance(value, list) or not all(isinstance(each, kind) for each in value):
        raise ValueError(f"{field} must be a list")
    return value
