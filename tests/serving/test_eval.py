"""Evaluation runs: one command to a report, gone on with after a kill, replayed without a model."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from data.graders import grade
from data.skills import Task, generate
from data.tasks import write_tasks
from serving.evaluation.benchmarks import loaded, sample, weights_of
from serving.runs import read_questions, read_summary

Run = Callable[..., tuple[int, str, str]]


def tasks() -> list[Task]:
    return generate("test", 4, families=("arithmetic", "counting"))


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    """Three experts: one knows the arithmetic questions, one the counting ones, one nothing."""
    known: dict[str, list[dict[str, Any]]] = {"sums": [], "letters": [], "none": []}
    for task in tasks():
        name = "sums" if task.category == "arithmetic" else "letters"
        known[name].append({"match": f"^{_literal(task.query)}$", "say": f"The answer is {task.answer}", "delay_s": 0.05})
    experts = [
        {
            "name": name,
            "model": "-",
            "engine": "scripted",
            "options": {"script": [*rules, {"match": ".", "say": "no idea", "delay_s": 0.05}]},
        }
        for name, rules in known.items()
    ]
    path = tmp_path / "m.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "name": "mix", "experts": experts, "aggregator": {"kind": "best"}}))
    write_tasks(tasks(), tmp_path / "mine.jsonl")
    return path


def _literal(text: str) -> str:
    import re

    return re.escape(text)


def arguments(folder: Path, name: str, *more: str) -> list[str]:
    given = ["-c", str(folder / "m.yaml"), "-b", f"file:{folder / 'mine.jsonl'}", "-b", "skills:dates", "--limit", "8"]
    return ["eval", "run", *given, "--aggregator", "vote", "--runs", str(folder / "runs"), "--name", name, *more]


def figures(folder: Path, name: str) -> dict[str, Any]:
    """A run's summary, but for its name and when it began."""
    body: dict[str, Any] = json.loads((folder / "runs" / name / "summary.json").read_text())
    return {key: value for key, value in body.items() if key not in ("name", "created")}


def test_one_command_measures_experts_baselines_and_systems_and_reports_them(tmp_path: Path, mixture: Path, run: Run) -> None:
    code, _, error = run(*arguments(tmp_path, "one"))
    assert code == 0, error
    summary = read_summary(tmp_path / "runs", "one")
    scores = {system.name: system.score for system in summary.systems}
    assert summary.questions == 16
    assert scores["expert:sums"] == pytest.approx(4 / 16)
    assert scores["expert:letters"] == pytest.approx(4 / 16)
    assert scores["expert:none"] == 0
    assert scores["oracle"] == pytest.approx(8 / 16)
    assert {"random", "best-single", "best-single sampled", "category-oracle", "mixture", "mixture:vote"} <= scores.keys()
    questions = read_questions(tmp_path / "runs", "one")
    assert len(questions) == 16
    assert questions["mixture"].mean() == pytest.approx(scores["mixture"])
    report = (tmp_path / "runs" / "one" / "report.html").read_text()
    assert "best-single" in report
    cells = pd.read_parquet(tmp_path / "runs" / "one" / "cells.parquet")
    given = {task.query_id: task for task in tasks()}
    for row in cells.to_dict("records"):
        if (task := given.get(row["query_id"].rpartition("/")[2])) is not None:
            assert row["score"] == float(grade(task.grader, row["response"], task.answer))


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_and_ends_in_the_same_figures(tmp_path: Path, mixture: Path, run: Run) -> None:
    assert run(*arguments(tmp_path, "whole"))[0] == 0
    calls = tmp_path / "runs" / "cut" / "calls.jsonl"
    command = [sys.executable, "-m", "serving.cli", *arguments(tmp_path, "cut")]
    for wanted in (3, 20):  # killed twice, further on the second time
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (calls.exists() and calls.read_bytes().count(b"\n") >= wanted):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "runs" / "cut" / "summary.json").exists()
    kept = calls.read_bytes().count(b"\n")
    assert run(*arguments(tmp_path, "cut"))[0] == 0
    assert kept >= 20
    assert figures(tmp_path, "cut") == figures(tmp_path, "whole")


def test_a_run_is_replayed_with_another_aggregator_and_nobody_is_asked(tmp_path: Path, mixture: Path, run: Run) -> None:
    assert run(*arguments(tmp_path, "one"))[0] == 0
    before = (tmp_path / "runs" / "one" / "calls.jsonl").read_bytes()
    body = yaml.safe_load(mixture.read_text())
    body["aggregator"] = {"kind": "weighted"}
    mixture.write_text(yaml.safe_dump(body))
    code, _, error = run(*arguments(tmp_path, "again", "--from", str(tmp_path / "runs" / "one")))
    assert code == 0, error
    assert (tmp_path / "runs" / "one" / "calls.jsonl").read_bytes() == before
    code, said, error = run("eval", "compare", str(tmp_path / "runs" / "one"), str(tmp_path / "runs" / "again"))
    assert (code, "tie" in said) == (0, True), error


def test_another_plan_under_the_same_name_is_refused_in_one_line(tmp_path: Path, mixture: Path, run: Run) -> None:
    assert run(*arguments(tmp_path, "one"))[0] == 0
    code, _, error = run(*arguments(tmp_path, "one", "--seed", "7"))
    assert code == 2
    assert "holds a run of other questions, systems or settings" in " ".join(error.split())


@pytest.mark.parametrize("name", ["mmlu", "skills:cooking", "file:", "scores:nothing.parquet", "file:nothing.jsonl"])
def test_a_benchmark_that_is_none_is_told_in_one_line(name: str, tmp_path: Path, mixture: Path, run: Run) -> None:
    code, _, error = run("eval", "run", "-c", str(mixture), "-b", name, "--runs", str(tmp_path / "runs"))
    assert code == 2
    assert error.count("\n") <= 4  # one line, wrapped
    assert not (tmp_path / "runs").exists()


def test_questions_that_stand_twice_are_asked_once_and_counted(tmp_path: Path) -> None:
    twice = [*tasks(), *(Task(f"again-{task.query_id}", task.query.upper(), task.answer, task.grader, "", "test") for task in tasks())]
    write_tasks(twice, tmp_path / "twice.jsonl")
    questions, about = loaded([f"file:{tmp_path / 'twice.jsonl'}"], split="test", limit=None, seed=0)
    assert (len(questions), about[0]["dropped"]) == (8, 8)


def test_draws_are_even_over_categories_and_the_seeds() -> None:
    many = generate("test", 20, families=("logic", "dates"))
    drawn = sample(many, 10, 3)
    assert [task.category for task in drawn].count("logic") == 5
    assert drawn == sample(many, 10, 3) != sample(many, 10, 4)


def test_weights_name_benchmarks() -> None:
    about = [{"name": "a"}, {"name": "b"}]
    assert weights_of(["b=2"], about) == {"a": 1.0, "b": 2.0}
    with pytest.raises(Exception, match="--weight wants BENCHMARK=NUMBER"):
        weights_of(["c=2"], about)
