import os
from itertools import pairwise, permutations
from pathlib import Path
from time import sleep

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data.scores import pivot, read_scores, rows_of
from data.statistics import Interval
from router.metrics import (
    aiq,
    apgr,
    apgr_versus,
    calibration_error,
    chosen,
    cost_quality_curve,
    cpt,
    hit_rate,
    mean_cost,
    oracle,
    pareto,
    regret,
    right,
    route_latency_ms,
    strong_of,
)

FOLDER = os.environ.get("COUNTERPOINT_BENCH_DATA", "")
PAIR = ["gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"]
NAN = np.nan

# a tie, a gap in the best prediction's cell, a question of no known cell, one of a single known cell
PREDICTED = np.array([[0.5, 0.5, 0.1], [0.1, 0.9, 0.2], [0.3, 0.2, 0.1], [0.9, 0.1, 0.2]])
TRUTH = np.array([[0.25, 1.0, 0.0], [0.0, NAN, 1.0], [NAN, NAN, NAN], [NAN, 0.5, NAN]])

points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=8).map(lambda pairs: np.array(pairs, dtype=float).T)


def test_the_best_prediction_is_chosen_among_known_cells_and_ties_keep_their_order() -> None:
    assert chosen(PREDICTED, TRUTH).tolist() == [0, 2, -1, 1]


def test_the_score_of_a_question_without_known_cells_is_unknown() -> None:
    np.testing.assert_array_equal(right(PREDICTED, TRUTH), [0.25, 1.0, NAN, 0.5])
    np.testing.assert_array_equal(oracle(TRUTH), [1.0, 1.0, NAN, 0.5])


def test_a_known_cell_is_chosen_however_low_its_prediction() -> None:
    assert chosen(np.array([[0.0, -1e300]]), np.array([[NAN, 0.0]])).tolist() == [1]


def test_regret_is_the_mean_loss_over_questions_known_on_both_sides() -> None:
    # 0.75, 0 and 0 lost on the three questions that have a score
    assert regret(PREDICTED, TRUTH, oracle(TRUTH)).mean == pytest.approx(0.25)
    assert regret(PREDICTED, TRUTH, np.array([1.0, NAN, 1.0, 0.5])).mean == pytest.approx(0.375)
    assert regret(np.nan_to_num(TRUTH), TRUTH, oracle(TRUTH)) == Interval(0.0, 0.0, 0.0)


def test_a_reference_of_other_questions_is_refused() -> None:
    with pytest.raises(ValueError, match=r"reference must have shape \(4,\), not \(4, 1\)"):
        regret(PREDICTED, TRUTH, np.zeros((4, 1)))


def test_hits_count_only_where_experts_differ() -> None:
    # the first question is a miss, the second a hit; on the fourth there was no choice
    assert hit_rate(PREDICTED, TRUTH) == 0.5
    assert hit_rate(np.array([[0.1, 0.9, 0.2]]), np.array([[0.0, 1.0, 1.0]])) == 1.0
    assert np.isnan(hit_rate(np.array([[0.1, 0.9]]), np.array([[1.0, 1.0]])))


@pytest.mark.parametrize("bins", [1, 2, 15])
def test_a_constant_that_comes_true_is_calibrated(bins: int) -> None:
    truth = np.array([[1, 0], [0, 1], [0, NAN], [1, NAN], [0.5, 0.5]])
    assert calibration_error(np.full((5, 2), 0.5), truth, bins) == pytest.approx(0)


def test_calibration_error_of_two_bins_by_hand() -> None:
    predicted, truth = np.array([[0.1, 0.3], [0.5, 0.9], [0.7, 0.0]]), np.array([[0.0, 1.0], [0.2, 1.0], [0.5, NAN]])
    # up to 0.5: mean 0.3 against 0.4, three cells; above: 0.8 against 0.75, two cells
    assert calibration_error(predicted, truth, bins=2) == pytest.approx((3 * 0.1 + 2 * 0.05) / 5)


def test_predictions_of_0_and_1_and_beyond_fall_into_the_outer_bins() -> None:
    assert calibration_error(np.array([[0.0, 1.0]]), np.array([[0.0, 1.0]])) == 0
    assert calibration_error(np.array([[-0.25, 1.25]]), np.array([[0.0, 1.0]])) == 0.25
    assert np.isnan(calibration_error(np.array([[0.5]]), np.array([[NAN]])))


