import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator import Aggregator, make_aggregator
from aggregator.base import Ask
from data.records import Answer, Message, Request, Route, Sampling
from experts import ExpertSpec
from experts.pool import ExpertPool
from router import FixedK, KNNRouter, RouterError
from serving.asking import Written
from serving.config import ServingConfig, load_config
from serving.door import Door
from serving.keys import Key
from serving.pipeline import Finished, Pipeline, RequestError, one_question

QUESTIONS = [
    "What is two plus two?",
    "Sort pear, fig and plum.",
    "Is true and false true?",
    "What is ten minus one?",
    "Spell cat backwards.",
]


def fitted_router() -> KNNRouter:
    rows = []
    for at, query in enumerate(QUESTIONS):
        for number, expert in enumerate("abc"):
            rows.append({"query_id": str(at), "query": query, "expert": expert, "score": float((at + number) % 3 == 0)})
    return KNNRouter(k=3).fit(pd.DataFrame(rows))


ROUTER = fitted_router()


def pipeline() -> Pipeline:
    rules = [{"match": "two|ten", "say": "four"}, {"match": ".", "say": "unsure"}]
    specs = [ExpertSpec(name, "-", "scripted", options={"script": rules if name != "c" else rules[:1]}) for name in "abc"]
    return Pipeline(ExpertPool(specs), ROUTER, FixedK(2), make_aggregator("weighted"))


async def run(requests: list[Request]) -> dict[str, tuple[Answer, Route]]:
    async with pipeline() as mixture:
        done = {}
        async for at, answer, trace in mixture.answer_all(requests):
            assert trace is not None
            done[requests[at].id] = (answer, trace.route)
    return {id: (strip(answer), route) for id, (answer, route) in done.items()}


def strip(answer: Answer) -> Answer:
    return replace(answer, latency_s=0.0)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([*QUESTIONS, "An odd one: ƒ∂ß", "x" * 500]), min_size=1, max_size=6), st.integers(0, 1000))
def test_a_request_gets_the_same_alone_in_any_order_and_beside_any_others(others: list[str], seed: int) -> None:
    victim = one_question(QUESTIONS[0], "victim")
    alone = asyncio.run(run([victim]))["victim"]
    batch = [victim, *(one_question(text, f"other-{at}") for at, text in enumerate(others))]
    random.Random(seed).shuffle(batch)
    assert asyncio.run(run(batch))["victim"] == alone


async def test_progress_tells_the_route_then_the_answers_then_the_end() -> None:
    async with pipeline() as mixture:
        events = [event async for event in mixture.progress(one_question(QUESTIONS[0]))]
    assert isinstance(events[0], Route)
    assert isinstance(events[-1], Finished)
    assert [event.expert for event in events if isinstance(event, Answer)]
    assert len(events) == 4


async def test_a_single_experts_words_are_streamed_as_the_answer() -> None:
    async with pipeline() as mixture:
        events = [event async for event in mixture.progress(one_question(QUESTIONS[0], k=1))]
    assert "".join(event.text for event in events if isinstance(event, Written)).strip() == events[-1].answer.text  # type: ignore[union-attr]


async def test_usage_sums_over_all_calls() -> None:
    async with pipeline() as mixture:
        answer, trace = await mixture.answer(one_question(QUESTIONS[0], k=3))
    assert answer.usage.calls == 3
    assert answer.usage.prompt_tokens == sum(part.usage.prompt_tokens for part in trace.answers)


@pytest.mark.parametrize("text", ["", "   ", "\n"])
async def test_an_empty_question_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="the question is empty"):
        pipeline().route(one_question(text))


async def test_an_expert_outside_the_pool_is_named() -> None:
    with pytest.raises(RouterError, match="no expert is called 'nobody'; the mixture has a, b, c"):
        pipeline().route(one_question("hi", experts=("nobody",)))


async def test_a_failed_expert_leaves_a_degraded_answer(mixture: Callable[..., Path]) -> None:
    config = load_config(mixture())
    request = Request("r", (Message("user", "please break"),), Sampling(), experts=("a", "c"))
    async with Pipeline.of(config) as made:
        answer, _ = await made.answer(request)
    assert answer.degraded
    assert answer.error is None
    assert answer.expert == "c"


async def test_an_answer_that_nobody_could_give_names_every_failure(mixture: Callable[..., Path]) -> None:
    config = load_config(mixture())
    async with Pipeline.of(config) as made:
        answer, _ = await made.answer(Request("r", (Message("user", "please break"),), experts=("a", "b")))
    assert answer.error == "no expert answered: a: told to fail; b: told to fail"


async def test_fusion_asks_one_more_expert_and_counts_its_call(mixture: Callable[..., Path]) -> None:
    config = load_config(mixture(aggregator={"kind": "fuse", "expert": "b"}))
    async with Pipeline.of(config) as made:
        answer, trace = await made.answer(one_question("What is the capital of France?"))
    assert trace.aggregator == "fuse"
    assert answer.expert == "b"
    assert answer.usage.calls == 4


class Curious(Aggregator):
    """Asks every expert that it knows, whoever was chosen."""

    kind = "curious"
    llm = True

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        said = [await ask(expert, request.messages) for expert in "abc"]
        return Answer(" ".join(answer.error or answer.text for answer in said), "mix")


async def test_an_aggregator_reaches_none_but_the_experts_that_whoever_asks_may() -> None:
    async with pipeline() as made:
        made.aggregator = Curious()
        free, _ = await made.answer(one_question(QUESTIONS[0], k=1))
        bound, _ = await made.answer(replace(one_question(QUESTIONS[0], k=1), experts=("a",), reachable=("a",)))
    assert free.text == "four four four"
    assert bound.text == "four whoever asks may not ask 'b' whoever asks may not ask 'c'"


def test_what_a_key_may_reach_is_settled_when_a_request_comes_in() -> None:
    door, asked = Door(ServingConfig()), one_question("Hi")
    assert door.narrowed(Key("k", "me"), asked, ["a", "b"]).reachable is None
    for key in (Key("k", "me", allowed_experts=("a",)), Key("k", "me", denied_experts=("b",))):
        narrowed = door.narrowed(key, asked, ["a", "b"])
        assert (narrowed.reachable, narrowed.exclude) == (("a",), ("b",))
    only = door.narrowed(Key("k", "me", allowed_experts=("a", "b")), asked, ["a", "b"])
    assert (only.reachable, only.exclude) == (("a", "b"), ())  # one that comes by a reload meanwhile is none of them
