from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from data.encoders import get_encoder
from router import LinearRouter, RouterError, load_router
from router.linear import PENALTIES, choose_penalty, ridge

EncoderOf = Callable[[Mapping[str, Sequence[float]]], str]
TableOf = Callable[..., pd.DataFrame]


def test_each_expert_scores_best_on_its_own_kind_of_question(score_table: pd.DataFrame) -> None:
    sums, words = LinearRouter(penalty=0.1).fit(score_table).scores(["What is seven plus one?", "How do you spell mouse?"])
    math, language = 0, 1
    assert sums[math] > 0.6 > 0.4 > sums[language]
    assert words[language] > 0.6 > 0.4 > words[math]


def test_by_hand_on_two_questions(axes: str, table_of: TableOf) -> None:
    # centred on their mean, "a" and "b" lie at (0.5, -0.5) and (-0.5, 0.5), their scores at 0.5 and -0.5; by symmetry the
    # coefficients are (c, -c), which miss each score by 0.5 - c: 2 (0.5 - c)^2 + 0.5 * 2 c^2 is least at c = 1 / 3
    router = LinearRouter(penalty=0.5, encoder=axes).fit(table_of(["a", "b"], {"x": [1.0, 0.0]}))
    np.testing.assert_allclose(router.coef_, [[1 / 3, -1 / 3, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(router.scores(["a", "b", "c"]), [[5 / 6], [1 / 6], [0.5]], atol=1e-6)


@pytest.mark.parametrize("score", [1.0, 0.0, 0.3])
def test_where_there_is_nothing_to_tell_apart_the_mean_stands(score: float, table_of: TableOf) -> None:
    router = LinearRouter().fit(table_of([f"question {at}" for at in range(4)], {"x": [score] * 4}))
    np.testing.assert_allclose(router.scores(["anything", "else"]), [[score], [score]], atol=1e-6)


def test_one_and_the_same_question_gets_its_mean_score(table_of: TableOf) -> None:
    router = LinearRouter().fit(table_of(["the same text"] * 4, {"x": [1.0, 1.0, 0.0, 0.25]}))
    np.testing.assert_allclose(router.scores(["the same text"]), [[2.25 / 4]])


def test_the_weights_are_those_of_scikit_learn(table_of: TableOf) -> None:
    queries, scores = ["What is two plus two?", "Add five and six.", "Spell cat.", "Spell house."], [1.0, 0.75, 0.0, 0.5]
    router = LinearRouter(penalty=3.0, encoder="static").fit(table_of(queries, {"x": scores}))
    x = get_encoder()(queries).astype(float)
    wanted = Ridge(alpha=3.0).fit(x, scores)
    np.testing.assert_allclose(router.scores(queries)[:, 0], wanted.predict(x), atol=1e-9)


@given(st.integers(0, 10_000), st.floats(0.01, 100))
@settings(max_examples=30, deadline=None)
def test_with_missing_cells_each_expert_is_fitted_on_what_it_answered(seed: int, penalty: float) -> None:
    rng = np.random.default_rng(seed)
    n, dim, experts = int(rng.integers(3, 30)), int(rng.integers(1, 8)), int(rng.integers(1, 6))
    x, scores = rng.normal(size=(n, dim)), rng.random((n, experts))
    scores[rng.random((n, experts)) < rng.random()] = np.nan
    scores[rng.integers(n), np.isnan(scores).all(axis=0)] = 0.5
    coefs, intercepts = ridge(x, scores, [penalty, 2 * penalty])
    assert (coefs.shape, intercepts.shape) == ((2, experts, dim), (2, experts))
    for at, alpha in enumerate((penalty, 2 * penalty)):
        for expert in range(experts):
            known = ~np.isnan(scores[:, expert])
            wanted = Ridge(alpha=alpha, solver="svd").fit(x[known], scores[known, expert])
            np.testing.assert_allclose(coefs[at, expert], wanted.coef_, atol=1e-8)
            np.testing.assert_allclose(intercepts[at, expert], wanted.intercept_, atol=1e-8)


def test_a_heavier_penalty_stays_nearer_to_the_mean(score_table: pd.DataFrame) -> None:
    text = ["What is seven plus one?"]
    heavy, light = (LinearRouter(penalty=penalty).fit(score_table).scores(text)[0, 0] for penalty in (100.0, 0.1))
    assert 0.5 < heavy < light


def test_a_missing_cell_does_not_count_as_wrong(score_table: pd.DataFrame) -> None:
    holes = score_table[~((score_table["expert"] == "general") & (score_table["query_id"] == "spell"))]
    zeros = score_table.copy()
    zeros.loc[(zeros["expert"] == "general") & (zeros["query_id"] == "spell"), "score"] = 0.0
    text = ["How do you spell dog?"]
    assert LinearRouter().fit(holes).scores(text)[0, 2] > LinearRouter().fit(zeros).scores(text)[0, 2]


def planted(noise: float, hole: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors, and two experts of whom one is good on one side and the other on the other."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 10))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    scores = np.clip(np.stack([0.5 + x[:, 0], 0.5 - x[:, 0]], axis=1) + noise * rng.normal(size=(200, 2)), 0, 1)
    scores[rng.random((200, 2)) < hole] = np.nan
    scores[np.isnan(scores).all(axis=1), 0] = 0.5
    return x, scores


def test_the_penalty_is_light_where_experts_can_be_foretold_and_heavy_where_they_cannot() -> None:
    clear = choose_penalty(*planted(0.01))
    noise = np.random.default_rng(1).random((200, 2))
    assert clear == PENALTIES[0]
    assert choose_penalty(planted(0.0)[0], noise) >= 30


def test_the_penalty_is_the_one_that_scikit_learn_finds_by_the_same_folds() -> None:
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    from router.crossfit import fold_of

    x, scores = planted(1.0)
    split = PredefinedSplit(fold_of(len(x)))
    gap = scores[:, 0] - scores[:, 1]  # of two experts the centred scores are half of this and its opposite
    missed = [((cross_val_predict(Ridge(alpha=alpha), x, gap, cv=split) - gap) ** 2).sum() for alpha in PENALTIES]
    best = PENALTIES[int(np.argmin(missed))]
    assert PENALTIES[0] < best < PENALTIES[-1]
    assert choose_penalty(x, scores) == best


def test_one_expert_alone_has_its_penalty_chosen_by_its_own_score() -> None:
    x, scores = planted(0.01)
    assert choose_penalty(x, scores[:, :1]) == PENALTIES[0]


def test_missing_cells_do_not_hinder_the_choice() -> None:
    x, scores = planted(0.01, hole=0.4)
    scores[1:, 1] = np.nan  # an expert that stands in one fold only
    scores[np.isnan(scores).all(axis=1), 0] = 0.5
    assert choose_penalty(x, scores) in PENALTIES


def test_few_questions_take_the_lightest_penalty(score_table: pd.DataFrame) -> None:
    assert LinearRouter().fit(score_table).penalty_ == 1.0


def test_scores_are_calibrated_where_there_are_questions_enough(axes: str, table_of: TableOf) -> None:
    rng = np.random.default_rng(0)
    texts = [f"{'a ' * int(rng.integers(1, 9))}{'b ' * int(rng.integers(1, 9))}" for _ in range(300)]
    chance = np.array([text.count("a") / (text.count("a") + text.count("b")) for text in texts])
    scores = {"x": (rng.random(300) < chance).astype(float).tolist(), "y": (rng.random(300) < 1 - chance).astype(float).tolist()}
    router = LinearRouter(penalty=30.0, encoder=axes).fit(table_of(texts, scores))
    assert router.calibration_.slope > 1.2  # so heavy a penalty says too little
    likely, unlikely = router.scores(["a a a a a a a a b", "a b b b b b b b b"])[:, 0]
    assert likely > 0.7
    assert unlikely < 0.3


def test_the_penalty_comes_back_with_the_artefact(score_table: pd.DataFrame, tmp_path: Path) -> None:
    for penalty in (3.0, None):
        LinearRouter(penalty=penalty).fit(score_table).save(tmp_path)
        loaded = load_router(tmp_path)
        assert isinstance(loaded, LinearRouter)
        assert loaded.penalty == penalty
        assert loaded.penalty_ == (penalty or 1.0)


@pytest.mark.parametrize("penalty", [0.0, -1.0])
def test_a_penalty_out_of_range_is_shown(score_table: pd.DataFrame, penalty: float) -> None:
    with pytest.raises(RouterError, match=f"the linear router wants a penalty above 0, not {penalty}"):
        LinearRouter(penalty=penalty).fit(score_table)


def test_of_two_experts_that_are_expected_above_1_the_better_one_stays_before(encoder_of: EncoderOf, table_of: TableOf) -> None:
    encoder = encoder_of({"up": [0.0, 1.0], "on": [1.0, 0.0], "down": [0.0, -1.0]})
    router = LinearRouter(penalty=1e-6, encoder=encoder).fit(table_of(["on", "on up"], {"x": [1.0, 0.9], "y": [1.0, 0.5]}))
    x, y = router.scores(["on down"])[0]  # 1.07 and 1.35 on the lines through what was seen
    assert x < y
