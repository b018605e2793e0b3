import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator import make_aggregator
from data.records import Answer, Call, Message, Request, Sampling
from experts import ExpertSpec
from experts.base import Event
from experts.pool import ExpertPool
from router import OracleRouter, RouterError
from router.cards import Card
from router.policy import Cascade, CountingPolicy, FixedK, Recruit, SelfSample
from router.preference import Preference
from serving.asking import Written
from serving.config import load_config
from serving.gateway import Gateway
from serving.pipeline import ContextError, Pipeline, RequestError, one_question
from serving.protocol import parse_chat
from serving.routes import make_app

THINK = "Think well before you answer, and answer in one word, please. " * 2
"""Makes a turn long enough to be routed by itself."""

SUM, WORD, EVEN = f"What is two plus two? {THINK}", f"Which word rhymes with house? {THINK}", f"Which of both is it? {THINK}"
KNOWN = {SUM: (0.9, 0.6, 0.5), WORD: (0.5, 0.6, 0.9), EVEN: (0.7, 0.68, 0.72)}
NAMES = ("a", "b", "c")


def known(scores: Mapping[str, Sequence[float]]) -> OracleRouter:
    """A router that is told what it predicts of each question."""
    rows = [
        {"query_id": text, "query": text, "expert": expert, "score": score}
        for text, given in scores.items()
        for expert, score in zip(NAMES, given, strict=True)
    ]
    return OracleRouter().fit(pd.DataFrame(rows))


class Watched(ExpertPool):
    """A pool that keeps what it was asked."""

    def __init__(self, specs: Sequence[ExpertSpec]) -> None:
        super().__init__(specs)
        self.calls: list[Call] = []

    async def stream(self, call: Call) -> AsyncGenerator[Event]:
        self.calls.append(call)
        async with aclosing(super().stream(call)) as events:
            async for event in events:
                yield event


def expert(name: str, *rules: dict[str, Any], **settings: Any) -> ExpertSpec:
    return ExpertSpec(name, "-", "scripted", options={"script": [*rules, {"match": ".", "say": f"I am {name}"}]}, **settings)


def pipeline(policy: CountingPolicy, *specs: ExpertSpec, **cards: Card) -> Pipeline:
    pool = Watched(specs or [expert(name) for name in NAMES])
    return Pipeline(pool, known(KNOWN), policy, make_aggregator("vote"), cards=cards)


def calls_of(made: Pipeline) -> list[Call]:
    assert isinstance(made.pool, Watched)
    return made.pool.calls


def talk(*turns: str, **options: Any) -> Request:
    """A conversation whose user turns these are."""
    messages = [message for text in turns for message in (Message("user", text), Message("assistant", "Well."))][:-1]
    return Request("r", tuple(messages), **options)


# conversations that stay


def sticky(gain: float) -> Pipeline:
    return pipeline(FixedK(1, preference=Preference(sticky=gain)))


def test_a_conversation_stays_with_its_expert_where_another_is_hardly_better() -> None:
    assert sticky(0.0).route(talk(SUM, EVEN)).experts == ("c",)
    assert sticky(0.1).route(talk(SUM, EVEN)).experts == ("a",)
    assert sticky(0.1).route(talk(EVEN)).experts == ("c",), "a conversation that begins stays with nobody"
    assert sticky(0.1).route(talk(SUM, EVEN)).regret == pytest.approx(0.02)


def test_a_conversation_moves_where_the_gain_is_large() -> None:
    assert sticky(0.1).route(talk(SUM, WORD)).experts == ("c",)
    assert sticky(0.5).route(talk(SUM, WORD)).experts == ("a",)


def test_a_conversation_stays_turn_after_turn() -> None:
    assert sticky(0.1).route(talk(SUM, EVEN, EVEN, EVEN)).experts == ("a",)
    assert sticky(0.1).route(talk(SUM, EVEN, WORD, EVEN)).experts == ("c",)
    assert sticky(0.1).route(talk(WORD, EVEN, SUM, EVEN)).experts == ("a",)


