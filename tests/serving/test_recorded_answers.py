import os
from pathlib import Path

import pytest

from aggregator import make_aggregator
from data.recorded import Recorded
from data.records import Route
from data.scores import count_leaked, experts_of, pivot, read_scores, rows_of
from data.statistics import paired
from router import load_router
from serving.config import ASSETS
from serving.evaluation.systems import baselines
from serving.replay import aggregate_recorded, replay

FOLDER = os.environ.get("COUNTERPOINT_BENCH_DATA", "")


def table_of(name: str) -> Path:
    path = Path(FOLDER) / name
    if not FOLDER or not path.is_file():
        pytest.skip(f"no recorded answers here: set COUNTERPOINT_BENCH_DATA to the folder that holds {name}")
    return path


@pytest.mark.parametrize(
    ("name", "rows", "leaked"),
    [("mmlu_pro_small.parquet", 47_696, 25), ("routerdc.parquet", 127_568, 19), ("routellm.parquet", 16_530, 12)],
)
def test_recorded_tables_are_read_and_their_leaks_found(name: str, rows: int, leaked: int) -> None:
    table = read_scores(table_of(name))
    assert len(table) == rows
    splits = [split for split in ("train", "tune") if split in set(table["split"])]
    assert 0 < count_leaked(table, splits) <= 2 * leaked  # a test question may stand more than once in train


async def test_a_majority_over_real_answers_beats_the_best_single_expert() -> None:
    table = read_scores(table_of("mmlu_pro_small.parquet"))
    test, experts = rows_of(table, ["test"]), experts_of(table)
    _, quality = pivot(rows_of(table, ["train", "tune"]), experts)
    order = sorted(experts, key=lambda name: -quality[:, experts.index(name)].mean())
    queries, _ = pivot(test, experts)
    route = Route(tuple(order), (1 / 8,) * 8, order[0], dict.fromkeys(order, 0.5))
    majority = await aggregate_recorded("majority", queries, [route] * len(queries), Recorded(test), 8, make_aggregator("vote"))
    by_name = {system.name: float(system.right.mean()) for system in baselines(test, rows_of(table, ["train", "tune"]), experts)}
    assert by_name["random"] == pytest.approx(0.354, abs=0.001)
    assert by_name["best-single"] == pytest.approx(0.449, abs=0.001)
    assert by_name["category-oracle"] == pytest.approx(0.473, abs=0.002)
    assert by_name["oracle"] == pytest.approx(0.770, abs=0.001)
    assert majority.right.mean() == pytest.approx(0.491, abs=0.01)


async def test_the_combiner_that_ships_reaches_its_bars_on_questions_that_it_has_not_seen() -> None:
    test = rows_of(read_scores(table_of("mmlu_pro_small.parquet")), ["test"])
    router = load_router(ASSETS / "routers" / "open-8b")
    folder = str(ASSETS / "combiners" / "open-8b")
    learned, vote = make_aggregator("learned", path=folder), make_aggregator("vote")
    _, (three, majority) = await replay(test, router, 3, [learned, vote])
    _, (eight,) = await replay(test, router, 8, [learned])
    _, (few,) = await replay(test, router, 1, [make_aggregator("learned", path=folder, price=0.025)], most=8)
    assert majority.right.mean() == pytest.approx(0.492, abs=0.001)
    assert three.right.mean() > 0.505
    assert eight.right.mean() > 0.52
    assert few.right.mean() > 0.49
    assert few.calls.mean() <= 2.0
    assert paired(three.right, majority.right).low > 0
