from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest

from data.records import CounterpointError
from data.scores import pivot
from router import BestSingleRouter, KNNRouter
from router.base import BaseRouter
from router.crossfit import FOLDS, fold_of
from serving.combiner import examples_of, experts_in, scores_out_of_fold

EXPERTS = ["a", "b"]
Run = Callable[..., tuple[int, str, str]]


def table_of(n: int = 40, **right: float) -> pd.DataFrame:
    rng, chances = np.random.default_rng(0), right or {"a": 0.8, "b": 0.3}
    rows = []
    for number in range(n):
        for expert, chance in chances.items():
            good = bool(rng.random() < chance)
            said = f"The answer is {number + 2 if good else number + 9}."
            row = {"query_id": f"q{number}", "query": f"What is {number} + 2?", "expert": expert, "score": float(good)}
            rows.append(row | {"response": said})
    return pd.DataFrame(rows).assign(split="train", category="sums")


class Memory(BaseRouter):
    """Knows the score of every question that it saw, and says 0.5 of others."""

    kind = "memory"

    def __init__(self, *, sure: float = 1.0) -> None:
        self.sure = sure

    def fit(self, table: pd.DataFrame, tick: object = None) -> Self:
        queries, scores = pivot(table)
        self.experts_ = sorted(set(table["expert"]))
        self.known_ = dict(zip(queries["query"], self.sure * scores, strict=True))
        return self

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([self.known_.get(text, np.full(len(self.experts_), 0.5)) for text in texts])

    def _state(self) -> Any: ...

    def _restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None: ...


def quiet(*told: object) -> None: ...


def test_a_router_that_memorises_knows_nothing_of_what_it_scores() -> None:
    table = table_of()
    router = Memory().fit(table)
    assert set(router.scores(list(table["query"])).ravel()) == {0.0, 1.0}  # it would show
    queries, scores = scores_out_of_fold(router, table, EXPERTS, quiet)
    assert len(queries) == 40
    assert (scores == 0.5).all()


def test_every_question_is_scored_by_a_router_that_learned_from_all_other_folds() -> None:
    table = table_of()
    queries, scores = scores_out_of_fold(BestSingleRouter().fit(table), table, EXPERTS, quiet)
    fold, (_, quality) = fold_of(len(queries)), pivot(table, EXPERTS)
    for held in range(FOLDS):
        np.testing.assert_allclose(scores[fold == held], np.tile(quality[fold != held].mean(axis=0), (sum(fold == held), 1)))


def test_the_settings_of_the_router_and_the_order_of_the_experts_are_kept() -> None:
    table = table_of()
    router = KNNRouter(k=7, encoder="static").fit(table)
    _, scores = scores_out_of_fold(router, table, EXPERTS, quiet)
    _, turned = scores_out_of_fold(router, table, EXPERTS[::-1], quiet)
    _, others = scores_out_of_fold(KNNRouter(k=3, encoder="static").fit(table), table, EXPERTS, quiet)
    np.testing.assert_array_equal(turned, scores[:, ::-1])
    assert not np.array_equal(scores, others)


def test_an_expert_that_only_one_fold_knows_is_no_crash() -> None:
    table = table_of()
    rare = table[table["query_id"] == "q3"].head(1).assign(expert="c", score=1.0)
    table = pd.concat([table, rare], ignore_index=True)
    _, scores = scores_out_of_fold(BestSingleRouter().fit(table), table, [*EXPERTS, "c"], quiet)
    held = fold_of(40)[pivot(table)[0]["query_id"].tolist().index("q3")]
    assert scores[fold_of(40) == held, 2].tolist() == [0.0] * 8
    assert scores[fold_of(40) != held, 2].tolist() == [1.0] * 32


def test_too_few_questions_are_refused() -> None:
    with pytest.raises(CounterpointError, match="at least 10 questions to learn from, not 9"):
        scores_out_of_fold(BestSingleRouter(), table_of(9), EXPERTS, quiet)


def test_examples_hold_the_answers_best_expert_first_and_their_scores() -> None:
    table = table_of(10)
    table = table[~((table["query_id"] == "q4") & (table["expert"] == "b"))]
    queries, _ = pivot(table, EXPERTS)
    scores = np.array([[0.9, 0.1], [0.2, 0.3]] * 5)
    told: list[tuple[object, ...]] = []
    examples = examples_of(table, queries, EXPERTS, scores, None, lambda *one: told.append(one))
    assert [[answer.expert for answer in one.asked.answers] for one in examples] == [["a", "b"], ["b", "a"]] * 5
    by_cell = {(row["query_id"], row["expert"]): row for row in table.to_dict("records")}
    for query_id, query, one, row in zip(queries["query_id"], queries["query"], examples, scores, strict=True):
        assert one.asked.question == query
        assert one.asked.scores == dict(zip(EXPERTS, row, strict=True))
        for answer, right in zip(one.asked.answers, one.right, strict=True):
            cell = by_cell.get((query_id, answer.expert))
            assert (answer.text, right) == ((cell["response"], cell["score"]) if cell else ("", 0.0))
            assert (answer.error is None) is (cell is not None)
    assert told[-1] == ("reading answers", 10, 10)
    assert all(len(one.asked.answers) == 1 for one in examples_of(table, queries, EXPERTS, scores, 1, quiet))


def test_a_table_and_a_router_without_two_experts_in_common_are_refused() -> None:
    router = BestSingleRouter().fit(table_of(12, a=0.5, z=0.5))
    with pytest.raises(CounterpointError, match="the router knows a, z, the score table a, b: wanted two in common"):
        experts_in(table_of(), router)
    assert experts_in(table_of(), BestSingleRouter().fit(table_of(12, b=0.5, z=0.5, a=0.5))) == EXPERTS


def test_a_combiner_is_fitted_and_replayed_by_commands(run: Run, tmp_path: Path) -> None:
    scores, router, combiner = tmp_path / "scores.parquet", tmp_path / "router", tmp_path / "combiner"
    table = table_of(40, a=0.8, b=0.5, c=0.3)
    table.assign(split=np.where(table["query_id"].str[1:].astype(int) % 2, "train", "test")).to_parquet(scores)
    BestSingleRouter().fit(table).save(router)
    common = ("--scores", scores, "--router", router)
    code, _, err = run("combiner", "fit", *common, "--bag", 1, "-o", combiner)
    assert (code, err.count("Traceback")) == (0, 0)
    assert run("combiner", "eval", combiner, *common)[0] == 0
    assert run("replay", *common, "--aggregator", "learned", "--combiner", combiner)[0] == 0
    code, _, err = run("replay", *common, "--aggregator", "rank", "--combiner", combiner)
    assert (code, len(err.strip().splitlines())) == (2, 1), err
    assert "is a 'learned', not a 'rank'" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--kind", "soup"), "no combiner is called 'soup'; there are learned, rank, pool"),
        (("--exclude", "b"), "wanted two in common"),
    ],
)
def test_a_combiner_that_cannot_be_fitted_is_one_line(arguments: tuple[str, ...], sentence: str, run: Run, tmp_path: Path) -> None:
    table_of().to_parquet(tmp_path / "scores.parquet")
    BestSingleRouter().fit(table_of()).save(tmp_path / "router")
    common = ("--scores", tmp_path / "scores.parquet", "--router", tmp_path / "router", "-o", tmp_path)
    code, _, err = run("combiner", "fit", *common, *arguments)
    assert (code, len(err.strip().splitlines())) == (2, 1), err
    assert sentence in err
