import pytest

from benchmarks.rounds import Aim, orders, ratio
from data.statistics import Interval


def test_a_ratio_is_that_of_the_means_and_not_the_mean_of_the_ratios() -> None:
    assert ratio([1.0, 9.0], [1.0, 3.0]).mean == pytest.approx(10 / 4)


def test_what_slows_both_in_the_same_round_leaves_the_ratio_alone() -> None:
    noisy = [100.0, 40.0, 250.0, 80.0, 10.0]
    of = ratio([2 * value for value in noisy], noisy)
    assert (of.low, of.high) == (pytest.approx(2.0), pytest.approx(2.0))


def test_what_slows_one_of_them_widens_the_interval() -> None:
    of = ratio([200.0, 100.0, 220.0, 90.0, 210.0], [100.0] * 5)
    assert of.low < 1.4 < of.mean < 1.9 < of.high


def test_figures_of_different_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="the same rounds"):
        ratio([1.0, 2.0], [1.0])


def test_everybody_has_one_turn_in_each_round_and_the_seed_sets_the_order() -> None:
    some = orders("abc", 20, seed=1)
    assert all(sorted(order) == ["a", "b", "c"] for order in some)
    assert some == orders("abc", 20, seed=1) != orders("abc", 20, seed=2)
    assert {order[0] for order in some} == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("interval", "at_least", "verdict"),
    [
        ((2.0, 1.6, 2.4), True, "met"),
        ((1.6, 1.2, 2.0), True, "met, within noise"),
        ((1.4, 1.2, 1.6), True, "missed"),
        ((1.0, 0.8, 1.2), False, "met"),
        ((1.4, 1.2, 1.6), False, "met, within noise"),
        ((1.6, 1.4, 1.8), False, "missed"),
    ],
)
def test_an_aim_is_met_by_the_mean_and_surely_only_by_the_whole_interval(
    interval: tuple[float, float, float], at_least: bool, verdict: str
) -> None:
    assert Aim("x", 1.5, at_least).verdict(Interval(*interval)) == verdict
