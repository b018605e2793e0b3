import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.records import Message, Request, Route
from router import FixedK, Mass, RouterError
from router.budget import Limits
from router.cards import Card, Situation
from router.policy import Cascade, CountingPolicy, EntropyGate, Recruit, SelfSample, entropy
from router.preference import TERMS, Preference

NAMES = ["ann", "bob", "cid", "dee", "eve"]
SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=5).map(lambda scores: dict(zip(NAMES, scores, strict=False)))
SOME = st.sets(st.sampled_from(NAMES))
SIXTEENTHS = st.integers(0, 16).map(lambda part: part / 16)  # their sums are exact


AMOUNTS = st.integers(0, 4).map(float)
CARDS = st.one_of(
    st.builds(Card, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS),
    st.builds(Card, AMOUNTS, AMOUNTS, AMOUNTS, role=st.just("shared")),
    st.builds(Card, AMOUNTS, AMOUNTS, AMOUNTS, role=st.just("constant"), match=st.just(("hello",))),
)
DECKS = st.lists(CARDS, max_size=5).map(lambda cards: dict(zip(NAMES, cards, strict=False)))
SITUATIONS = st.builds(Situation, DECKS, SOME.map(frozenset), SOME.map(tuple))
LIMITS = st.none() | st.none() | st.integers(0, 9).map(float)
POLICIES: st.SearchStrategy[CountingPolicy] = st.one_of(
    st.builds(FixedK, st.integers(1, 7)),
    st.builds(Mass, st.floats(0.01, 1), st.integers(1, 3), st.integers(3, 6)),
    st.builds(EntropyGate, st.floats(0, 1), st.integers(1, 7)),
)
SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "preference": st.builds(Preference, st.dictionaries(st.sampled_from(list(TERMS)), st.floats(0, 2)), st.floats(0, 1), st.floats(0, 1)),
    "limits": st.builds(Limits, *[LIMITS.map(lambda limit: math.inf if limit is None else limit)] * 3),
}
CASCADES = st.builds(Cascade, st.floats(0, 1), st.integers(1, 3), st.floats(0, 1), st.integers(1, 5), **SETTINGS)
EVERY_POLICY: st.SearchStrategy[CountingPolicy] = st.one_of(
    st.builds(FixedK, st.integers(1, 7), st.floats(0, 1), **SETTINGS),
    st.builds(Mass, st.floats(0.01, 1), st.integers(1, 3), st.integers(3, 6), **SETTINGS),
    st.builds(EntropyGate, st.floats(0, 1), st.integers(1, 7), **SETTINGS),
    CASCADES,
    st.builds(SelfSample, st.integers(1, 5), **SETTINGS),
    st.builds(Recruit, st.integers(1, 5), st.integers(0, 3), **SETTINGS),
)
QUESTIONS = st.sampled_from(["Hello!", "What is 2 + 2?"]).map(lambda text: (Message("user", text),))
REQUESTS = st.builds(
    Request, st.just("r"), QUESTIONS, k=st.none() | st.integers(1, 6), exclude=SOME.map(tuple), budget_usd=LIMITS, max_latency_s=LIMITS
)
ASK = Request("r", ())
HELLO, SUM = (Request("r", (Message("user", text),)) for text in ("Hello!", "hello, what is 2+2?"))
ONE_OF_EACH: list[CountingPolicy] = [FixedK(), Mass(), EntropyGate(), Cascade(), SelfSample(), Recruit()]
each_policy = pytest.mark.parametrize("policy", ONE_OF_EACH, ids=lambda policy: type(policy).__name__)


def chosen_by(policy: CountingPolicy, request: Request, scores: Mapping[str, float], situation: Situation) -> Route | None:
    """The route, or None where nothing fits or nobody may answer."""
    request = replace(request, exclude=tuple(name for name in request.exclude if name in scores))
    try:
        return policy.choose(request, scores, situation)
    except RouterError:
        return None


