"""Two harnesses of others measure the live mixture on our questions, and come to what our own graders say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from counterpoint import Counterpoint
from data.graders import grade
from data.skills import Task, generate
from data.statistics import bootstrap
from tests.conformance.endpoint import Live

pytestmark = pytest.mark.conformance
HARNESS: dict[str, Any] = {
    "task": "numbers",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "questions.jsonl"}},
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "{{query}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 24},
    "filter_list": [
        {
            "name": "last",
            "filter": [{"function": "regex", "regex_pattern": r"(-?\d+)", "group_select": -1}, {"function": "take_first"}],
        }
    ],
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}
INSPECT = """
import json
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import match
from inspect_ai.solver import generate

@task
def numbers():
    rows = map(json.loads, open("questions.jsonl"))
    samples = [Sample(input=row["query"], target=row["answer"]) for row in rows]
    return Task(dataset=samples, solver=generate(), scorer=match(numeric=True))
"""


def questions(folder: Path) -> list[Task]:
    """Forty questions whose answers are numbers, also as a file."""
    tasks = generate("test", 20, families=("arithmetic", "sequences"))
    (folder / "questions.jsonl").write_text("".join(json.dumps({"query": task.query, "answer": task.answer}) + "\n" for task in tasks))
    return tasks


def ours(live: Live, tasks: list[Task]) -> np.ndarray:
    """What our client is told to each question, graded by our grader."""
    with Counterpoint(live.url, api_key=live.key) as mixture:
        told = [mixture.chat(task.query, max_tokens=24).text for task in tasks]
    return np.array([float(grade(task.grader, text, task.answer)) for task, text in zip(tasks, told, strict=True)])


def agree(theirs: float, said: list[str], tasks: list[Task], live: Live) -> None:
    """Their score is our grader's on the very answers that they were given, and within our own run's interval."""
    graded = [float(grade(task.grader, text, task.answer)) for task, text in zip(tasks, said, strict=True)]
    assert theirs == pytest.approx(sum(graded) / len(graded), abs=0.05)  # two of forty, where a reader differs
    interval = bootstrap(ours(live, tasks))
    assert interval.low <= theirs <= interval.high
    assert 0.3 < theirs < 1  # a mixture that knew nothing, or a grader that takes all, would show nothing


def test_lm_eval_agrees_with_our_grader(live: Live, tmp_path: Path) -> None:
    tasks = questions(tmp_path)
    (tmp_path / "numbers.yaml").write_text(json.dumps(HARNESS))
    asked = f"model=counterpoint,base_url={live.url}/v1/chat/completions,num_concurrent=4"
    command = ["lm_eval", "run", "--model", "local-chat-completions", "--model_args", asked, "--include_path", ".", "--tasks", "numbers"]
    live.run([*command, "--apply_chat_template", "--log_samples", "--output_path", "results"], tmp_path)
    (report,) = (tmp_path / "results" / "counterpoint").glob("results_*.json")
    (samples,) = (tmp_path / "results" / "counterpoint").glob("samples_numbers_*.jsonl")
    rows = sorted(map(json.loads, samples.read_text().splitlines()), key=lambda row: row["doc_id"])
    said = [row["resps"][0][0] for row in rows]
    agree(json.loads(report.read_text())["results"]["numbers"]["exact_match,last"], said, tasks, live)


def test_inspect_agrees_with_our_grader(live: Live, tmp_path: Path) -> None:
    tasks = questions(tmp_path)
    (tmp_path / "numbers.py").write_text(INSPECT)
    variables = f"COUNTERPOINT_API_KEY={live.key} COUNTERPOINT_BASE_URL={live.url}/v1"
    command = "inspect eval numbers.py --model openai-api/counterpoint/counterpoint --max-tokens 24 --display plain"
    live.run(["bash", "-c", f"{variables} {command} --log-format json --log-dir logs"], tmp_path)
    (path,) = (tmp_path / "logs").glob("*.json")
    log = json.loads(path.read_text())
    by_query = {sample["input"]: sample["output"]["choices"][0]["message"]["content"] for sample in log["samples"]}
    said = [by_query[task.query] for task in tasks]
    agree(log["results"]["scores"][0]["metrics"]["accuracy"]["value"], said, tasks, live)
