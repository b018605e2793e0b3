"""The default router on recorded answers of real LLMs, where the folder of COUNTERPOINT_BENCH_DATA has them."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks.routing import IN_DISTRIBUTION, OUT_OF_DISTRIBUTION, bench, by_task, true_task
from data.statistics import paired
from router import load_router, metrics
from serving.config import ASSETS
from serving.evaluation.routing import Measured, report_json

DATA = Path(os.environ.get("COUNTERPOINT_BENCH_DATA", "absent"))
LONG = pytest.mark.conformance  # a minute or two of fitting each
TABLES = ("mmlu_pro_small", pytest.param("routerdc", marks=LONG), pytest.param("routellm", marks=LONG))
pytestmark = [
    pytest.mark.skipif(not DATA.is_dir(), reason="COUNTERPOINT_BENCH_DATA names no folder of recorded answers"),
    pytest.mark.timeout(600),
]


@cache
def default_on(name: str) -> Measured:
    """The default router with its default seed; the bars of docs/routing.md are means of three seeds."""
    return bench(name).fit("stack", {})


def test_the_first_choice_beats_the_best_single_expert_on_mmlu_pro() -> None:
    measured, single = default_on("mmlu_pro_small"), bench("mmlu_pro_small").baselines()["best-single"]
    gap = measured.versus(single)
    assert measured.accuracy.mean >= 0.471
    assert gap.low > 0, f"{gap}"


@LONG
def test_both_published_figures_are_reached_on_routerdc() -> None:
    measured = default_on("routerdc")
    assert by_task(measured, IN_DISTRIBUTION) >= 58.5
    assert by_task(measured, tuple(OUT_OF_DISTRIBUTION)) >= 45.8


@LONG
def test_on_routerdc_it_is_not_below_the_lookup_by_true_task() -> None:
    data, measured = bench("routerdc"), default_on("routerdc")
    gap = measured.versus(true_task(data, measured))
    assert gap.tie or gap.mean > 0, f"{gap}"


@LONG
@pytest.mark.parametrize(("task", "least"), [("mmlu", 0.64), ("gsm8k", 0.62)])
def test_strong_and_weak_are_told_apart_better_than_by_length(task: str, least: float) -> None:
    measured, data = default_on("routellm"), bench("routellm")
    rows = np.array([name.startswith(task) for name in measured.categories])
    strong, weak = metrics.strong_of(measured.truth)
    pair = measured.truth[rows, strong], measured.truth[rows, weak]
    gain = (measured.predicted[:, strong] - measured.predicted[:, weak])[rows]
    length = np.array([len(text) for text in data.test.drop_duplicates("query_id")["query"]], dtype=float)[rows]
    assert metrics.apgr(gain, *pair) >= least
    gap = metrics.apgr_versus(gain, length, *pair)
    assert gap.mean > 0, f"{gap}"


@pytest.mark.parametrize("name", TABLES)
def test_predictions_are_calibrated_within_three_points(name: str) -> None:
    assert default_on(name).ece < 0.03


def test_the_router_that_ships_is_the_default_fitted_on_train_and_tune() -> None:
    shipped, fitted = load_router(ASSETS / "routers" / "open-8b"), default_on("mmlu_pro_small")
    measured = bench("mmlu_pro_small").measure("shipped", shipped)
    assert abs(paired(measured.right, fitted.right).mean) < 0.005  # another processor may round a close decision otherwise
    report = report_json(measured, bench("mmlu_pro_small").baselines())
    assert report["accuracy"] >= 0.47
    assert report["versus"]["best-single"]["low"] > 0
