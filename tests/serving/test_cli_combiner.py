import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aggregator import KINDS, defended, make_aggregator
from router import KINDS as ROUTERS
from serving.journal import Journal

Run = Callable[..., tuple[int, str, str]]
EXPERTS = {"ann": 0.7, "bob": 0.6, "cid": 0.5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A score table of sums whose right answers are argued for, and a router fitted on it."""
    rng, rows = np.random.default_rng(0), []
    for number in range(160):
        one, other = (int(value) for value in rng.integers(1, 50, 2))
        for expert, chance in EXPERTS.items():
            good = bool(rng.random() < chance)
            result = one + other + (0 if good else int(rng.integers(1, 9)))
            text = f"{one} and {other} make {result}. The answer is {result}." if good == (rng.random() < 0.9) else f"{result}"
            rows.append(
                {
                    "query_id": str(number),
                    "query": f"Question {number}: what is {one} + {other}?",
                    "expert": expert,
                    "score": float(good),
                    "response": text,
                    "split": "train" if number < 120 else "test",
                }
            )
    made = tmp_path_factory.mktemp("combiner")
    table = pd.DataFrame(rows)
    table.to_parquet(made / "scores.parquet")
    ROUTERS["knn"](encoder="static").fit(table[table["split"] == "train"]).save(made / "router")
    return made


@pytest.fixture
def fitted(folder: Path, run: Run) -> Path:
    """A combiner that the command line has fitted."""
    out = folder / "combiner"
    if not out.exists():
        code, said, error = run("combiner", "fit", "--scores", folder / "scores.parquet", "--router", folder / "router", "-o", out)
        assert (code, "learned combiner of 3 experts, fitted on 120 questions" in " ".join(said.split())) == (0, True), error
    return out


def test_a_combiner_that_the_command_line_fitted_gains_over_the_vote(folder: Path, fitted: Path, run: Run) -> None:
    code, said, _ = run("combiner", "eval", fitted, "--scores", folder / "scores.parquet", "--router", folder / "router", "--json")
    body = json.loads(said)
    assert code == 0
    assert [row["mean_calls"] for row in body["calls"]] == [1.0, 2.0, 3.0]
    assert body["calls"][2]["accuracy"] > body["calls"][2]["vote"]
    calls = [row["mean_calls"] for row in body["prices"]]
    assert calls == sorted(calls)  # the cheaper a call, the more of them


def test_its_table_is_markdown(folder: Path, fitted: Path, run: Run) -> None:
    code, said, _ = run("combiner", "eval", fitted, "--scores", folder / "scores.parquet", "--router", folder / "router")
    lines = said.splitlines()
    assert code == 0
    assert lines[0].startswith("| calls | combiner |")
    assert all(line.startswith("|") and line.endswith("|") for line in lines if line)


def test_replay_runs_several_kinds_and_asks_one_by_one(folder: Path, fitted: Path, run: Run) -> None:
    base = ("replay", "--scores", folder / "scores.parquet", "--router", folder / "router", "--json")
    code, said, _ = run(*base, "--k", 3, "--aggregator", "learned", "--aggregator", "vote", "--combiner", fitted)
    names = [row["name"] for row in json.loads(said)["systems"]]
    assert (code, {"learned-k3", "vote-k3"} <= set(names)) == (0, True)
    code, said, _ = run(*base, "--k", 1, "--most", 3, "--price", 0.02, "--aggregator", "learned", "--combiner", fitted)
    assert code == 0
    assert 1 < json.loads(said)["mean_calls"] < 3


def test_what_needs_no_fresh_call_is_replayed_the_pool_of_recorded_probabilities_too(folder: Path, run: Run) -> None:
    base = ("replay", "--scores", folder / "scores.parquet", "--router", folder / "router", "--json", "--k", 3)
    code, said, error = run(*base, *(part for kind in ("pool", "weighted", "medoid", "bandit") for part in ("--aggregator", kind)))
    accuracy = {row["name"]: row["accuracy"] for row in json.loads(said)["systems"]} if code == 0 else {}
    assert {"pool-k3", "weighted-k3", "medoid-k3", "bandit-k3"} <= set(accuracy), error
    assert accuracy["pool-k3"] == accuracy["weighted-k3"]  # open questions have no options to pool


def test_a_choice_among_kinds_is_learned_from_what_was_measured(folder: Path, fitted: Path, run: Run) -> None:
    rows = folder / "measured.jsonl"
    with Journal(rows) as journal:
        for at in range(40):
            for kind, right in (("vote", at % 2), ("learned", 1 - at % 2)):
                outcome = {"query_id": str(at), "query": f"{'Sum' if at % 2 else 'Rhyme'} number {at}", "category": "", "kind": kind}
                spent = {"right": float(right), "calls": 3, "prompt_tokens": 10, "completion_tokens": 5, "best_score": 0.5}
                journal.add(outcome | spent | {"cost_usd": 0.0, "degraded": False, "text": "", "mark": ""})
    out = folder / "choice"
    kinds = ("--kind", "vote", "--kind", f"learned={{path: {fitted}}}")
    code, said, error = run("combiner", "choose", "--measured", rows, *kinds, "-o", out)
    assert (code, "fitted on 40 questions" in " ".join(said.split())) == (0, True), error
    assert make_aggregator("auto", path=str(out)).kind == "auto"


def test_what_experts_agreed_on_is_counted_for_defences(folder: Path, run: Run) -> None:
    out = folder / "history.json"
    code, said, _ = run("combiner", "history", "--scores", folder / "scores.parquet", "-o", out)
    assert (code, len(said.splitlines())) == (0, 3)
    for name in ("history", "peers"):
        assert defended(make_aggregator("vote"), name, path=str(out)).kind == name
    counts = json.loads(out.read_text(encoding="utf-8"))
    assert 0 < counts["ann"][0] <= counts["ann"][1] <= 120


def test_the_kinds_and_defences_are_listed(run: Run) -> None:
    code, said, _ = run("combiner", "kinds")
    assert code == 0
    assert all(any(line.startswith(kind) for line in said.splitlines()) for kind in KINDS)
    assert "history" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("combiner", "fit", "--kind", "dice"), "no combiner is called 'dice'; there are learned, rank, pool"),
        (("combiner", "fit", "--exclude", "bob", "--exclude", "cid"), "wanted two in common"),
        (("combiner", "fit", "--kind", "pool"), "make one by `counterpoint profile --options`"),
        (("replay", "--aggregator", "learned"), "the aggregator 'learned' needs a fitted combiner: give its folder by --combiner"),
        (("replay", "--aggregator", "vote", "--price", "0.1"), "--combiner and --price are for learned, rank, auto and pool"),
        (("replay", "--aggregator", "fuse"), "the aggregator 'fuse' asks an LLM, so given answers cannot replay it"),
        (("replay", "--aggregator", "self"), "the aggregator 'self' asks an LLM, so given answers cannot replay it"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(folder: Path, tmp_path: Path, run: Run, arguments: tuple[str, ...], message: str) -> None:
    base = ("--scores", folder / "scores.parquet", "--router", folder / "router")
    code, _, error = run(*arguments, *base, *(("-o", tmp_path / "out") if arguments[0] == "combiner" else ()))
    lines = [line for line in error.splitlines() if line.startswith("counterpoint:")]
    assert (code, len(lines)) == (2, 1), error
    assert message in lines[0]
