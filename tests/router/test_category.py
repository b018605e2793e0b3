import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router import RouterError, load_router
from router.category import CategoryRouter, assign

TableOf = Callable[..., pd.DataFrame]

TEXTS = ["a", "a d", "a", "b", "b d", "b", "b"]
KINDS = ["sums"] * 3 + ["words"] * 4
SCORES = {"x": [1, 1, 0.5, 0, 0, 0, 1], "y": [0, 0, 0, 1, 1, 0.5, 1], "z": [0.5] * 7}

# three kinds of questions and four experts: one for each kind, and one for all of them
QUALITY = np.array([[0.9, 0.2, 0.3, 0.6], [0.1, 0.8, 0.3, 0.6], [0.2, 0.3, 0.95, 0.5]])
SHARE = np.array([0.5, 0.3, 0.2])
SIZES = np.array([7.0, 13.0, 3.0, 8.0])


def best(quality: np.ndarray, share: np.ndarray, sizes: np.ndarray, budget: float | None, active: float | None) -> float | None:
    """The highest expected score within the budgets, by trying everything; None where nothing fits."""
    reached = [
        sum(share[kind] * quality[kind, expert] for kind, expert in enumerate(chosen))
        for chosen in itertools.product(range(len(sizes)), repeat=len(share))
        if (budget is None or sum(sizes[list(set(chosen))]) <= budget + 1e-6)
        and (active is None or share @ sizes[list(chosen)] <= active + 1e-6)
    ]
    return max(reached) if reached else None


def every_budget(sizes: np.ndarray) -> list[float]:
    """Where what can be bought changes: the sum of each set of experts, and just below it."""
    sums = {sum(chosen) for count in range(1, len(sizes) + 1) for chosen in itertools.combinations(sizes, count)}
    return sorted(sums | {total - 0.01 for total in sums})


@pytest.mark.parametrize("budget", [None, *every_budget(SIZES)])
@pytest.mark.parametrize("active", [None, 3.0, 4.7, 6.05, 8.0, 9.999])
def test_the_assignment_is_the_best_of_all_within_every_budget(budget: float | None, active: float | None) -> None:
    wanted = best(QUALITY, SHARE, SIZES, budget, active)
    if wanted is None:
        with pytest.raises(RouterError, match=r"no experts fit a budget of .*: the smallest has 3"):
            assign(QUALITY, SHARE, SIZES, budget, active)
        return
    chosen = assign(QUALITY, SHARE, SIZES, budget, active)
    assert SHARE @ QUALITY[range(3), chosen] == pytest.approx(wanted, abs=1e-9)
    assert budget is None or SIZES[np.unique(chosen)].sum() <= budget
    assert active is None or SHARE @ SIZES[chosen] <= active + 1e-9