@given(POLICIES, SCORES, st.none() | st.integers(1, 9))
def test_a_route_names_some_experts_best_first_with_weights_that_sum_to_1(
    policy: CountingPolicy, scores: dict[str, float], k: int | None
) -> None:
    route = policy.choose(Request("r", (), k=k), scores)
    chosen = [scores[name] for name in route.experts]
    assert 1 <= len(route.experts) == len(set(route.experts)) == len(route.weights)
    assert chosen == sorted(chosen, reverse=True)
    assert min(chosen) >= max([score for name, score in scores.items() if name not in route.experts], default=0)
    assert sum(route.weights) == pytest.approx(1)
    assert min(route.weights) >= 0
    assert list(route.weights) == sorted(route.weights, reverse=True)
    assert route.primary == route.experts[0]
    assert route.scores == scores


@given(EVERY_POLICY, REQUESTS, SCORES, SITUATIONS)
def test_weights_sum_to_1_and_are_shares_of_the_scores(
    policy: CountingPolicy, request: Request, scores: dict[str, float], situation: Situation
) -> None:
    if route := chosen_by(policy, request, scores, situation):
        total = sum(scores[name] for name in route.experts)
        shares = [scores[name] / total if total else 1 / len(route.experts) for name in route.experts]
        assert route.weights == pytest.approx(shares)
        assert sum(route.weights) == pytest.approx(1)
        assert route.primary == route.experts[0]


@each_policy
def test_a_score_that_is_no_number_which_no_router_gives_leaves_weights_that_are(policy: CountingPolicy) -> None:
    for scores in ({"ann": math.nan, "bob": 0.5, "cid": 0.4}, {"ann": 0.5, "bob": math.nan}, {"ann": math.nan}):
        assert sum(policy.choose(ASK, scores).weights) == pytest.approx(1)


@given(POLICIES, SCORES, st.integers(1, 9))
def test_a_request_that_names_k_gets_k_or_all(policy: CountingPolicy, scores: dict[str, float], k: int) -> None:
    assert len(policy.choose(Request("r", (), k=k), scores).experts) == min(k, len(scores))


@given(POLICIES, st.sampled_from([0.0, 0.3, 1.0]), st.permutations(NAMES))
def test_equals_keep_the_order_of_the_pool(policy: CountingPolicy, score: float, names: list[str]) -> None:
    route = policy.choose(ASK, dict.fromkeys(names, score))
    assert list(route.experts) == names[: len(route.experts)]
    assert route.weights == pytest.approx([1 / len(route.experts)] * len(route.experts))


@given(EVERY_POLICY, REQUESTS, SCORES, SITUATIONS, st.permutations(NAMES))
def test_what_experts_are_called_changes_no_route(
    policy: CountingPolicy, request: Request, scores: dict[str, float], situation: Situation, names: list[str]
) -> None:
    other = dict(zip(NAMES, names, strict=True))
    renamed = Situation(
        {other[name]: card for name, card in situation.cards.items()},
        frozenset(other[name] for name in situation.resident),
        tuple(other[name] for name in situation.last),
    )
    route = chosen_by(policy, request, scores, situation)
    turned = replace(request, exclude=tuple(other[name] for name in request.exclude))
    again = chosen_by(policy, turned, {other[name]: score for name, score in scores.items()}, renamed)
    assert (route is None) == (again is None)
    if route and again:
        assert again.experts == tuple(other[name] for name in route.experts)
        assert again.reserve == tuple(other[name] for name in route.reserve)
        assert (again.weights, again.regret) == (route.weights, route.regret)


@given(EVERY_POLICY, REQUESTS, SCORES, SITUATIONS, SOME, SOME)
def test_only_allowed_experts_are_asked_the_shared_and_constant_ones_too(
    policy: CountingPolicy, request: Request, scores: dict[str, float], situation: Situation, allowed: set[str], excluded: set[str]
) -> None:
    allowed, excluded = allowed & scores.keys(), excluded & scores.keys()
    request = replace(request, experts=tuple(allowed), exclude=tuple(excluded))
    if not allowed - excluded:
        with pytest.raises(RouterError, match="the request allows no expert: experts and exclude leave none"):
            policy.choose(request, scores, situation)
    elif route := chosen_by(policy, request, scores, situation):
        assert {*route.experts, *route.reserve} <= allowed - excluded


