from typing import Any

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.linear_model import LogisticRegression

from router import gradient, mf, mlp
from router.gradient import Forward, Weights, minimise, sigmoid, start_logits

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))
Y = (rng.random((60, 2)) < 1 / (1 + np.exp(-(X[:, :2] * 1.5 + 0.5)))).astype(float)


def linear(w: Weights, x: np.ndarray) -> tuple[np.ndarray, Any]:
    return x @ w["a"] + w["bias"], lambda g: {"a": x.T @ g, "bias": g.sum(axis=0)}


def start(experts: int) -> Weights:
    return {"a": np.zeros((3, experts)), "bias": np.zeros(experts)}


@pytest.mark.parametrize("decay", [0.001, 0.1])
def test_a_linear_network_is_the_logistic_regression_of_scikit_learn(decay: float) -> None:
    found = minimise(start(2), linear, X, Y, decay, 1000)
    for expert in range(2):
        # its loss is C times the sum of 60 cells plus half the squared weights; ours is the mean of 120 cells
        wanted = LogisticRegression(C=1 / (120 * decay), tol=1e-10, max_iter=1000).fit(X, Y[:, expert])
        np.testing.assert_allclose(found["a"][:, expert], wanted.coef_[0], atol=2e-3)
        np.testing.assert_allclose(found["bias"][expert], wanted.intercept_[0], atol=2e-3)


def test_missing_cells_do_not_count() -> None:
    holes = Y.copy()
    holes[:, 1] = np.nan
    holes[::3, 0] = np.nan
    found = minimise(start(2), linear, X, holes, 0.01, 1000)
    rows = np.arange(60) % 3 > 0
    wanted = LogisticRegression(C=1 / (40 * 0.01), tol=1e-10, max_iter=1000).fit(X[rows], Y[rows, 0])
    np.testing.assert_allclose(found["a"][:, 0], wanted.coef_[0], atol=2e-3)
    np.testing.assert_array_equal(found["a"][:, 1], 0)
    assert found["bias"][1] == 0


def test_graded_scores_count_as_part_right_and_part_wrong() -> None:
    found = minimise(start(1), linear, np.zeros((4, 3)), np.array([[1.0], [0.75], [0.25], [1.0]]), 0.0, 100)
    assert sigmoid(found["bias"])[0] == pytest.approx(0.75, abs=1e-4)


def test_weights_called_bias_are_not_penalised() -> None:
    right = np.array([[1.0], [1.0], [1.0], [0.0]])
    free = minimise(start(1), linear, np.ones((4, 3)), right, 1e6, 1000)
    assert np.abs(free["a"]).max() < 1e-3
    assert sigmoid(free["bias"])[0] == pytest.approx(0.75, abs=1e-3)


def test_no_more_steps_are_made_than_allowed() -> None:
    one, many = (minimise(start(2), linear, X, Y, 0.001, steps) for steps in (1, 100))
    assert not np.allclose(one["a"], many["a"], atol=0.01)


def test_what_came_in_is_not_written_to() -> None:
    first, scores = start(2), Y.copy()
    minimise(first, linear, X, scores, 0.001, 10)
    assert not first["a"].any()
    np.testing.assert_array_equal(scores, Y)


@pytest.mark.parametrize("module", [mlp, mf], ids=["mlp", "mf"])
def test_the_gradient_of_a_network_is_that_of_finite_differences(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network that the router builds is taken where it goes to be fitted."""
    caught: list[tuple[Weights, Forward]] = []

    def catch(start: Weights, forward: Forward, *rest: Any) -> Weights:
        caught.append((start, forward))
        return gradient.minimise(start, forward, *rest)

    monkeypatch.setattr(module, "minimise", catch)
    router = module.MLPRouter(hidden=4) if module is mlp else module.MFRouter(rank=2)
    router._fit(X, Y, None)
    (weights, forward), names = caught[0], list(caught[0][0])
    generator = np.random.default_rng(1)
    weights = {name: array + 0.3 * generator.normal(size=array.shape) for name, array in weights.items()}
    pull = generator.normal(size=Y.shape)  # the derivative of the sum of logits times this
    _, backward = forward(weights, X)
    for name in names:
        cut = np.array(weights[name].shape)

        def total(flat: np.ndarray, name: str = name, cut: np.ndarray = cut) -> float:
            return float((forward(weights | {name: flat.reshape(cut)}, X)[0] * pull).sum())

        wanted = approx_fprime(weights[name].ravel(), total, 1e-6)
        np.testing.assert_allclose(backward(pull)[name].ravel(), wanted, rtol=1e-3, atol=1e-3, err_msg=name)


def test_networks_start_at_the_log_odds_of_each_experts_mean() -> None:
    scores = np.array([[1.0, 0.0, 1.0], [0.5, 0.0, np.nan], [0.75, 0.0, 1.0]])
    # means 0.75, 0 and 1; the last two are taken as 0.01 and 0.99
    np.testing.assert_allclose(start_logits(scores), [np.log(3), -np.log(99), np.log(99)])


def test_log_odds_of_any_size_become_probabilities() -> None:
    odds = sigmoid(np.array([-1e300, -np.log(3), 0.0, np.log(3), 1e300]))
    np.testing.assert_allclose(odds, [0, 0.25, 0.5, 0.75, 1], atol=1e-12)
