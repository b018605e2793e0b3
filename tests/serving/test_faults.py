"""Faults as a request sees them: another expert stands in, and a dispatcher that is killed goes on where it was."""

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from aggregator import make_aggregator
from benchmarks.pool_faults import Tally, dispatch
from data.records import Route
from experts import ExpertSpec
from experts.pool import ExpertPool
from experts.slot import start_ray
from router import FixedK
from serving.asking import Written
from serving.pipeline import Finished, Pipeline, one_question

pytestmark = pytest.mark.slow


def pipeline(**options: Any) -> Pipeline:
    rules = {
        "a": [{"match": "die", "die": True}, {"match": "talk", "say": "one two three four five six", "pause_s": 0.3}],
        "b": [{"match": ".", "say": "b stands in"}],
    }
    specs = [ExpertSpec(name, name, "scripted", options={"script": script, **options}) for name, script in rules.items()]
    return Pipeline(ExpertPool(specs), None, FixedK(1), make_aggregator("vote"))


@pytest.fixture
def ray_session() -> Iterator[None]:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed here")
    start_ray(2)
    yield
    import ray

    ray.shutdown()


async def test_the_next_best_expert_stands_in_for_one_that_dies_and_the_trace_says_so() -> None:
    async with pipeline() as mixture:
        answer, trace = await mixture.answer(one_question("die"))
        assert (answer.text, answer.expert, answer.error) == ("b stands in", "b", None)
        assert trace.route.experts == ("a",)
        assert trace.instead == (("a", "b"),)
        answer, trace = await mixture.answer(one_question("hello"))
        assert (answer.text, trace.instead) == ("hello", ())


async def test_an_expert_that_is_left_alone_is_stood_in_for_at_once() -> None:
    async with pipeline() as mixture:
        for _ in range(6):  # each costs it three lives, until it is left alone
            await mixture.answer(one_question("die"))
        answer, trace = await mixture.answer(one_question("hello"))
        assert (answer.text, trace.instead) == ("b stands in", (("a", "b"),))


async def test_nobody_stands_in_for_an_expert_whose_words_have_gone_out(ray_session: None) -> None:
    async with pipeline(slot=True) as mixture:
        await mixture.pool.warm()
        words: list[str] = []
        async for event in mixture.progress(one_question("talk")):
            if isinstance(event, Written):
                if not words:
                    (place,) = mixture.pool._places.values()
                    os.kill(place.pid or 0, signal.SIGKILL)
                words.append(event.text.strip())
            elif isinstance(event, Finished):
                assert "the words that had gone out are not repeated" in str(event.answer.error)
                assert event.trace.instead == ()
            else:
                assert not isinstance(event, Route) or event.experts == ("a",)
        assert words == ["one", "two", "three", "four", "five", "six"][: len(words)]
        assert len(words) < 6
        silent = await asyncio.wait_for(mixture.answer(one_question("talk", k=2)), 30)
        assert silent[0].error is None  # both were asked, so nothing was streamed


def test_a_dispatcher_that_is_killed_again_and_again_answers_every_line_once(tmp_path: Path) -> None:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed here")
    tally = Tally()
    dispatch(tally, random.Random(3), calls=120, kills=2, folder=tmp_path)
    assert tally.kills == 2
    assert (tally.calls, tally.answered, tally.own_errors) == (120, 120, 0)
    assert (tally.lost, tally.doubled, tally.wrong) == (0, 0, 0)