@given(POLICIES, SCORES)
def test_what_is_excluded_changes_no_others_order(policy: CountingPolicy, scores: dict[str, float]) -> None:
    name = next(iter(scores))
    if len(scores) > 1:
        all_of_them = policy.choose(Request("r", (), k=len(scores)), scores).experts
        others = policy.choose(Request("r", (), k=len(scores), exclude=(name,)), scores).experts
        assert others == tuple(other for other in all_of_them if other != name)


@pytest.mark.parametrize("request_", [Request("r", (), experts=("zoe",)), Request("r", (), exclude=("zoe",))])
def test_an_expert_outside_the_pool_is_named(request_: Request) -> None:
    with pytest.raises(RouterError, match="no expert is called 'zoe'; the mixture has ann, bob"):
        FixedK().choose(request_, {"ann": 0.5, "bob": 0.5})


def fit(names: list[str], usd: float, latency_s: float, size_b: float, situation: Situation) -> bool:
    """Whether experts hold the limits: each call is paid, weights are held once, the slowest is waited for."""
    cards = [situation.card(name) for name in names]
    return (
        sum(card.usd for card in cards) <= usd
        and max([card.latency_s for card in cards], default=0) <= latency_s
        and sum(situation.card(name).size_b for name in set(names)) <= size_b
    )


@settings(max_examples=500)
@given(EVERY_POLICY, REQUESTS, SCORES, SITUATIONS)
def test_a_budget_is_never_exceeded_and_refused_only_where_nothing_fits(
    policy: CountingPolicy, request: Request, scores: dict[str, float], situation: Situation
) -> None:
    request = replace(request, exclude=())
    usd = min(policy.limits.usd, math.inf if request.budget_usd is None else request.budget_usd)
    latency_s = min(policy.limits.latency_s, math.inf if request.max_latency_s is None else request.max_latency_s)
    limits = (usd, latency_s, policy.limits.size_b, situation)
    roles = {name: situation.card(name).role for name in scores}
    shared = [name for name in scores if roles[name] == "shared"]
    routed = [name for name in scores if roles[name] == "routed"]
    constant = [name for name in scores if roles[name] == "constant" and request.question == "Hello!" and fit([name], *limits)]
    possible = bool(constant or (fit(shared, *limits) and (shared or any(fit([name], *limits) for name in routed))))
    if possible:
        route = policy.choose(request, scores, situation)
        assert fit([*route.experts, *route.reserve], *limits)
        assert not set(route.experts) & set(route.reserve)
    else:
        with pytest.raises(RouterError, match="^.* a budget of .*$" if routed + shared else "answers such a question"):
            policy.choose(request, scores, situation)


@given(CASCADES, REQUESTS, SCORES, SITUATIONS)
def test_a_cascade_and_its_reserve_are_k_experts_at_the_most(
    policy: Cascade, request: Request, scores: dict[str, float], situation: Situation
) -> None:
    if route := chosen_by(policy, request, scores, situation):
        routed = [name for name in (*route.experts, *route.reserve) if situation.card(name).role == "routed"]
        assert len(routed) == len(set(routed)) <= (request.k or policy.k_max)


PRICES = Situation({"ann": Card(usd=3.0, latency_s=9.0), "bob": Card(usd=2.0, size_b=8.0), "cid": Card(usd=2.0, size_b=2.0)})
SKILLS = {"ann": 0.9, "bob": 0.6, "cid": 0.5}


def test_what_does_not_fit_together_gives_way_to_the_best_that_does() -> None:
    # ann and another cost 5; bob and cid cost 4, and 1 - 0.4 * 0.5 = 0.8 is less than ann's 0.9
    assert FixedK(2).choose(replace(ASK, budget_usd=5.0), SKILLS, PRICES).experts == ("ann", "bob")
    assert FixedK(2).choose(replace(ASK, budget_usd=4.0), SKILLS, PRICES).experts == ("ann",)
    assert FixedK(2).choose(replace(ASK, max_latency_s=5.0), SKILLS, PRICES).experts == ("bob", "cid")
    assert FixedK(2, limits=Limits(size_b=8.0)).choose(ASK, SKILLS, PRICES).experts == ("ann", "bob")
    assert FixedK(3, limits=Limits(size_b=8.0)).choose(ASK, SKILLS, PRICES).experts == ("ann", "bob")


