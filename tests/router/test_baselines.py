from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from router import load_router
from router.baselines import BestSingleRouter, CategoryOracleRouter, OracleRouter, RandomRouter

TableOf = Callable[..., pd.DataFrame]

TEXTS = ["two plus two", "spell cat", "six plus one"]
SCORES = {"x": [1.0, 0.0, None], "y": [0.0, 0.75, 0.5], "z": [0.5, None, 1.0]}
KINDS = ["sums", "words", "sums"]


@pytest.fixture
def table(table_of: TableOf) -> pd.DataFrame:
    return table_of(TEXTS, SCORES, category=KINDS)


def test_chance_is_even_and_belongs_to_the_text_and_the_seed(table: pd.DataFrame) -> None:
    router = RandomRouter().fit(table)
    scores = router.scores([f"question {at}" for at in range(2000)])
    np.testing.assert_allclose(scores.mean(axis=0), 0.5, atol=0.03)
    np.testing.assert_allclose(np.bincount(scores.argmax(axis=1)) / 2000, 1 / 3, atol=0.04)
    np.testing.assert_array_equal(router.scores(["question 7"])[0], scores[7])
    assert not np.array_equal(RandomRouter(seed=1).fit(table).scores(["question 7"])[0], scores[7])


def test_case_and_spacing_change_no_chance(table: pd.DataFrame) -> None:
    a, b = RandomRouter().fit(table).scores(["Two  plus\ntwo ", "two PLUS two"])
    np.testing.assert_array_equal(a, b)


def test_the_best_single_expert_is_the_best_over_its_known_cells(table: pd.DataFrame) -> None:
    scores = BestSingleRouter().fit(table).scores(["anything", ""])
    np.testing.assert_allclose(scores, [[0.5, 1.25 / 3, 0.75]] * 2)


def test_the_oracle_knows_what_came_and_that_who_was_not_asked_is_never_best(table: pd.DataFrame) -> None:
    router = OracleRouter().fit(table)
    np.testing.assert_allclose(router.scores(TEXTS), [[1.0, 0.0, 0.5], [0.0, 0.75, 0.0], [0.0, 0.5, 1.0]])
    np.testing.assert_allclose(router.scores([" Spell  CAT"]), [[0.0, 0.75, 0.0]])


def test_what_was_not_revealed_to_the_oracle_goes_by_the_overall_means(table: pd.DataFrame, table_of: TableOf) -> None:
    router = OracleRouter().fit(table)
    np.testing.assert_allclose(router.scores(["unheard of"]), [[0.5, 1.25 / 3, 0.75]])
    router.reveal(table_of(["unheard of", "spell cat"], {"stranger": [1.0, 1.0], "y": [0.25, 1.0]}))
    np.testing.assert_allclose(router.scores(["unheard of", "spell cat", "two plus two"]), [[0, 0.25, 0], [0, 1, 0], [1, 0, 0.5]])


def test_a_table_of_strangers_reveals_nothing(table: pd.DataFrame, table_of: TableOf) -> None:
    router = OracleRouter().fit(table).reveal(table_of(["unheard of"], {"stranger": [1.0]}))
    np.testing.assert_allclose(router.scores(["unheard of"]), [[0.5, 1.25 / 3, 0.75]])


def test_the_category_oracle_knows_each_questions_category(table: pd.DataFrame) -> None:
    router = CategoryOracleRouter().fit(table)
    # z was not asked for words, so its overall mean stands there
    np.testing.assert_allclose(router.scores(TEXTS), [[1.0, 0.25, 0.75], [0.0, 0.75, 0.75], [1.0, 0.25, 0.75]])
    np.testing.assert_allclose(router.scores(["unheard of"]), [[0.5, 1.25 / 3, 0.75]])


def test_categories_of_more_questions_are_revealed_without_their_scores(table: pd.DataFrame, table_of: TableOf) -> None:
    more = table_of(["nine plus nine", "paint a bird", "no kind"], {"x": [0.0] * 3}, category=["sums", "art", None])
    router = CategoryOracleRouter().fit(table).reveal(more)
    overall = [0.5, 1.25 / 3, 0.75]
    np.testing.assert_allclose(router.scores(["nine plus nine", "paint a bird", "no kind"]), [[1.0, 0.25, 0.75], overall, overall])


def test_without_categories_their_oracle_is_the_best_single_expert(table: pd.DataFrame) -> None:
    scores = CategoryOracleRouter().fit(table.drop(columns="category")).scores(TEXTS)
    np.testing.assert_array_equal(scores, BestSingleRouter().fit(table).scores(TEXTS))


@pytest.mark.parametrize("kind", [OracleRouter, CategoryOracleRouter])
def test_an_artefact_keeps_what_was_revealed_but_none_of_the_words(
    kind: type[OracleRouter | CategoryOracleRouter], table: pd.DataFrame, table_of: TableOf, tmp_path: Path
) -> None:
    router = kind().fit(table).reveal(table_of(["a revealed thing"], {"x": [0.125]}, category=["words"]))
    router.save(tmp_path)
    texts = [*TEXTS, "a revealed thing", "unheard of"]
    np.testing.assert_array_equal(load_router(tmp_path).scores(texts), router.scores(texts))
    written = (tmp_path / "router.json").read_text(encoding="utf-8")
    assert not any(text in written for text in texts)


def test_no_baseline_claims_to_learn() -> None:
    assert not any(kind.learns for kind in (RandomRouter, BestSingleRouter, OracleRouter, CategoryOracleRouter))


@pytest.mark.parametrize("kind", [OracleRouter, CategoryOracleRouter])
def test_questions_that_are_numbers_are_known_by_their_texts(kind: type[OracleRouter | CategoryOracleRouter]) -> None:
    rows = [
        {"query_id": 1, "query": 5, "category": "sums", "expert": "x", "score": 1},
        {"query_id": 2, "query": 6, "expert": "x", "score": 0},
    ]
    assert kind().fit(pd.DataFrame(rows)).scores(["5"]).tolist() == [[1.0]]