@given(st.integers(0, 10_000), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_assignment_is_the_best_of_all_for_any_pool(seed: int, limited: bool, averaged: bool) -> None:
    rng = np.random.default_rng(seed)
    kinds, experts = rng.integers(1, 5, 2)
    quality, share, sizes = rng.random((kinds, experts)), rng.dirichlet(np.ones(kinds)), rng.choice([1.0, 3.0, 7.0, 8.0, 70.0], experts)
    budget = float(rng.uniform(sizes.min(), sizes.sum())) if limited else None
    active = float(rng.uniform(sizes.min() + 0.01, sizes.max() + 0.02)) if averaged else None
    wanted = best(quality, share, sizes, budget, active)
    assert wanted is not None or averaged
    if wanted is not None:
        chosen = assign(quality, share, sizes, budget, active)
        assert share @ quality[range(kinds), chosen] == pytest.approx(wanted, abs=1e-9)


def test_more_budget_never_lowers_the_expected_score() -> None:
    reached = [SHARE @ QUALITY[range(3), assign(QUALITY, SHARE, SIZES, budget, None)] for budget in every_budget(SIZES)[1:]]
    assert reached == sorted(reached)
    assert reached[-1] == pytest.approx(SHARE @ QUALITY.max(axis=1))


def test_each_expert_scores_by_its_means_on_the_categories_by_their_probability(axes: str, table_of: TableOf) -> None:
    router = CategoryRouter(prior=2.0, encoder=axes).fit(table_of(TEXTS, SCORES, category=KINDS))
    means = np.array([4.0 - 0.5, 3.5, 3.5]) / 7
    quality = [(np.array([2.5, 0.0, 1.5]) + 2 * means) / 5, (np.array([1.0, 3.5, 2.0]) + 2 * means) / 6]
    sums, words = router.posterior(router.vectors(["a"])[0])
    assert router.categories_ == ["sums", "words"]
    assert sums > 0.8
    assert sums + words == pytest.approx(1)
    np.testing.assert_allclose(router.scores(["a"])[0], sums * quality[0] + words * quality[1])
    hard = CategoryRouter(prior=2.0, soft=False, encoder=axes).fit(table_of(TEXTS, SCORES, category=KINDS))
    np.testing.assert_allclose(hard.scores(["a", "b"]), quality)


@pytest.mark.parametrize("kinds", [2, 3])
def test_categories_are_as_probable_as_scikit_learn_finds_them(kinds: int, axes: str, table_of: TableOf) -> None:
    from sklearn.linear_model import LogisticRegression

    names = [f"kind {at % kinds}" for at in range(7)]
    router = CategoryRouter(strength=3.0, encoder=axes).fit(table_of(TEXTS, SCORES, category=names))
    vectors = router.vectors(TEXTS)
    wanted = LogisticRegression(C=3.0, max_iter=1000).fit(vectors, names).predict_proba(vectors)
    np.testing.assert_allclose([router.posterior(vector) for vector in vectors], wanted, atol=1e-6)


def test_a_question_of_no_sure_category_goes_by_the_overall_means(axes: str, table_of: TableOf) -> None:
    table = table_of(TEXTS[:6], {name: cells[:6] for name, cells in SCORES.items()}, category=KINDS[:6])
    router = CategoryRouter(floor=0.7, encoder=axes).fit(table)
    assert max(router.posterior(router.vectors(["c"])[0])) < 0.7 < max(router.posterior(router.vectors(["a"])[0]))
    np.testing.assert_allclose(router.scores(["c"]), [[2.5 / 6, 2.5 / 6, 0.5]])
    assert router.scores(["a"])[0].tolist() != router.scores(["c"])[0].tolist()


def test_one_category_for_all_is_the_overall_mean(axes: str, table_of: TableOf) -> None:
    router = CategoryRouter(encoder=axes).fit(table_of(TEXTS, SCORES, category=["all"] * 7))
    np.testing.assert_allclose(router.scores(["a", "b"]), [[0.5, 0.5, 0.5]] * 2)
    assert router.reasons("a") == ("all 1.00: best is x",)


def test_questions_without_a_category_count_in_the_means_only(axes: str, table_of: TableOf) -> None:
    table = table_of([*TEXTS, "c"], {name: [*cells, 1.0] for name, cells in SCORES.items()}, category=[*KINDS, None])
    router = CategoryRouter(prior=0.0, soft=False, floor=0.7, encoder=axes).fit(table)
    np.testing.assert_allclose(router.scores(["a"]), [[2.5 / 3, 0, 0.5]], atol=1e-6)
    np.testing.assert_allclose(CategoryRouter(floor=1.0, encoder=axes).fit(table).scores(["a"]), [[4.5 / 8, 4.5 / 8, 4.5 / 8]], atol=1e-6)


def test_a_new_expert_changes_nothing_of_the_classifier(axes: str, table_of: TableOf) -> None:
    before = CategoryRouter(encoder=axes).fit(table_of(TEXTS, SCORES, category=KINDS))
    swapped = {"x": SCORES["x"], "y": SCORES["y"], "new": [1, 0, 1, 0, 1, 0, 1]}
    after = CategoryRouter(encoder=axes).fit(table_of(TEXTS, swapped, category=KINDS))
    np.testing.assert_array_equal(before.coef_, after.coef_)
    np.testing.assert_array_equal(before.intercept_, after.intercept_)
    assert not np.array_equal(before.quality_, after.quality_)


def toy(table_of: TableOf) -> pd.DataFrame:
    """Questions whose means are those of `QUALITY`, three kinds by their shares."""
    kinds = [0] * 5 + [1] * 3 + [2] * 2
    return table_of(
        [f"{'abc'[kind]} " * (at + 1) for at, kind in enumerate(kinds)],
        {name: QUALITY[kinds, at].tolist() for at, name in enumerate("wxyz")},
        category=[f"kind {kind}" for kind in kinds],
    )


@pytest.mark.parametrize("budget", every_budget(SIZES)[1:])
def test_within_a_budget_each_category_goes_to_its_assigned_expert(budget: float, axes: str, table_of: TableOf) -> None:
    sizes = dict(zip("wxyz", SIZES.tolist(), strict=True))
    router = CategoryRouter(sizes=sizes, budget=budget, prior=0.0, encoder=axes).fit(toy(table_of))
    chosen = assign(QUALITY, SHARE, SIZES, budget, None)
    scores = router.scores(["a", "b", "c"])
    assert scores.argmax(axis=1).tolist() == chosen.tolist() == router.assigned_.tolist()
    np.testing.assert_allclose(scores[range(3), chosen], QUALITY[range(3), chosen], atol=1e-9)
    for text in ("a b", "b c c", "a b c", "d", ""):
        assert int(router.scores([text])[0].argmax()) in set(chosen.tolist())


def test_below_the_floor_a_budget_still_holds(axes: str, table_of: TableOf) -> None:
    sizes = dict(zip("wxyz", SIZES.tolist(), strict=True))
    router = CategoryRouter(sizes=sizes, budget=3.0, floor=1.0, prior=0.0, encoder=axes).fit(toy(table_of))
    assert router.scores(["a", "d"]).argmax(axis=1).tolist() == [2, 2]


def test_a_budget_without_the_size_of_an_expert_names_it(axes: str, table_of: TableOf) -> None:
    for setting in ({"budget": 9.0}, {"active": 9.0}):
        with pytest.raises(RouterError, match="a budget needs the size of every expert: there is none for 'y'"):
            CategoryRouter(sizes={"x": 1.0, "z": 2.0}, encoder=axes, **setting).fit(table_of(TEXTS, SCORES, category=KINDS))  # type: ignore[arg-type]


def test_a_budget_below_every_expert_names_the_smallest(axes: str, table_of: TableOf) -> None:
    with pytest.raises(RouterError, match=r"no experts fit a budget of 6.5 and an average of None: the smallest has 7"):
        CategoryRouter(sizes={"x": 7e0, "y": 8e0, "z": 70.0}, budget=6.5, encoder=axes).fit(table_of(TEXTS, SCORES, category=KINDS))


@pytest.mark.parametrize("category", [None, [None] * 7])
def test_a_table_without_categories_is_refused_with_what_to_use(axes: str, table_of: TableOf, category: list[None] | None) -> None:
    columns = {} if category is None else {"category": category}
    with pytest.raises(RouterError, match="wants a score table with a column 'category'; without one, use cluster or stack"):
        CategoryRouter(encoder=axes).fit(table_of(TEXTS, SCORES, **columns))


def test_reasons_name_the_likeliest_categories_and_who_is_best(axes: str, table_of: TableOf) -> None:
    router = CategoryRouter(prior=0.0, encoder=axes).fit(table_of(TEXTS, SCORES, category=KINDS))
    first, second = router.reasons("a b b b")
    words = router.posterior(router.vectors(["a b b b"])[0])[1]
    assert (first, second) == (f"words {words:.2f}: best is y", f"sums {1 - words:.2f}: best is x")


def test_settings_and_assignment_come_back_with_the_artefact(axes: str, table_of: TableOf, tmp_path: Path) -> None:
    given = {"soft": False, "floor": 0.3, "prior": 1.0, "strength": 2.0, "budget": 9.0, "active": 8.0, "encoder": axes}
    router = CategoryRouter(sizes={"x": 7, "y": 8, "z": 1}, **given).fit(table_of(TEXTS, SCORES, category=KINDS))  # type: ignore[arg-type]
    router.save(tmp_path)
    loaded = load_router(tmp_path)
    assert isinstance(loaded, CategoryRouter)
    assert loaded.settings() == {"sizes": {"x": 7, "y": 8, "z": 1}} | given
    assert loaded.assigned_.tolist() == router.assigned_.tolist()
    np.testing.assert_array_equal(loaded.scores(["a", "b", "c"]), router.scores(["a", "b", "c"]))


@pytest.mark.parametrize("setting", [{"prior": -1.0}, {"strength": 0.0}, {"floor": 1.5}, {"floor": -0.1}])
def test_a_setting_out_of_range_is_shown(score_table: pd.DataFrame, setting: dict[str, float]) -> None:
    with pytest.raises(RouterError, match="the category router wants a prior of at least 0, a strength above 0 and a floor from") as caught:
        CategoryRouter(**setting).fit(score_table)  # type: ignore[arg-type]
    ((name, value),) = setting.items()
    assert f"{name}={value}" in str(caught.value)


def test_an_expert_that_a_category_does_not_know_gets_its_overall_mean(axes: str, table_of: TableOf) -> None:
    holes = {"x": SCORES["x"], "y": [None] * 3 + [1, 1, 0.5, 1]}
    router = CategoryRouter(prior=0.0, soft=False, encoder=axes).fit(table_of(TEXTS, holes, category=KINDS))
    assert router.scores(["a"])[0, 1] == pytest.approx(3.5 / 4)


def test_an_expert_outside_the_budget_is_below_one_that_is_always_wrong(axes: str, table_of: TableOf) -> None:
    table = table_of(TEXTS, {"x": SCORES["x"], "y": [0.0] * 7}, category=KINDS)
    router = CategoryRouter(sizes={"x": 70, "y": 7}, budget=7, encoder=axes).fit(table)
    assert router.scores(["a"])[0].argmax() == 1


def test_a_table_with_few_categories_is_fitted(axes: str, table_of: TableOf) -> None:
    table = table_of(["a", "b"] * 10, {"x": [1.0, 0.0] * 10}, category=["sums", *[None] * 19])
    CategoryRouter(encoder=axes).fit(table)


def test_an_expert_of_few_answers_may_be_the_only_one_within_the_budget(axes: str, table_of: TableOf) -> None:
    table = table_of(["a", "b"] * 10, {"x": [1.0, 0.0] * 10, "y": [1.0, *[None] * 19]}, category=["sums", "words"] * 10)
    CategoryRouter(sizes={"x": 70, "y": 7}, budget=7, encoder=axes).fit(table)


def test_sizes_may_be_counted_in_single_parameters() -> None:
    share = np.array([0.00280609, 0.31785396, 0.66440289, 0.01493707])  # sums to a hair above 1
    assert assign(np.ones((4, 1)), share, np.array([7e9]), None, 7e9).tolist() == [0, 0, 0, 0]
    share = np.array([0.1, 0.2, 0.3, 0.4])
    assert assign(np.ones((4, 1)), share, np.array([7e10]), None, 7e10).tolist() == [0, 0, 0, 0]