@given(st.lists(st.sampled_from([SUM, WORD, EVEN]), min_size=1, max_size=5), st.lists(st.sampled_from([SUM, WORD, EVEN]), max_size=4))
@settings(max_examples=25, deadline=None)
def test_a_turn_stays_where_the_turn_before_it_was_routed_and_other_conversations_do_not_matter(
    turns: list[str], others: list[str]
) -> None:
    made = sticky(0.1)
    alone = made.route(talk(*turns))
    for text in others:
        made.route(talk(text))
    assert made.route(talk(*turns)) == alone == sticky(0.1).route(talk(*turns)), "nothing is stored"
    if len(turns) > 1:
        before, scores = made.route(talk(*turns[:-1])).primary, alone.scores
        best = max(scores, key=lambda name: scores[name])
        assert alone.primary == (before if scores[best] - scores[before] <= 0.1 else best)


def test_what_the_expert_said_and_the_system_message_move_nothing() -> None:
    messages = (Message("system", WORD), Message("user", SUM), Message("assistant", WORD), Message("user", EVEN))
    assert sticky(0.1).route(Request("r", messages)).experts == ("a",)


def test_a_conversation_of_thousands_of_turns_is_routed() -> None:
    made = pipeline(FixedK(1, preference=Preference(sticky=0.1)), *(expert(name, max_model_len=2**20) for name in NAMES))
    assert made.route(talk(*[SUM] * 2000, EVEN)).experts == ("a",)


def test_a_blank_turn_or_one_that_todays_request_would_not_allow_is_passed_over() -> None:
    assert sticky(0.1).route(talk(SUM, " ", EVEN)).experts == ("a",)
    greeter = Card(role="constant", match=("hello",))
    made = pipeline(FixedK(1, preference=Preference(sticky=0.1)), b=greeter)
    assert made.route(talk(SUM, "Hello!", experts=("b",))).experts == ("b",)
    assert made.route(talk("Hello!", EVEN)).experts == ("c",)


def test_what_a_request_allows_counts_for_its_whole_conversation() -> None:
    assert sticky(0.1).route(talk(SUM, EVEN, exclude=("a",))).experts == ("b",), "as if a had been excluded from the beginning"
    assert sticky(0.1).route(talk(SUM, EVEN, experts=("a", "c"))).experts == ("a",)


# who is at hand


class Loaded(Watched):
    """A pool in which one expert's weights are loaded."""

    @property
    def resident(self) -> frozenset[str]:
        return frozenset("b")


@pytest.mark.parametrize(("within", "wanted"), [(0.0, "c"), (0.03, "c"), (0.05, "b"), (1.0, "b")])
def test_an_expert_that_is_loaded_is_preferred_within_the_loss_that_is_accepted(within: float, wanted: str) -> None:
    made = pipeline(FixedK(1, preference=Preference(resident_within=within)))
    made.pool = Loaded(list(made.pool.specs.values()))
    route = made.route(one_question(EVEN))
    assert route.experts == (wanted,)
    assert route.regret == pytest.approx(0.04 if wanted == "b" else 0.0)


async def test_experts_that_need_no_slot_are_at_hand_once_the_pool_has_started() -> None:
    made = pipeline(FixedK(1, preference=Preference(resident_within=0.5)))
    assert made.pool.resident == frozenset()
    async with made:
        assert made.pool.resident == frozenset(NAMES)
        assert made.route(one_question(EVEN)).experts == ("c",), "where all are at hand the best one is asked"


# the reserve

FAIL, SAY_4, SAY_5 = {"match": ".", "fail": "out of order"}, {"match": ".", "say": "4"}, {"match": ".", "say": "5"}
CHEAP_B = {"a": Card(usd=3.0), "b": Card(usd=1.0), "c": Card(usd=2.0)}

