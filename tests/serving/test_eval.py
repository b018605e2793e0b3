"""Evaluation runs: one command to a report, gone on with after a kill, replayed without a model."""

import json
import os
import re
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
from data.programs import program_answer
from data.records import CounterpointError
from data.sandbox import why_not as no_sandbox
from data.skills import Task, generate
from data.tasks import write_tasks
from serving.evaluation.benchmarks import loaded, weights_of
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


def test_what_two_benchmarks_ask_is_asked_once(tmp_path: Path) -> None:
    write_tasks(tasks(), tmp_path / "mine.jsonl")
    names = [f"file:{tmp_path / 'mine.jsonl'}", "skills:arithmetic,dates"]
    questions, about = loaded(names, split="test", limit=8, seed=0)
    texts = [question.task.query for question in questions]
    assert len(texts) == len(set(texts)) == 12
    assert [entry["dropped"] for entry in about] == [0, 4]


def test_categories_out_of_distribution_are_benchmarks_of_their_own() -> None:
    questions, about = loaded(["skills:dates,logic"], split="test", limit=6, seed=0, ood=["logic"])
    told = {question.task.category: question.benchmark for question in questions}
    assert told == {"dates": "skills:dates,logic", "logic": "skills:dates,logic, out of distribution"}
    assert [(entry["name"], entry["questions"]) for entry in about] == [(name, 3) for name in told.values()]
    with pytest.raises(CounterpointError, match="did you mean 'logic'"):
        loaded(["skills:dates,logic"], split="test", limit=6, seed=0, ood=["logik"])


def test_a_benchmark_of_others_is_read_from_its_own_files_with_examples_out_of_train(tmp_path: Path) -> None:
    for split, start in (("test", 0), ("train", 100)):
        rows = [{"question": f"Add {at} and 1.", "answer": f"It is.\n#### {at + 1}"} for at in range(start, start + 4)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    questions, about = loaded([f"gsm8k={tmp_path}"], split="test", limit=3, seed=0, shots=2)
    assert (len(questions), about[0]["name"], about[0]["shots"]) == (3, "gsm8k", 2)
    assert all(len(re.findall(r"Add 10\d and 1", question.task.query)) == 2 for question in questions)


def one_file(folder: Path, grader: str, answer: str, says: dict[str, str]) -> list[str]:
    """A task file with one question of a grader, and a mixture of experts that say what they are told."""
    write_tasks([Task("1", "Write it.", answer, grader, "", "test")], folder / "own.jsonl")
    rules = {name: [{"match": "Which answer is better", "say": "Verdict: first"}, {"match": ".", "say": say}] for name, say in says.items()}
    experts = [{"name": name, "model": "-", "engine": "scripted", "options": {"script": script}} for name, script in rules.items()]
    (folder / "m.yaml").write_text(yaml.safe_dump({"version": 1, "name": "mix", "experts": experts, "aggregator": {"kind": "best"}}))
    return ["eval", "run", "-c", str(folder / "m.yaml"), "-b", f"file:{folder / 'own.jsonl'}", "--runs", str(folder), "--name", "r"]


@pytest.mark.skipif(no_sandbox() is not None, reason=str(no_sandbox()))
def test_programs_run_only_with_permission(tmp_path: Path, run: Run) -> None:
    tests = program_answer("", "plus", "assert plus(1) == 2")
    told = one_file(
        tmp_path, "code", tests, {"good": "```python\ndef plus(a):\n    return a + 1\n```", "bad": "```python\ndef plus(a): 1/0\n```"}
    )
    code, _, error = run(*told)
    assert code == 2
    assert "--allow-code" in " ".join(error.split())
    assert not (tmp_path / "r").exists()
    code, _, error = run(*told, "--allow-code")
    assert code == 0, error
    scores = {system.name: system.score for system in read_summary(tmp_path, "r").systems}
    assert (scores["expert:good"], scores["expert:bad"]) == (1.0, 0.0)


def test_a_judge_is_asked_in_both_orders_and_its_word_is_kept(tmp_path: Path, run: Run) -> None:
    told = one_file(tmp_path, "pairwise", "A reference.", {"writer": "An answer.", "arbiter": "Another."})
    assert run(*told)[0] == 2
    code, _, error = run(*told, "--judge", "nobody")
    assert (code, "no expert is called so" in " ".join(error.split())) == (2, True)
    code, _, error = run(*told, "--judge", "arbiter")
    assert code == 0, error
    scores = {system.name: system.score for system in read_summary(tmp_path, "r").systems}
    assert scores["expert:writer"] == 0.5  # the judge prefers what stands first, whichever it is
    code, _, error = run(*told[:-1], "again", "--judge", "arbiter", "--from", str(tmp_path / "r"))
    assert code == 0, error


def recorded_table() -> pd.DataFrame:
    """Two specialists in two categories, one answer of each a question, two questions with the same text, and a train split."""
    rows = []
    for at in range(12):
        category, split = ("a", "b")[at % 2], ("train", "test")[at >= 6]
        for expert in ("first", "second"):
            right = (expert == "first") == (category == "a")
            text = "The same?" if at in (8, 10) else f"Question {at}?"
            known = {"query_id": f"q{at}", "query": text, "category": category, "split": split, "expert": expert, "answer": "A"}
            rows.append(known | {"score": float(right), "prediction": "A" if right else "B", "response": f"{expert} on {at}"})
    return pd.DataFrame(rows)


def test_a_score_table_is_played_back_with_its_own_scores_and_nobody_is_asked(tmp_path: Path, run: Run) -> None:
    recorded_table().to_parquet(tmp_path / "table.parquet")
    experts = [{"name": name, "model": "-", "engine": "scripted", "options": {"script": []}} for name in ("first", "second")]
    (tmp_path / "m.yaml").write_text(yaml.safe_dump({"version": 1, "name": "mix", "experts": experts, "aggregator": {"kind": "best"}}))
    table = str(tmp_path / "table.parquet")
    told = ["eval", "run", "-c", str(tmp_path / "m.yaml"), "-b", f"scores:{table}", "--from", table, "--runs", str(tmp_path), "--name", "r"]
    code, _, error = run(*told, "--aggregator", "vote")
    assert code == 0, error
    summary = read_summary(tmp_path, "r")
    scores = {system.name: system.score for system in summary.systems}
    assert summary.questions == 6  # twins too: a recorded test is whole
    assert (scores["expert:first"], scores["expert:second"], scores["category-oracle"]) == (0.5, 0.5, 1.0)
    assert {"mixture", "mixture:vote"} <= scores.keys()
    cells = pd.read_parquet(tmp_path / "r" / "cells.parquet")
    assert dict(zip(cells["query_id"], cells["response"], strict=True))["table/q10"].endswith("on 10")
    experts[0]["name"] = "third"
    (tmp_path / "m.yaml").write_text(yaml.safe_dump({"version": 1, "name": "mix", "experts": experts, "aggregator": {"kind": "best"}}))
    code, _, error = run(*told[:-1], "other")
    assert (code, "no rows of 'third'" in " ".join(error.split())) == (2, True)


def test_weights_name_benchmarks() -> None:
    about = [{"name": "a"}, {"name": "b"}]
    assert weights_of(["b=2"], about) == {"a": 1.0, "b": 2.0}
    with pytest.raises(Exception, match="--weight wants BENCHMARK=NUMBER"):
        weights_of(["c=2"], about)
