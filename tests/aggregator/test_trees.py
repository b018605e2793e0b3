import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier

from aggregator.trees import ARRAYS, Trees

SETTINGS = {"trees": 12, "leaves": 6, "smallest": 3, "ridge": 1.0, "rate": 0.1}


def lessons(seed: int, n: int = 120, features: int = 5, levels: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Rows with few or many distinct values, the first feature constant, and labels that follow the second."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, levels, (n, features)) / levels
    rows[:, 0] = 1.5
    labels = (rows[:, 1] + 0.3 * rng.standard_normal(n) > 0.5).astype(int)
    labels[:2] = 0, 1
    return rows, labels


def theirs(rows: np.ndarray, labels: np.ndarray, seed: int = 0) -> HistGradientBoostingClassifier:
    names = {"max_iter": "trees", "max_leaf_nodes": "leaves", "min_samples_leaf": "smallest", "l2_regularization": "ridge"}
    given_ = {name: SETTINGS[own] for name, own in names.items()} | {"learning_rate": SETTINGS["rate"]}
    return HistGradientBoostingClassifier(**given_, early_stopping=False, random_state=seed).fit(rows, labels)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 3, 10, 1000]), st.integers(20, 200), st.integers(2, 6))
def test_they_score_as_scikit_learn_does(seed: int, levels: int, n: int, features: int) -> None:
    rows, labels = lessons(seed, n, features, levels)
    model, trees = theirs(rows, labels), Trees.fit(rows, labels, **SETTINGS)  # type: ignore[arg-type]
    edges = np.concatenate([np.unique(trees.threshold), np.nextafter(trees.threshold, np.inf)])  # a row may lie on a threshold
    fresh = np.random.default_rng(seed + 1).choice(np.concatenate([edges[np.isfinite(edges)], rows.ravel(), [1e9, -1e9]]), (300, features))
    np.testing.assert_allclose(trees(fresh), model.decision_function(fresh), rtol=1e-12, atol=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_a_row_scores_alone_as_among_others_to_the_last_bit(seed: int) -> None:
    rows, labels = lessons(seed)
    trees = Trees.fit(rows, labels, **SETTINGS)  # type: ignore[arg-type]
    together = trees(rows)
    assert [float(trees(row[None])[0]) for row in rows] == together.tolist()
    assert trees(rows[::-1]).tolist() == together[::-1].tolist()


def test_where_no_feature_tells_anything_every_tree_is_one_leaf() -> None:
    rows, labels = np.ones((60, 3)), np.array([0, 1, 1] * 20)
    trees = Trees.fit(rows, labels, **SETTINGS)  # type: ignore[arg-type]
    assert (trees.feature == -1).all()
    np.testing.assert_allclose(trees(rows), theirs(rows, labels).decision_function(rows))
    np.testing.assert_allclose(1 / (1 + np.exp(-trees(rows[:1]))), 2 / 3)


def test_weights_of_rows_count() -> None:
    rows, labels = np.ones((60, 1)), np.array([0, 1, 1] * 20)
    trees = Trees.fit(rows, labels, np.where(labels == 0, 2.0, 1.0), **SETTINGS)  # type: ignore[arg-type]
    np.testing.assert_allclose(trees(rows[:1]), 0, atol=1e-9)


def test_no_rows_have_no_scores() -> None:
    rows, labels = lessons(0)
    assert Trees.fit(rows, labels, **SETTINGS)(rows[:0]).shape == (0,)  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_trees_and_another_one_others() -> None:
    rows, labels = lessons(0, 400)
    some = {**SETTINGS, "max_features": 0.4}
    first, again, other = (Trees.fit(rows, labels, seed=seed, **some) for seed in (0, 0, 1))  # type: ignore[arg-type]
    assert all(np.array_equal(getattr(first, name), getattr(again, name)) for name in ARRAYS)
    assert not np.array_equal(first(rows), other(rows))


def test_arrays_come_back_under_their_prefix() -> None:
    rows, labels = lessons(3)
    trees = Trees.fit(rows, labels, **SETTINGS)  # type: ignore[arg-type]
    arrays = trees.arrays("a") | {f"b.{name}": np.zeros(1) for name in ARRAYS}
    assert Trees.of(arrays, "a", trees.start)(rows).tolist() == trees(rows).tolist()


def test_trees_that_this_scikit_learn_keeps_otherwise_are_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HistGradientBoostingClassifier, "decision_function", lambda self, rows: np.zeros(len(rows)))
    with pytest.raises(RuntimeError, match="another form than the one that was pinned"):
        Trees.fit(*lessons(0), **SETTINGS)  # type: ignore[arg-type]
