import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from aggregator import Aggregator, Ask, Vote, defended, make_aggregator
from data.records import Answer, Message, Request, Route, Sampling
from experts import ExpertSpec
from experts.breaker import FAILURES
from experts.pool import ExpertPool
from router import FixedK
from router.policy import Cascade
from serving.asking import Draft, Written
from serving.config import MixtureConfig
from serving.gateway import Gateway
from serving.pipeline import Finished, Pipeline, Progress, one_question
from serving.protocol import parse_chat
from serving.streaming import lines_of

QUESTION = "What is two plus two?"


def specs(**said: str) -> list[ExpertSpec]:
    return [ExpertSpec(name, "-", "scripted", options={"script": [{"match": ".", "say": text}]}) for name, text in said.items()]


async def events_of(mixture: Pipeline, request: Request) -> list[Progress]:
    async with mixture:
        return [event async for event in mixture.progress(request)]


def written(events: Sequence[Progress]) -> str:
    return "".join(event.text for event in events if isinstance(event, Written))


def end(events: Sequence[Progress]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


@pytest.mark.parametrize(
    ("said", "final"),
    [
        ({"a": "It is 4.", "b": "4", "c": "4"}, "It is 4."),  # the same in other words: the words that have gone out stand
        ({"a": "It is 5.", "b": "4", "c": "4"}, "4"),
    ],
)
async def test_the_primarys_words_go_out_first_and_stand_where_the_answer_says_the_same(said: dict[str, str], final: str) -> None:
    mixture = Pipeline(ExpertPool(specs(**said)), None, FixedK(3), make_aggregator("vote"), primary_first=True)
    events = await events_of(mixture, one_question(QUESTION))
    assert written(events).strip() == said["a"]
    assert end(events).answer.text == final


async def test_a_request_may_ask_for_the_primarys_words_or_refuse_them() -> None:
    for own, wanted in ((True, False), (False, True)):
        mixture = Pipeline(ExpertPool(specs(a="4", b="4")), None, FixedK(2), make_aggregator("vote"), primary_first=own)
        events = await events_of(mixture, one_question(QUESTION, primary_first=wanted))
        assert bool(written(events)) is wanted


def config(**said: str) -> MixtureConfig:
    experts = [
        {"name": name, "model": "-", "engine": "scripted", "options": {"script": [{"match": ".", "say": text}]}}
        for name, text in said.items()
    ]
    return MixtureConfig.model_validate({"version": 1, "experts": experts, "aggregator": {"kind": "vote", "primary_first": True}})


async def chunks(mixture: MixtureConfig, **options: Any) -> list[dict[str, Any]]:
    gateway = Gateway(mixture)
    body = {"model": "counterpoint", "messages": [{"role": "user", "content": QUESTION}], "stream": True, "counterpoint": options}
    asked = parse_chat(body)
    requests = asked.records("r", "counterpoint", list(gateway.pipeline.pool))
    await gateway.start()
    try:
        routes = [gateway.pipeline.route(request) for request in requests]
        key = await gateway.door.key(None)
        lines = [line async for line in lines_of(gateway, key, asked, "r", [*zip(requests, routes, strict=True)], None)]
    finally:
        await gateway.pipeline.pool.stop()
    assert lines[-1] == "data: [DONE]\n\n"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def text_of(lines: Sequence[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content", "") for line in lines for choice in line["choices"])


async def test_a_correction_is_appended_and_marked_only_where_the_combined_answer_differs() -> None:
    lines = await chunks(config(a="It is 5.", b="4", c="4"), explain=True)
    assert text_of(lines) == "It is 5.\n\n4"
    marked = [line for line in lines if line.get("counterpoint", {}).get("correction")]
    assert text_of(marked) == "\n\n4"
    lines = await chunks(config(a="It is 4.", b="4", c="4"), explain=True)
    assert text_of(lines).strip() == "It is 4."
    assert not [line for line in lines if line.get("counterpoint", {}).get("correction")]


async def test_a_caller_who_asks_for_no_account_sees_plain_chunks() -> None:
    lines = await chunks(config(a="It is 5.", b="4", c="4"))
    assert not [line for line in lines if "counterpoint" in line]


async def test_what_was_tried_before_the_reserve_was_asked_is_a_draft() -> None:
    mixture = Pipeline(ExpertPool(specs(a="5", b="4", c="4")), None, Cascade(0.99, 2, 0.6, 3), make_aggregator("vote"))
    events = await events_of(mixture, one_question(QUESTION))
    drafts = [event.answer.text for event in events if isinstance(event, Draft)]
    assert (drafts, end(events).answer.text) == (["5"], "4")
    assert end(events).trace.route.experts == ("a", "b", "c")


class OneMore(Vote):
    kind: ClassVar[str] = "one-more"

    def more(self, request: Request, answers: Sequence[Answer], route: Route, final: Answer) -> int:
        return int(len(answers) < 3)


async def test_an_aggregator_may_ask_the_reserve_one_by_one() -> None:
    pool = ExpertPool(specs(a="5", b="4", c="4", d="4"))
    mixture = Pipeline(pool, None, Cascade(0.99, 1, 1.0, 4), OneMore())
    events = await events_of(mixture, one_question(QUESTION))
    assert [event.expert for event in events if isinstance(event, Answer)] == ["a", "b", "c"]
    assert end(events).trace.route.reserve == ("d",)
    assert end(events).answer.usage.calls == 3


class Twice(Aggregator):
    kind: ClassVar[str] = "twice"
    asks: bool = True

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        assert not answers
        part = ask.route("What is one plus one?")
        first = await ask(part.primary, (Message("user", "first"),))
        ask.draft(first)
        return await ask(part.primary, (Message("user", "second"),), final=True)


async def test_an_aggregator_that_asks_itself_is_given_no_answers_and_its_calls_are_counted_once() -> None:
    mixture = Pipeline(ExpertPool(specs(a="4", b="5")), None, FixedK(2), Twice())
    events = await events_of(mixture, one_question(QUESTION))
    finished = end(events)
    assert [answer.expert for answer in finished.trace.answers] == ["a", "a"]
    assert (finished.answer.usage.calls, finished.trace.usage.calls) == (2, 2)
    assert [event.answer.text for event in events if isinstance(event, Draft)] == ["4"]
    assert written(events).strip() == "4"


async def test_hard_questions_may_be_answered_at_more_length() -> None:
    long = " ".join(["word"] * 50)
    for count, limit, words in ((1, None, 10), (2, None, 20), (4, None, 25), (4, 3, 3)):  # each of n experts is right with 1/n
        pool = ExpertPool(specs(**dict.fromkeys("abcd"[:count], long)))
        mixture = Pipeline(pool, None, FixedK(1), make_aggregator("vote"), tokens=(10, 30))
        request = Request("q", (Message("user", QUESTION),), Sampling(max_tokens=limit))
        assert len(end(await events_of(mixture, request)).answer.text.split()) == words


async def test_where_the_primarys_words_have_gone_out_the_writers_come_once_and_at_the_end() -> None:
    experts = [
        ExpertSpec(
            "a", "-", "scripted", options={"script": [{"match": "<answer", "say": "Written by a."}, {"match": ".", "say": "It is 5."}]}
        ),
        *specs(b="4"),
    ]
    mixture = Pipeline(ExpertPool(experts), None, FixedK(2), make_aggregator("fuse"), primary_first=True)
    events = await events_of(mixture, one_question(QUESTION))
    assert (written(events).strip(), end(events).answer.text) == ("It is 5.", "Written by a.")
    plain = Pipeline(ExpertPool(experts), None, FixedK(2), make_aggregator("fuse"))
    assert written(await events_of(plain, one_question(QUESTION))).strip() == "Written by a."


async def test_another_expert_that_fails_has_a_stand_in_though_the_primarys_words_have_gone_out() -> None:
    pool = ExpertPool([replace(spec, model=spec.name) for spec in specs(a="4", b="4", c="4")])  # an engine each
    for _ in range(FAILURES):
        pool._breakers[pool.specs["b"].engine_key].failed(time.monotonic())
    mixture = Pipeline(pool, None, FixedK(2), make_aggregator("vote"), primary_first=True)
    finished = end(await events_of(mixture, one_question(QUESTION)))
    assert finished.trace.instead == (("b", "c"),)


async def test_who_asks_for_the_defended_kind_by_name_gets_it_defended() -> None:
    made = defended(make_aggregator("vote"), "filter")
    mixture = Pipeline(ExpertPool(specs(a="4", b="4")), None, FixedK(2), made)
    for kind in ("vote", "filter", None):
        assert mixture.aggregator_of(one_question(QUESTION, aggregator=kind)) is made
    assert mixture.aggregator_of(one_question(QUESTION, aggregator="best")) is not made