def test_a_single_expert_has_no_regret_and_no_choice() -> None:
    predicted, truth, costs = np.array([[0.4], [0.6]]), np.array([[1.0], [0.0]]), np.array([[2.0], [4.0]])
    assert regret(predicted, truth, oracle(truth)) == Interval(0.0, 0.0, 0.0)
    assert np.isnan(hit_rate(predicted, truth))
    assert mean_cost(predicted, truth, costs) == 3
    cost, quality = cost_quality_curve(predicted, truth, costs)
    assert (cost.tolist(), quality.tolist()) == ([3, 3], [0.5, 0.5])
    assert aiq(cost, quality) == 0.5


def test_the_perfect_order_the_reversed_one_and_what_lies_between() -> None:
    strong, weak = np.array([1.0, 1.0, 0.0, 0.0]), np.zeros(4)
    # perfect: 0, 1/2, 1, 1, 1 recovered after 0 to 4 calls; reversed: 0, 0, 0, 1/2, 1
    assert apgr(strong, strong, weak) == pytest.approx(0.75)
    assert apgr(-strong, strong, weak) == pytest.approx(0.25)
    # equals keep file order, which is perfect here
    assert apgr(np.zeros(4), strong, weak) == pytest.approx(0.75)


def test_a_random_order_recovers_half_in_expectation() -> None:
    strong, weak = np.array([1.0, 0.5, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0, 0.25])
    assert np.mean([apgr(np.array(gain), strong, weak) for gain in permutations(range(5))]) == pytest.approx(0.5)