ReserveCase = tuple[int, tuple[dict[str, Any], dict[str, Any], dict[str, Any]], str, list[str], bool]
RESERVE: dict[str, ReserveCase] = {  # asked at once, what a, b and c say, the answer, who is asked, whether one had failed
    "one that answers": (1, (SAY_5, SAY_4, SAY_5), "4", ["b"], False),
    "one that fails": (1, (SAY_4, FAIL, SAY_4), "4", ["b", "a", "c"], True),
    "two that agree": (2, (SAY_5, SAY_4, SAY_4), "4", ["b", "c"], False),
    "two that disagree": (2, (SAY_4, SAY_4, SAY_5), "4", ["b", "c", "a"], False),
    "two of which one fails": (2, (SAY_5, SAY_4, FAIL), "4", ["b", "c"], True),
    "two that fail": (2, (SAY_4, FAIL, FAIL), "4", ["b", "c", "a"], True),
}


def cascade(first: int, says: Sequence[dict[str, Any]], kind: str = "vote") -> Pipeline:
    made = pipeline(Cascade(0.5, first, 0.6), *(expert(name, rule) for name, rule in zip(NAMES, says, strict=True)), **CHEAP_B)
    made.aggregator = make_aggregator(kind)
    return made


@pytest.mark.parametrize("case", RESERVE.values(), ids=RESERVE)
async def test_the_reserve_is_asked_where_the_first_fail_or_disagree_and_only_there(case: ReserveCase) -> None:
    first, says, text, asked, failed = case
    async with cascade(first, says) as made:
        route = made.route(one_question(SUM))
        answer, trace = await made.answer(one_question(SUM))
    assert (set(route.experts), set(route.reserve)) == (set(["b", "c"][:first]), set("abc") - set(["b", "c"][:first]))
    assert (answer.text, answer.error, answer.degraded) == (text, None, failed)
    assert [call.expert for call in calls_of(made)] == asked
    assert [part.expert for part in trace.answers] == list(trace.route.experts) == asked
    assert answer.usage.calls == trace.usage.calls == len(asked)
    assert sum(trace.route.weights) == pytest.approx(1)


async def test_where_the_reserve_fails_too_every_failure_is_told() -> None:
    async with cascade(1, (FAIL, FAIL, FAIL)) as made:
        answer, trace = await made.answer(one_question(SUM))
    assert answer.error == "no expert answered: b: out of order; a: out of order; c: out of order"
    assert len(trace.answers) == 3


async def test_a_single_expert_without_a_reserve_is_not_asked_twice() -> None:
    async with cascade(1, (SAY_4, FAIL, SAY_4)) as made:
        answer, _ = await made.answer(one_question(SUM, k=1))
    assert answer.error == "no expert answered: b: out of order"


async def test_the_time_of_the_reserve_adds_to_that_of_the_first() -> None:
    slow_fail = {"match": ".", "fail": "too late", "delay_s": 0.1}
    async with cascade(1, ({**SAY_4, "delay_s": 0.1}, slow_fail, SAY_4)) as made:
        answer, _ = await made.answer(one_question(SUM))
    assert answer.latency_s >= 0.2


@pytest.mark.parametrize("kind", ["vote", "weighted", "fuse"])
@pytest.mark.parametrize("case", RESERVE.values(), ids=RESERVE)
async def test_an_answer_that_may_still_change_is_not_streamed_word_by_word(case: ReserveCase, kind: str) -> None:
    async with cascade(case[0], case[1], kind) as made:
        events = [event async for event in made.progress(one_question(SUM))]
    written = "".join(event.text for event in events if isinstance(event, Written)).strip()
    final = events[-1].answer.text  # type: ignore[union-attr]
    assert written in ("", final)
    asked = [event.expert for event in events if isinstance(event, Answer)]
    assert kind == "fuse" or sorted(asked) == sorted(case[3])


# several samples of one expert


def drawn(made: Pipeline) -> list[tuple[str, float, int | None]]:
    return [(call.expert, call.sampling.temperature, call.sampling.seed) for call in calls_of(made)]


