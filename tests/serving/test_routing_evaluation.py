import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data.records import CounterpointError
from data.scores import ScoreTableError
from router import KINDS, BestSingleRouter, OracleRouter
from serving.evaluation.figure import write_figure
from serving.evaluation.routing import Bench, Measured, report_json
from serving.evaluation.systems import baselines

Cells = Mapping[str, Sequence[float | None]]


def table_of(cells: Cells, **columns: Sequence[object]) -> pd.DataFrame:
    """A score table, None where a cell is missing; more columns have one cell a question."""
    count = len(next(iter(cells.values())))
    return pd.DataFrame(
        [
            {"query_id": f"q{at}", "query": f"question number {at}", "expert": expert, "score": scores[at]}
            | {name: column[at] for name, column in columns.items()}
            for at in range(count)
            for expert, scores in cells.items()
            if scores[at] is not None
        ]
    )


def with_costs(table: pd.DataFrame, costs: Mapping[str, float | None]) -> pd.DataFrame:
    return table.assign(cost=table["expert"].map(dict(costs)).astype(float))


KIND = ["sums", "sums", "words", "words"]
THREE: Cells = {"a": [1, 1, 0, 0], "b": [0, 0.5, 1, 0], "c": [1, 0, 0, 0.25]}
LEARN: Cells = {"a": [1, 1, 0, 0], "b": [0, 0, 0, 0.5], "c": [0, 0, 1, 1]}
"""On which c is best at words, which it is not where it counts."""


def bench(cells: Cells = THREE, learn: Cells | None = LEARN, **columns: Sequence[object]) -> Bench:
    columns = columns or {"category": KIND}
    return Bench(table_of(cells, **columns), None if learn is None else table_of(learn, **columns))


def means(found: Mapping[str, Measured]) -> dict[str, float]:
    return {name: each.accuracy.mean for name, each in found.items()}


# the baselines


def test_the_baselines_are_those_by_hand() -> None:
    found = means(bench().baselines())
    assert found == {
        "best-single": pytest.approx(2 / 4),  # a, which is best on these very questions: 1, 1, 0, 0
        "random": pytest.approx((2 / 3 + 1.5 / 3 + 1 / 3 + 0.25 / 3) / 4),
        "category-oracle": pytest.approx((1 + 1 + 0 + 0.25) / 4),  # a for sums; c for words, as the train part says
        "oracle": pytest.approx((1 + 1 + 1 + 0.25) / 4),
    }


def test_without_a_train_part_the_category_oracle_chooses_on_these_questions() -> None:
    assert means(bench(learn=None).baselines())["category-oracle"] == pytest.approx((1 + 1 + 1 + 0) / 4)  # b for words


def test_a_train_part_that_lacks_an_expert_says_nothing_of_categories() -> None:
    learn = {name: scores for name, scores in LEARN.items() if name != "b"}
    assert means(bench(learn=learn).baselines()) == means(bench(learn=None).baselines())
    assert means(bench(learn={"z": [1, 1, 1, 1]}).baselines()) == means(bench(learn=None).baselines())


def test_a_table_without_categories_has_no_category_oracle() -> None:
    found = bench(split=["test"] * 4).baselines()
    assert list(found) == ["best-single", "random", "oracle"]
    report = report_json(found["best-single"], found)
    assert (report["category_oracle"], report["by_category"]) == (None, {})


def test_questions_without_a_category_are_in_no_category() -> None:
    found = bench(learn=None, category=["sums", None, "words", None]).baselines()
    assert found["oracle"].by_category() == {"sums": 1.0, "words": 1.0}
    assert found["oracle"].accuracy.mean == pytest.approx(3.25 / 4)


HOLES: Cells = {"a": [1, 1, None, None, None], "b": [0, None, 1, 0.5, None], "c": [None, 0, 0, 1, 0.5]}


def test_missing_cells_are_left_out_and_not_counted_as_wrong() -> None:
    found = bench(HOLES, None, category=["x"] * 5).baselines()
    assert found["best-single"].right.tolist() == [1, 1, 1, 0.5, 0.5]  # a where it answered, else b, else c: by their means
    assert found["random"].right.tolist() == [0.5, 0.5, 0.5, 0.75, 0.5]
    assert found["oracle"].right.tolist() == [1, 1, 1, 1, 0.5]
    for each in found.values():
        report = report_json(each, found)
        assert report["n"] == 5
        assert report["low"] <= report["accuracy"] <= report["high"]