def test_an_order_that_avoids_losses_recovers_more_than_all() -> None:
    # the strong expert gains on two questions and loses on one: 0, 1, 2, 1 recovered
    gain, strong, weak = np.array([3, 2, 1]), np.array([1.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    assert apgr(gain, strong, weak) == pytest.approx((0.5 + 1.5 + 1.5) / 3)
    assert cpt(gain, strong, weak, 0.8) == pytest.approx(1 / 3)


def test_apgr_of_one_question_is_one_half() -> None:
    assert apgr(np.array([0.3]), np.array([1.0]), np.array([0.0])) == 0.5


def test_the_call_threshold_by_hand() -> None:
    gain, strong = np.array([5, 4, 3, 2, 1]), np.array([0.0, 1.0, 1.0, 1.0, 1.0])
    # 0, 0, 1/4, 1/2, 3/4, 1 recovered after 0 to 5 calls
    shares = [cpt(gain, strong, np.zeros(5), share) for share in (0.25, 0.5, 0.8, 1.0)]
    assert shares == pytest.approx([0.4, 0.6, 1.0, 1.0])


@pytest.mark.parametrize("share", [0, -0.5, 1.1, NAN])
def test_a_share_of_the_gap_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"share must be above 0 and at most 1, not "):
        cpt(np.zeros(2), np.ones(2), np.zeros(2), share)


@pytest.mark.parametrize("strong", [[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.0, 0.1, 0.2]])
def test_where_the_strong_expert_is_not_better_there_is_no_gap_to_recover(strong: list[float]) -> None:
    weak, gain = np.array([0.3, 0.2, 0.1]), np.arange(3)
    assert np.isnan(apgr(gain, np.array(strong), weak))
    assert np.isnan(cpt(gain, np.array(strong), weak, 0.5))
    versus = apgr_versus(gain, -gain, np.array(strong), weak, resamples=20)
    assert np.isnan([versus.mean, versus.low, versus.high]).all()


def test_questions_that_one_of_the_two_did_not_answer_are_left_out() -> None:
    gain, strong, weak = np.array([0.9, NAN, 0.5, 0.1]), np.array([1.0, NAN, 1.0, 0.0]), np.array([0.0, 1.0, NAN, 0.0])
    assert apgr(gain, strong, weak) == 0.75
    assert cpt(gain, strong, weak, 0.8) == 0.5


def test_gains_without_scores_and_scores_without_gains_are_refused() -> None:
    with pytest.raises(ValueError, match="scores of both experts"):
        apgr(np.array([0.1]), np.array([NAN]), np.array([1.0]))
    with pytest.raises(ValueError, match="a gain for each of them"):
        apgr(np.array([NAN]), np.array([0.0]), np.array([1.0]))
    with pytest.raises(ValueError, match=r"the same shape \(n,\), not \(2,\), \(1,\) and \(1,\)"):
        apgr(np.zeros(2), np.zeros(1), np.zeros(1))


@pytest.mark.parametrize("n", [4, 60])  # of four questions, some resamples hold none on which the strong expert is better
def test_resampling_agrees_with_drawing_questions_and_measuring_them_anew(n: int) -> None:
    rng = np.random.default_rng(5)
    strong, weak = (np.arange(n) % 4 > 0) * 1.0, (np.arange(n) % 4 != 2) * 0.5
    a, b = rng.integers(0, 6, n), rng.integers(0, 6, n)  # many ties
    draws = np.random.default_rng(7)
    drawn = [np.sort(draws.integers(0, n, n)) for _ in range(50)]
    differences = [apgr(a[rows], strong[rows], weak[rows]) - apgr(b[rows], strong[rows], weak[rows]) for rows in drawn]
    assert np.isnan(differences).any() == (n == 4)
    versus = apgr_versus(a, b, strong, weak, seed=7, resamples=50)
    assert versus.mean == pytest.approx(apgr(a, strong, weak) - apgr(b, strong, weak))
    assert [versus.low, versus.high] == pytest.approx(np.nanpercentile(differences, [2.5, 97.5]).tolist())


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_the_area_is_that_of_trapezoids_over_all_shares_of_calls(rows: list[tuple[int, int, int]]) -> None:
    gain, strong, weak = np.array(rows, dtype=float).T * [[1], [0.25], [0.25]]
    assume(strong.sum() > weak.sum())
    calls = sorted(range(len(rows)), key=lambda at: -rows[at][0])  # Python's sort keeps the order of equals
    quality = [np.mean([strong[at] if at in calls[:made] else weak[at] for at in range(len(rows))]) for made in range(len(rows) + 1)]
    recovered = (np.array(quality) - weak.mean()) / (strong.mean() - weak.mean())
    assert apgr(gain, strong, weak) == pytest.approx(np.trapezoid(recovered, dx=1 / len(rows)))
    for share in (0.5, 0.8):
        assert cpt(gain, strong, weak, share) == pytest.approx(np.flatnonzero(recovered > share - 1e-6)[0] / len(rows))


def test_an_order_ties_with_itself_and_not_with_a_far_better_one() -> None:
    rng = np.random.default_rng(0)
    strong, weak = (rng.random(300) < 0.8) * 1.0, (rng.random(300) < 0.5) * 1.0
    assert apgr_versus(weak, weak, strong, weak, resamples=50) == Interval(0.0, 0.0, 0.0)
    assert apgr_versus(strong - weak, weak, strong, weak, resamples=50).low > 0.5


def test_the_strong_expert_is_the_better_one_on_questions_known_of_both() -> None:
    assert strong_of(np.array([[1.0, 0.0], [0.0, 0.0]])) == (0, 1)
    assert strong_of(np.array([[0.0, 1.0], [1.0, NAN], [1.0, NAN]])) == (1, 0)
    assert strong_of(np.array([[1.0, 1.0]])) == (0, 1)


@pytest.mark.parametrize("truth", [np.zeros((2, 3)), np.zeros(2), np.array([[1.0, NAN], [NAN, 1.0]])])
def test_a_strong_and_a_weak_one_need_two_experts_on_the_same_questions(truth: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"wanted scores of two experts, shape \(n, 2\)"):
        strong_of(truth)


def test_the_mean_cost_is_that_of_the_chosen_expert() -> None:
    costs = np.array([[1.0, 9, 9], [9, 9, 2], [50, 50, 50], [9, 6, 9]])
    assert mean_cost(PREDICTED, TRUTH, costs) == pytest.approx((1 + 2 + 6) / 3)


def test_an_unknown_cost_counts_as_the_mean_of_its_expert() -> None:
    predicted, truth = np.array([[0.1, 0.9], [0.1, 0.9], [0.9, 0.1]]), np.ones((3, 2))
    costs = np.array([[1.0, 4.0], [1.0, NAN], [1.0, 6.0]])
    assert mean_cost(predicted, truth, costs) == pytest.approx((4 + 5 + 1) / 3)
    costs[:, 1] = NAN
    assert np.isnan(mean_cost(predicted, truth, costs))
    assert mean_cost(predicted[2:], truth[2:], costs[2:]) == 1
    assert np.isnan(mean_cost(predicted, np.full((3, 2), NAN), costs))


def test_the_curve_goes_from_the_cheapest_to_the_best_predicted() -> None:
    predicted, truth = np.array([[0.5, 0.9], [0.5, 0.6], [0.7, 0.1]]), np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    costs = np.tile([1.0, 4.0], (3, 1))
    # a gain of 0.4, 0.1 and none, at a price of 1: the first question changes below 0.4, the second below 0.1
    cost, quality = cost_quality_curve(predicted, truth, costs, weights=[0.05, 0.2, 0.5])
    np.testing.assert_allclose(cost, [1, 1, 2, 3, 3])
    np.testing.assert_allclose(quality, [1 / 3, 1 / 3, 2 / 3, 1, 1])
    # points (1, 1/3), (2, 2/3) and (3, 1) lie on one line
    assert aiq(cost, quality) == pytest.approx(2 / 3)


def test_the_last_point_of_the_curve_is_the_router_itself_and_the_first_the_cheapest_known_expert() -> None:
    costs = np.tile([3.0, 2.0, 1.0], (4, 1))
    cost, quality = cost_quality_curve(PREDICTED, TRUTH, costs)
    assert cost[-1] == pytest.approx(mean_cost(PREDICTED, TRUTH, costs))
    assert quality[-1] == pytest.approx(np.nanmean(right(PREDICTED, TRUTH)))
    assert cost[0] == pytest.approx((1 + 1 + 2) / 3)
    assert quality[0] == pytest.approx((0 + 1 + 0.5) / 3)
    assert len(cost) == len(quality) == 102


def test_the_curve_does_not_depend_on_the_units_of_cost_and_prediction() -> None:
    rng = np.random.default_rng(2)
    predicted, truth = rng.random((40, 3)), (rng.random((40, 3)) < 0.5) * 1.0
    costs = rng.random((40, 3)) * [1, 3, 9]
    cost, quality = cost_quality_curve(predicted, truth, costs)
    dearer, same = cost_quality_curve(8 * predicted, truth, 1024 * costs)
    np.testing.assert_allclose(dearer, 1024 * cost)
    np.testing.assert_allclose(same, quality)
    assert (np.diff(cost[[0, 25, 50, 75, 101]]) > 0).all()  # its own weights spread over the range


def test_what_a_curve_cannot_be_drawn_of_is_refused() -> None:
    predicted, truth = np.ones((2, 2)), np.ones((2, 2))
    with pytest.raises(ValueError, match="every expert needs a known cost; column 1 has none"):
        cost_quality_curve(predicted, truth, np.array([[1.0, NAN], [1.0, NAN]]))
    with pytest.raises(ValueError, match=r"weights must be finite and from 0, not \[0.5, -1.0\]"):
        cost_quality_curve(predicted, truth, np.ones((2, 2)), weights=[-1, 0.5])
    with pytest.raises(ValueError, match="no point has both a cost and a quality"):
        aiq(*cost_quality_curve(predicted, np.full((2, 2), NAN), np.ones((2, 2))))


@pytest.mark.parametrize(("predicted", "truth"), [((2, 2), (2, 3)), ((2,), (2,)), ((2, 0), (2, 0))])
def test_tables_of_other_shapes_are_refused_with_them(predicted: tuple[int, ...], truth: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must have the same shape \(n, n_experts\), not \(2") as caught:
        chosen(np.zeros(predicted), np.zeros(truth))
    assert str(truth) in str(caught.value)


def test_a_prediction_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="predicted must be a finite number in every cell"):
        chosen(np.array([[0.1, NAN]]), np.array([[1.0, NAN]]))


def test_points_that_cost_more_for_no_more_quality_are_beaten() -> None:
    cost, quality = np.array([2.0, 1.0, 2.0, 3.0, 1.0, NAN, 0.5]), np.array([0.8, 0.5, 0.8, 0.7, 0.4, 1.0, NAN])
    assert pareto(cost, quality).tolist() == [1, 0, 2]
    with pytest.raises(ValueError, match=r"the same shape \(m,\), not \(2,\) and \(3,\)"):
        pareto(np.zeros(2), np.zeros(3))


@settings(deadline=None)
@given(points)
def test_every_point_is_on_the_front_or_beaten_by_one_of_it(pair: np.ndarray) -> None:
    cost, quality = pair
    front = pareto(cost, quality).tolist()
    for at in range(len(cost)):
        beaten = any(
            cost[by] <= cost[at] and quality[by] >= quality[at] and (cost[by] < cost[at] or quality[by] > quality[at]) for by in front
        )
        assert (at in front) != beaten
    assert cost[front].tolist() == sorted(cost[front])


@settings(deadline=None)
@given(points)
def test_the_hull_is_the_best_mix_of_two_points_at_each_cost(pair: np.ndarray) -> None:
    cost, quality = pair
    assume(np.ptp(cost) > 0)

    def best(spend: float) -> float:
        """The best quality that some mix of two points reaches for at most this cost."""
        reached = max(quality[cost <= spend])
        for one in range(len(cost)):
            for other in range(len(cost)):
                if cost[one] <= spend < cost[other]:
                    share = (spend - cost[one]) / (cost[other] - cost[one])
                    reached = max(reached, (1 - share) * quality[one] + share * quality[other])
        return float(reached)

    # costs are whole numbers, so the hull bends only there, and trapezoids between them are exact
    heights = [best(spend) for spend in range(int(cost.min()), int(cost.max()) + 1)]
    assert aiq(cost, quality) == pytest.approx(sum((a + b) / 2 for a, b in pairwise(heights)) / np.ptp(cost))


def test_points_under_the_hull_and_unknown_ones_change_no_area() -> None:
    cost, quality = np.array([0.0, 2.0, 4.0]), np.array([0.2, 0.8, 0.6])
    # 0.2 to 0.8 over a half, 0.8 over the other half
    assert aiq(cost, quality) == pytest.approx(0.65)
    assert aiq(np.r_[cost, 1.0, 9.0], np.r_[quality, 0.3, NAN]) == pytest.approx(0.65)
    assert aiq(np.array([1.0]), np.array([0.7])) == 0.7


def test_each_text_after_the_first_ones_is_timed_and_none_is_decided_twice() -> None:
    seen: list[str] = []

    def decide(text: str) -> None:
        seen.append(text)
        sleep(0.05 if text in ("cold", "slow") else 0)

    spent = route_latency_ms(decide, ["cold", "slow", "quick"], warm=1)
    assert seen == ["cold", "slow", "quick"]
    assert spent.shape == (2,)
    assert spent[0] >= 50
    assert spent[1] >= 0


def test_a_warm_up_that_leaves_no_text_to_time_is_refused() -> None:
    with pytest.raises(ValueError, match="leave texts to time, not 20 of 3"):
        route_latency_ms(len, ["a", "b", "c"])


@pytest.mark.parametrize(("task", "length"), [("mmlu/", 0.583), ("gsm8k", 0.597)])
def test_prompt_length_alone_orders_recorded_questions_as_well_as_measured_before(task: str, length: float) -> None:
    path = Path(FOLDER) / "routellm.parquet"
    if not FOLDER or not path.is_file():
        pytest.skip("no recorded answers here: set COUNTERPOINT_BENCH_DATA to the folder that holds routellm.parquet")
    table = read_scores(path)
    for splits, tolerance in ((["test"], 0.02), (["train", "test"], 0.0015)):  # measured before over both splits
        queries, truth = pivot(rows_of(table, splits), PAIR)
        of_task = queries["category"].str.startswith(task).to_numpy()
        characters = queries["query"].str.len().to_numpy()[of_task]
        assert strong_of(truth[of_task]) == (0, 1)
        assert apgr(characters, *truth[of_task].T) == pytest.approx(length, abs=tolerance)