@pytest.mark.parametrize(
    ("sampling", "wanted"),
    [
        (Sampling(), [(0.0, None), (0.7, 1), (0.7, 2)]),
        (Sampling(seed=5), [(0.0, 5), (0.7, 6), (0.7, 7)]),
        (Sampling(temperature=0.3, seed=5), [(0.3, 5), (0.3, 6), (0.3, 7)]),
        (Sampling(seed=2**63 - 1), [(0.0, 2**63 - 1), (0.7, 0), (0.7, 1)]),
    ],
)
async def test_samples_of_one_expert_differ_in_seed_and_are_never_all_greedy(
    sampling: Sampling, wanted: list[tuple[float, int | None]]
) -> None:
    async with pipeline(SelfSample(3)) as made:
        answer, trace = await made.answer(replace(one_question(SUM), sampling=sampling))
    assert drawn(made) == [("a", *each) for each in wanted]
    assert len({call.id for call in calls_of(made)}) == 3
    assert trace.route.experts == ("a", "a", "a")
    assert answer.text == "I am a"
    assert answer.usage.calls == 3


async def test_a_draw_with_replacement_samples_who_is_drawn_twice() -> None:
    async with pipeline(Recruit(12)) as made:
        _, trace = await made.answer(one_question(SUM))
    for name in NAMES:
        mine = [each[1:] for each in drawn(made) if each[0] == name]
        assert mine == [(0.0, None), *((0.7, at) for at in range(1, len(mine)))]
    assert len(trace.answers) == 12
    assert [part.expert for part in trace.answers] == list(trace.route.experts)


async def test_the_samples_vote() -> None:
    async with pipeline(SelfSample(3)) as made:
        _, trace = await made.answer(one_question(SUM))
    assert trace.support == (("I am a", 3.0),)


# experts with a role

SHARED, GREETER = Card(role="shared"), Card(role="constant", match=("hello|hi there",))
EXTRA = [*(expert(name) for name in NAMES), expert("everyone"), expert("greeter", {"match": ".", "say": "Hello yourself!"})]


def with_roles(policy: CountingPolicy | None = None) -> Pipeline:
    return pipeline(policy or FixedK(1), *EXTRA, everyone=SHARED, greeter=GREETER)


async def test_an_expert_that_the_router_does_not_know_can_be_asked_for_everything() -> None:
    async with with_roles() as made:
        _, trace = await made.answer(one_question(SUM))
    assert trace.route.experts == ("a", "everyone")
    assert trace.route.scores["everyone"] == pytest.approx(2.0 / 3), "it counts as average"
    assert trace.route.primary == "a"


@pytest.mark.parametrize("policy", [FixedK(2), SelfSample(2), Recruit(2), Cascade(0.5, 2)], ids=lambda policy: type(policy).__name__)
def test_a_shared_expert_comes_beside_those_that_a_policy_counts(policy: CountingPolicy) -> None:
    route = with_roles(policy).route(one_question(SUM))
    assert route.experts.count("everyone") == 1
    assert len(route.experts) == 3
    assert "everyone" not in with_roles(policy).route(one_question(SUM, exclude=("everyone",))).experts


async def test_a_constant_expert_answers_alone_what_it_is_for_and_nothing_else() -> None:
    async with with_roles() as made:
        answer, trace = await made.answer(one_question(" Hi there! "))
        assert (answer.text, trace.route.experts) == ("Hello yourself!", ("greeter",))
        _, trace = await made.answer(one_question("Hello, what is two plus two?"))
    assert "greeter" not in trace.route.experts
    with pytest.raises(RouterError, match="the request allows no expert that answers such a question"):
        made.route(one_question(SUM, experts=("greeter",)))


def write_router(folder: Path) -> str:
    known(KNOWN).save(folder / "router")
    return str(folder / "router")


def test_a_config_needs_scores_of_routed_experts_only(mixture: Callable[..., Path], tmp_path: Path) -> None:
    plain = [{"name": name, "model": "-", "engine": "scripted"} for name in NAMES]
    more = [{**plain[0], "name": "everyone", "role": "shared"}, {**plain[0], "name": "greeter", "role": "constant", "match": ["hello"]}]
    router = {"path": write_router(tmp_path), "policy": {"k": 1}}
    made = Pipeline.of(load_config(mixture(experts=[*plain, *more], router=router)))
    assert made.route(one_question(SUM)).experts == ("a", "everyone")
    assert made.route(one_question("Hello.")).experts == ("greeter",)
    with pytest.raises(RequestError, match="was fitted without the expert 'd'"):
        Pipeline.of(load_config(mixture(experts=[*plain, {**plain[0], "name": "d"}], router=router)))


