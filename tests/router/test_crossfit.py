from typing import Any

import numpy as np
import pandas as pd
import pytest

from router import EmbeddingRouter, LinearRouter
from router.crossfit import fold_of, out_of_fold

NEW = 0.5


class Memoriser(EmbeddingRouter):
    """Knows each question that it has seen by heart, and says 0.5 of any other."""

    kind = "memoriser"

    def _fit(self, vectors: np.ndarray, scores: np.ndarray, queries: pd.DataFrame) -> None:
        assert len(vectors) == len(scores) == len(queries)
        self.seen_ = {vector.tobytes(): row for vector, row in zip(vectors, scores, strict=True)}
        self.queries_ = list(queries["query"])
        self.experts = scores.shape[1]

    def _score(self, vector: np.ndarray) -> np.ndarray:
        return np.asarray(self.seen_.get(vector.tobytes(), np.full(self.experts, NEW)))

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return {}, {}

    def _restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None: ...


class Means(Memoriser):
    """Says each expert's mean over what it was fitted on."""

    def _score(self, vector: np.ndarray) -> np.ndarray:
        return np.asarray(np.nanmean(np.stack(list(self.seen_.values())), axis=0))


def world(n: int, experts: int = 3) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Vectors, scores and queries, all distinct."""
    vectors = np.arange(n, dtype=np.float32)[:, None] * np.ones((1, 2), dtype=np.float32)
    scores = np.random.default_rng(0).uniform(0.6, 1, (n, experts))
    return vectors, scores, pd.DataFrame({"query": [f"question {at}" for at in range(n)]})


def test_folds_are_of_equal_size_and_depend_on_the_seed_only() -> None:
    for n in (10, 13, 100):
        counts = np.bincount(fold_of(n))
        assert len(counts) == 5
        assert counts.max() - counts.min() <= 1
    assert fold_of(50).tolist() == fold_of(50).tolist() != fold_of(50, seed=1).tolist()


@pytest.mark.parametrize("n", [10, 11, 57])
def test_no_question_is_predicted_by_a_router_that_has_seen_it(n: int) -> None:
    rows, predicted = out_of_fold(Memoriser(), *world(n))
    assert rows.tolist() == list(range(n))
    assert (predicted == NEW).all()


def test_each_question_is_predicted_by_what_the_other_folds_say() -> None:
    vectors, scores, queries = world(20)
    _, predicted = out_of_fold(Means(), vectors, scores, queries)
    fold = fold_of(20)
    for at in range(20):
        np.testing.assert_allclose(predicted[at], scores[fold != fold[at]].mean(axis=0))


def test_each_router_is_given_the_questions_that_belong_to_its_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[list[float], list[str], list[int]]] = []

    def spy(self: Memoriser, vectors: np.ndarray, scores: np.ndarray, queries: pd.DataFrame) -> None:
        self.experts, self.seen_ = scores.shape[1], {}
        given.append((vectors[:, 0].tolist(), list(queries["query"]), list(queries.index)))

    monkeypatch.setattr(Memoriser, "_fit", spy)
    out_of_fold(Memoriser(), *world(20))
    assert len(given) == 5
    for numbers, texts, index in given:
        assert texts == [f"question {number:.0f}" for number in numbers]
        assert index == list(range(16))


@pytest.mark.parametrize("n", [1, 9])
def test_too_few_questions_are_not_held_out(n: int) -> None:
    rows, predicted = out_of_fold(Memoriser(), *world(n))
    assert rows.shape == (0,)
    assert predicted.shape == (0, 3)


def test_an_expert_that_the_other_folds_do_not_know_is_not_predicted() -> None:
    vectors, scores, queries = world(20)
    held = fold_of(20) == 2
    scores[~held, 1] = np.nan  # the second expert has answered questions of one fold only
    rows, predicted = out_of_fold(Means(), vectors, scores, queries)
    assert np.isnan(predicted[held, 1]).all()
    assert np.isfinite(predicted[~held]).all()
    assert np.isfinite(predicted[:, [0, 2]]).all()
    np.testing.assert_allclose(predicted[~held, 1], [np.nanmean(scores[held & (fold_of(20) != fold), 1]) for fold in fold_of(20)[~held]])
    assert rows.tolist() == list(range(20))


def test_a_router_with_missing_experts_in_each_fold_is_fitted_and_calibrated(axes: str) -> None:
    rng = np.random.default_rng(0)
    texts = ["a b", "b c", "c d", "d a", "a", "b", "c"]
    rows = [
        {"query_id": str(at), "query": texts[at % 7], "expert": f"expert {expert}", "score": float(rng.random() < 0.6)}
        for at in range(60)
        for expert in range(8)
        if expert == 0 or at % 30 == expert
    ]
    scores = LinearRouter(encoder=axes).fit(pd.DataFrame(rows)).scores(["a b"])
    assert scores.shape == (1, 8)
    assert np.isfinite(scores).all()


def test_at_most_so_many_questions_are_predicted_from_every_fold_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.crossfit.MOST", 15)
    rows, predicted = out_of_fold(Memoriser(), *world(40))
    assert rows.tolist() == sorted(rows)
    assert predicted.shape == (15, 3)
    assert len(set(rows.tolist())) == 15


def test_the_router_itself_is_not_touched() -> None:
    router = Means()
    out_of_fold(router, *world(20))
    assert not hasattr(router, "seen_")
