import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.budget import Limits, best_subset, predicted_quality
from router.cards import Card, Situation

NAMES = [f"expert {at}" for at in range(10)]
AMOUNTS = st.integers(0, 4).map(float)
POOLS = st.lists(st.tuples(st.floats(0, 1), st.builds(Card, AMOUNTS, AMOUNTS, AMOUNTS)), max_size=10)
LIMIT = st.just(math.inf) | st.integers(0, 12).map(float)
LIMITS = st.builds(Limits, LIMIT, LIMIT, LIMIT)
Pool = list[tuple[float, Card]]


def best(pool: Pool, k: int, limits: Limits) -> tuple[list[str], float]:
    """The chosen of a pool, and their predicted quality."""
    scores = {name: score for name, (score, _) in zip(NAMES, pool, strict=False)}
    chosen = best_subset(list(scores), scores, situation_of(pool), k, limits)
    return chosen, predicted_quality(chosen, scores)


def situation_of(pool: Pool) -> Situation:
    return Situation({name: card for name, (_, card) in zip(NAMES, pool, strict=False)})


@settings(max_examples=300)
@given(POOLS, st.integers(1, 10), LIMITS)
def test_no_subset_that_fits_has_a_higher_predicted_quality(pool: Pool, k: int, limits: Limits) -> None:
    fitting = [
        1 - math.prod(1 - score for score, _ in subset)
        for count in range(min(k, len(pool)) + 1)
        for subset in combinations(pool, count)
        if sum(card.usd for _, card in subset) <= limits.usd
        and sum(card.size_b for _, card in subset) <= limits.size_b
        and all(card.latency_s <= limits.latency_s for _, card in subset)
    ]
    chosen, quality = best(pool, k, limits)
    assert quality == pytest.approx(max(fitting), abs=1e-8)
    assert len(chosen) == len(set(chosen)) <= k
    assert not chosen or limits.holds(chosen, situation_of(pool))


@given(POOLS, st.integers(1, 10), LIMITS, LIMITS)
def test_a_tighter_budget_never_raises_the_predicted_quality(pool: Pool, k: int, limits: Limits, other: Limits) -> None:
    _, quality = best(pool, k, limits)
    for name in ("usd", "latency_s", "size_b"):
        tighter = replace(limits, **{name: min(getattr(limits, name), getattr(other, name))})
        assert best(pool, k, tighter)[1] <= quality + 1e-8, name
    assert best(pool, k - 1, limits)[1] <= quality + 1e-8


def test_the_chosen_stand_best_first_and_equals_in_the_order_of_the_pool() -> None:
    situation = Situation({name: Card(usd=1.0) for name in "abcd"})
    assert best_subset("abcd", dict.fromkeys("abcd", 0.5), situation, 3, Limits(usd=2.0)) == ["a", "b"]
    assert best_subset("dcba", {"a": 0.5, "b": 0.9, "c": 0.5, "d": 0.1}, situation, 3, Limits(usd=3.0)) == ["b", "c", "a"]
    assert best_subset("abcd", dict.fromkeys("abcd", 0.5), situation, 3, Limits(usd=0.5)) == []
    assert best_subset("ab", {"a": -0.5, "b": -0.1}, situation, 2, Limits()) == ["b", "a"]  # utilities can lie below 0


def test_two_cheap_experts_can_be_worth_more_than_the_best_one() -> None:
    situation = Situation({"a": Card(usd=3.0, size_b=70.0), "b": Card(usd=2.0, size_b=8.0), "c": Card(usd=2.0, size_b=8.0)})
    scores = {"a": 0.7, "b": 0.5, "c": 0.5}  # together b and c are right with 0.75
    assert best_subset("abc", scores, situation, 2, Limits(usd=4.0)) == ["b", "c"]
    assert best_subset("abc", scores, situation, 1, Limits(usd=4.0)) == ["a"]
    assert best_subset("abc", scores | {"a": 0.8}, situation, 2, Limits(usd=4.0)) == ["a"]
    assert best_subset("abc", scores | {"a": 0.8}, situation, 2, Limits(size_b=77.0)) == ["a"]


@pytest.mark.parametrize("seed", range(10))
def test_of_fourteen_experts_that_cost_what_they_are_worth_no_subset_is_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    worth = rng.uniform(0.3, 1.5, 14)
    usd = worth * rng.uniform(0.95, 1.05, 14)
    subsets = (np.arange(2**14)[:, None] >> np.arange(14)) & 1
    names = [f"expert {at}" for at in range(14)]
    scores = dict(zip(names, (1 - np.exp(-worth)).tolist(), strict=True))
    situation = Situation({name: Card(usd=price) for name, price in zip(names, usd.tolist(), strict=True)})
    chosen = best_subset(names, scores, situation, 14, Limits(usd=6.0))
    best = (subsets @ worth)[subsets @ usd <= 6.0].max()  # how good a subset is, on a scale on which experts add up
    assert sum(worth[names.index(name)] for name in chosen) == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("k", [3, 8, 32])
