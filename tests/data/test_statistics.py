import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.statistics import Interval, bootstrap, paired


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    samples = rng.random((300, 80)) < 0.6
    intervals = [bootstrap(sample, seed=at, resamples=400) for at, sample in enumerate(samples)]
    covered = np.mean([interval.low <= 0.6 <= interval.high for interval in intervals])
    assert 0.91 <= covered <= 0.98


def test_the_width_is_that_of_the_normal_interval_where_there_are_many_questions() -> None:
    values = np.r_[np.ones(300), np.zeros(700)]
    interval = bootstrap(values)
    # the standard error of a share of 0.3 in 1000 is the square root of 0.3 * 0.7 / 1000
    half = 1.96 * (0.3 * 0.7 / 1000) ** 0.5
    assert interval.mean == pytest.approx(0.3)
    np.testing.assert_allclose([interval.low, interval.high], [0.3 - half, 0.3 + half], atol=0.003)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_ends_are_in_order_and_within_the_values(values: list[float]) -> None:
    interval = bootstrap(np.array(values), resamples=50)
    assert min(values) - 1e-12 <= interval.low <= interval.high <= max(values) + 1e-12
    assert interval == bootstrap(np.array(values), resamples=50)


def test_another_seed_resamples_otherwise() -> None:
    values = np.linspace(0, 1, 17)
    assert bootstrap(values, seed=0) != bootstrap(values, seed=1)
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1)


def test_right_and_wrong_may_come_as_truth_values() -> None:
    assert bootstrap(np.array([True, True])) == Interval(1.0, 1.0, 1.0)


@pytest.mark.parametrize("values", [np.zeros(0), np.zeros((2, 2)), np.array(1.0)])
def test_anything_but_a_row_of_numbers_is_refused_with_its_shape(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"values must have shape \(n,\) with n > 0, not ") as caught:
        bootstrap(values)
    assert str(values.shape) in str(caught.value)


def test_a_difference_that_the_same_questions_bear_out_is_no_tie() -> None:
    easy = np.arange(200) % 2
    better = easy.copy()
    better[:20] = 1
    # 10 questions more, of 200, and none less: paired, that is clear; the two means alone would not tell
    assert not paired(better, easy).tie
    assert paired(better, easy).mean == pytest.approx(0.05)
    assert bootstrap(easy).high > bootstrap(better).low


def test_systems_that_win_and_lose_alike_tie() -> None:
    assert paired(np.array([1, 0] * 30), np.array([0, 1] * 30)).tie
    assert paired(np.ones(5), np.ones(5)) == Interval(0.0, 0.0, 0.0)


def test_turning_the_comparison_round_turns_the_sign() -> None:
    a, b = np.array([1, 1, 0, 1, 0.5]), np.array([0, 1, 0, 0, 1])
    there, back = paired(a, b), paired(b, a)
    assert (back.mean, back.tie) == (-there.mean, there.tie)


def test_systems_with_different_questions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"both systems must have the same questions, not \(3,\) and \(2,\)"):
        paired(np.ones(3), np.ones(2))