# what fits a context


def narrow(**cards: Card) -> Pipeline:
    sizes = {"a": 200, "b": 2048, "c": 4096, "greeter": 2**15}
    specs = [expert(name, max_model_len=size, max_tokens=20) for name, size in sizes.items() if name in NAMES or name in cards]
    return pipeline(FixedK(2), *specs, **cards)


LONG, LONGER, LONGEST = (f"{SUM} {'word ' * count}" for count in (500, 1700, 6000))


def test_an_expert_whose_context_is_too_small_is_not_asked() -> None:
    assert narrow().route(one_question(SUM)).experts == ("a", "b")
    assert set(narrow().route(one_question(LONG)).experts) == {"b", "c"}
    assert narrow().route(one_question(LONGER)).experts == ("c",)


def test_a_long_answer_takes_room_too() -> None:
    made = narrow()
    assert set(made.route(replace(one_question(SUM), sampling=Sampling(max_tokens=190))).experts) == {"b", "c"}


@pytest.mark.parametrize(
    ("text", "options", "largest", "held"),
    [
        (LONGEST, {}, "c", 4096),
        (LONGER, {"exclude": ("c",)}, "b", 2048),
        (LONG, {"experts": ("a",)}, "a", 200),
        (LONGEST, {"sampling": Sampling(max_tokens=9000)}, "c", 4096),
    ],
)
def test_what_no_context_holds_is_refused_in_one_line(text: str, options: dict[str, Any], largest: str, held: int) -> None:
    with pytest.raises(ContextError) as caught:
        narrow().route(one_question(text, **options))
    assert str(caught.value) == (
        "the prompt is too long: with its answer it exceeds the available context size of every expert that may answer; "
        f"the context of '{largest}', the largest, holds {held} tokens; shorten the prompt or lower max_tokens"
    )


def test_an_expert_that_only_greets_is_no_way_out_of_a_full_context() -> None:
    made = narrow(greeter=GREETER)
    with pytest.raises(ContextError, match="the context of 'c', the largest, holds 4096 tokens"):
        made.route(one_question(LONGEST))
    assert made.route(talk(LONGEST, "Hello!")).experts == ("greeter",)
    with pytest.raises(RouterError, match="no expert is called 'nobody'"):
        made.route(one_question(LONGEST, experts=("nobody",)))


def test_a_shared_expert_answers_where_the_others_are_too_small() -> None:
    made = pipeline(FixedK(1), expert("a", max_model_len=100, max_tokens=20), expert("b"), b=SHARED)
    assert made.route(one_question(LONG)).experts == ("b",)


# what a caller may ask, over HTTP