def test_replays_category_oracle_takes_no_expert_that_never_answered_a_category() -> None:
    cells: Cells = {"a": [1, 1, None, None], "b": [0, 0, 1, 0], "c": [0, 0, 0, 0]}
    by_name = {each.name: each.right.tolist() for each in baselines(table_of(cells, category=KIND), None, ["a", "b", "c"])}
    assert by_name["category-oracle"] == [1, 1, 1, 0]


def test_replays_category_oracle_does_without_a_train_part_that_lacks_an_expert() -> None:
    test, train = table_of(THREE, category=KIND), table_of({"a": [1, 1, 1, 1]}, category=KIND)
    there, absent = ({each.name: each.right.tolist() for each in baselines(test, part, ["a", "b", "c"])} for part in (train, None))
    assert there == absent


# a router beside them


def test_a_router_is_measured_by_its_first_choice() -> None:
    router = OracleRouter().fit(table_of(LEARN))  # so it knows what each expert got, but on other questions
    measured = bench().measure("told", router)
    assert measured.right.tolist() == [1, 1, 1, 0.25], "the oracle is told these questions"
    measured = bench().measure("mean", BestSingleRouter().fit(table_of(LEARN)))
    assert measured.right.tolist() == [1, 1, 0, 0]  # a and c have 0.5 each: the first
    assert measured.by_category() == {"sums": 1.0, "words": 0.0}
    assert measured.fit_s != measured.fit_s, "it came fitted"
    assert measured.latency_ms > 0


def test_the_report_has_these_keys() -> None:
    found = bench()
    keys = ["accuracy", "low", "high", "n", "by_category", "best_single", "random", "category_oracle", "oracle", "ece", "hit_rate"]
    report = report_json(found.measure("mean", BestSingleRouter().fit(table_of(LEARN))), found.baselines())
    assert list(report) == [*keys, "latency_ms", "versus"]
    assert report["hit_rate"] == pytest.approx(0.5)  # of four questions on which experts differ, two
    assert report["versus"]["oracle"]["mean"] == pytest.approx(-1.25 / 4)
    assert report["versus"]["best-single"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "tie": True}
    json.dumps(report, allow_nan=False)


def test_calibration_is_measured_over_all_known_cells() -> None:
    router = BestSingleRouter().fit(table_of({"a": [0.75], "b": [0.25]}))
    measured = bench({"a": [1, 1, 1, 0], "b": [1, None, 1, None]}, None).measure("mean", router)
    assert measured.ece == pytest.approx((4 * 0 + 2 * 0.75) / 6)


def test_experts_that_the_router_or_the_table_does_not_know_are_left_out() -> None:
    router = BestSingleRouter().fit(table_of({"z": [1, 1], "b": [0.5, 0.5], "c": [0.25, 0.25]}))
    measured = bench().measure("some", router)
    assert measured.truth.shape == (4, 2)
    assert measured.right.tolist() == [0, 0.5, 1, 0]
    with pytest.raises(CounterpointError, match="the router knows z, the score table a, b, c: none in common"):
        bench().measure("none", BestSingleRouter().fit(table_of({"z": [1.0]})))


def test_a_kind_is_fitted_on_the_train_part_only() -> None:
    measured = bench().fit("best-single", {})
    assert measured.predicted[0].tolist() == [0.5, 0.125, 0.5]
    assert measured.fit_s > 0
    with pytest.raises(CounterpointError, match="there are no rows to fit on: the score table has neither a split train nor tune"):
        bench(learn=None).fit("best-single", {})


def test_progress_is_told_stage_by_stage() -> None:
    told: list[tuple[str, int, int]] = []
    many = {"a": [1.0, 0.0] * 50, "b": [0.0, 1.0] * 50}
    Bench(table_of(many), table_of(many)).fit("linear", {"encoder": "style"}, lambda *news: told.append(news))
    assert told[0][0] == "linear: texts"
    assert told[-2:] == [("linear", 64, 100), ("linear", 100, 100)]


# two experts, costs, many experts


def test_two_experts_have_shares_of_calls() -> None:
    cells = {"weak": [0, 0, 1, 0], "strong": [1, 1, 1, 0]}
    ranked = OracleRouter().fit(table_of(cells))
    measured = bench(cells, None).measure("ranked", ranked)
    assert measured.two_experts() == {"apgr": pytest.approx((0.25 + 0.75 + 1 + 1) / 4), "cpt50": 0.25, "cpt80": 0.5}
    report = report_json(measured, bench(cells, None).baselines())
    assert [report[name] for name in ("apgr", "cpt50", "cpt80")] == [0.75, 0.25, 0.5]
    assert "apgr" not in report_json(bench().measure("three", BestSingleRouter().fit(table_of(LEARN))), bench().baselines())


