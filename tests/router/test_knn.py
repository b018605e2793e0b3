from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from router import KNNRouter, RouterError, load_router

TableOf = Callable[..., pd.DataFrame]


def test_with_one_neighbour_and_no_prior_the_nearest_question_decides(score_table: pd.DataFrame) -> None:
    router = KNNRouter(k=1, prior=0.0).fit(score_table)
    # the columns are math, language and general; the nearest are "sum" and "spell"
    np.testing.assert_allclose(
        router.scores(["Find the sum of four and six.", "How do you spell dog?"]), [[1.0, 0.25, 0.5], [0.0, 1.0, 0.5]], atol=1e-6
    )


def test_a_prior_pulls_towards_the_overall_mean(score_table: pd.DataFrame) -> None:
    router = KNNRouter(k=1, prior=1.0).fit(score_table)
    # the nearest counts 1, the overall means 0.5, 0.5625 and 0.75 count 1: (1 + 0.5) / 2 and so on
    np.testing.assert_allclose(router.scores(["Find the sum of four and six."]), [[0.75, (0.25 + 0.5625) / 2, (0.5 + 0.75) / 2]])


def test_neighbours_weigh_by_the_kernel(axes: str, table_of: TableOf) -> None:
    router = KNNRouter(k=2, temperature=0.5, prior=0.5, encoder=axes).fit(
        table_of(["a", "b", "c"], {"x": [1.0, 0.0, 1.0], "y": [0.0, 0.5, 0.0]})
    )
    # cosines with "a a a b b b b" are 0.6, 0.8 and 0: the nearest weighs 1, the next exp((0.6 - 0.8) / 0.5), the third is left out
    near = np.exp(-0.4)
    wanted = [(near + 0.5 * 2 / 3) / (1 + near + 0.5), (0.5 + 0.5 * 0.5 / 3) / (1 + near + 0.5)]
    np.testing.assert_allclose(router.scores(["a a a b b b b"]), [wanted], rtol=1e-3)  # vectors are kept in half precision


@pytest.mark.parametrize("k", [4, 400])
def test_a_wide_kernel_over_all_questions_gives_the_overall_mean(score_table: pd.DataFrame, k: int) -> None:
    router = KNNRouter(k=k, temperature=1e6, prior=0.0).fit(score_table)
    np.testing.assert_allclose(router.scores(["anything", ""]), [[0.5, 0.5625, 0.75]] * 2, rtol=1e-4)


def test_a_narrow_kernel_gives_the_nearest_question(axes: str, table_of: TableOf) -> None:
    router = KNNRouter(k=3, temperature=1e-6, prior=0.0, encoder=axes).fit(table_of(["a", "b", "c"], {"x": [0.25, 0.5, 0.75]}))
    np.testing.assert_allclose(router.scores(["a b b", "c c b"]), [[0.5], [0.75]])


def test_an_expert_that_no_neighbour_knows_gets_its_overall_mean(score_table: pd.DataFrame) -> None:
    holes = score_table[~((score_table["expert"] == "language") & (score_table["category"] == "sums"))]
    router = KNNRouter(k=1, prior=0.0).fit(holes)
    assert router.experts_ == ["math", "general", "language"]
    np.testing.assert_allclose(router.scores(["Find the sum of four and six."]), [[1.0, 0.5, 1.0]], atol=1e-6)


def test_more_neighbours_than_questions_are_all_questions(score_table: pd.DataFrame) -> None:
    text = ["What is nine plus one?"]
    np.testing.assert_array_equal(KNNRouter(k=4).fit(score_table).scores(text), KNNRouter(k=400).fit(score_table).scores(text))


def test_equally_near_questions_keep_the_order_of_the_table(axes: str, table_of: TableOf) -> None:
    table = table_of(["a", "a a", "b", "a a a"], {"x": [0.25, 0.5, 1.0, 0.75]})
    for k, wanted in ((1, 0.25), (2, 0.375), (3, 0.5)):
        np.testing.assert_allclose(KNNRouter(k=k, prior=0.0, encoder=axes).fit(table).scores(["a"]), [[wanted]])


def test_only_so_many_questions_are_kept_and_all_count_in_the_mean(axes: str, table_of: TableOf) -> None:
    table = table_of([f"a {'b ' * at}" for at in range(8)], {"x": [1.0] * 4 + [0.0] * 4})
    router = KNNRouter(k=8, most=3, prior=1e9, encoder=axes).fit(table)
    assert len(router.reasons("a")) == len(router.queries_) == 3
    np.testing.assert_allclose(router.scores(["a"]), [[0.5]], atol=1e-6)
    assert router.queries_ == sorted(router.queries_, key=len)  # in the order of the table


def test_reasons_name_the_nearest_questions_and_who_was_right(score_table: pd.DataFrame) -> None:
    first, *others = KNNRouter(k=4).fit(score_table).reasons("Find the sum of four and six.")
    assert "'Find the sum of four and five.': right were math, general" in first
    assert float(first.split()[0]) > float(others[0].split()[0]) > 0
    assert len(others) == 2


def test_reasons_are_one_line_each_and_cut_long_questions(axes: str, table_of: TableOf) -> None:
    router = KNNRouter(encoder=axes).fit(table_of(["a\nb", "a " * 500], {"x": [0.0, 0.0]}))
    for line in router.reasons("a"):
        assert "\n" not in line
        assert len(line) < 250
        assert line.endswith("right were none")


def test_settings_come_back_with_the_artefact(score_table: pd.DataFrame, tmp_path: Path) -> None:
    router = KNNRouter(k=3, temperature=0.2, prior=0.0, most=3, encoder="style+static").fit(score_table)
    router.save(tmp_path)
    loaded = load_router(tmp_path)
    assert isinstance(loaded, KNNRouter)
    assert (loaded.k, loaded.temperature, loaded.prior, loaded.most, loaded.encoder) == (3, 0.2, 0.0, 3, "style+static")
    text = ["What is nine plus one?"]
    np.testing.assert_array_equal(loaded.scores(text), router.scores(text))


def test_a_question_without_a_category_is_saved(score_table: pd.DataFrame, tmp_path: Path) -> None:
    score_table.loc[score_table["query_id"] == "add", "category"] = None
    KNNRouter().fit(score_table).save(tmp_path)
    assert load_router(tmp_path).scores(["x"]).shape == (1, 3)


@pytest.mark.parametrize("setting", [{"k": 0}, {"temperature": 0.0}, {"prior": -1.0}, {"most": 0}])
def test_a_setting_out_of_range_is_shown(score_table: pd.DataFrame, setting: dict[str, float]) -> None:
    with pytest.raises(
        RouterError, match="the knn router wants k and most of at least 1, a temperature above 0 and a prior from 0"
    ) as caught:
        KNNRouter(**setting).fit(score_table)  # type: ignore[arg-type]
    ((name, value),) = setting.items()
    assert f"{name}={value}" in str(caught.value)