@pytest.fixture
def priced(mixture: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """A mixture whose answers cost 0.1, 0.01 and 0.03 dollars, when they have 100 tokens, and take 9, 1 and 3 seconds."""

    def write(policy: Mapping[str, Any], **changes: Any) -> Path:
        settings = zip(NAMES, (1000, 100, 300), (9.0, 1.0, 3.0), (70, 7, 14), strict=True)
        experts = [
            {"name": name, "model": "-", "engine": "scripted", "price": {"output": price}, "latency_s": seconds, "size_b": size}
            for name, price, seconds, size in settings
        ]
        for one in experts:
            one["options"] = {"script": [{"match": "rhymes", "fail": "no poet"} if one["name"] == "b" else SAY_4, SAY_4]}
        return mixture(experts=experts, router={"path": write_router(tmp_path), "policy": dict(policy)}, **changes)

    return write


def body(text: str, **options: Any) -> dict[str, Any]:
    return {"model": "mix", "messages": [{"role": "user", "content": text}], "max_tokens": 100, "counterpoint": options}


def routed(path: Path, text: str, **options: Any) -> tuple[str, ...]:
    made = Pipeline.of(load_config(path))
    return made.route(parse_chat(body(text, **options)).record("r", made.name, list(made.pool))).experts


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, "ab"),
        ({"budget_usd": 0.11}, "ab"),
        ({"budget_usd": 0.109}, "a"),
        ({"budget_usd": 0.099}, "bc"),
        ({"budget_usd": 0.039}, "b"),
        ({"budget_usd": 0.01}, "b"),
        ({"max_latency_s": 9}, "ab"),
        ({"max_latency_s": 8.9}, "bc"),
        ({"max_latency_s": 1}, "b"),
        ({"budget_usd": 0.03, "max_latency_s": 1}, "b"),
        ({"objective": {"price": 1.0}}, "bc"),
        ({"objective": {"latency": 1.0}, "k": 1}, "b"),
        ({"objective": {"size": 0.3}, "k": 1}, "a"),
        ({"objective": {"size": 0.4}, "k": 1}, "b"),
        ({"objective": {"age": 5.0}}, "ab"),
        ({"objective": {"price": 0.5}, "budget_usd": 0.01}, "b"),
    ],
)
def test_a_callers_budget_and_objective_reach_the_route(priced: Callable[..., Path], options: dict[str, Any], wanted: str) -> None:
    assert sorted(routed(priced({"k": 2}), SUM, **options)) == list(wanted)


@pytest.mark.parametrize("policy", ["top-k", "mass", "entropy", "cascade", "self", "recruit"])
def test_no_kind_of_policy_passes_a_budget(priced: Callable[..., Path], policy: str) -> None:
    made = Pipeline.of(load_config(priced({"kind": policy})))
    costs = {"a": 0.1, "b": 0.01, "c": 0.03}
    for budget in (0.01, 0.03, 0.05, 0.12, 0.3):
        route = made.route(parse_chat(body(SUM, budget_usd=budget)).record("r", made.name, list(made.pool)))
        asked = [*route.experts, *route.reserve]
        assert sum(costs[name] for name in asked) <= budget + 1e-9
    with pytest.raises(RouterError, match=r"no expert fits a budget of 0\.009 US dollars"):
        made.route(parse_chat(body(SUM, budget_usd=0.009)).record("r", made.name, list(made.pool)))


def test_the_operators_limits_hold_whatever_a_caller_asks(priced: Callable[..., Path]) -> None:
    path = priced({"k": 2, "limits": {"usd": 0.04, "latency_s": 5.0}})
    assert sorted(routed(path, SUM)) == ["b", "c"]
    assert sorted(routed(path, SUM, budget_usd=10.0, max_latency_s=100.0)) == ["b", "c"]
    assert routed(path, SUM, budget_usd=0.02) == ("b",)
    assert sorted(routed(path, SUM, k=3)) == ["b", "c"]


def test_a_callers_objective_replaces_the_operators(priced: Callable[..., Path]) -> None:
    path = priced({"k": 1, "objective": {"price": 0.9}})
    assert routed(path, SUM) == ("b",)
    assert routed(path, SUM, objective={}) == ("a",)
    assert routed(path, SUM, objective={"latency": 0.0}) == ("a",)


