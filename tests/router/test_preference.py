import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.records import Request
from router import FixedK, RouterError
from router.cards import Card, Situation
from router.preference import TERMS, Preference

NAMES = ["ann", "bob", "cid", "dee", "eve"]
ASK = Request("r", ())
# parts of powers of two, so that utilities are exact
SCORES = st.lists(st.integers(0, 64).map(lambda part: part / 64), min_size=5, max_size=5).map(
    lambda row: dict(zip(NAMES, row, strict=True))
)
QUESTIONS = st.lists(SCORES, min_size=1, max_size=20)
SIZES = st.lists(st.sampled_from([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]), min_size=5, max_size=5).map(
    lambda row: dict(zip(NAMES, row, strict=True))
)
SWEEP = [0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 2.0**20]


def sized(sizes: dict[str, float]) -> Situation:
    return Situation({name: Card(size_b=size) for name, size in sizes.items()})


def choice(preference: Preference, scores: dict[str, float], situation: Situation) -> str:
    return FixedK(1, preference=preference).choose(ASK, scores, situation).primary


@given(SCORES, SIZES)
def test_without_weights_the_best_score_comes_first(scores: dict[str, float], sizes: dict[str, float]) -> None:
    for preference in (Preference(), Preference({"size": 0.0, "price": 0.0})):
        assert choice(preference, scores, sized(sizes)) == max(NAMES, key=lambda name: scores[name])


@given(SCORES, SIZES, st.sampled_from(list(TERMS)))
def test_a_huge_weight_asks_the_smallest_and_of_those_the_best(scores: dict[str, float], amounts: dict[str, float], term: str) -> None:
    situation = Situation({name: Card(**{TERMS[term]: amount}) for name, amount in amounts.items()})
    smallest = [name for name in NAMES if amounts[name] == min(amounts.values())]
    assert choice(Preference({term: 2.0**20}), scores, situation) == max(smallest, key=lambda name: scores[name])


@given(QUESTIONS, SIZES)
def test_a_rising_weight_never_raises_the_mean_size_and_no_point_of_the_sweep_is_beaten(
    questions: list[dict[str, float]], sizes: dict[str, float]
) -> None:
    points = []
    for weight in SWEEP:
        chosen = [choice(Preference({"size": weight}), scores, sized(sizes)) for scores in questions]
        size = sum(sizes[name] for name in chosen)
        points.append((size, sum(scores[name] for name, scores in zip(chosen, questions, strict=True))))
    for (size, quality), (next_size, next_quality) in pairwise(points):
        assert next_size <= size
        assert next_quality <= quality
    # smaller and better at once is impossible; what is left beside the front only ties with it
    assert not any(a[0] < b[0] and a[1] > b[1] for a in points for b in points)
    beaten = [b for b in points if any(a[0] <= b[0] and a[1] >= b[1] and a != b for a in points)]
    front = sorted({point for point in points if point not in beaten})
    assert [quality for _, quality in front] == sorted({quality for _, quality in front})
    assert front[0][0] == min(sizes.values()) * len(questions)
    assert front[-1][1] == sum(max(scores.values()) for scores in questions)


def test_each_term_weighs_its_share_of_the_largest_in_the_pool() -> None:
    situation = Situation({"ann": Card(2.0, 8.0, 4.0, 10.0), "bob": Card(1.0, 2.0, 1.0, 5.0), "cid": Card(age_days=20.0)})
    scores = {"ann": 1.0, "bob": 1.0}
    for term, bob in {"price": 0.5, "size": 0.75, "latency": 0.75, "age": 0.75}.items():
        utility = Preference({term: 1.0}).utilities(["ann", "bob"], scores, situation)
        assert utility == {"ann": 0.5 if term == "age" else 0.0, "bob": bob}, term
    both = Preference({"price": 0.5, "size": 0.5}).utilities(["ann", "bob"], scores, situation)
    assert both == {"ann": 0.0, "bob": 0.625}


def test_where_all_cost_nothing_a_weight_changes_nothing() -> None:
    assert Preference({"price": 9.0}).utilities(["ann"], {"ann": 0.5}, Situation()) == {"ann": 0.5}


