from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from router import LinearRouter, RouterError, load_router
from router.mlp import MLPRouter

EncoderOf = Callable[[Mapping[str, Sequence[float]]], str]
TableOf = Callable[..., pd.DataFrame]


def test_without_a_penalty_each_kind_of_question_gets_its_mean(axes: str, table_of: TableOf) -> None:
    # three of four "a" and one of four "b" were right
    table = table_of(["a"] * 4 + ["b"] * 4, {"x": [1, 1, 1, 0, 0, 0, 1, 0], "y": [0.5] * 8})
    scores = MLPRouter(decay=0.0, encoder=axes).fit(table).scores(["a", "b"])
    np.testing.assert_allclose(scores, [[0.75, 0.5], [0.25, 0.5]], atol=0.01)


def test_it_learns_what_no_line_can_part(encoder_of: EncoderOf, table_of: TableOf) -> None:
    encoder = encoder_of({"east": [1.0, 0.0], "north": [0.0, 1.0], "west": [-1.0, 0.0], "south": [0.0, -1.0]})
    table = table_of(["east", "north", "west", "south"] * 2, {"x": [1.0, 0.0] * 4, "y": [0.0, 1.0] * 4})
    texts, wanted = ["east", "south", "west"], [[1, 0], [0, 1], [1, 0]]
    assert (MLPRouter(encoder=encoder).fit(table).scores(texts).round() == wanted).all()
    np.testing.assert_allclose(LinearRouter(encoder=encoder).fit(table).scores(texts), 0.5, atol=1e-9)


def test_a_missing_cell_does_not_count_as_wrong(axes: str, table_of: TableOf) -> None:
    table = table_of(["a"] * 4 + ["b"] * 4, {"x": [1, None, 1, None, 0, 0, None, 0], "y": [1.0] * 8})
    scores = MLPRouter(decay=1e-4, encoder=axes).fit(table).scores(["a", "b"])
    assert scores[0, 0] > 0.9 > 0.1 > scores[1, 0]


def test_a_heavy_penalty_leaves_the_mean(axes: str, table_of: TableOf) -> None:
    table = table_of(["a"] * 4 + ["b"] * 4, {"x": [1, 1, 1, 1, 0, 0, 0, 0]})
    np.testing.assert_allclose(MLPRouter(decay=100.0, encoder=axes).fit(table).scores(["a", "b"]), 0.5, atol=0.01)


def test_the_seed_decides_the_first_weights(score_table: pd.DataFrame) -> None:
    text = ["What is seven plus one?"]
    first, again, other = (MLPRouter(seed=seed, steps=5).fit(score_table).scores(text) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_settings_come_back_with_the_artefact(score_table: pd.DataFrame, tmp_path: Path) -> None:
    router = MLPRouter(hidden=3, decay=0.5, steps=7, seed=2, encoder="style").fit(score_table)
    router.save(tmp_path)
    loaded = load_router(tmp_path)
    assert isinstance(loaded, MLPRouter)
    assert loaded.settings() == {"hidden": 3, "decay": 0.5, "steps": 7, "seed": 2, "encoder": "style"}
    np.testing.assert_array_equal(loaded.scores(["a text"]), router.scores(["a text"]))


@pytest.mark.parametrize(("setting", "shown"), [({"hidden": 0}, "not 0, 200"), ({"steps": 0}, "not 32, 0"), ({"decay": -1.0}, "-1.0")])
def test_a_setting_out_of_range_is_shown(score_table: pd.DataFrame, setting: dict[str, float], shown: str) -> None:
    with pytest.raises(RouterError, match=f"the mlp router wants hidden and steps from 1 and decay from 0, .*{shown}"):
        MLPRouter(**setting).fit(score_table)  # type: ignore[arg-type]
