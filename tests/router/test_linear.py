from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from data.encoders import get_encoder
from router import LinearRouter, RouterError, load_router


def table_of(scores: list[float], queries: list[str] | None = None) -> pd.DataFrame:
    queries = queries or [f"question {at}" for at in range(len(scores))]
    return pd.DataFrame(
        [
            {"query_id": str(at), "query": query, "expert": "a", "score": score}
            for at, (query, score) in enumerate(zip(queries, scores, strict=True))
        ]
    )


def test_each_expert_scores_best_on_its_own_kind_of_question(score_table: pd.DataFrame) -> None:
    sums, words = LinearRouter().fit(score_table).scores(["What is seven plus one?", "How do you spell mouse?"])
    math, language = 0, 1
    assert sums[math] > 0.6 > 0.4 > sums[language]
    assert words[language] > 0.6 > 0.4 > words[math]


@pytest.mark.parametrize(("score", "wanted"), [(1.0, 0.875), (0.0, 0.125)])
def test_where_there_is_nothing_to_tell_apart_the_smoothed_base_rate_stands(score: float, wanted: float) -> None:
    # four answers, all alike: half an answer of the other kind is supposed, 1 - 0.5 / 4
    router = LinearRouter().fit(table_of([score] * 4))
    np.testing.assert_allclose(router.scores(["anything", "else"]), [[wanted], [wanted]])


def test_one_and_the_same_question_gets_its_mean_score() -> None:
    router = LinearRouter().fit(table_of([1.0, 1.0, 0.0, 0.25], ["the same text"] * 4))
    np.testing.assert_allclose(router.scores(["the same text"]), [[2.25 / 4]], atol=1e-3)


def test_the_weights_are_those_of_the_penalised_likelihood() -> None:
    queries, scores = ["What is two plus two?", "Add five and six.", "Spell cat.", "Spell house."], np.array([1.0, 0.75, 0.0, 0.5])
    x = get_encoder()(queries).astype(float)

    def loss(weights: np.ndarray) -> float:
        z = x @ weights[:-1] + weights[-1]
        return float(10 * (scores @ np.logaddexp(0, -z) + (1 - scores) @ np.logaddexp(0, z)) + weights[:-1] @ weights[:-1] / 2)

    best = minimize(loss, np.zeros(x.shape[1] + 1), method="L-BFGS-B", options={"maxfun": 10**6}).x
    wanted = 1 / (1 + np.exp(-(x @ best[:-1] + best[-1])))
    np.testing.assert_allclose(LinearRouter(strength=10.0).fit(table_of(list(scores), queries)).scores(queries)[:, 0], wanted, atol=2e-3)


def test_a_weak_fit_stays_nearer_to_the_mean(score_table: pd.DataFrame) -> None:
    text = ["What is seven plus one?"]
    weak, strong = (LinearRouter(strength=strength).fit(score_table).scores(text)[0, 0] for strength in (0.01, 100.0))
    assert 0.5 < weak < strong < 1


def test_a_missing_cell_does_not_count_as_wrong(score_table: pd.DataFrame) -> None:
    holes = score_table[~((score_table["expert"] == "general") & (score_table["query_id"] == "spell"))]
    zeros = score_table.copy()
    zeros.loc[(zeros["expert"] == "general") & (zeros["query_id"] == "spell"), "score"] = 0.0
    text = ["How do you spell dog?"]
    assert LinearRouter().fit(holes).scores(text)[0, 2] > LinearRouter().fit(zeros).scores(text)[0, 2]


def test_the_strength_comes_back_with_the_artefact(score_table: pd.DataFrame, tmp_path: Path) -> None:
    LinearRouter(strength=3.0).fit(score_table).save(tmp_path)
    loaded = load_router(tmp_path)
    assert isinstance(loaded, LinearRouter)
    assert loaded.strength == 3.0


def test_a_strength_out_of_range_is_shown(score_table: pd.DataFrame) -> None:
    with pytest.raises(RouterError, match="the linear router wants a strength above 0, not 0"):
        LinearRouter(strength=0).fit(score_table)