@pytest.mark.parametrize(
    "cells",
    [{"weak": [0, None, 1, None], "strong": [None, 1, None, 0]}, {"weak": [1, 0, 1, 0], "strong": [1, 0, 0, 1]}],
    ids=["no question has both", "neither is better"],
)
def test_without_a_gap_there_are_no_shares_of_calls(cells: Cells) -> None:
    found = bench(cells, None)
    report = report_json(found.measure("mean", BestSingleRouter().fit(found.test)), found.baselines())
    assert [report[name] for name in ("apgr", "cpt50", "cpt80")] == [None, None, None]
    json.dumps(report, allow_nan=False)


def test_costs_of_the_first_choice_and_of_the_trade_off() -> None:
    table = with_costs(table_of({"cheap": [1, 0, 0, 0], "dear": [1, 1, 0, 1]}), {"cheap": 0.001, "dear": 0.009})
    found = Bench(table, None)
    always_dear = found.measure("dear", BestSingleRouter().fit(table))
    assert always_dear.cost == pytest.approx(0.009)
    assert always_dear.aiq() == pytest.approx((0.25 + 0.75) / 2)  # a straight line between the two experts
    report = report_json(always_dear, found.baselines())
    assert (report["cost"], report["aiq"]) == (0.009, 0.5)
    told = found.measure("told", OracleRouter().fit(table))
    assert told.cost == pytest.approx((0.001 + 0.009 + 0.001 + 0.009) / 4)  # of equals the first
    aiq = told.aiq()
    assert aiq is not None
    assert aiq > 0.6


@pytest.mark.parametrize("costs", [{"a": 0.0, "b": 0.0, "c": 0.0}, {"a": None, "b": None, "c": None}, {"a": 0.5, "b": None, "c": 0.1}])
def test_costs_that_are_not_known_of_every_expert_are_no_costs(costs: dict[str, float | None]) -> None:
    found = Bench(with_costs(table_of(THREE), costs), None)
    measured = found.measure("mean", BestSingleRouter().fit(found.test))
    assert (measured.costs, measured.aiq()) == (None, None)
    assert np.isnan(measured.cost)
    assert not {"cost", "aiq"} & report_json(measured, found.baselines()).keys()


def test_some_unknown_costs_count_as_their_experts_mean() -> None:
    table = with_costs(table_of(THREE), {"a": 0.4, "b": 0.2, "c": 0.1})
    table.loc[(table["expert"] == "a") & (table["query_id"] == "q0"), "cost"] = None
    measured = Bench(table, None).measure("mean", BestSingleRouter().fit(table))
    assert measured.cost == pytest.approx(0.4)