@pytest.mark.parametrize("prices", ["equal", "like the scores", "apart"])
def test_thirty_five_experts_are_chosen_from_however_many_are_wanted(prices: str, k: int) -> None:
    scores = {f"expert {at}": 0.4 + 0.3 * (at * 7 % 35) / 35 for at in range(35)}
    usd = {"equal": lambda _, score: 2.0, "like the scores": lambda _, score: score, "apart": lambda at, _: 2.0 ** (at % 9)}[prices]
    situation = Situation({name: Card(usd=usd(at, score), size_b=float(at)) for at, (name, score) in enumerate(scores.items())})
    limits = Limits(usd=2.5 * k / 3 if prices != "apart" else 40.0, size_b=300.0)
    chosen = best_subset(list(scores), scores, situation, k, limits)
    assert limits.holds(chosen, situation)
    greedy: list[str] = []
    for name in sorted(scores, key=lambda name: -scores[name]):
        if len(greedy) < k and limits.holds([*greedy, name], situation):
            greedy.append(name)
    assert predicted_quality(chosen, scores) >= predicted_quality(greedy, scores) - 1e-12


@given(st.lists(st.floats(0, 1), max_size=6), st.floats(0, 1))
def test_another_expert_never_lowers_the_predicted_quality(scores: list[float], more: float) -> None:
    names = [str(at) for at in range(len(scores) + 1)]
    by_name = dict(zip(names, [*scores, more], strict=True))
    assert max(scores, default=0) - 1e-12 <= predicted_quality(names[:-1], by_name) <= predicted_quality(names, by_name) <= 1


def test_predicted_quality_by_hand() -> None:
    assert predicted_quality([], {}) == 0
    assert predicted_quality("ab", {"a": 0.5, "b": 0.5}) == 0.75
    assert predicted_quality("ab", {"a": -0.5, "b": 1.5}) == 1  # utilities can lie beyond probabilities


def test_calls_are_paid_each_but_weights_are_held_once() -> None:
    situation = Situation({"a": Card(usd=1.0, size_b=7.0, latency_s=2.0), "b": Card(usd=1.0, size_b=7.0, latency_s=3.0)})
    assert Limits(usd=3.0, size_b=7.0).holds("aaa", situation)
    assert not Limits(usd=2.0).holds("aaa", situation)
    assert not Limits(size_b=7.0).holds("ab", situation)
    assert Limits(latency_s=3.0).holds("ab", situation)  # they answer at the same time
    assert not Limits(latency_s=2.0).holds("ab", situation)
    assert Limits(usd=0.3).holds("ccc", Situation({"c": Card(usd=0.1)}))  # 0.1 + 0.1 + 0.1 is a hair more than 0.3


@given(LIMITS, st.none() | st.floats(0, 9), st.none() | st.floats(0, 9))
def test_a_request_can_only_tighten_the_limits(limits: Limits, usd: float | None, latency_s: float | None) -> None:
    tightened = limits.tightened(usd, latency_s)
    assert tightened.usd == (limits.usd if usd is None else min(usd, limits.usd))
    assert tightened.latency_s == (limits.latency_s if latency_s is None else min(latency_s, limits.latency_s))
    assert tightened.size_b == limits.size_b


@given(POOLS, POOLS, LIMITS)
def test_what_is_left_holds_those_that_fit_beside_what_is_asked_anyway(spent: Pool, others: Pool, limits: Limits) -> None:
    pool = [*spent, *others][:10]
    names, situation = NAMES[: len(pool)], situation_of(pool)
    always, rest = names[: len(spent)], names[len(spent) :]
    if limits.holds(always, situation):
        assert limits.after(always, situation).holds(rest, situation) == limits.holds(names, situation)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(), "a budget of any size"),
        (Limits(usd=0.0), "a budget of 0 US dollars"),
        (Limits(latency_s=1.5), "a budget of 1.5 seconds"),
        (Limits(0.25, 2.0, 8.0), "a budget of 0.25 US dollars and 2 seconds and 8 billion parameters"),
    ],
)
def test_limits_say_what_they_are(limits: Limits, words: str) -> None:
    assert str(limits) == words