@each_policy
def test_where_no_expert_fits_the_budget_is_named(policy: CountingPolicy) -> None:
    with pytest.raises(RouterError, match="no expert fits a budget of 1 US dollars: the request allows ann, cid"):
        policy.choose(replace(ASK, budget_usd=1.0, exclude=("bob",)), SKILLS, PRICES)


@each_policy
def test_shared_experts_that_do_not_fit_are_named_with_the_budget(policy: CountingPolicy) -> None:
    situation = Situation({"ann": Card(usd=3.0, role="shared")})
    with pytest.raises(RouterError, match="what is asked for every question does not fit a budget of 2 US dollars: ann"):
        policy.choose(replace(ASK, budget_usd=2.0), SKILLS, situation)


@each_policy
@pytest.mark.parametrize("limits", [Limits(usd=4.0), Limits(size_b=4.0)])
def test_what_shared_experts_take_is_not_there_for_the_others(policy: CountingPolicy, limits: Limits) -> None:
    card = Card(usd=2.0, size_b=2.0)
    situation = Situation({"ann": card, "bob": replace(card, role="shared"), "cid": card, "dee": Card(usd=3.0, size_b=3.0)})
    route = replace(policy, limits=limits).choose(ASK, {"ann": 0.6, "bob": 0.1, "cid": 0.5, "dee": 0.9}, situation)
    assert {*route.experts, *route.reserve} in ({"ann", "bob"}, {"bob", "cid"})


@each_policy
def test_a_policys_limit_holds_where_a_request_allows_more(policy: CountingPolicy) -> None:
    limited = replace(policy, limits=Limits(latency_s=5.0))
    route = limited.choose(replace(ASK, budget_usd=99.0, max_latency_s=10.0), SKILLS, PRICES)
    assert {*route.experts, *route.reserve} <= {"bob", "cid"}


@given(EVERY_POLICY, REQUESTS, SCORES, SITUATIONS)
def test_shared_experts_are_always_asked_unless_a_constant_one_answers(
    policy: CountingPolicy, request: Request, scores: dict[str, float], situation: Situation
) -> None:
    if route := chosen_by(policy, request, scores, situation):
        shared = [name for name in scores if situation.card(name).role == "shared" and name not in request.exclude]
        if situation.card(route.primary).role == "constant":
            assert (route.experts, route.reserve) == ((route.primary,), ())
            assert request.question == "Hello!"
        else:
            assert sorted(name for name in route.experts if situation.card(name).role == "shared") == shared


@each_policy
def test_a_constant_expert_answers_alone_what_it_matches_and_nothing_else(policy: CountingPolicy) -> None:
    situation = Situation({"ann": Card(role="constant", match=("hello|hi",)), "bob": Card(role="shared")})
    scores = {"ann": 0.1, "bob": 0.5, "cid": 0.9}
    assert policy.choose(HELLO, scores, situation).experts == ("ann",)
    assert policy.choose(replace(HELLO, k=3), scores, situation).weights == (1.0,)
    route = policy.choose(SUM, scores, situation)
    assert "ann" not in (*route.experts, *route.reserve)
    assert route.experts[-1] == "bob"


@each_policy
def test_constant_experts_do_not_answer_other_questions_even_alone(policy: CountingPolicy) -> None:
    situation = Situation({"ann": Card(role="constant", match=("hello",))})
    with pytest.raises(RouterError, match="the request allows no expert that answers such a question"):
        policy.choose(SUM, {"ann": 1.0}, situation)


@each_policy
def test_where_nobody_competes_the_shared_experts_answer_once_each(policy: CountingPolicy) -> None:
    situation = Situation({"ann": Card(role="shared"), "bob": Card(role="shared")})
    assert policy.choose(ASK, {"ann": 0.3, "bob": 0.6}, situation).experts == ("bob", "ann")


@given(SCORES, st.floats(0.01, 1), st.floats(0.01, 1))
def test_more_mass_never_asks_fewer_experts(scores: dict[str, float], a: float, b: float) -> None:
    less, more = (Mass(mass, k_max=9).choose(ASK, scores).experts for mass in sorted((a, b)))
    assert more[: len(less)] == less


