"""Batches that are planned as a whole: by the command line, over scripted experts."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from router import StackRouter
from serving.cli import app

WORDS, SUMS = ("cat", "dog", "horse", "mouse", "house"), ("one", "two", "three", "four", "five")
QUESTIONS = [f"How do you spell {word}?" for word in WORDS] + [f"What is {word} plus {word}?" for word in SUMS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A mixture of two scripted experts, a router that knows their trades, and ten questions."""
    rows = [
        {"query_id": f"{at} {n}", "query": f"{question} {n}", "expert": expert, "score": float((at < 5) == (expert == "speller"))}
        for at, question in enumerate(QUESTIONS)
        for n in range(3)
        for expert in ("speller", "adder")
    ]
    StackRouter(members=("linear", "knn")).fit(pd.DataFrame(rows)).save(tmp_path / "router")
    experts = [
        {"name": name, "model": "m", "engine": "scripted", "options": {"rules": [{"match": ".*", "say": name}]}}
        for name in ("speller", "adder")
    ]
    mixture = {
        "version": 1,
        "experts": experts,
        "router": {"path": "router", "policy": {"kind": "top-k", "k": 1}},
        "aggregator": {"kind": "vote"},
    }
    (tmp_path / "mixture.yaml").write_text(yaml.safe_dump(mixture))
    lines = [
        {"custom_id": str(at), "method": "POST", "url": "/v1/chat/completions", "body": {
            "model": "counterpoint", "messages": [{"role": "user", "content": text}], "counterpoint": {"explain": True}}}
        for at, text in enumerate(QUESTIONS)
    ]  # fmt: skip
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def run(folder: Path, *options: str) -> list[list[str]]:
    """Run the batch, and give the experts of each question, in the file's order."""
    source, output = folder / "in.jsonl", folder / "out.jsonl"
    done = CliRunner().invoke(app, ["batch", "-c", str(folder / "mixture.yaml"), "-i", str(source), "-o", str(output), *options])
    assert done.exit_code == 0, done.output + str(done.exception)
    rows = sorted((json.loads(line) for line in output.read_text().splitlines()), key=lambda row: int(row["custom_id"]))
    return [row["response"]["body"]["counterpoint"]["route"]["experts"] for row in rows]


def test_a_budget_of_calls_is_spent_to_the_last_one(folder: Path) -> None:
    routes = run(folder, "--calls", "13")
    assert sum(map(len, routes)) == 13
    assert [route[0] for route in routes] == ["speller"] * 5 + ["adder"] * 5


def test_balanced_experts_get_as_many_questions(folder: Path) -> None:
    routes = run(folder, "--balance", "1")
    counts = np.unique([name for route in routes for name in route], return_counts=True)[1]
    assert counts.tolist() == [5, 5]


def test_a_run_that_goes_on_keeps_to_the_plan_of_the_first(folder: Path) -> None:
    whole = run(folder, "--calls", "13")
    output = folder / "out.jsonl"
    output.write_text("".join(line + "\n" for line in output.read_text().splitlines()[:4]))
    assert run(folder, "--calls", "13") == whole


def test_a_budget_that_leaves_questions_unasked_is_refused(folder: Path) -> None:
    options = ["-c", str(folder / "mixture.yaml"), "-i", str(folder / "in.jsonl"), "-o", str(folder / "out.jsonl"), "--calls", "9"]
    done = CliRunner().invoke(app, ["batch", *options])
    assert str(done.exception).startswith("the budget of calls leaves 1 requests unasked, ")


def test_two_plans_at_once_are_refused(folder: Path) -> None:
    options = ["-c", str(folder / "mixture.yaml"), "-i", str(folder / "in.jsonl"), "-o", str(folder / "out.jsonl")]
    done = CliRunner().invoke(app, ["batch", *options, "--calls", "9", "--balance", "1"])
    assert "give one of them" in str(done.exception)