def test_a_requests_objective_stands_instead_of_the_policys_own() -> None:
    situation, scores = sized({"ann": 8.0, "bob": 1.0}), {"ann": 0.9, "bob": 0.6}
    policy = FixedK(1, preference=Preference({"size": 1.0}))
    assert policy.choose(ASK, scores, situation).primary == "bob"
    assert policy.choose(Request("r", (), objective={}), scores, situation).primary == "ann"
    assert FixedK(1).choose(Request("r", (), objective={"size": 1.0}), scores, situation).primary == "bob"


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf, -math.inf])
def test_a_weight_that_is_no_amount_is_refused_in_one_line(weight: float) -> None:
    with pytest.raises(RouterError, match=f"^the objective size must have a weight from 0, not {weight}$"):
        Preference({"size": weight}).utilities(["ann"], {"ann": 0.5}, Situation())


def test_an_unknown_term_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RouterError, match=r"^no objective is called 'weight'; there are price, size, latency, age$"):
        FixedK().choose(Request("r", (), objective={"weight": 1.0}), {"ann": 0.5})


def after(name: str) -> Situation:
    return Situation(last=(name,))


def loaded(name: str) -> Situation:
    return Situation(resident=frozenset({name}))


@given(SCORES, st.sampled_from(NAMES), st.integers(1, 64).map(lambda part: part / 64))
def test_a_conversation_stays_unless_the_gain_exceeds_the_threshold(scores: dict[str, float], last: str, sticky: float) -> None:
    chosen = choice(Preference(sticky=sticky), scores, after(last))
    best = max(NAMES, key=lambda name: scores[name])
    assert chosen == (best if scores[best] - scores[last] > sticky else last)


@given(SCORES, st.sampled_from(NAMES), st.integers(1, 64).map(lambda part: part / 64))
def test_a_loaded_expert_is_chosen_within_the_accepted_loss_and_the_regret_says_it(
    scores: dict[str, float], resident: str, within: float
) -> None:
    route = FixedK(1, preference=Preference(resident_within=within)).choose(ASK, scores, loaded(resident))
    best = max(NAMES, key=lambda name: scores[name])
    assert route.primary == (best if scores[best] - scores[resident] > within else resident)
    assert route.regret == pytest.approx(scores[best] - scores[route.primary], abs=1e-6)
    assert route.regret <= within


@pytest.mark.parametrize(("last", "best"), [(0.6, 0.7), (0.7, 0.8), (0.1, 0.2), (0.8, 0.9), (0.2, 0.3)])
def test_a_difference_of_exactly_the_threshold_stays_however_the_numbers_round(last: float, best: float) -> None:
    scores = {"ann": best, "bob": last}
    for preference, situation in ((Preference(sticky=0.1), after("bob")), (Preference(resident_within=0.1), loaded("bob"))):
        assert choice(preference, scores, situation) == "bob"
        assert choice(preference, scores | {"ann": best + 1e-6}, situation) == "ann"


@given(SCORES, st.sets(st.sampled_from(NAMES)), st.sets(st.sampled_from(NAMES)))
def test_without_thresholds_neither_the_last_turn_nor_who_is_loaded_is_looked_at(
    scores: dict[str, float], resident: set[str], last: set[str]
) -> None:
    situation = Situation(resident=frozenset(resident), last=tuple(last))
    assert FixedK(5).choose(ASK, scores, situation) == FixedK(5).choose(ASK, scores)
    sticky = FixedK(5, preference=Preference(sticky=0.5))
    assert sticky.choose(ASK, scores, situation) == sticky.choose(ASK, scores, Situation(last=tuple(last)))


def test_regret_is_the_mean_over_the_experts_asked() -> None:
    # by size cid and bob are asked, who score 0.5 and 0.6; the best two would score 0.9 and 0.6
    situation, scores = sized({"ann": 8.0, "bob": 1.0, "cid": 0.0}), {"ann": 0.9, "bob": 0.6, "cid": 0.5}
    route = FixedK(2, preference=Preference({"size": 1.0})).choose(ASK, scores, situation)
    assert (route.experts, route.regret) == (("cid", "bob"), 0.2)
    assert FixedK(3, preference=Preference({"size": 1.0})).choose(ASK, scores, situation).regret == 0
