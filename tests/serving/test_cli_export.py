import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from data.converters import convert
from router import KNNRouter
from serving.cli import app


@pytest.fixture
def scores(score_table: pd.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "scores.jsonl"
    score_table.assign(response="said", prompt_tokens=3, completion_tokens=2, cost=0.001).to_json(path, orient="records", lines=True)
    return path


def test_choices_are_written_as_predictions_and_read_back(score_table: pd.DataFrame, scores: Path, tmp_path: Path) -> None:
    KNNRouter(k=1, prior=0.0).fit(score_table).save(tmp_path / "router")
    output = tmp_path / "predictions.json"
    done = CliRunner().invoke(app, ["router", "export", str(tmp_path / "router"), "--scores", str(scores), "-o", str(output)])
    assert done.exit_code == 0, done.output
    assert "4 choices" in done.output
    assert {entry["prompt"]: entry["prediction"] for entry in json.loads(output.read_text())} == {
        "What is two plus three?": "math",
        "Find the sum of four and five.": "math",
        "How do you spell cat?": "language",
        "Which word rhymes with house?": "language",
    }
    assert convert("routerarena", output)["score"].tolist() == [1.0] * 4


def test_a_question_that_no_known_expert_answered_is_named(score_table: pd.DataFrame, scores: Path, tmp_path: Path) -> None:
    KNNRouter().fit(score_table[score_table["expert"] == "math"]).save(tmp_path / "router")
    rows = pd.read_json(scores, lines=True)
    rows[rows["expert"] != "math"].to_json(scores, orient="records", lines=True)
    done = CliRunner().invoke(app, ["router", "export", str(tmp_path / "router"), "--scores", str(scores), "-o", str(tmp_path / "p.json")])
    assert str(done.exception) == "query 'add' has no row of an expert that the router knows"
