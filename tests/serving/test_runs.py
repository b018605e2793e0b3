import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.runs import (
    RunError,
    Summary,
    System,
    by_category,
    compare_runs,
    has_run,
    list_runs,
    read_questions,
    read_report,
    read_summary,
    write_run,
)
from tests.serving.test_gateway import served


def summary(name: str = "first", created: float = 100.0, systems: tuple[str, ...] = ("mixture", "best single")) -> Summary:
    return Summary(name, created, ("skills",), 4, tuple(System(each, 0.5, 0.4, 0.6, 8, 120, 0.001) for each in systems))


def scores(**systems: list[float | None]) -> pd.DataFrame:
    count = len(next(iter(systems.values())))
    columns = {name.replace("_", " "): cells for name, cells in systems.items()}
    return pd.DataFrame({"question_id": [f"q{at}" for at in range(count)], "category": ["sums", "words"] * (count // 2), **columns})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "runs"
    write_run(
        made, "first", summary(), scores(mixture=[1, 1, 0, 1], best_single=[1, 0, 0, None]), markdown="# First", html="<h1>First</h1>"
    )
    write_run(made, "second", summary("second", 200.0), scores(mixture=[1, 1, 1, 1], best_single=[1, 0, 0, 0]))
    return made


def test_a_run_is_read_as_it_was_written(folder: Path) -> None:
    assert read_summary(folder, "first") == summary()
    assert list_runs(folder) == [("second", summary("second", 200.0)), ("first", summary())]
    assert (read_report(folder, "first", "md"), read_report(folder, "first", "html")) == ("# First", "<h1>First</h1>")
    assert read_report(folder, "second", "md") is None
    questions = read_questions(folder, "first")
    assert list(questions.columns) == ["question_id", "category", "mixture", "best single"]
    assert by_category(questions) == {
        "categories": ["sums", "words"],
        "questions": [2, 2],
        "systems": ["mixture", "best single"],
        "scores": [[0.5, 0.5], [1.0, 0.0]],
    }
    assert by_category(questions.drop(columns="category")) is None


def test_runs_are_compared_on_the_questions_that_both_have(folder: Path) -> None:
    mixture, single = compare_runs(folder, "first", "second")
    assert (mixture.system, mixture.questions, mixture.a, mixture.b, mixture.difference.mean) == ("mixture", 4, 0.75, 1.0, -0.25)
    assert mixture.difference.tie
    assert (single.system, single.questions, single.difference.mean, single.difference.tie) == ("best single", 3, 0.0, True)
    good = scores(mixture=[1.0] * 60)
    bad = scores(mixture=[0.0] * 50 + [1.0] * 10)
    bad["question_id"] = bad["question_id"].sample(frac=1, random_state=0).to_numpy()
    write_run(folder, "good", summary(systems=("mixture",)), good)
    write_run(folder, "bad", summary(systems=("mixture",)), bad)
    (apart,) = compare_runs(folder, "good", "bad")
    assert (apart.questions, apart.difference.tie) == (60, False)
    assert apart.difference.mean == pytest.approx(5 / 6)


def test_runs_without_anything_in_common_are_not_compared(folder: Path) -> None:
    write_run(folder, "other", summary(systems=("something",)), scores(something=[1, 0]))
    with pytest.raises(RunError, match="no system in common: mixture, best single; and something"):
        compare_runs(folder, "first", "other")
    later = scores(mixture=[1, 0]).assign(question_id=["x", "y"])
    write_run(folder, "later", summary(systems=("mixture",)), later)
    with pytest.raises(RunError, match="no question in common"):
        compare_runs(folder, "first", "later")
    write_run(folder, "empty", summary(systems=("mixture",)), scores(mixture=[None, None, None, None]))
    with pytest.raises(RunError, match="no system of both runs has a score"):
        compare_runs(folder, "first", "empty")


BROKEN = {
    "no summary": None,
    "no JSON": "{half",
    "deep": "[" * 100_000,
    "a list": "[]",
    "another version": json.dumps(summary().json() | {"version": 2}),
    "no name": json.dumps({**summary().json(), "name": ""}),
    "not a number": json.dumps(summary().json()).replace("100.0", "NaN"),
    "huge": json.dumps(summary().json() | {"questions": 10**400}),
    "true": json.dumps(summary().json() | {"created": True}),
    "systems of text": json.dumps(summary().json() | {"systems": ["mixture"]}),
    "half a system": json.dumps(summary().json() | {"systems": [{"name": "mixture"}]}),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
async def test_a_folder_that_is_no_run_is_listed_with_the_reason(text: str | None, folder: Path) -> None:
    (folder / "broken").mkdir()
    if text is not None:
        (folder / "broken" / "summary.json").write_text(text)
    (folder / "a file").write_text("no folder at all")
    (folder / ".hidden").mkdir()
    found = list_runs(folder)
    assert [id for id, _ in found] == ["second", "first", "broken"]
    assert isinstance(found[2][1], RunError)
    async with served(serving={"runs": str(folder)}) as client:
        listed = (await client.get("/v1/runs")).json()["data"]
        one = await client.get("/v1/runs/broken")
    assert [entry["error"] is None for entry in listed] == [True, True, False]
    assert one.status_code == 400
    assert str(folder) not in json.dumps(listed) + one.text, "a path of this machine is nobody's business"


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.drop(columns="mixture"),
        lambda table: table.drop(columns="question_id"),
        lambda table: pd.concat([table, table]),
        lambda table: table.assign(mixture=["right", "wrong", "right", "wrong"]),
        lambda table: table.assign(mixture=[0.0, 1.0, 2.0, 1.0]),
    ],
)
def test_scores_that_do_not_fit_are_neither_written_nor_read(change: Any, folder: Path) -> None:
    table = change(scores(mixture=[1, 1, 0, 1], best_single=[1, 0, 0, 1]))
    with pytest.raises(RunError):
        write_run(folder, "third", summary(), table)
    assert [entry.name for entry in sorted(folder.iterdir())] == ["first", "second"], "nothing is left of it"
    table.to_parquet(folder / "first" / "questions.parquet")
    with pytest.raises(RunError, match=r"questions\.parquet of the run 'first' does not fit"):
        read_questions(folder, "first")
    (folder / "first" / "questions.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(RunError, match="cannot be read"):
        read_questions(folder, "first")


@pytest.mark.parametrize(
    "id", ["", ".", "..", "../first", "a/b", "/etc", "first/", ".hidden", "compare", "a\n", "ä", "x" * 101, "a\0b", "C:\\"]
)
def test_what_is_no_id_is_no_run(id: str, folder: Path) -> None:
    assert not has_run(folder, id)
    for read in (read_summary, read_questions, lambda folder, id: read_report(folder, id, "md")):
        with pytest.raises(RunError, match="no run has the id"):
            read(folder, id)
    with pytest.raises(RunError, match="a run's id is"):
        write_run(folder, id, summary(), scores(mixture=[1, 1], best_single=[1, 1]))


@given(st.text(alphabet="abc./\\%2e~\0", max_size=12))
def test_no_id_leads_out_of_the_folder(id: str) -> None:
    folder = Path("/srv/runs")
    if has_run(folder, id):
        assert (folder / id).resolve().parent == folder


def test_a_link_out_of_the_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    outside = write_run(tmp_path / "elsewhere", "secret", summary(), scores(mixture=[1, 1], best_single=[1, 1]))
    (folder / "linked").symlink_to(outside)
    assert not has_run(folder, "linked")
    (tmp_path / "passwords").write_text("12345")
    (folder / "first" / "report.md").unlink()
    (folder / "first" / "report.md").symlink_to(tmp_path / "passwords")
    with pytest.raises(RunError, match=r"report\.md of the run 'first' is a link out of its folder"):
        read_report(folder, "first", "md")


def test_a_run_is_written_once_and_figures_that_are_none_are_refused(folder: Path) -> None:
    with pytest.raises(RunError, match="there is a run called 'first' already"):
        write_run(folder, "first", summary(), scores(mixture=[1, 1], best_single=[1, 1]))
    with pytest.raises(RunError, match="cannot be written"):
        write_run(folder, "third", summary(created=float("nan")), scores(mixture=[1, 1], best_single=[1, 1]))
    assert not has_run(folder, "third")


# the endpoint


async def test_the_endpoint_lists_shows_and_compares_runs(folder: Path) -> None:
    async with served(serving={"runs": str(folder)}) as client:
        listed = (await client.get("/v1/runs")).json()
        page = (await client.get("/v1/runs", params={"limit": 1})).json()
        rest = (await client.get("/v1/runs", params={"limit": 1, "after": "second"})).json()
        one = (await client.get("/v1/runs/first")).json()
        html, text = await client.get("/v1/runs/first/report"), await client.get(one["links"]["md"])
        compared = (await client.get("/v1/runs/compare", params={"a": "first", "b": "second"})).json()
    assert [entry["id"] for entry in listed["data"]] == ["second", "first"]
    assert [(entry["data"][0]["id"], entry["has_more"]) for entry in (page, rest)] == [("second", True), ("first", False)]
    assert (one["name"], one["systems"][0]["name"], one["report"], one["error"]) == ("first", "mixture", "# First", None)
    assert one["categories"]["categories"] == ["sums", "words"]
    assert one["links"].keys() == {"md", "html"}
    assert (html.text, text.text) == ("<h1>First</h1>", "# First")
    assert "sandbox" in html.headers["content-security-policy"]
    assert [(row["system"], row["tie"]) for row in compared["systems"]] == [("mixture", True), ("best single", True)]
    assert compared["systems"][0].keys() == {"system", "questions", "a", "b", "difference", "low", "high", "tie"}


async def test_what_the_endpoint_does_not_have_is_told(folder: Path) -> None:
    (folder / "first" / "questions.parquet").unlink()
    async with served(serving={"runs": str(folder)}) as client:
        answers = {
            path: await client.get(f"/v1/runs/{path}")
            for path in ("absent", "..%2Fsecret", "second/report", "first/report?format=pdf", "compare?a=first", "compare?a=x&b=y")
        }
        half = (await client.get("/v1/runs/first")).json()
        compared = await client.get("/v1/runs/compare", params={"a": "first", "b": "second"})
    assert {path: answer.status_code for path, answer in answers.items()} == {
        "absent": 404,
        "..%2Fsecret": 404,
        "second/report": 404,
        "first/report?format=pdf": 400,
        "compare?a=first": 400,
        "compare?a=x&b=y": 404,
    }
    assert (half["name"], half["categories"], half["error"]) == ("first", None, "the run 'first' has no questions.parquet")
    assert (compared.status_code, "has no questions.parquet" in compared.text) == (400, True)
    async with served() as client:
        for path in ("/v1/runs", "/v1/runs/first", "/v1/runs/compare?a=x&b=y"):
            answer = await client.get(path)
            assert (answer.status_code, "serving.runs" in answer.json()["error"]["message"]) == (400, True)
    async with served(serving={"runs": str(folder / "absent")}) as client:
        answer = await client.get("/v1/runs")
    assert answer.json()["error"]["message"] == "the folder of runs cannot be read: No such file or directory"


def test_a_comparison_is_the_same_each_time(folder: Path) -> None:
    assert compare_runs(folder, "first", "second") == compare_runs(folder, "first", "second")
    assert np.isfinite(compare_runs(folder, "first", "second")[0].difference.low)
