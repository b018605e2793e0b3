import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from router.calibration import Calibration

slopes, offsets = st.floats(0.05, 5), st.floats(-5, 5)
NAN = math.nan


def logit(p: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(p / (1 - p)))


def drawn(slope: float, offset: float, n: int = 20_000, low: float = 0.05, high: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Predictions, and answers that came right as a calibration of them says, shape (n / 4, 4)."""
    rng = np.random.default_rng(0)
    p = rng.uniform(low, high, n)
    right = rng.random(n) < 1 / (1 + np.exp(-(slope * logit(p) + offset)))
    return p.reshape(-1, 4), right.astype(float).reshape(-1, 4)


def test_by_hand() -> None:
    # logit(0.2) = -ln 4; doubled and raised by ln 4 it is -ln 4 again; that of 0.5 is 0 and becomes ln 4
    np.testing.assert_allclose(Calibration(2.0, math.log(4))(np.array([0.2, 0.5])), [0.2, 0.8])


def test_what_needs_no_correction_is_left_as_it_is() -> None:
    p = np.array([[0.0, 0.003, 0.3], [0.5, 0.999, 1.0]])
    np.testing.assert_allclose(Calibration()(p), p, atol=1e-6)


@given(slopes, offsets, st.lists(st.floats(-0.5, 1.5), min_size=2, max_size=8))
def test_the_order_of_experts_never_changes(slope: float, offset: float, predicted: list[float]) -> None:
    p = np.array(predicted)
    calibrated = Calibration(slope, offset)(p)
    assert ((calibrated >= 0) & (calibrated <= 1)).all()
    assert (np.diff(calibrated[np.argsort(p, kind="stable")]) >= 0).all()


@given(slopes, offsets, st.integers(0, 1000), st.integers(0, 1000))
def test_what_differed_by_a_thousandth_still_differs(slope: float, offset: float, one: int, other: int) -> None:
    a, b = Calibration(slope, offset)(np.array([one, other]) / 1000)
    assert (a < b) == (one < other)


@given(slopes, offsets)
def test_predictions_near_0_and_1_are_drawn_no_further_than_those_at_the_edge(slope: float, offset: float) -> None:
    edge, beyond = Calibration(slope, offset)(np.array([0.01, 0.0]))
    assert 0.8 * edge < beyond < edge or slope > 1  # not to 0: one that was never right may yet be


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_an_array_of_any_shape_is_calibrated_number_by_number(seed: int, dims: int) -> None:
    p = np.random.default_rng(seed).random((2,) * dims)
    curve = Calibration(1.5, -0.5)
    one_by_one = np.array([curve(np.array(number)) for number in p.ravel()]).reshape(p.shape)
    np.testing.assert_array_equal(curve(p), one_by_one)


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (2.0, 0.5), (0.5, -1.0), (1.5, 1.0)])
def test_a_planted_slope_and_offset_are_found(slope: float, offset: float) -> None:
    found = Calibration.fit(*drawn(slope, offset))
    assert found.slope == pytest.approx(slope, abs=0.08)
    assert found.offset == pytest.approx(offset, abs=0.08)


def test_what_is_found_is_least_in_log_loss_with_a_light_prior_on_no_correction() -> None:
    p, right = drawn(2.0, 0.5, 400)

    def loss(w: np.ndarray) -> float:
        z = w[0] * (logit(p) + 0.0) + w[1]
        return float((np.logaddexp(0, z) - right * z).sum() + 5 * (w[0] - 1) ** 2 + w[1] ** 2 / 2)

    best = minimize(loss, np.array([1.0, 0.0])).x
    found = Calibration.fit(p, right)
    np.testing.assert_allclose([found.slope, found.offset], best, atol=1e-4)


def test_graded_scores_count_as_part_right_and_part_wrong() -> None:
    p, right = drawn(1.0, 1.0, 4000)
    graded = 1 / (1 + np.exp(-(logit(p) + 1)))  # each answer as right as answers like it were on average
    found = Calibration.fit(p, graded)
    assert (found.slope, found.offset) == (pytest.approx(1, abs=0.05), pytest.approx(1, abs=0.05))
    assert Calibration.fit(p, right).offset == pytest.approx(1, abs=0.15)


def test_a_predicted_seven_of_ten_is_right_seven_times_of_ten() -> None:
    p, right = drawn(0.4, -0.7)
    calibrated = Calibration.fit(p[::2], right[::2])(p[1::2])
    for low in np.arange(0.2, 0.6, 0.1):
        there = (calibrated >= low) & (calibrated < low + 0.1)
        assert right[1::2][there].mean() == pytest.approx(calibrated[there].mean(), abs=0.04)


@pytest.mark.parametrize(("cells", "wanted"), [(0, True), (96, True), (100, False)])
def test_below_100_cells_nothing_is_changed(cells: int, wanted: bool) -> None:
    p, right = drawn(2.0, 1.0, 400)
    assert (Calibration.fit(p[: cells // 4], right[: cells // 4]) == Calibration()) is wanted


def test_cells_that_are_missing_or_were_not_predicted_do_not_count() -> None:
    p, right = drawn(2.0, 1.0, 400)
    found = Calibration.fit(p[:50], right[:50])
    holes, unknown = p.copy(), right.copy()
    holes[50:75], unknown[75:] = NAN, NAN
    assert Calibration.fit(holes, unknown) == found
    unknown[24:] = NAN
    assert Calibration.fit(holes, unknown) == Calibration()


def test_predictions_that_are_all_alike_are_left_as_they_are() -> None:
    assert Calibration.fit(np.full((100, 2), 0.5), np.ones((100, 2))) == Calibration()


def test_predictions_that_say_the_opposite_keep_their_order_all_the_same() -> None:
    p, right = drawn(-2.0, 0.0, 4000)
    found = Calibration.fit(p, right)
    assert 0 < found.slope < 0.1
    assert found(np.array(0.5)) == pytest.approx(right.mean(), abs=0.02)


def test_answers_that_were_all_right_give_a_curve_of_finite_numbers() -> None:
    p, _ = drawn(1.0, 0.0, 4000)
    for score in (0.0, 1.0):
        found = Calibration.fit(p, np.full(p.shape, score))
        assert math.isfinite(found.slope)
        assert found(np.array(0.5)) == pytest.approx(score, abs=0.05)


@pytest.mark.parametrize(("low", "high", "offset"), [(0.02, 0.2, 5.0), (0.05, 0.3, 4.0), (0.01, 0.1, 3.5), (0.8, 0.98, -5.0)])
def test_a_planted_slope_is_found_where_predictions_are_far_off(low: float, high: float, offset: float) -> None:
    assert Calibration.fit(*drawn(1.0, offset, low=low, high=high)).slope == pytest.approx(1, abs=0.15)


def test_experts_keep_their_order_on_the_steepest_curve_that_is_found() -> None:
    right = np.random.default_rng(0).integers(0, 2, (5000, 4)).astype(float)
    a, b = Calibration.fit(0.4 + 0.2 * right, right)(np.array([0.95, 0.99]))
    assert a < b
