import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.records import Answer, CounterpointError, Message, Request, Route, Sampling, Trace, Usage
from serving.cache import APART, Cache, bytes_in, digest_of
from serving.config import CacheConfig, ConfigError, MixtureConfig, load_config
from serving.gateway import Gateway
from serving.keys import Keys
from serving.likeness import Likeness, encoder_of
from serving.pipeline import Finished, Pipeline, one_question
from serving.recall import Recall
from serving.routes import make_app
from serving.store import Store

SCRIPT = [
    {"match": "capital of France", "say": "Paris it is"},
    {"match": "break", "fail": "told to fail"},
    {"match": "slow", "say": "late but there", "delay_s": 0.3},
    {"match": ".", "say": "unsure"},
]
FRANCE = "What is the capital of France?"


def config(cache: dict[str, Any] | None = None, **changes: Any) -> MixtureConfig:
    experts = [{"name": name, "model": "-", "engine": "scripted", "options": {"script": SCRIPT}} for name in "ab"]
    serving = {"cache": cache if cache is not None else {"kind": "exact"}} | changes.pop("serving", {})
    body = {"version": 1, "name": "mix", "experts": experts, "aggregator": {"kind": "vote"}, "serving": serving}
    return MixtureConfig.model_validate(body | changes)


@asynccontextmanager
async def served(made: MixtureConfig | None = None) -> AsyncIterator[tuple[httpx.AsyncClient, Gateway]]:
    gateway = Gateway(made or config())
    await gateway.start()
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(make_app(gateway)), base_url="http://127.0.0.1") as client:
            yield client, gateway
    finally:
        await gateway.stop()


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "mix", "messages": [{"role": "user", "content": text}]} | more


async def ask(client: httpx.AsyncClient, body: dict[str, Any], **headers: str) -> tuple[str, dict[str, Any]]:
    """The header that tells of the cache, and the body."""
    response = await client.post("/v1/chat/completions", json=body, headers=headers)
    assert response.status_code == 200, response.text
    return response.headers["x-counterpoint-cache"], response.json()


def calls_of(gateway: Gateway) -> int:
    return sum(gateway.pipeline.pool.stats.answered.values())


def text_of(body: dict[str, Any]) -> str:
    return str(body["choices"][0]["message"]["content"])


async def test_the_same_request_is_answered_again_without_asking_and_for_nothing() -> None:
    async with served() as (client, gateway):
        first, one = await ask(client, chat(FRANCE, counterpoint={"explain": True}))
        asked = calls_of(gateway)
        second, two = await ask(client, chat(FRANCE, counterpoint={"explain": True}))
        assert (calls_of(gateway), gateway.cache is not None and (gateway.cache.hits, gateway.cache.misses)) == (asked, (1, 1))
    assert (first, second) == ("miss", "hit")
    assert text_of(one) == text_of(two) == "Paris it is"
    assert one["id"] != two["id"]
    assert (one["usage"]["total_tokens"] > 0, two["usage"]["total_tokens"]) == (True, 0)
    assert ("cached" in one["counterpoint"], two["counterpoint"]["cached"]) == (False, True)
    assert (two["counterpoint"]["calls"], two["counterpoint"]["cost_usd"]) == (0, 0)
    assert [part["text"] for part in two["counterpoint"]["answers"]] == ["Paris it is", "Paris it is"]


async def test_without_a_cache_nothing_is_kept_and_no_header_tells_of_one() -> None:
    body = config().model_copy(update={"serving": config().serving.model_copy(update={"cache": None})})
    async with served(body) as (client, gateway):
        for _ in range(2):
            response = await client.post("/v1/chat/completions", json=chat(FRANCE))
            assert "x-counterpoint-cache" not in response.headers
        assert calls_of(gateway) == 4


async def test_a_hit_is_streamed_in_pieces_and_tells_that_it_is_one() -> None:
    async with served() as (client, gateway):
        await ask(client, chat(FRANCE))
        asked = calls_of(gateway)
        body = chat(FRANCE, stream=True, stream_options={"include_usage": True}, counterpoint={"explain": True})
        response = await client.post("/v1/chat/completions", json=body)
        assert calls_of(gateway) == asked
    assert response.headers["x-counterpoint-cache"] == "hit"
    assert response.headers["content-type"].startswith("text/event-stream")
    chunks = [json.loads(line.removeprefix("data: ")) for line in response.text.split("\n\n")[:-2]]
    pieces = [choice["delta"].get("content") for chunk in chunks for choice in chunk["choices"] if choice["delta"].get("content")]
    assert pieces == ["Paris ", "it ", "is"]
    assert [chunk["counterpoint"]["cached"] for chunk in chunks if "cached" in chunk.get("counterpoint", {})] == [True]
    assert chunks[-1]["usage"]["total_tokens"] == 0