def many_experts(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    right = rng.random((60, 35)) < np.linspace(0.2, 0.8, 35)
    holes = rng.random((60, 35)) < 0.2
    cells = {f"expert-{at}": [None if holes[n, at] else float(right[n, at]) for n in range(60)] for at in range(35)}
    return table_of(cells, category=[f"kind {n % 4}" for n in range(60)], split=["train", "test"] * 30)


def test_thirty_five_experts_with_holes_are_measured() -> None:
    found = Bench.of(many_experts(), None, None)
    measured, controls = found.fit("linear", {"encoder": "style", "penalty": 10.0}), found.baselines()
    report = report_json(measured, controls)
    assert measured.truth.shape == (30, 35)
    assert report["n"] == 30
    assert report["by_category"].keys() == {"kind 1", "kind 3"}
    assert report["random"] < report["best_single"] <= report["oracle"] == 1.0
    assert "apgr" not in report
    json.dumps(report, allow_nan=False)


# which rows


def test_a_table_without_splits_is_divided_by_its_texts() -> None:
    table = pd.concat([many_experts(), many_experts()[:35].assign(query_id="again")], ignore_index=True).drop(columns="split")
    found = Bench.of(table, None, None)
    assert found.train is not None
    assert 0.1 < found.test["query_id"].nunique() / 61 < 0.5
    assert not set(found.train["query"]) & set(found.test["query"]), "equal texts stand on one side"
    assert len(found.train) + len(found.test) == len(table)
    again = Bench.of(table.sample(frac=1, random_state=0), None, None)
    assert set(again.test["query_id"]) == set(found.test["query_id"])


def test_splits_are_taken_as_they_are_named() -> None:
    table = table_of({"a": [1, 0, 1, 0, 1]}, split=["train", "tune", "test", "test", "other"])
    found = Bench.of(table, None, None)
    assert found.train is not None
    assert (set(found.train["split"]), set(found.test["split"])) == ({"train", "tune"}, {"test"})
    found = Bench.of(table, ["other"], ["tune", "train"])
    assert found.train is not None
    assert (set(found.train["split"]), set(found.test["split"])) == ({"other"}, {"train", "tune"})
    assert Bench.of(table[table["split"].isin(["test", "other"])], None, None).train is None
    with pytest.raises(ScoreTableError, match="no rows with split dev; there are train, tune, test, other"):
        Bench.of(table, None, ["dev"])


def test_what_also_stands_in_test_is_not_learned_from() -> None:
    table = table_of({"a": [1, 0, 1]}, split=["train", "train", "test"])
    table.loc[0, "query"] = "Question  NUMBER 2"
    found = Bench.of(table, None, None)
    assert found.train is not None
    assert found.train["query_id"].tolist() == ["q1"]


# the figure


@pytest.fixture
def measured() -> Callable[..., list[Measured]]:
    """All baselines and two routers, on a table with costs or without."""

    def make(costs: bool) -> list[Measured]:
        table = many_experts()
        if costs:
            table = with_costs(table, {f"expert-{at}": 0.001 * (at + 1) for at in range(35)})
        found = Bench.of(table, None, None)
        return [*found.baselines().values(), *(found.fit(kind, {"encoder": "style"}) for kind in ("knn", "linear"))]

    return make


def texts_of(svg: Path) -> set[str]:
    return set(re.findall(r"<!-- (.*?) -->", svg.read_text(encoding="utf-8")))


@pytest.mark.parametrize("costs", [True, False])
def test_the_figure_is_written_twice(costs: bool, measured: Callable[..., list[Measured]], tmp_path: Path) -> None:
    files = write_figure(measured(costs), tmp_path / "new" / "routers.pdf")
    assert files == [tmp_path / "new" / "routers.png", tmp_path / "new" / "routers.svg"]
    assert files[0].read_bytes().startswith(b"\x89PNG")
    said = texts_of(files[1])
    assert {"knn", "linear", "best-single", "random"} <= said
    assert not {"oracle", "category-oracle"} & said, "what knows the truth is not for sale"
    assert ("cost of a question" in said, "linear, choosing by cost too" in said) == (costs, costs)
    assert any("milliseconds of a decision" in text for text in said) is not costs


def test_the_same_measures_draw_the_same_svg(measured: Callable[..., list[Measured]], tmp_path: Path) -> None:
    rows = measured(True)
    first, second = (write_figure(rows, tmp_path / name)[1].read_text(encoding="utf-8") for name in ("one", "two"))
    assert first.count("\n") == second.count("\n")
    assert "<dc:date>" not in first


def test_a_figure_of_one_router_with_one_question_is_drawn(tmp_path: Path) -> None:
    found = Bench(table_of({"a": [1.0]}), None)
    assert write_figure([found.measure("mean", BestSingleRouter().fit(found.test))], tmp_path / "one")[0].is_file()


@pytest.mark.parametrize("name", ["file/routers.png", "folder.png"])
def test_a_figure_that_cannot_be_written_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    found = Bench(table_of(THREE), None)
    with pytest.raises(CounterpointError) as caught:
        write_figure(list(found.baselines().values()), tmp_path / name)
    assert str(caught.value).startswith(f"cannot write the figure to {(tmp_path / name).parent}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["/", "."])
def test_a_figure_without_a_name_is_one_line(path: str) -> None:
    with pytest.raises(CounterpointError, match="the figure needs the name of a file, not "):
        write_figure([], Path(path))


def test_two_measures_of_one_name_are_two() -> None:
    one, other = (bench().measure("mean", BestSingleRouter().fit(table_of(LEARN))) for _ in range(2))
    assert one in [other, one]
    assert one not in [other], "measures are compared by who they are: arrays have no one truth"


@pytest.mark.parametrize("kind", [kind for kind, made in KINDS.items() if not made.learns])
def test_baselines_can_be_measured_as_kinds(kind: str) -> None:
    measured: Any = bench().fit(kind, {})
    assert 0 <= measured.accuracy.mean <= 3.25 / 4