def test_a_long_prompt_counts_in_a_budget(mixture: Callable[..., Path], tmp_path: Path) -> None:
    experts = [{"name": name, "model": "-", "engine": "scripted", "price": {"input": 1000}} for name in NAMES]
    path = mixture(experts=experts, router={"path": write_router(tmp_path), "policy": {"k": 3}})
    # at the most a byte is a token: less than 0.3 dollars each, more than 0.2
    assert len(routed(path, SUM, budget_usd=0.9)) == 3
    assert len(routed(path, SUM, budget_usd=0.3)) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"budget_usd": 0}, "counterpoint.budget_usd"),
        ({"budget_usd": float("inf")}, "counterpoint.budget_usd"),
        ({"max_latency_s": -1}, "counterpoint.max_latency_s"),
        ({"max_latency_s": "soon"}, "counterpoint.max_latency_s"),
        ({"objective": {"beauty": 1.0}}, "counterpoint.objective.beauty"),
        ({"objective": {"price": -1.0}}, "counterpoint.objective.price"),
        ({"objective": {"price": float("nan")}}, "counterpoint.objective.price"),
        ({"objective": "cheap"}, "counterpoint.objective"),
        ({"sticky": 1.0}, "counterpoint.sticky: not supported"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_chat(body(SUM, **options))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


async def post(gateway: Gateway, content: dict[str, Any]) -> tuple[int, str]:
    """The status and the text of what the endpoint answers."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(make_app(gateway)), base_url="http://127.0.0.1") as client:
        response = await client.post("/v1/chat/completions", json=content)
    return response.status_code, response.text


def lines_of(stream: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in stream.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


async def test_a_prompt_that_no_context_holds_gets_openais_code(priced: Callable[..., Path]) -> None:
    gateway = Gateway(load_config(priced({"k": 1})))
    status, text = await post(gateway, body("word " * 9000))
    error = json.loads(text)["error"]
    assert (status, error["code"], error["type"]) == (400, "context_length_exceeded", "invalid_request_error")
    status, text = await post(gateway, body(SUM, budget_usd=0.001))
    assert (status, json.loads(text)["error"]["code"]) == (400, None)


async def test_a_prompt_that_no_context_holds_gets_openais_code_in_a_batch_too(priced: Callable[..., Path], tmp_path: Path) -> None:
    from serving.batch import run_batch

    line = {"custom_id": "long", "method": "POST", "url": "/v1/chat/completions", "body": body("word " * 9000)}
    (tmp_path / "in.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    async with Pipeline.of(load_config(priced({"k": 1}))) as made:
        await run_batch(made, tmp_path / "in.jsonl", tmp_path / "out.jsonl", lambda done, total: None)
    response = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))["response"]
    assert (response["status_code"], response["body"]["error"]["code"]) == (400, "context_length_exceeded")


POLICIES: list[dict[str, Any]] = [
    {"kind": "cascade"},
    {"kind": "cascade", "first": 2},
    {"kind": "self"},
    {"kind": "recruit", "k": 5},
    {"k": 1},
    {"k": 3},
]


@pytest.mark.parametrize("text", [SUM, WORD])
@pytest.mark.parametrize("aggregator", ["vote", "fuse"])
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: "-".join(map(str, policy.values())))
async def test_the_stream_says_what_the_answer_says(
    priced: Callable[..., Path], policy: dict[str, Any], aggregator: str, text: str
) -> None:
    gateway = Gateway(load_config(priced(policy, aggregator={"kind": aggregator})))
    async with gateway.pipeline:
        _, whole = await post(gateway, body(text))
        _, stream = await post(gateway, body(text, explain=True) | {"stream": True})
    wanted = json.loads(whole)["choices"][0]["message"]["content"]
    lines = lines_of(stream)
    said = "".join(choice["delta"].get("content", "") for line in lines for choice in line["choices"])
    assert said == wanted == "4"
    end = lines[-1]["counterpoint"]
    assert [part["counterpoint"]["answer"]["expert"] for part in lines if "answer" in part.get("counterpoint", {})]
    assert end["route"]["reserve"] == [] or len(end["answers"]) == len(end["route"]["experts"])
    assert [part["expert"] for part in end["answers"]] == end["route"]["experts"]


async def test_a_stream_whose_reserve_fails_too_ends_in_an_error(mixture: Callable[..., Path], tmp_path: Path) -> None:
    experts = [{"name": name, "model": "-", "engine": "scripted", "options": {"script": [FAIL]}} for name in NAMES]
    path = mixture(experts=experts, router={"path": write_router(tmp_path), "policy": {"kind": "cascade"}})
    gateway = Gateway(load_config(path))
    async with gateway.pipeline:
        status, plain = await post(gateway, body(SUM) | {"stream": True})  # nothing was written yet: the status tells
        _, stream = await post(gateway, body(SUM, explain=True) | {"stream": True})
    error = json.loads(plain)["error"]
    assert (status, error["message"].count("out of order")) == (502, 3)
    assert error["message"].startswith("no expert answered: ")
    assert lines_of(stream)[-1]["error"] == error