@given(SCORES, st.floats(0.01, 1))
def test_mass_asks_the_fewest_that_reach_it(scores: dict[str, float], mass: float) -> None:
    chosen = Mass(mass, k_max=9).choose(ASK, scores).experts
    total = sum(scores.values())
    reached = [sum(scores[name] for name in chosen[:count]) for count in range(len(chosen) + 1)]
    assert reached[-1] >= mass * total - 1e-9
    assert len(chosen) == 1 or reached[-2] < mass * total + 1e-9


@given(st.lists(SIXTEENTHS, min_size=1, max_size=5), st.integers(1, 64))
def test_harder_questions_get_at_least_as_many_experts_by_mass(parts: list[float], mass: int) -> None:
    flat, sharp = dict(zip(NAMES, parts, strict=False)), {name: part**2 for name, part in zip(NAMES, parts, strict=False)}
    policy = Mass(mass / 64, k_max=9)
    assert len(policy.choose(ASK, flat).experts) >= len(policy.choose(ASK, sharp).experts)


@given(SCORES, st.floats(0.01, 1), st.integers(1, 3), st.integers(3, 4))
def test_mass_asks_no_fewer_than_k_min_and_no_more_than_k_max(scores: dict[str, float], mass: float, k_min: int, k_max: int) -> None:
    assert min(k_min, len(scores)) <= len(Mass(mass, k_min, k_max).choose(ASK, scores).experts) <= k_max


def test_mass_by_hand() -> None:
    scores = {"ann": 0.1, "bob": 0.6, "cid": 0.3}  # shares of 1: bob 0.6, bob and cid 0.9
    by_mass: Mapping[float, tuple[str, ...]] = {0.5: ("bob",), 0.7: ("bob", "cid"), 0.95: ("bob", "cid", "ann"), 1.0: ("bob", "cid", "ann")}
    for mass, experts in by_mass.items():
        assert Mass(mass).choose(ASK, scores).experts == experts
    assert Mass(0.5, k_min=2).choose(ASK, scores).experts == ("bob", "cid")
    assert Mass(1.0, k_max=2).choose(ASK, scores).experts == ("bob", "cid")
    assert Mass(0.7).choose(ASK, scores).weights == pytest.approx((2 / 3, 1 / 3))
    assert Mass(0.5).choose(ASK, {"ann": 0.5, "bob": 0.25, "cid": 0.25}).experts == ("ann",)


def test_where_all_scores_are_zero_the_first_expert_is_asked() -> None:
    assert Mass().choose(ASK, {"ann": 0.0, "bob": 0.0}).experts == ("ann",)
    assert FixedK(2).choose(ASK, {"ann": 0.0, "bob": 0.0}).weights == (0.5, 0.5)


@given(SCORES, st.floats(0, 1), st.floats(0, 1), st.sampled_from([0.5, 1.0, 2.0]))
def test_a_higher_gate_never_asks_more_experts(scores: dict[str, float], a: float, b: float, q: float) -> None:
    low, high = (EntropyGate(gate, 4, q=q).choose(ASK, scores).experts for gate in sorted((a, b)))
    assert low[: len(high)] == high
    assert len(low) in (1, min(4, len(scores)))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0, 1), st.sampled_from([0.5, 1.0, 1.5, 2.0]))
def test_entropy_lies_from_0_to_1_and_rises_as_amounts_get_flatter(amounts: list[float], power: float, q: float) -> None:
    amounts = [round(amount, 3) for amount in amounts]  # so that a power of something is something
    sharp, flat = entropy(amounts, q), entropy([amount**power if amount else 0.0 for amount in amounts], q)
    assert 0 <= sharp <= flat + 1e-9
    assert flat <= 1


def test_entropy_by_hand() -> None:
    assert entropy([3.0, 1.0]) == pytest.approx(-(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)))
    assert entropy([3.0, 1.0], q=2.0) == pytest.approx((1 - 0.75**2 - 0.25**2) / (1 - 1 / 2))
    assert entropy([3.0, 1.0], q=1 + 1e-15) == pytest.approx(entropy([3.0, 1.0]))
    assert (entropy([]), entropy([0.7]), entropy([0.7, 0.0, 0.0]), entropy([0.0, 0.0])) == (0, 0, 0, 1)


def test_no_rounding_passes_a_gate_of_1() -> None:
    for n in range(2, 40):
        assert len(EntropyGate(1.0).choose(ASK, {f"expert {at}": 0.7 for at in range(n)}).experts) == 1


