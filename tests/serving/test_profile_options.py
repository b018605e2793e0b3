import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from aggregator.pooling import PROMPTS, fit_pool
from data.recorded import Recorded
from data.scores import read_scores
from serving.journal import Journal

Run = Callable[..., tuple[int, str, str]]

CHOICE = "Which is a fruit? A) chair B) apple C) shoe"
RULES = [
    {"match": "One letter", "say": "apple", "logprobs": {"A": -3.0, "B": -0.2, "C": -2.5}},
    {"match": "letter", "say": "A", "logprobs": {"A": -0.5, "B": -1.0}},
    {"match": "fruit", "say": "It is (B)."},
    {"match": "two", "say": "4"},
]
SILENT = [{"match": "letter", "say": "C"}, {"match": "", "say": "no idea"}]


@pytest.fixture
def config(mixture: Callable[..., Path]) -> Path:
    scripts = {"a": RULES, "b": SILENT}
    return mixture(experts=[{"name": n, "model": "-", "engine": "scripted", "options": {"script": s}} for n, s in scripts.items()])


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.jsonl"
    rows = [
        {"query_id": "1", "query": CHOICE, "answer": "B", "grader": "choice"},
        {"query_id": "2", "query": "What is two plus two?", "answer": "4", "grader": "number"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_options_add_rows_of_every_expert_under_every_prompt(run: Run, config: Path, tasks: Path, tmp_path: Path) -> None:
    output = tmp_path / "scores.jsonl"
    code, out, _ = run(
        "profile", "-c", config, "--tasks", tasks, "-o", output,
        "--options", "--prompt", "one=One letter = an answer.", "--prompt", "letter=Give the letter.",
    )  # fmt: skip
    assert code == 0
    assert "8 answers" in out
    table = read_scores(output)
    pairs = table[table["expert"].str.contains("@")].set_index("expert")
    assert list(pairs.index) == ["a@one", "a@letter", "b@one", "b@letter"]
    assert list(pairs["query_id"]) == ["1"] * 4
    assert dict(pairs["score"]) == {"a@one": 1.0, "a@letter": 0.0, "b@one": 0.0, "b@letter": 0.0}
    assert dict(pairs["prediction"]) == {"a@one": "B", "a@letter": "A", "b@one": "C", "b@letter": "C"}
    assert json.loads(pairs["logprobs"]["a@letter"]) == {"A": -0.5, "B": -1.0, "C": -1.0}
    assert pairs["logprobs"]["b@one"] == "{}"
    assert pairs["response"]["a@one"] == "apple"
    assert pairs["prompt"]["b@one"] == "One letter = an answer."
    own = table[~table["expert"].str.contains("@")]
    assert list(own["score"]) == [1.0, 0.0, 1.0, 0.0]
    assert own["logprobs"].isna().all()
    assert Recorded(table).answer("1", "a@one").logprobs == (("A", -3.0), ("B", -0.2), ("C", -2.5))
    learned = fit_pool(table)
    assert learned.prompts == {"one": "One letter = an answer.", "letter": "Give the letter."}
    assert max(learned.weights, key=lambda name: learned.weights[name]) == "a@one"


def test_without_options_the_table_has_no_such_columns(run: Run, config: Path, tasks: Path, tmp_path: Path) -> None:
    assert run("profile", "-c", config, "--tasks", tasks, "-o", tmp_path / "scores.jsonl")[0] == 0
    assert not {"prompt", "logprobs"} & set(read_scores(tmp_path / "scores.jsonl").columns)


def test_a_run_goes_on_and_asks_again_where_a_prompt_has_changed(run: Run, config: Path, tasks: Path, tmp_path: Path) -> None:
    output, partial = tmp_path / "scores.jsonl", tmp_path / "scores.partial.jsonl"
    command = ("profile", "-c", config, "--tasks", tasks, "-o", output, "--expert", "a", "--options")
    assert run(*command)[0] == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["prompt"] for row in rows] == [None, PROMPTS["letter"], None]
    with Journal(partial) as journal:
        for row in rows:
            journal.add({name: cell for name, cell in row.items() if cell is not None} | {"response": "kept"})
    assert run(*command)[0] == 0
    assert list(read_scores(output)["response"]) == ["kept"] * 3
    with Journal(partial) as journal:
        for row in rows:
            journal.add({name: cell for name, cell in row.items() if cell is not None} | {"response": "kept"})
    assert run(*command, "--prompt", "letter=One letter.")[0] == 0
    assert list(read_scores(output)["response"]) == ["kept", "apple", "kept"]


@pytest.mark.parametrize("prompt", ["letter", "letter=", "=One letter.", "a b=One letter.", "a@b=One letter."])
def test_a_prompt_that_has_no_name_or_text_is_told(run: Run, config: Path, tasks: Path, tmp_path: Path, prompt: str) -> None:
    code, _, err = run("profile", "-c", config, "--tasks", tasks, "-o", tmp_path / "s.jsonl", "--options", "--prompt", prompt)
    assert code == 2
    assert "--prompt wants NAME=TEXT" in err


def test_tasks_without_options_are_told(run: Run, config: Path, tmp_path: Path) -> None:
    path = tmp_path / "open.jsonl"
    path.write_text(json.dumps({"query": "What is two plus two?", "answer": "4", "grader": "number"}) + "\n")
    code, _, err = run("profile", "-c", config, "--tasks", path, "-o", tmp_path / "s.jsonl", "--options")
    assert code == 2
    assert "no task has lettered options" in err


def test_the_mixture_answers_by_a_pool_that_was_learned(
    run: Run, mixture: Callable[..., Path], config: Path, tasks: Path, tmp_path: Path
) -> None:
    assert run("profile", "-c", config, "--tasks", tasks, "-o", tmp_path / "s.jsonl", "--options", "--prompt", "one=One letter.")[0] == 0
    table = read_scores(tmp_path / "s.jsonl")
    again = [table.assign(query_id=table["query_id"] + f"-{at}", query=table["query"] + f" ({at})") for at in range(20)]
    fit_pool(pd.concat(again)).save(tmp_path / "pool")
    scripts = {"a": RULES, "b": SILENT}
    served = mixture(
        experts=[{"name": n, "model": "-", "engine": "scripted", "options": {"script": s}} for n, s in scripts.items()],
        aggregator={"kind": "pool", "path": "pool"},
    )
    code, out, _ = run("ask", "-c", served, CHOICE, "--json", "--explain")
    body = json.loads(out)
    assert (code, body["text"], body["calls"]) == (0, "B", 2)
    code, out, _ = run("ask", "-c", served, "What is two plus two?", "--json")
    assert (code, json.loads(out)["text"]) == (0, "4")


def test_a_replayed_expert_tells_what_was_recorded(
    run: Run, mixture: Callable[..., Path], config: Path, tasks: Path, tmp_path: Path
) -> None:
    scores = tmp_path / "scores.jsonl"
    assert run("profile", "-c", config, "--tasks", tasks, "-o", scores, "--options", "--prompt", "one=One letter.")[0] == 0
    replayed = {"name": "then", "model": str(scores), "engine": "replay", "options": {"as": "a@one"}}
    served = mixture(experts=[replayed], aggregator={"kind": "pool"})
    code, out, _ = run("ask", "-c", served, CHOICE, "--json", "--explain")
    assert (code, json.loads(out)["text"]) == (0, "B")
