"""What a request may take at most: its stand-ins, its limits, and what was taken where it cannot be booked."""

import math
import time
from dataclasses import replace
from typing import Any

import pytest

from aggregator import make_aggregator
from data.records import ANY_OBJECT, Message, Request, Route, Sampling
from experts import ExpertSpec
from experts.breaker import FAILURES
from experts.pool import ExpertPool
from router import FixedK
from router.budget import Limits
from serving.door import most_of
from serving.pipeline import Pipeline, one_question
from serving.store import Store, StoreError
from tests.serving.test_gateway import FRANCE, chat, made_key, served


def spec(name: str, price: float, say: str = "Paris") -> ExpertSpec:
    rules = [{"match": ".", "say": say}]
    return ExpertSpec(name, name, "scripted", price=(price, price), options={"script": rules}, max_tokens=50)


def mixture(*specs: ExpertSpec, dead: str | None = None, **more: Any) -> Pipeline:
    pool = ExpertPool(list(specs))
    if dead is not None:
        for _ in range(FAILURES):
            pool._breakers[pool.specs[dead].engine_key].failed(time.monotonic())
    return Pipeline(pool, None, more.pop("policy", FixedK(1)), make_aggregator("vote"), **more)


async def stand_ins(made: Pipeline, request: Request) -> list[tuple[str, str]]:
    async with made:
        _, trace = await made.answer(request, Route(("a",), (1.0,), "a", {name: 0.5 for name in made.pool.specs}))
    return [*trace.instead]


def most(of: ExpertSpec, request: Request) -> float:
    return of.most(request.messages, request.sampling).cost_usd


@pytest.mark.parametrize("limited", ["request", "policy"])
async def test_a_stand_in_takes_no_more_of_a_budget_than_the_share_of_whom_it_stands_in_for(limited: str) -> None:
    specs = [spec("a", 1.0), spec("b", 9.0), spec("c", 1.0)]
    asked = one_question(FRANCE)
    assert await stand_ins(mixture(*specs, dead="a"), asked) == [("a", "b")]
    for usd, instead in ((most(specs[1], asked), "b"), (most(specs[0], asked), "c")):
        policy = FixedK(1, limits=Limits(usd=usd)) if limited == "policy" else FixedK(1)
        request = replace(asked, budget_usd=usd if limited == "request" else None)
        assert await stand_ins(mixture(*specs, dead="a", policy=policy), request) == [("a", instead)]


async def test_whoever_was_paid_for_what_does_not_fit_has_used_up_its_share() -> None:
    specs = [spec("a", 1.0), spec("b", 1.0, "{}")]
    asked = replace(one_question(FRANCE), sampling=Sampling(schema=ANY_OBJECT))
    assert await stand_ins(mixture(*specs), asked) == [("a", "b")]
    one = most(specs[0], asked)
    assert await stand_ins(mixture(*specs), replace(asked, budget_usd=one)) == []
    assert await stand_ins(mixture(*specs), replace(asked, budget_usd=2 * one)) == [("a", "b")]


def test_what_a_request_can_take_counts_whoever_may_stand_in() -> None:
    specs = {each.name: each for each in (spec("a", 1.0), spec("b", 9.0))}
    request, route = Request("r", (Message("user", "Hi"),)), Route(("a",), (1.0,), "a", {"a": 1.0})
    vote = make_aggregator("vote")
    own, dear = (specs[name].most(request.messages, request.sampling).cost_usd for name in "ab")
    assert most_of(request, route, vote, specs).cost_usd == dear
    assert most_of(replace(request, exclude=("b",)), route, vote, specs).cost_usd == own
    assert most_of(replace(request, experts=("a",)), route, vote, specs).cost_usd == own
    form = replace(request, sampling=Sampling(schema=ANY_OBJECT))
    both = sum(specs[name].most(form.messages, form.sampling).cost_usd for name in "ab")
    assert math.isclose(most_of(form, route, vote, specs).cost_usd, both)


def test_the_limit_that_a_route_sets_is_the_one_that_is_counted_with() -> None:
    made = mixture(spec("a", 1.0), tokens=(10, 30))
    request, route = one_question(FRANCE), Route(("a",), (1.0,), "a", {"a": 0.0})
    assert made.limited(request, route).sampling.max_tokens == 30
    own = replace(request, sampling=Sampling(max_tokens=7))
    assert made.limited(own, route) == own


async def test_a_key_is_let_in_by_what_its_routes_limit_can_take(url: str) -> None:
    experts = [{"name": "a", "model": "-", "engine": "scripted", "options": {"script": [{"match": ".", "say": "x"}]}, "max_tokens": 5}]
    mine = made_key(url, tokens_per_minute=300)
    async with served(experts=experts, serving={"keys": True, "store": url}) as client:
        gateway = client._transport.app.state.gateway  # type: ignore[attr-defined]
        assert (await client.post("/v1/chat/completions", json=chat(FRANCE), headers=mine)).status_code == 200
        gateway.pipeline.tokens = (500, 500)
        refused = await client.post("/v1/chat/completions", json=chat(FRANCE), headers=mine)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "request_too_large")
    assert "retry-after" not in refused.headers


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_cannot_be_booked_is_given_all_the_same(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    def away(*_: object) -> None:
        raise StoreError("the store is away")

    mine = made_key(url, budget_usd=1.0)
    async with served(serving={"keys": True, "store": url}) as client:
        monkeypatch.setattr(Store, "settle", away)
        response = await client.post("/v1/chat/completions", json=chat(FRANCE, stream=stream), headers=mine)
        assert (response.status_code, "Paris" in response.text, "error" in response.text) == (200, True, False)
    assert "is not booked: the store is away" in caplog.text
