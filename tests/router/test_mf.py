from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from router import RouterError, load_router
from router.mf import MFRouter

TableOf = Callable[..., pd.DataFrame]


def test_with_enough_dimensions_and_no_penalty_each_kind_of_question_gets_its_mean(axes: str, table_of: TableOf) -> None:
    # three of four "a" and one of four "b" were right
    table = table_of(["a"] * 4 + ["b"] * 4, {"x": [1, 1, 1, 0, 0, 0, 1, 0], "y": [0.5] * 8})
    scores = MFRouter(rank=2, decay=0.0, encoder=axes).fit(table).scores(["a", "b"])
    np.testing.assert_allclose(scores, [[0.75, 0.5], [0.25, 0.5]], atol=0.01)


def test_a_score_is_the_inner_product_of_question_and_expert_and_a_bias(axes: str, table_of: TableOf) -> None:
    router = MFRouter(rank=3, encoder=axes).fit(table_of(["a", "b", "c d"], {"x": [1.0, 0.0, 0.5], "y": [0.0, 0.25, 1.0]}))
    w, half = router.weights_, np.sqrt(0.5)
    assert (w["project"].shape, w["expert"].shape, w["bias"].shape) == ((4, 3), (3, 2), (2,))
    for text, question in (("a", [1, 0, 0, 0]), ("c d", [0, 0, half, half])):
        logits = [question @ w["project"] @ w["expert"][:, at] + w["bias"][at] for at in range(2)]
        np.testing.assert_allclose(router.scores([text])[0], 1 / (1 + np.exp(-np.array(logits))), atol=1e-6)


def test_in_one_dimension_experts_differ_in_one_way_only(axes: str, table_of: TableOf) -> None:
    # x knows a and b, y knows a and c: on one line a would have to lie both beyond d and before it
    kinds, scores = ["a", "b", "c", "d"], {"x": [1, 1, 0, 0] * 2, "y": [1, 0, 1, 0] * 2}
    table = table_of(kinds * 2, scores)

    def right(rank: int) -> int:
        predicted = MFRouter(rank=rank, decay=1e-3, encoder=axes).fit(table).scores(kinds).round()
        return int((predicted.T == [scores["x"][:4], scores["y"][:4]]).sum())

    assert right(2) == 8
    assert right(1) < 8


def test_a_missing_cell_does_not_count_as_wrong(axes: str, table_of: TableOf) -> None:
    table = table_of(["a"] * 4 + ["b"] * 4, {"x": [1, None, 1, None, 0, 0, None, 0], "y": [1.0] * 8})
    scores = MFRouter(decay=1e-4, encoder=axes).fit(table).scores(["a", "b"])
    assert scores[0, 0] > 0.9 > 0.1 > scores[1, 0]


def test_a_heavy_penalty_leaves_the_mean(axes: str, table_of: TableOf) -> None:
    table = table_of(["a"] * 4 + ["b"] * 4, {"x": [1, 1, 1, 1, 0, 0, 0, 0], "y": [0.75] * 8})
    np.testing.assert_allclose(MFRouter(decay=100.0, encoder=axes).fit(table).scores(["a", "b"]), [[0.5, 0.75]] * 2, atol=0.01)


def test_the_seed_decides_the_first_weights(score_table: pd.DataFrame) -> None:
    text = ["What is seven plus one?"]
    first, again, other = (MFRouter(seed=seed, steps=3).fit(score_table).scores(text) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_settings_come_back_with_the_artefact(score_table: pd.DataFrame, tmp_path: Path) -> None:
    router = MFRouter(rank=3, decay=0.5, steps=7, seed=2, encoder="style").fit(score_table)
    router.save(tmp_path)
    loaded = load_router(tmp_path)
    assert isinstance(loaded, MFRouter)
    assert loaded.settings() == {"rank": 3, "decay": 0.5, "steps": 7, "seed": 2, "encoder": "style"}
    np.testing.assert_array_equal(loaded.scores(["a text"]), router.scores(["a text"]))


@pytest.mark.parametrize("setting", [{"rank": 0}, {"steps": 0}, {"decay": -1.0}])
def test_a_setting_out_of_range_is_shown(score_table: pd.DataFrame, setting: dict[str, float]) -> None:
    with pytest.raises(RouterError, match="the mf router wants rank and steps from 1 and decay from 0, not") as caught:
        MFRouter(**setting).fit(score_table)  # type: ignore[arg-type]
    ((name, value),) = setting.items()
    assert f"{name}={value}" in str(caught.value)
