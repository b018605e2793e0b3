from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.records import Request
from router import FixedK, Mass, Policy, RouterError

NAMES = ["ann", "bob", "cid", "dee", "eve"]
SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=5).map(lambda scores: dict(zip(NAMES, scores, strict=False)))
POLICIES: st.SearchStrategy[Policy] = st.one_of(
    st.builds(FixedK, st.integers(1, 7)), st.builds(Mass, st.floats(0.01, 1), st.integers(1, 3), st.integers(3, 6))
)
ASK = Request("r", ())


@given(POLICIES, SCORES, st.none() | st.integers(1, 9))
def test_a_route_names_some_experts_best_first_with_weights_that_sum_to_1(policy: Policy, scores: dict[str, float], k: int | None) -> None:
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


@given(POLICIES, SCORES, st.integers(1, 9))
def test_a_request_that_names_k_gets_k_or_all(policy: Policy, scores: dict[str, float], k: int) -> None:
    assert len(policy.choose(Request("r", (), k=k), scores).experts) == min(k, len(scores))


@given(POLICIES, st.sampled_from([0.0, 0.3, 1.0]), st.permutations(NAMES))
def test_equals_keep_the_order_of_the_pool(policy: Policy, score: float, names: list[str]) -> None:
    route = policy.choose(ASK, dict.fromkeys(names, score))
    assert list(route.experts) == names[: len(route.experts)]
    assert route.weights == pytest.approx([1 / len(route.experts)] * len(route.experts))


@given(POLICIES, SCORES, st.sets(st.sampled_from(NAMES)), st.sets(st.sampled_from(NAMES)))
def test_only_allowed_experts_are_asked(policy: Policy, scores: dict[str, float], allowed: set[str], excluded: set[str]) -> None:
    allowed, excluded = allowed & scores.keys(), excluded & scores.keys()
    request = Request("r", (), experts=tuple(allowed), exclude=tuple(excluded))
    if allowed - excluded:
        assert set(policy.choose(request, scores).experts) <= allowed - excluded
    else:
        with pytest.raises(RouterError, match="the request allows no expert: experts and exclude leave none"):
            policy.choose(request, scores)


@given(POLICIES, SCORES)
def test_what_is_excluded_changes_no_others_order(policy: Policy, scores: dict[str, float]) -> None:
    name = next(iter(scores))
    if len(scores) > 1:
        all_of_them = policy.choose(Request("r", (), k=len(scores)), scores).experts
        others = policy.choose(Request("r", (), k=len(scores), exclude=(name,)), scores).experts
        assert others == tuple(other for other in all_of_them if other != name)


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


def test_mass_by_hand() -> None:
    scores = {"ann": 0.1, "bob": 0.6, "cid": 0.3}  # shares of 1: bob 0.6, bob and cid 0.9
    by_mass: Mapping[float, tuple[str, ...]] = {0.5: ("bob",), 0.7: ("bob", "cid"), 0.95: ("bob", "cid", "ann"), 1.0: ("bob", "cid", "ann")}
    for mass, experts in by_mass.items():
        assert Mass(mass).choose(ASK, scores).experts == experts
    assert Mass(0.5, k_min=2).choose(ASK, scores).experts == ("bob", "cid")
    assert Mass(1.0, k_max=2).choose(ASK, scores).experts == ("bob", "cid")
    assert Mass(0.7).choose(ASK, scores).weights == pytest.approx((2 / 3, 1 / 3))


def test_where_all_scores_are_zero_the_first_expert_is_asked() -> None:
    assert Mass().choose(ASK, {"ann": 0.0, "bob": 0.0}).experts == ("ann",)
    assert FixedK(2).choose(ASK, {"ann": 0.0, "bob": 0.0}).weights == (0.5, 0.5)


@pytest.mark.parametrize("request_", [Request("r", (), experts=("zoe",)), Request("r", (), exclude=("zoe",))])
def test_an_expert_outside_the_pool_is_named(request_: Request) -> None:
    with pytest.raises(RouterError, match="no expert is called 'zoe'; the mixture has ann, bob"):
        FixedK().choose(request_, {"ann": 0.5, "bob": 0.5})
