"""Policies for one owner's batch: who is asked may depend on the whole batch, since all of it is theirs."""

from __future__ import annotations

import heapq
import math

import numpy as np


def expert_choice(scores: np.ndarray, k: int) -> list[list[int]]:
    """Let experts choose their questions, each the same number, so that no expert waits while another is flooded.

    Every expert takes the questions that it is best at, up to n k / n_experts of them; a question that nobody took goes to its
    best expert, which gives back the question that it is worst at among those that others took, too.

    Args:
        scores: Predicted probabilities, shape (n, n_experts).
        k: Mean number of experts of a question.

    Returns:
        The experts of each question, best first; at least one each.

    Source:
        Zhou et al. 2022, Mixture-of-Experts with Expert Choice Routing, arXiv:2202.09368 (of tokens, inside a model).

    Example:
        >>> expert_choice(np.array([[0.9, 0.1], [0.8, 0.7], [0.2, 0.3], [0.1, 0.6]]), 1)
        [[0], [0], [1], [1]]
    """
    n, experts = scores.shape
    capacity = min(n, math.ceil(n * max(k, 1) / experts))
    taken = np.zeros((n, experts), dtype=bool)
    for expert in range(experts):
        taken[np.argsort(-scores[:, expert], kind="stable")[:capacity], expert] = True
    for question in np.flatnonzero(~taken.any(axis=1)):
        for expert in np.argsort(-scores[question], kind="stable"):
            spare = np.flatnonzero(taken[:, expert] & (taken.sum(axis=1) > 1))
            if len(spare):  # some expert has one: there are at least as many places as questions
                taken[spare[scores[spare, expert].argmin()], expert] = False
                taken[question, expert] = True
                break
    return [[int(e) for e in np.argsort(-row, kind="stable") if taken[at, e]] for at, row in enumerate(scores)]


def knapsack(scores: np.ndarray, costs: np.ndarray, budget: float, k_max: int | None = None) -> list[list[int]]:
    """Spend a batch's budget where another expert adds most: every question gets its first choice, some get more.

    A question's next expert adds the chance that it is right while those before it are wrong; that falls with every expert, so
    taking the largest gain per cost first is the best there is, up to the last call that does not fit.

    Args:
        scores: Predicted probabilities, shape (n, n_experts).
        costs: Cost of one call of each expert, shape (n_experts,), above 0.
        budget: Most that all calls may cost together.
        k_max: Most experts of a question, or None.

    Returns:
        The experts of each question, best first. Where the budget is too small for all, the questions whose first choice adds
        least get none.

    Source:
        Li et al. 2025, Knapsack RL, arXiv:2509.25849 (the idea: a budget as a knapsack over questions); the greedy rule is
        Fox 1966, Discrete Optimization via Marginal Analysis.

    Example:
        >>> knapsack(np.array([[0.9, 0.1], [0.5, 0.5]]), np.ones(2), 3.0)
        [[0], [0, 1]]
    """
    n, experts = scores.shape
    order = np.argsort(-scores, axis=1, kind="stable")
    chosen: list[list[int]] = [[] for _ in range(n)]
    spent, limit = 0.0, min(k_max or experts, experts)
    wrong = np.ones(n)
    # first choices come before second ones: an answer for everyone is worth more than a second opinion
    queue = [(0, -scores[at, order[at, 0]] / costs[order[at, 0]], at) for at in range(n)]
    heapq.heapify(queue)
    while queue:
        _, _, at = heapq.heappop(queue)
        expert = int(order[at, len(chosen[at])])
        if spent + costs[expert] > budget + 1e-9:
            continue
        spent += float(costs[expert])
        chosen[at].append(expert)
        wrong[at] *= 1 - scores[at, expert]
        if len(chosen[at]) < limit:
            following = order[at, len(chosen[at])]
            heapq.heappush(queue, (1, -wrong[at] * scores[at, following] / costs[following], at))
    return chosen
