from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router.batch_policy import expert_choice, knapsack

SCORES = st.tuples(st.integers(1, 12), st.integers(1, 5)).flatmap(lambda shape: arrays(float, shape, elements=st.floats(0, 1)))
SMALL = st.tuples(st.integers(1, 3), st.integers(1, 3)).flatmap(lambda shape: arrays(float, shape, elements=st.floats(0, 1)))


def calls(chosen: list[list[int]]) -> list[int]:
    return [expert for experts in chosen for expert in experts]


@given(SCORES, st.integers(1, 6))
def test_every_expert_has_the_same_load_and_every_question_is_served(scores: np.ndarray, k: int) -> None:
    n, experts = scores.shape
    chosen = expert_choice(scores, k)
    loads = np.bincount(calls(chosen), minlength=experts)
    assert len(set(loads)) == 1
    assert abs(loads[0] - n * min(k, experts) / experts) < 1
    assert len(chosen) == n
    assert min(map(len, chosen)) >= 1


@given(SCORES, st.integers(1, 6))
def test_the_experts_of_a_question_stand_best_first_each_once(scores: np.ndarray, k: int) -> None:
    for row, experts in zip(scores, expert_choice(scores, k), strict=True):
        assert len(experts) == len(set(experts))
        assert row[experts].tolist() == sorted(row[experts], reverse=True)


@given(SCORES, st.integers(1, 6))
def test_the_same_batch_is_chosen_for_the_same_way(scores: np.ndarray, k: int) -> None:
    kept = scores.copy()
    assert expert_choice(scores, k) == expert_choice(scores, k)
    assert knapsack(scores, np.ones(scores.shape[1]), 9.0) == knapsack(scores, np.ones(scores.shape[1]), 9.0)
    assert np.array_equal(scores, kept)


def test_a_question_that_nobody_took_goes_to_its_best_expert_which_gives_another_back() -> None:
    # each takes two: both take the first question, expert 0 the second, expert 1 the third; nobody the last, where 0 is better
    scores = np.array([[0.9, 0.9], [0.8, 0.1], [0.1, 0.8], [0.05, 0.01]])
    assert expert_choice(scores, 1) == [[1], [0], [1], [0]]
    # both take the first two; for the third expert 1 gives back the second question, which it is worse at than at the first
    assert expert_choice(np.array([[0.9, 0.8], [0.7, 0.6], [0.1, 0.2], [0.3, 0.05]]), 1) == [[1], [0], [1], [0]]
    # with twice the places everybody takes everything
    assert expert_choice(scores, 2) == [[0, 1], [0, 1], [1, 0], [0, 1]]


def test_places_for_fewer_than_all_questions_still_leave_none_out() -> None:
    assert expert_choice(np.array([[0.9, 0.1], [0.2, 0.8]]), 0) == [[0], [1]]


def test_no_questions_get_no_experts() -> None:
    assert expert_choice(np.zeros((0, 3)), 2) == []
    assert knapsack(np.zeros((0, 3)), np.ones(3), 5.0) == []


@given(SCORES, st.lists(st.integers(1, 8), min_size=5, max_size=5), st.floats(0, 100), st.none() | st.integers(1, 5))
def test_a_batchs_budget_is_never_exceeded(scores: np.ndarray, prices: list[int], budget: float, k_max: int | None) -> None:
    costs = np.array(prices[: scores.shape[1]], dtype=float)
    chosen = knapsack(scores, costs, budget, k_max)
    assert sum(costs[calls(chosen)]) <= budget + 1e-9
    for row, experts in zip(scores, chosen, strict=True):
        assert len(experts) == len(set(experts)) <= (k_max or len(costs))
        assert row[experts].tolist() == sorted(row, reverse=True)[: len(experts)]


@given(SCORES, st.integers(0, 60), st.none() | st.integers(1, 5))
def test_with_equal_costs_the_whole_budget_is_spent_and_first_choices_come_first(
    scores: np.ndarray, budget: int, k_max: int | None
) -> None:
    n, experts = scores.shape
    chosen = knapsack(scores, np.ones(experts), float(budget), k_max)
    assert len(calls(chosen)) == min(budget, n * min(k_max or experts, experts))
    assert min(map(len, chosen)) >= 1 or max(map(len, chosen)) <= 1


@given(SMALL, st.integers(0, 9))
def test_no_other_way_to_spend_the_same_calls_is_better(scores: np.ndarray, budget: int) -> None:
    n, experts = scores.shape
    counts = range(1, experts + 1) if budget >= n else range(2)  # an answer for everyone, else one for as many as there can be
    best_of = [
        [max(1 - np.prod([1 - row[at] for at in some]) for some in combinations(range(experts), count)) for count in range(experts + 1)]
        for row in scores
    ]
    best = max(sum(row[count] for row, count in zip(best_of, way, strict=True)) for way in product(counts, repeat=n) if sum(way) <= budget)
    chosen = knapsack(scores, np.ones(experts), float(budget))
    got = sum(1 - np.prod(1 - row[some]) for row, some in zip(scores, chosen, strict=True))
    assert got == pytest.approx(best, abs=1e-9)


@given(st.lists(st.floats(0.5, 0.99), min_size=2, max_size=8), st.integers(2, 4), st.integers(1, 32))
def test_harder_questions_get_at_least_as_many_experts(ease: list[float], experts: int, budget: int) -> None:
    ease = [round(part, 2) for part in ease]
    chosen = knapsack(np.repeat(np.array(ease)[:, None], experts, axis=1), np.ones(experts), float(max(budget, len(ease))))
    for one, some in zip(ease, chosen, strict=True):
        assert all(len(some) >= len(others) for other, others in zip(ease, chosen, strict=True) if one < other)


def test_a_budget_for_fewer_than_all_leaves_out_whoever_gains_least() -> None:
    assert knapsack(np.array([[0.2, 0.1], [0.9, 0.8], [0.3, 0.6]]), np.ones(2), 2.0) == [[], [0], [1]]
    assert knapsack(np.array([[0.5, 0.4], [0.9, 0.0]]), np.ones(2), 0.5) == [[], []]


def test_where_experts_cost_differently_the_most_gain_for_the_money_comes_first() -> None:
    # after first choices of 1 each, 3 are left: the second question's 0.5 * 0.4 for 1, then 0.3 * 0.2 for 2
    scores, costs = np.array([[0.7, 0.1, 0.2], [0.5, 0.4, 0.3]]), np.array([1.0, 1.0, 2.0])
    assert knapsack(scores, costs, 3.0) == [[0], [0, 1]]
    assert knapsack(scores, costs, 5.0) == [[0], [0, 1, 2]]
    assert knapsack(scores, costs, 5.0, k_max=2) == [[0, 2], [0, 1]]
    # 0.5 * 0.45 for 4 adds more than 0.4 * 0.3 for 1, but less for the money, and then there is not enough left for it
    scores, costs = np.array([[0.5, 0.45, 0.0], [0.6, 0.0, 0.3]]), np.array([1.0, 4.0, 1.0])
    assert knapsack(scores, costs, 6.0) == [[0], [0, 2]]