async def test_what_was_streamed_is_kept_for_who_asks_at_once() -> None:
    async with served() as (client, _):
        response = await client.post("/v1/chat/completions", json=chat(FRANCE, stream=True))
        assert response.headers["x-counterpoint-cache"] == "miss"
        told, body = await ask(client, chat(FRANCE))
    assert (told, text_of(body)) == ("hit", "Paris it is")


@pytest.mark.parametrize(
    "other",
    [
        chat(FRANCE + " "),
        chat(FRANCE, max_tokens=2),
        chat(FRANCE, seed=3),
        chat(FRANCE, stop=["x"]),
        chat(FRANCE, top_p=0.5),
        chat(FRANCE, model="a"),
        chat(FRANCE, messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": FRANCE}]),
        *[
            chat(FRANCE, counterpoint=options)
            for options in (
                {"k": 1},
                {"experts": ["b"]},
                {"exclude": ["b"]},
                {"aggregator": "best"},
                {"budget_usd": 1.0},
                {"max_latency_s": 9.0},
                {"objective": {"price": 1.0}},
                {"primary_first": True},
            )
        ],
    ],
    ids=lambda body: json.dumps({name: value for name, value in body.items() if chat(FRANCE).get(name) != value}),
)
async def test_a_request_that_differs_in_what_determines_the_answer_is_asked(other: dict[str, Any]) -> None:
    async with served() as (client, _):
        await ask(client, chat(FRANCE))
        assert (await ask(client, other))[0] == "miss"


async def test_what_does_not_determine_the_answer_is_no_difference() -> None:
    async with served() as (client, _):
        await ask(client, chat(FRANCE))
        for other in (
            chat(FRANCE, user="ann", metadata={"a": "b"}),
            chat(FRANCE, temperature=0),
            chat(FRANCE, counterpoint={"explain": True}),
        ):
            assert (await ask(client, other))[0] == "hit"


async def test_who_samples_is_asked_anew_unless_the_config_says_otherwise() -> None:
    for above, told in ((False, ["miss", "miss"]), (True, ["miss", "hit"])):
        async with served(config({"kind": "exact", "temperature_above": above})) as (client, _):
            assert [(await ask(client, chat(FRANCE, temperature=0.5)))[0] for _ in range(2)] == told


async def test_each_of_several_choices_is_kept_for_itself() -> None:
    async with served() as (client, gateway):
        await ask(client, chat(FRANCE))
        told, body = await ask(client, chat(FRANCE, n=2, counterpoint={"explain": True}))
        assert told == "miss"  # the first was there, the second was not
        assert [account.get("cached", False) for account in body["counterpoint"]["choices"]] == [True, False]
        asked = calls_of(gateway)
        told, body = await ask(client, chat(FRANCE, n=2))
        assert (told, calls_of(gateway), body["usage"]["total_tokens"]) == ("hit", asked, 0)


async def test_the_same_prompt_twice_in_one_request_is_asked_once() -> None:
    async with served() as (client, gateway):
        response = await client.post("/v1/completions", json={"model": "mix", "prompt": [FRANCE, FRANCE]})
        assert (calls_of(gateway), [choice["text"] for choice in response.json()["choices"]]) == (2, ["Paris it is"] * 2)


async def test_headers_of_the_request_forbid_reading_and_keeping() -> None:
    async with served() as (client, gateway):
        assert gateway.cache is not None
        assert (await ask(client, chat(FRANCE), **{"cache-control": "no-store"}))[0] == "miss"
        assert len(gateway.cache) == 0
        assert (await ask(client, chat(FRANCE), **{"cache-control": "max-age=0, No-Cache"}))[0] == "miss"
        assert len(gateway.cache) == 1
        assert (await ask(client, chat(FRANCE), **{"cache-control": "no-cache"}))[0] == "miss"
        assert (await ask(client, chat(FRANCE), **{"cache-control": "no-store"}))[0] == "hit"


async def test_errors_are_not_kept() -> None:
    async with served() as (client, gateway):
        for _ in range(2):
            assert (await client.post("/v1/chat/completions", json=chat("please break"))).status_code == 502
        assert gateway.cache is not None
        assert (len(gateway.cache), gateway.cache.flights, gateway.cache.hits) == (0, {}, 0)


async def test_an_answer_that_some_expert_had_no_part_in_is_not_kept() -> None:
    lame = {"name": "b", "model": "-", "engine": "scripted", "options": {"script": [{"match": ".", "fail": "no"}]}}
    well = {"name": "a", "model": "-", "engine": "scripted", "options": {"script": SCRIPT}}
    async with served(config(experts=[well, lame])) as (client, gateway):
        for _ in range(2):
            told, body = await ask(client, chat(FRANCE, counterpoint={"explain": True}))
            assert (told, text_of(body), body["counterpoint"]["degraded"]) == ("miss", "Paris it is", True)
        assert gateway.cache is not None
        assert len(gateway.cache) == 0


async def test_an_answer_cut_at_the_limit_that_was_asked_for_is_kept() -> None:
    async with served() as (client, _):
        told = [await ask(client, chat(FRANCE, max_tokens=2)) for _ in range(2)]
    assert [(header, body["choices"][0]["finish_reason"]) for header, body in told] == [("miss", "length"), ("hit", "length")]


async def test_a_reload_forgets_all_answers() -> None:
    async with served() as (client, gateway):
        await ask(client, chat(FRANCE))
        said = await gateway.begin_reload(config(aggregator={"kind": "best"}).model_dump(exclude_unset=True))
        await gateway.end_reload()
        assert said.startswith("reloaded")
        assert (await ask(client, chat(FRANCE)))[0] == "miss"


async def test_an_answer_asked_for_before_a_reload_is_not_kept_after_it() -> None:
    async with served() as (client, gateway):
        assert gateway.cache is not None
        under_way = asyncio.create_task(ask(client, chat("slow")))
        while not gateway.cache.flights:
            await asyncio.sleep(0.01)
        gateway.cache.clear()
        assert (await under_way)[0] == "miss"
        assert len(gateway.cache) == 0


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


def made_key(url: str, **limits: Any) -> dict[str, str]:
    with Store(url) as opened:
        _, secret = Keys(opened).create("test", **limits)
    return {"authorization": f"Bearer {secret}"}


@pytest.mark.parametrize("kind", ["exact", "semantic"])
async def test_keys_never_see_each_others_answers(store: str, kind: str) -> None:
    mine, other = made_key(store), made_key(store)
    async with served(config({"kind": kind}, serving={"keys": True, "store": store})) as (client, _):
        assert (await ask(client, chat(FRANCE), **mine))[0] == "miss"
        assert (await ask(client, chat(FRANCE), **other))[0] == "miss"
        assert (await ask(client, chat(FRANCE), **mine))[0] == "hit"


async def test_a_question_in_other_words_is_answered_from_memory_where_the_config_says_so() -> None:
    for kind, told in (("exact", "miss"), ("semantic", "hit")):
        async with served(config({"kind": kind})) as (client, _):
            await ask(client, chat(FRANCE))
            header, body = await ask(client, chat("what's the capital of France", counterpoint={"explain": True}))
            assert (header, text_of(body), body["counterpoint"].get("cached", False)) == (told, "Paris it is", told == "hit")
            assert (await ask(client, chat("What is the capital of Spain?")))[0] == "miss"
            assert (await ask(client, chat("what's the capital of France", counterpoint={"k": 1})))[0] == "miss"


async def test_a_hit_has_a_trace_of_its_own(store: str) -> None:
    async with served(config(serving={"store": store})) as (client, _):
        ids = [(await ask(client, chat(FRANCE)))[1]["id"] for _ in range(2)]
        first, second = [(await client.get(f"/v1/traces/{id}")).json() for id in ids]
    assert ("cached" in first, second["cached"]) == (False, True)
    assert (first["calls"], second["calls"], second["cost_usd"]) == (2, 0, 0)
    assert "Paris" not in json.dumps(second)


async def test_a_hit_counts_as_a_request_but_takes_no_tokens_and_no_money(store: str) -> None:
    priced = [
        {"name": "a", "model": "-", "engine": "scripted", "options": {"script": SCRIPT}, "price": {"output": 1000.0}, "max_tokens": 10}
    ]
    made = config(experts=priced, serving={"keys": True, "store": store})
    mine = made_key(store, requests_per_minute=3, tokens_per_minute=200, budget_usd=0.011)
    async with served(made) as (client, gateway):
        told = [(await ask(client, chat(FRANCE), **mine))[0] for _ in range(3)]
        assert told == ["miss", "hit", "hit"]
        late = await client.post("/v1/chat/completions", json=chat(FRANCE), headers=mine)
        assert (late.status_code, "3 requests a minute are used up" in late.json()["error"]["message"]) == (429, True)
        assert gateway.door.store is not None
        spent = gateway.door.store.spend(Keys(gateway.door.store).list()[0].id)
    assert (spent.requests, spent.usd, spent.completion_tokens) == (3, pytest.approx(0.003), 3)


async def test_what_a_key_has_spent_in_full_it_is_still_given_again(store: str) -> None:
    priced = [
        {"name": "a", "model": "-", "engine": "scripted", "options": {"script": SCRIPT}, "price": {"output": 1000.0}, "max_tokens": 3}
    ]
    mine = made_key(store, budget_usd=0.0035)
    async with served(config(experts=priced, serving={"keys": True, "store": store})) as (client, _):
        assert (await ask(client, chat(FRANCE), **mine))[0] == "miss"
        refused = await client.post("/v1/chat/completions", json=chat("And now?"), headers=mine)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
        assert (await ask(client, chat(FRANCE), **mine))[0] == "hit"


async def test_who_asks_the_same_meanwhile_waits_and_nobody_is_asked_twice() -> None:
    async with served() as (client, gateway):
        told = await asyncio.gather(*(ask(client, chat("slow")) for _ in range(5)))
        assert calls_of(gateway) == 2
        assert gateway.cache is not None
        assert (gateway.cache.hits, gateway.cache.misses, gateway.cache.flights) == (4, 1, {})
    assert sorted(header for header, _ in told) == ["hit"] * 4 + ["miss"]
    assert {text_of(body) for _, body in told} == {"late but there"}


ROUTE = Route(("a",), (1.0,), "a", {"a": 1.0})


@asynccontextmanager
async def recalling() -> AsyncIterator[tuple[Cache, Callable[..., Recall]]]:
    """A cache before a pipeline, and requests on their way through it."""
    cache, pipeline = Cache(), Pipeline.of(config())
    async with pipeline:

        def recall(*requests: Request, key: str = "ann", control: str = "") -> Recall:
            return Recall(cache, pipeline, key, requests, control)

        yield cache, recall


async def test_where_the_first_is_cancelled_the_second_asks_itself() -> None:
    async with recalling() as (cache, recall):
        one, two = one_question("slow", id="1"), one_question("slow", id="2")
        first = asyncio.create_task(recall(one).answer(one, ROUTE))
        while not cache.flights:
            await asyncio.sleep(0)
        second = asyncio.create_task(recall(two).answer(two, ROUTE))
        await asyncio.sleep(0.05)
        first.cancel()
        answer, trace = await second
        assert (answer.text, trace.usage.calls, trace.request_id) == ("late but there", 1, "2")
        assert (cache.hits, cache.misses, first.cancelled()) == (0, 2, True)


async def test_where_the_second_is_cancelled_the_first_is_answered() -> None:
    async with recalling() as (cache, recall):
        one, two = one_question("slow", id="1"), one_question("slow", id="2")
        first = asyncio.create_task(recall(one).answer(one, ROUTE))
        while not cache.flights:
            await asyncio.sleep(0)
        second = asyncio.create_task(recall(two).answer(two, ROUTE))
        await asyncio.sleep(0.05)
        second.cancel()
        assert (await first)[0].text == "late but there"
        assert len(cache) == 1


async def test_where_the_first_fails_the_second_asks_itself() -> None:
    async with recalling() as (cache, recall):
        requests = [one_question("please break", id=str(at)) for at in range(3)]
        pairs = await asyncio.gather(*(recall(request).answer(request, ROUTE) for request in requests))
        assert all("told to fail" in str(answer.error) for answer, _ in pairs)
        assert all(trace.usage.calls == 1 for _, trace in pairs)
        assert (len(cache), cache.flights, cache.hits) == (0, {}, 0)


async def test_who_reads_slowly_holds_up_nobody_else() -> None:
    async with recalling() as (cache, recall):
        one, two = one_question("slow", id="1"), one_question("slow", id="2")
        unread = recall(one).progress(one, ROUTE)
        await anext(unread)  # and nothing more is read
        answer, _ = await recall(two).answer(two, ROUTE)
        assert (answer.text, answer.usage.calls, cache.hits) == ("late but there", 0, 1)
        await unread.aclose()


async def test_keys_do_not_wait_for_each_other() -> None:
    async with recalling() as (cache, recall):
        one, two = one_question("slow", id="1"), one_question("slow", id="2")
        pairs = await asyncio.gather(recall(one, key="ann").answer(one, ROUTE), recall(two, key="bob").answer(two, ROUTE))
        assert ([answer.usage.calls for answer, _ in pairs], cache.hits) == ([1, 1], 0)


async def test_what_was_there_when_a_request_came_is_its_even_if_it_is_forgotten_meanwhile() -> None:
    async with recalling() as (cache, recall):
        one, two = one_question("slow", id="1"), one_question("slow", id="2")
        await recall(one).answer(one, ROUTE)
        late = recall(two)
        cache.clear()
        assert (late.has(two), (await late.answer(two, ROUTE))[0].usage.calls) == (True, 0)


names = st.sampled_from(["a", "b", "a b", ""])
requests = st.builds(
    Request,
    id=st.text(max_size=3),
    messages=st.lists(
        st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.text(max_size=4)), min_size=1, max_size=3
    ).map(tuple),
    sampling=st.builds(
        Sampling,
        max_tokens=st.none() | st.integers(1, 3),
        top_p=st.sampled_from([0.5, 1.0]),
        stop=st.lists(names, max_size=2).map(tuple),
        seed=st.none() | st.integers(0, 2),
        choices=st.lists(names, max_size=2).map(tuple),
    ),
    k=st.none() | st.integers(1, 2),
    experts=st.none() | st.lists(names, max_size=2).map(tuple),
    exclude=st.lists(names, max_size=2).map(tuple),
    aggregator=st.none() | names,
    budget_usd=st.none() | st.sampled_from([0.5, 1.0]),
    max_latency_s=st.none() | st.sampled_from([0.5, 1.0]),
    objective=st.none() | st.dictionaries(st.sampled_from(["price", "size"]), st.sampled_from([0.5, 1.0])),
    reachable=st.none() | st.lists(names, max_size=2).map(tuple),
    owner=st.none() | names,
    primary_first=st.none() | st.booleans(),
)