@given(SCORES, st.floats(0, 1), st.floats(0, 1))
def test_the_higher_the_null_expert_the_fewer_calls(scores: dict[str, float], a: float, b: float) -> None:
    low, high = (FixedK(4, null).choose(ASK, scores).experts for null in sorted((a, b)))
    assert low[: len(high)] == high
    assert all(scores[name] >= min(a, b) for name in low[1:])
    assert low == FixedK(4).choose(ASK, scores).experts or scores[FixedK(4).choose(ASK, scores).experts[len(low)]] < min(a, b)


def test_null_experts_by_hand() -> None:
    scores = {"ann": 0.2, "bob": 0.6, "cid": 0.4}
    asked = {null: FixedK(3, null).choose(ASK, scores).experts for null in (0.0, 0.2, 0.3, 0.5, 0.9)}
    assert [len(experts) for experts in asked.values()] == [3, 3, 2, 1, 1]
    assert asked[0.9] == ("bob",)
    # by price cid comes first, and what is below the null expert is asked only as the first
    cheap = Preference({"price": 0.5})
    situation = Situation({"bob": Card(usd=1.0)})
    assert FixedK(3, 0.5, preference=cheap).choose(ASK, scores, situation).experts == ("cid",)


LADDER = Situation({"ann": Card(usd=0.1), "bob": Card(usd=1.0, size_b=7.0), "cid": Card(usd=1.0, size_b=9.0), "dee": Card(usd=5.0)})
RUNGS = {"ann": 0.3, "bob": 0.6, "cid": 0.7, "dee": 0.9}


def test_a_cascade_asks_the_cheapest_that_is_good_enough_and_keeps_the_best_in_reserve() -> None:
    route = Cascade(0.5, agreement=0.7).choose(ASK, RUNGS, LADDER)
    # ann is cheaper, but not good enough; of bob and cid, who cost the same, bob is smaller
    assert (route.experts, route.reserve, route.agreement) == (("bob",), ("dee", "cid"), 0.7)
    assert Cascade(0.2).choose(ASK, RUNGS, LADDER).experts == ("ann",)
    assert Cascade(0.5, first=2).choose(ASK, RUNGS, LADDER).experts == ("bob", "cid")
    assert Cascade(0.8, first=2).choose(ASK, RUNGS, LADDER).experts == ("dee", "cid")  # one is good enough, then the best
    assert Cascade(0.5, k_max=1).choose(ASK, RUNGS, LADDER).reserve == ()
    assert Cascade(0.5).choose(replace(ASK, k=2), RUNGS, LADDER).reserve == ("dee",)


def test_where_nobody_is_good_enough_a_cascade_asks_the_best() -> None:
    route = Cascade(0.95).choose(ASK, RUNGS, LADDER)
    assert (route.experts, route.reserve) == (("dee",), ("cid", "bob"))


def test_a_cascades_reserve_fits_together_with_those_before_it() -> None:
    assert Cascade(0.5).choose(replace(ASK, budget_usd=6.5), RUNGS, LADDER).reserve == ("dee", "ann")
    assert Cascade(0.5).choose(replace(ASK, budget_usd=2.5), RUNGS, LADDER).reserve == ("cid", "ann")
    assert Cascade(0.5).choose(replace(ASK, budget_usd=1.0), RUNGS, LADDER).reserve == ()
    # together cid and bob are too dear; the best of what fits is asked
    assert Cascade(0.5, first=2).choose(replace(ASK, budget_usd=1.5), RUNGS, LADDER).experts == ("cid", "ann")


def test_a_cascade_looks_for_the_cheapest_among_those_that_fit() -> None:
    slow = Situation({**LADDER.cards, "bob": Card(usd=0.5, latency_s=9.0)})
    route = Cascade(0.5).choose(replace(ASK, max_latency_s=1.0), RUNGS, slow)
    assert (route.experts, route.reserve) == (("cid",), ("dee", "ann"))


