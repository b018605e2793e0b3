from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.encoders import get_encoder
from router import KNNRouter, RouterError, load_router


def kernel(text: str, others: list[str], temperature: float = 0.1) -> np.ndarray:
    encode = get_encoder()
    similarity = encode(others).astype(np.float16).astype(np.float32) @ encode([text])[0]
    return np.exp((similarity - similarity.max()) / temperature)


def test_with_one_neighbour_and_no_prior_the_nearest_question_decides(score_table: pd.DataFrame) -> None:
    router = KNNRouter(k=1, prior=0.0).fit(score_table)
    # the columns are math, language and general; the nearest are "sum" and "spell"
    np.testing.assert_allclose(
        router.scores(["Find the sum of four and six.", "How do you spell dog?"]), [[1.0, 0.25, 0.5], [0.0, 1.0, 0.5]]
    )


def test_a_prior_pulls_towards_the_overall_mean(score_table: pd.DataFrame) -> None:
    router = KNNRouter(k=1, prior=1.0).fit(score_table)
    # the nearest counts 1, the overall means 0.5, 0.5625 and 0.75 count 1: (1 + 0.5) / 2 and so on
    np.testing.assert_allclose(router.scores(["Find the sum of four and six."]), [[0.75, (0.25 + 0.5625) / 2, (0.5 + 0.75) / 2]])


def test_neighbours_weigh_by_the_kernel(score_table: pd.DataFrame) -> None:
    text = "What is nine plus one?"
    weights = kernel(text, list(dict.fromkeys(score_table["query"])))
    router = KNNRouter(k=4, prior=0.0).fit(score_table)
    wanted = weights @ np.array([[1, 0, 1], [1, 0.25, 0.5], [0, 1, 0.5], [0, 1, 1]]) / weights.sum()
    np.testing.assert_allclose(router.scores([text])[0], wanted, rtol=1e-6)


def test_a_wide_kernel_gives_the_overall_mean(score_table: pd.DataFrame) -> None:
    router = KNNRouter(k=4, temperature=1e6, prior=0.0).fit(score_table)
    np.testing.assert_allclose(router.scores(["anything"]), [[0.5, 0.5625, 0.75]], rtol=1e-4)


def test_an_expert_that_no_neighbour_knows_gets_its_overall_mean(score_table: pd.DataFrame) -> None:
    holes = score_table[~((score_table["expert"] == "language") & (score_table["category"] == "sums"))]
    router = KNNRouter(k=1, prior=0.0).fit(holes)
    np.testing.assert_allclose(router.scores(["Find the sum of four and six."]), [[1.0, 0.5, 1.0]])


def test_more_neighbours_than_questions_are_all_questions(score_table: pd.DataFrame) -> None:
    text = ["What is nine plus one?"]
    np.testing.assert_array_equal(KNNRouter(k=4).fit(score_table).scores(text), KNNRouter(k=400).fit(score_table).scores(text))


def test_equally_near_questions_keep_the_order_of_the_table() -> None:
    rows = [{"query_id": str(at), "query": "the same text", "expert": "a", "score": score} for at, score in enumerate([0.75, 0.0, 0.0])]
    assert KNNRouter(k=1, prior=0.0).fit(pd.DataFrame(rows)).scores(["the same text"]).tolist() == [[0.75]]


def test_reasons_name_the_nearest_questions_and_who_was_right(score_table: pd.DataFrame) -> None:
    first, *others = KNNRouter(k=4).fit(score_table).reasons("Find the sum of four and six.")
    assert "'Find the sum of four and five.': right were math, general" in first
    assert 0.8 < float(first.split()[0]) <= 1
    assert len(others) == 2


def test_settings_come_back_with_the_artefact(score_table: pd.DataFrame, tmp_path: Path) -> None:
    KNNRouter(k=3, temperature=0.2, prior=0.0).fit(score_table).save(tmp_path)
    loaded = load_router(tmp_path)
    assert isinstance(loaded, KNNRouter)
    assert (loaded.k, loaded.temperature, loaded.prior) == (3, 0.2, 0.0)
    assert loaded.categories_ == ["sums", "sums", "words", "words"]


def test_a_question_without_a_category_is_saved(score_table: pd.DataFrame, tmp_path: Path) -> None:
    score_table.loc[score_table["query_id"] == "add", "category"] = None
    KNNRouter().fit(score_table).save(tmp_path)
    assert load_router(tmp_path).scores(["x"]).shape == (1, 3)


@pytest.mark.parametrize("setting", [{"k": 0}, {"temperature": 0.0}, {"prior": -1.0}])
def test_a_setting_out_of_range_is_shown(score_table: pd.DataFrame, setting: dict[str, float]) -> None:
    with pytest.raises(
        RouterError, match="the knn router wants k of at least 1, a temperature above 0 and a prior of at least 0"
    ) as caught:
        KNNRouter(**setting).fit(score_table)  # type: ignore[arg-type]
    ((name, value),) = setting.items()
    assert f"{name}={value}" in str(caught.value)