def finished(text: str = "4") -> Finished:
    return Finished(Answer(text, "mix"), Trace("q", ROUTE, (Answer(text, "a"),), "vote", (), Usage(9, 1, calls=1)))


def determining(request: Request) -> dict[str, Any]:
    return {entry.name: getattr(request, entry.name) for entry in fields(request) if entry.name not in APART}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(names, requests), min_size=2, max_size=8))
def test_a_hit_is_for_the_same_key_and_a_request_that_is_equal_in_all_that_determines_the_answer(asked: list[tuple[str, Request]]) -> None:
    cache = Cache()
    for at, (key, request) in enumerate(asked):
        address = cache.address(key, request)
        assert address is not None
        equal = [n for n, (other, earlier) in enumerate(asked[:at]) if other == key and determining(earlier) == determining(request)]
        found = cache.find(address)
        assert (None if found is None else found.answer.text) == (str(equal[-1]) if equal else None)
        cache.keep(address, finished(str(at)))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests, names, names)
def test_no_hit_crosses_keys_by_words_or_by_meaning(request: Request, mine: str, other: str) -> None:
    cache = Cache(likeness=Likeness(0.01, encoder_of("static")))
    address = cache.address(mine, request)
    assert address is not None
    cache.keep(address, finished())
    theirs = cache.address(other, replace(request, id="other"))
    assert theirs is not None
    assert (cache.find(theirs) is not None) == (mine == other)


