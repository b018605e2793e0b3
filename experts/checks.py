"""What every engine must satisfy; a new engine is done when it passes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

from data.records import Answer, Call, Delta
from experts.base import Engine, EngineError


async def collect(engine: Engine, calls: Sequence[Call]) -> tuple[dict[str, Answer], dict[str, str]]:
    """Run calls and give each call's answer and the text of its deltas.

    Raises:
        AssertionError: A call ended twice, or wrote after its end.
    """
    answers: dict[str, Answer] = {}
    written = {call.id: "" for call in calls}
    async for event in engine.generate(calls):
        assert event.call_id not in answers, f"call {event.call_id} had ended already"
        if isinstance(event, Delta):
            written[event.call_id] += event.text
        else:
            answers[event.call_id] = event.answer
    return answers, written


async def check_every_call_ends_once(engine: Engine, calls: Sequence[Call]) -> None:
    """Every call gets exactly one answer, under its expert's name, with its usage."""
    answers, _ = await collect(engine, calls)
    assert set(answers) == {call.id for call in calls}, "every call must end"
    for call in calls:
        answer = answers[call.id]
        assert answer.error is None, f"{call.id} failed: {answer.error}"
        assert answer.expert == call.expert, f"{answer.expert} answered for {call.expert}"
        assert answer.text, f"{call.id} has no text"
        assert answer.usage.calls == 1, "an answer is one call"


async def check_deltas_make_the_answer(engine: Engine, calls: Sequence[Call]) -> None:
    """The pieces that were streamed, put together, are the answer."""
    answers, written = await collect(engine, calls)
    for id, answer in answers.items():
        assert written[id].strip() == answer.text, f"streamed {written[id]!r}, answered {answer.text!r}"


async def check_greedy_repeats(engine: Engine, calls: Sequence[Call]) -> None:
    """At temperature 0 and one call at a time, the same call gives the same text."""
    first, _ = await collect(engine, calls[:1])
    again, _ = await collect(engine, calls[:1])
    assert first[calls[0].id].text == again[calls[0].id].text, "the same call gave two texts"


async def check_limit_is_kept(engine: Engine, calls: Sequence[Call]) -> None:
    """An answer has at most `max_tokens` tokens, and says `length` where it was cut."""
    short = [replace(call, sampling=replace(call.sampling, max_tokens=2)) for call in calls[:1]]
    answers, _ = await collect(engine, short)
    answer = answers[short[0].id]
    assert answer.usage.completion_tokens <= 2, f"wanted at most 2 tokens, got {answer.usage.completion_tokens}"
    assert answer.finish_reason == "length", f"a cut answer must say length, not {answer.finish_reason}"


async def check_abandoned_calls_leave_the_engine_well(engine: Engine, calls: Sequence[Call]) -> None:
    """A reader who goes away in the middle does no harm to the next."""
    async with aclosing(engine.generate(calls)) as events:  # type: ignore[type-var]
        async for _ in events:
            break
    await check_every_call_ends_once(engine, calls)


async def check_a_failing_call_spares_the_others(engine: Engine, calls: Sequence[Call], failing: Call) -> None:
    """A call that cannot be answered ends in one line of error; those beside it are answered."""
    answers, _ = await collect(engine, [failing, *calls])
    error = answers[failing.id].error
    assert error, "the call must fail"
    assert "\n" not in error, "an error is one line"
    assert all(answers[call.id].error is None for call in calls), "the others must be answered"


async def check_refuses_before_start(engine: Engine, calls: Sequence[Call]) -> None:
    """An engine that was not started says so."""
    try:
        await collect(engine, calls)
    except EngineError:
        return
    raise AssertionError("an engine that was not started must refuse")


async def check_stops_twice(engine: Engine) -> None:
    """Stopping twice is no error, and a stopped engine holds no memory."""
    await engine.stop()
    await engine.stop()
    assert engine.memory_bytes == 0, "a stopped engine holds memory"


async def check_choices_are_told(engine: Engine, calls: Sequence[Call]) -> None:
    """Where choices are named, each has a log-probability, in their order, or none has; where none is named, none is told."""
    choices = ("A", "B", "C")
    naming = [replace(call, sampling=replace(call.sampling, choices=choices, max_tokens=1)) for call in calls[:1]]
    told = (await collect(engine, naming))[0][naming[0].id]
    assert told.error is None, f"the call failed: {told.error}"
    if told.logprobs:
        assert tuple(choice for choice, _ in told.logprobs) == choices, f"wanted {choices}, told {told.logprobs}"
        assert all(-1000 < value <= 0 for _, value in told.logprobs), f"no log-probabilities: {told.logprobs}"
    plain = (await collect(engine, calls[:1]))[0][calls[0].id]
    assert plain.logprobs == (), f"nothing was to be told, and {plain.logprobs} was"


async def check_tokens_are_told(engine: Engine, calls: Sequence[Call]) -> None:
    """Where log-probabilities are wanted, each token has one and at most so many beside it; where not, none is told."""
    wanting = [replace(call, sampling=replace(call.sampling, top_logprobs=2)) for call in calls[:1]]
    told = (await collect(engine, wanting))[0][wanting[0].id]
    assert told.error is None, f"the call failed: {told.error}"
    assert all(-1000 < one.logprob <= 0 and len(one.top) <= 2 for one in told.tokens), f"no log-probabilities: {told.tokens}"
    plain = (await collect(engine, calls[:1]))[0][calls[0].id]
    assert plain.tokens == (), f"nothing was to be told, and {plain.tokens} was"


CHECKS = [
    check_every_call_ends_once,
    check_deltas_make_the_answer,
    check_greedy_repeats,
    check_limit_is_kept,
    check_abandoned_calls_leave_the_engine_well,
    check_choices_are_told,
    check_tokens_are_told,
]
"""Checks of a started engine and some calls that it can answer."""