@given(SCORES, st.floats(0, 1), st.permutations([0.5, 1.0, 1.5, 2.0, 2.5]))
def test_nobody_who_is_good_enough_is_cheaper_than_a_cascades_first(scores: dict[str, float], floor: float, prices: list[float]) -> None:
    situation = Situation({name: Card(usd=usd) for name, usd in zip(NAMES, prices, strict=True)})
    route = Cascade(floor, k_max=9).choose(ASK, scores, situation)
    enough = [name for name in scores if scores[name] >= floor]
    if enough:
        assert route.primary == min(enough, key=lambda name: situation.card(name).usd)
    else:
        assert scores[route.primary] == max(scores.values())
    reserve = [scores[name] for name in route.reserve]
    assert reserve == sorted(reserve, reverse=True)
    assert {*route.experts, *route.reserve} == scores.keys()


@given(SCORES, st.integers(1, 6), st.none() | st.integers(1, 6))
def test_self_sampling_asks_the_best_k_times(scores: dict[str, float], k: int, wanted: int | None) -> None:
    route = SelfSample(k).choose(Request("r", (), k=wanted), scores)
    assert route.experts == FixedK(1).choose(ASK, scores).experts * (wanted or k)
    assert route.regret == 0


def test_self_sampling_asks_less_often_within_a_budget() -> None:
    # ann costs 3 a call; a slow one, or one that is too dear, gives way to the next best
    asked = {usd: SelfSample(3).choose(replace(ASK, budget_usd=usd), SKILLS, PRICES).experts for usd in (10.0, 8.0, 5.0, 2.0)}
    assert list(asked.values()) == [("ann",) * 3, ("ann",) * 2, ("ann",), ("bob",)]
    assert SelfSample(2).choose(replace(ASK, max_latency_s=5.0), SKILLS, PRICES).experts == ("bob", "bob")
    assert SelfSample(3, limits=Limits(size_b=8.0)).choose(replace(ASK, exclude=("ann",)), SKILLS, PRICES).experts == ("bob",) * 3


def test_shared_experts_are_asked_once_beside_the_samples() -> None:
    situation = Situation({"ann": Card(usd=2.0), "bob": Card(usd=1.0, role="shared")})
    route = SelfSample(3).choose(replace(ASK, budget_usd=5.5), {"ann": 0.9, "bob": 0.6}, situation)
    assert (route.experts, route.primary) == (("ann", "ann", "bob"), "ann")


def asking(text: str) -> Request:
    return Request("r", (Message("user", text),))


@given(SCORES, st.text(min_size=1), st.integers(0, 9))
def test_the_same_question_recruits_the_same_experts(scores: dict[str, float], text: str, seed: int) -> None:
    policy = Recruit(3, seed)
    route = policy.choose(asking(text), scores)
    assert route == policy.choose(replace(asking(text), id="another"), scores)
    assert len(route.experts) == 3
    assert all(scores[name] > 0 for name in route.experts) or not any(scores.values())


def test_recruits_follow_their_scores_over_many_questions() -> None:
    scores = {"ann": 0.09, "bob": 0.54, "cid": 0.27, "dee": 0.0}  # shares 0.1, 0.6, 0.3 and none
    routes = [Recruit(2).choose(asking(f"question {at}"), scores) for at in range(2000)]
    counts = Counter(name for route in routes for name in route.experts)
    assert counts.keys() == {"ann", "bob", "cid"}
    for name, share in {"ann": 0.1, "bob": 0.6, "cid": 0.3}.items():
        assert counts[name] / 4000 == pytest.approx(share, abs=0.03)
    assert {route.experts for route in routes} >= {("bob", "bob"), ("bob", "cid"), ("bob", "ann"), ("cid", "ann")}
    assert routes != [Recruit(2, seed=1).choose(asking(f"question {at}"), scores) for at in range(2000)]


def test_recruits_stand_best_first_and_the_later_draws_give_way_to_a_budget() -> None:
    texts = [f"question {at}" for at in range(100)]
    for text in texts:
        whole = Recruit(4).choose(asking(text), SKILLS, PRICES)
        assert list(whole.experts) == sorted(whole.experts)  # ann is better than bob, and bob than cid
        within = Recruit(4).choose(replace(asking(text), budget_usd=7.0), SKILLS, PRICES)
        assert 2 <= len(within.experts) <= 3
        assert within.experts == Recruit(len(within.experts)).choose(asking(text), SKILLS, PRICES).experts