operations = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), st.integers(0, 6), st.integers(0, 3000)),
        st.tuples(st.just("find"), st.integers(0, 6), st.just(0)),
        st.tuples(st.just("wait"), st.integers(0, 6), st.just(0)),
        st.tuples(st.just("clear"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(operations, st.integers(1, 4), st.integers(3000, 12_000), st.booleans())
def test_the_bounds_hold_under_any_order_of_operations(
    todo: list[tuple[str, int, int]], max_entries: int, max_bytes: int, semantic: bool
) -> None:
    now, at = 0.0, dict[int, tuple[float, str]]()
    likeness = Likeness(0.97, encoder_of("static")) if semantic else None
    cache = Cache(ttl_s=10.0, max_entries=max_entries, max_bytes=max_bytes, likeness=likeness, clock=lambda: now)
    for number, (kind, which, size) in enumerate(todo):
        address = cache.address("ann", one_question(f"What is {which} and {which}?"))
        assert address is not None
        if kind == "keep":
            text = f"{number} " + "x" * size
            cache.keep(address, finished(text), cache.generation)
            at[which] = (now, text)
        elif kind == "wait":
            now += which
        elif kind == "clear":
            cache.clear()
            at.clear()
        elif (found := cache.find(address)) is not None:
            assert now - at[which][0] < 10.0
            assert found.answer.text == at[which][1]  # the newest, never one that it replaced
        kept = list(cache._entries.values())
        assert len(cache) <= max_entries
        assert cache.bytes == sum(entry.size for entry in kept) <= max_bytes
        assert all(entry.size > len(entry.finished.answer.text) for entry in kept)
        assert set(cache._ages) == set(cache._entries)
        if likeness is not None:
            assert sorted(name for rows in likeness._scopes.values() for name in rows.names) == sorted(cache._entries)


def test_what_was_used_longest_ago_goes_first() -> None:
    cache = Cache(max_entries=2)
    addresses = [cache.address("ann", one_question(text)) for text in ("one", "two", "three")]
    for address in addresses[:2]:
        assert address is not None
        cache.keep(address, finished())
    assert addresses[0] is not None
    assert addresses[1] is not None
    assert addresses[2] is not None
    assert cache.find(addresses[0]) is not None
    cache.keep(addresses[2], finished())
    assert [cache.find(address) is not None for address in addresses if address] == [True, False, True]


def test_an_answer_larger_than_all_room_is_not_kept_and_drives_nobody_out() -> None:
    cache = Cache(max_bytes=6000)
    small, large = cache.address("ann", one_question("small")), cache.address("ann", one_question("large"))
    assert small is not None
    assert large is not None
    cache.keep(small, finished())
    cache.keep(large, finished("x" * 6000))
    assert (cache.find(small) is not None, cache.find(large)) == (True, None)
    assert bytes_in(small) + bytes_in(finished()) == cache.bytes


def test_a_name_says_nothing_of_what_was_asked() -> None:
    digest = digest_of("ann", one_question("What is my salary?"))
    assert len(digest) == 64
    assert "salary" not in digest


@pytest.mark.parametrize(
    ("cache", "message"),
    [
        ({}, "serving.cache.kind: Field required"),
        ({"kind": "fuzzy"}, "serving.cache.kind: Input should be 'exact' or 'semantic', not 'fuzzy'"),
        ({"kind": "exact", "tttl_s": 1}, "serving.cache.tttl_s: no such key; did you mean ttl_s?"),
        ({"kind": "exact", "ttl_s": 0}, "serving.cache.ttl_s: "),
        ({"kind": "exact", "similarity": 0.9}, "serving.cache: similarity belongs to kind: semantic"),
        ({"kind": "semantic", "similarity": 1.5}, "serving.cache.similarity: "),
    ],
)
def test_a_mistake_in_the_config_is_one_line(mixture: Callable[..., Path], cache: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(mixture(serving={"cache": cache}))
    assert message in str(caught.value)


def test_an_encoder_in_a_folder_is_found_from_the_configs_own(mixture: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    made = load_config(mixture(serving={"cache": {"kind": "semantic", "encoder": "static+mine"}}))
    assert made.serving.cache is not None
    assert made.serving.cache.encoder == f"static+{tmp_path / 'mine'}"


def test_an_encoder_that_has_to_learn_is_refused_when_the_gateway_is_made() -> None:
    with pytest.raises(CounterpointError, match=r"no encoder is called 'style'; .*only within a router"):
        Cache.of(CacheConfig(kind="semantic", encoder="style"))
