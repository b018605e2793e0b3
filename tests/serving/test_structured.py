"""Tools, schemas and log-probabilities through the endpoint's paths, by scripted experts."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from data.records import Answer, Sampling, Schema, ToolCall
from serving.config import MixtureConfig
from serving.fitness import checked
from serving.gateway import Gateway
from serving.routes import make_app
from serving.schema import SchemaError, checker

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
}
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
BY_SCHEMA = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
ROME, PARIS = '{"city": "Rome", "people": 3}', '{"people": 2, "city": "Paris"}'


def expert(name: str, *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "model": "-", "engine": "scripted", "options": {"script": list(rules)}, **more}


def say(text: str, match: str = ".") -> dict[str, Any]:
    return {"match": match, "say": text}


def call(city: str, match: str = "weather") -> dict[str, Any]:
    return {"match": match, "call": {"name": "weather", "arguments": {"city": city}}}


async def post(experts: list[dict[str, Any]], body: dict[str, Any], path: str = "chat/completions", **config: Any) -> httpx.Response:
    """One request to an endpoint of these experts."""
    mixture = {"version": 1, "name": "mix", "experts": experts, "aggregator": {"kind": "vote"}} | config
    gateway = Gateway(MixtureConfig.model_validate(mixture))
    await gateway.start()
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(make_app(gateway)), base_url="http://127.0.0.1") as client:
            return await client.post(f"/v1/{path}", json={"model": "mix"} | body)
    finally:
        await gateway.stop()


def asked(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def error_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["message"]


def chunks_of(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


async def test_equal_objects_are_counted_together_and_one_of_them_is_given_whole() -> None:
    experts = [expert("a", say(ROME)), expert("b", say(PARIS)), expert("c", say('{"city":"Paris","people":2.0}'))]
    body = asked("Which city?", response_format=BY_SCHEMA, counterpoint={"explain": True})
    answer = (await post(experts, body)).json()
    assert answer["choices"][0]["message"]["content"] == PARIS
    assert answer["counterpoint"]["aggregator"] == "structured"
    assert [weight for _, weight in answer["counterpoint"]["support"]] == [pytest.approx(2 / 3, abs=1e-3), pytest.approx(1 / 3, abs=1e-3)]


@pytest.mark.parametrize(
    "text",
    ["It is Rome.", "[]", '{"city": "Rome"}', '{"city": "Rome", "people": "many"}', "NaN", "[" * 5000, '{"city": "x", "people": 1e999}'],
)
async def test_an_answer_that_does_not_fit_never_wins_however_many_give_it(text: str) -> None:
    experts = [expert("a", say(text)), expert("b", say(text)), expert("c", say(ROME))]
    answer = (await post(experts, asked("Which city?", response_format=BY_SCHEMA, counterpoint={"explain": True}))).json()
    assert answer["choices"][0]["message"]["content"] == ROME
    assert answer["counterpoint"]["answers"][0]["error"].startswith("its text does not fit the schema: ")
    assert answer["counterpoint"]["degraded"]


async def test_the_next_best_stands_in_for_one_whose_answer_does_not_fit() -> None:
    experts = [expert("a", say("It is Rome.")), expert("b", say(ROME))]
    for stream in (False, True):
        body = asked("Which city?", response_format=BY_SCHEMA, stream=stream, counterpoint={"k": 1, "explain": True})
        response = await post(experts, body)
        if stream:
            texts = [choice["delta"].get("content", "") for chunk in chunks_of(response) for choice in chunk["choices"]]
            assert "".join(texts) == ROME
        else:
            assert response.json()["choices"][0]["message"]["content"] == ROME
            assert response.json()["counterpoint"]["instead"] == [["a", "b"]]


async def test_where_nobodys_answer_fits_the_error_says_why() -> None:
    status, message = error_of(await post([expert("a", say("It is Rome."))], asked("Which?", response_format={"type": "json_object"})))
    assert status == 502
    assert "a: its text does not fit the schema: it is no JSON" in message


async def test_a_cut_answer_says_that_it_was_cut() -> None:
    status, message = error_of(await post([expert("a", say(ROME))], asked("Which?", response_format=BY_SCHEMA, max_tokens=2)))
    assert (status, "it was cut at max_tokens, and it is no JSON" in message) == (502, True)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "city"}, "'city' is not valid"),
        ({"$ref": "http://127.0.0.1:1/schema.json"}, "refers to its own parts only"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "refers to its own parts only"),
        ({"$ref": "#/$defs/none"}, "is no schema in this one"),
        ({"$ref": "#/default", "default": {"patternProperties": {"(a+)+$": {}}}}, "is no schema in this one"),
        ({"$ref": "#/properties", "properties": {"patternProperties": {"(a+)+$": {}}}}, "is no schema in this one"),
        ({"$ref": "#/required", "required": ["a"]}, "is no schema in this one"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "wanted https://json-schema.org/draft/2020-12/schema or"),
        ({"properties": {"a": {"$id": "http://x/", "$ref": "#/y"}}}, "$id is supported at the top"),
        ({"pattern": "("}, "a pattern is no regular expression"),
        ({"patternProperties": {"(a+)+$": {}}}, "patternProperties is not supported"),
        ({"$schema": []}, "$schema: wanted"),
        ({"description": "x" * 70_000}, "longer than 32768 bytes"),
    ],
)
async def test_a_schema_that_cannot_be_checked_is_refused(schema: dict[str, Any], words: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    status, message = error_of(await post([expert("a", say(ROME))], asked("Which?", response_format=form)))
    assert status == 400
    assert message.startswith("response_format.json_schema.json_schema.schema: ")
    assert words in message


async def test_a_schema_may_refer_to_its_own_parts_by_any_spelling() -> None:
    schema = {"properties": {"a": {"$ref": "#/$defs/b~1c%20d"}}, "$defs": {"b/c d": {"type": "integer"}}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert (await post([expert("a", say('{"a": 1}'))], asked("Which?", response_format=form))).status_code == 200
    assert (await post([expert("a", say('{"a": "1"}'))], asked("Which?", response_format=form))).status_code == 502


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_schema_with_what_is_no_number_is_refused(number: str) -> None:
    with pytest.raises(SchemaError, match="is no number that can be read"):
        checker(f'{{"multipleOf": {number}}}')


async def test_a_schema_that_is_itself_long_to_check_ends() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"required": [[0] for _ in range(8000)]}}}
    assert error_of(await post([expert("a", say(ROME))], asked("Which?", response_format=form)))[0] == 400


async def test_what_strict_functions_take_is_bounded_all_together_and_must_be_schemas() -> None:
    def tools(schema: dict[str, Any], count: int, strict: bool = True) -> list[dict[str, Any]]:
        return [{"type": "function", "function": {"name": f"f{at}", "parameters": schema, "strict": strict}} for at in range(count)]

    able = [expert("a", say("x"), max_model_len=100_000)]
    status, message = error_of(await post(able, asked("Which?", tools=tools({"description": "x" * 10_000}, 4))))
    assert (status, message) == (400, "tools: the parameters of strict functions are longer than 32768 bytes together")
    status, message = error_of(await post(able, asked("Which?", tools=tools({"$ref": "http://127.0.0.1:1/x"}, 1))))
    assert (status, message.startswith("tools: the parameters of 'f0': $ref: a schema refers to its own parts only")) == (400, True)
    assert (await post(able, asked("Which?", tools=tools({"description": "x" * 10_000}, 4, strict=False)))).status_code == 200


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"pattern": "^(a|a)*$"}}},
        {"properties": {"many": {"items": {"pattern": "^(?:(?=(?:a|a)*c)x|a*)$"}}}},
        {"properties": {"many": {"items": {"anyOf": [*({"const": n} for n in range(1000)), {}]}}}},
        {"properties": {"many": {"items": {"enum": [*({"n": n} for n in range(1000)), "a" * 14]}}}},
        {"$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)} | {"d40": {}}, "$ref": "#/$defs/d0"},
        {"allOf": [{"$ref": "#"}]},
    ],
)
async def test_a_schema_that_would_take_years_ends(schema: dict[str, Any]) -> None:
    text = json.dumps({"a": "a" * 60 + "b", "many": ["a" * 14] * 100_000}, separators=(",", ":"))
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    status, message = error_of(await post([expert("a", say(text), max_model_len=100_000)], asked("Which?", response_format=form)))
    assert status == 502
    assert "takes too long to check" in message or "nests too deep" in message


async def test_a_property_may_be_called_like_a_keyword() -> None:
    schema = {"properties": {"$ref": {"type": "integer"}, "pattern": {"const": {"$ref": 1}}, "patternProperties": {}}, "required": ["$ref"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = (await post([expert("a", say('{"$ref": 1}'))], asked("Which?", response_format=form))).json()
    assert answer["choices"][0]["message"]["content"] == '{"$ref": 1}'


async def test_most_weight_decides_which_tool_is_called() -> None:
    experts = [expert("a", call("Rome")), expert("b", call("Paris")), expert("c", call("Paris"))]
    answer = (await post(experts, asked("What is the weather?", tools=[WEATHER]))).json()["choices"][0]
    assert (answer["finish_reason"], answer["message"]["content"]) == ("tool_calls", None)
    (made,) = answer["message"]["tool_calls"]
    assert (made["type"], made["function"]) == ("function", {"name": "weather", "arguments": '{"city": "Paris"}'})
    assert made["id"].startswith("call_")


async def test_calls_of_tools_are_streamed_in_openais_shape() -> None:
    rules = {"match": "weather", "say": "Let me look.", "call": [call("Rome")["call"], call("Paris")["call"]]}
    chunks = chunks_of(await post([expert("a", rules)], asked("What is the weather?", tools=[WEATHER], stream=True)))
    deltas = [chunk["choices"][0] for chunk in chunks]
    calls = [made for delta in deltas for made in delta["delta"].get("tool_calls", [])]
    assert [(made["index"], json.loads(made["function"]["arguments"])) for made in calls] == [(0, {"city": "Rome"}), (1, {"city": "Paris"})]
    assert "".join(delta["delta"].get("content", "") for delta in deltas).strip() == "Let me look."
    assert deltas[-1]["finish_reason"] == "tool_calls"


async def test_a_conversation_goes_on_with_what_the_tool_gave() -> None:
    rules = [say("It is warm in Rome.", "18 degrees"), call("Rome")]
    made = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    turns = [
        {"role": "user", "content": "What is the weather?"},
        {"role": "assistant", "content": None, "tool_calls": [made], "refusal": None},
        {"role": "tool", "tool_call_id": "call_1", "content": "18 degrees"},
    ]
    able, unable = expert("a", *rules), expert("b", say("no"), can=["json_schema"])
    answer = (await post([unable, able], {"messages": turns, "tools": [WEATHER]})).json()
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "It is warm in Rome."}
    status, message = error_of(await post([able], {"messages": [*turns[:2], {**turns[2], "tool_call_id": "call_2"}]}))
    assert (status, message) == (400, "messages: the turn of a tool answers 'call_2', and no assistant's turn calls that")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"tools": [WEATHER]}, "the request needs tools, which no expert that may answer can: a, b; `can` of"),
        ({"tools": [WEATHER], "model": "a"}, "needs tools, which no expert that may answer can: a;"),
        ({"response_format": BY_SCHEMA, "tools": [WEATHER]}, "needs tools"),
        ({"logprobs": True, "model": "b"}, "the request needs logprobs"),
        ({"presence_penalty": 0.5, "model": "b"}, "the request needs penalties"),
    ],
)
async def test_what_no_expert_can_is_refused_by_its_name(body: dict[str, Any], words: str) -> None:
    experts = [expert("a", say("x"), can=["logprobs"]), expert("b", say("x"), can=["json_schema"])]
    response = await post(experts, asked("What is the weather?", **body))
    assert error_of(response)[0] == 400
    assert words in error_of(response)[1]
    assert (await post(experts, asked("What is the weather?", **body), "route")).status_code == 400


async def test_only_those_that_can_are_asked() -> None:
    experts = [expert("a", say("x"), can=[]), expert("b", say(ROME)), expert("c", say("x"), can=["tools", "logprobs"])]
    body = asked("Which?", response_format=BY_SCHEMA, counterpoint={"k": 3, "explain": True})
    assert (await post(experts, body)).json()["counterpoint"]["route"]["experts"] == ["b"]


@pytest.mark.parametrize(
    ("settings", "calls", "words"),
    [
        ({"tool_choice": "required"}, (), "it calls no tool, and must"),
        ({"tool_choice": "none"}, (("f", "{}"),), "may call no tool"),
        ({"tools": ()}, (("f", "{}"),), "may call no tool"),
        ({"tool_choice": "function:f"}, (("g", "{}"),), "it calls 'g'; it may call f"),
        ({}, (("h", "{}"),), "it calls 'h'; it may call f, g"),
        ({}, (("f", "{"),), "its arguments for 'f' do not fit: it is no JSON"),
        ({}, (("f", "3"),), "its arguments for 'f' do not fit: 3 is not of type 'object'"),
        ({}, (("f", '{"n": "x"}'),), "its arguments for 'f' do not fit: n: 'x' is not of type 'integer'"),
        ({}, (("g", '{"n": "x"}'),), None),
        ({"parallel_tool_calls": False}, (("f", "{}"), ("g", "{}")), "it calls 2 tools, and may call one"),
        ({}, (("f", "{}"), ("g", "{}")), None),
    ],
)
def test_calls_must_be_what_the_tools_allow(settings: dict[str, Any], calls: tuple[tuple[str, str], ...], words: str | None) -> None:
    parameters = {"type": "object", "properties": {"n": {"type": "integer"}}}
    tools = tuple(json.dumps({"name": name, "parameters": parameters, "strict": name == "f"}) for name in "fg")
    answer = Answer("", "a", tool_calls=tuple(ToolCall(str(at), *each) for at, each in enumerate(calls)))
    made = checked(answer, Sampling(**({"tools": tools} | settings)))
    if words is None:
        assert (made.error, made.finish_reason, made.tool_calls) == (None, "tool_calls", answer.tool_calls)
    else:
        assert words in str(made.error)
        assert (made.error_code, made.tool_calls) == ("unfit", ())


async def test_an_aggregator_that_chooses_may_be_named_and_one_that_writes_may_not() -> None:
    experts = [expert("a", say(ROME)), expert("b", say(PARIS)), expert("c", say('{"city":"Paris","people":2}'))]
    for kind in ("vote", "weighted", "medoid", "structured"):
        body = asked("Which?", response_format=BY_SCHEMA, counterpoint={"aggregator": kind, "explain": True})
        answer = (await post(experts, body)).json()
        assert (answer["choices"][0]["message"]["content"], answer["counterpoint"]["aggregator"]) == (PARIS, kind)
    for kind in ("fuse", "debate", "judge", "self"):
        body = asked("Which?", response_format=BY_SCHEMA, counterpoint={"aggregator": kind})
        status, message = error_of(await post(experts, body))
        assert (status, message.startswith(f"the aggregator '{kind}' writes answers of its own")) == (400, True)


async def test_a_mixture_that_writes_gives_objects_whole() -> None:
    experts = [expert("a", say(ROME)), expert("b", say(ROME))]
    body = asked("Which?", response_format=BY_SCHEMA, counterpoint={"explain": True})
    answer = (await post(experts, body, aggregator={"kind": "fuse"})).json()
    assert (answer["choices"][0]["message"]["content"], answer["counterpoint"]["aggregator"]) == (ROME, "structured")
    assert answer["counterpoint"]["calls"] == 2


async def test_the_primarys_words_do_not_go_out_before_an_object_is_whole() -> None:
    experts = [expert("a", say(ROME)), expert("b", say(PARIS)), expert("c", say(PARIS))]
    body = asked("Which?", response_format=BY_SCHEMA, stream=True, counterpoint={"primary_first": True})
    texts = [choice["delta"].get("content", "") for chunk in chunks_of(await post(experts, body)) for choice in chunk["choices"]]
    assert "".join(texts) == PARIS


async def test_log_probabilities_are_those_of_the_expert_whose_words_stand() -> None:
    experts = [expert("a", say("It is Paris.")), expert("b", say("It is Paris."))]
    content = (await post(experts, asked("Which?", logprobs=True, top_logprobs=1))).json()["choices"][0]["logprobs"]["content"]
    assert [one["token"] for one in content] == ["It ", "is ", "Paris."]
    assert content[0]["bytes"] == list(b"It ")
    assert content[0]["top_logprobs"] == [{"token": "It ", "logprob": 0.0, "bytes": list(b"It ")}]
    none = (await post(experts, asked("Which?", logprobs=True))).json()["choices"][0]["logprobs"]["content"]
    assert [one["top_logprobs"] for one in none] == [[], [], []]
    written = await post(experts, asked("Which?", logprobs=True, counterpoint={"aggregator": "self"}))
    assert written.status_code == 200


async def test_log_probabilities_come_with_a_streams_last_chunk() -> None:
    chunks = chunks_of(await post([expert("a", say("It is Paris."))], asked("Which?", logprobs=True, stream=True)))
    told = [choice["logprobs"] for chunk in chunks for choice in chunk["choices"] if choice["logprobs"]]
    assert [[one["token"] for one in each["content"]] for each in told] == [["It ", "is ", "Paris."]]


async def test_a_prompts_log_probabilities_have_the_older_shape() -> None:
    told = (await post([expert("a", say("It is."))], {"prompt": "Which?", "logprobs": 1}, "completions")).json()["choices"][0]["logprobs"]
    assert told == {"tokens": ["It ", "is."], "token_logprobs": [0, 0], "top_logprobs": [{"It ": 0}, {"is.": 0}], "text_offset": [0, 3]}


NEUTRAL = {
    "tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "response_format": {"type": "text"}, "logprobs": False,
    "top_logprobs": 0, "frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {}, "store": False, "metadata": {"a": "b"},
    "service_tier": "auto", "modalities": ["text"], "verbosity": "medium", "prompt_cache_key": "k", "safety_identifier": "s", "user": "u",
}  # fmt: skip
NULLS = (
    "audio", "prediction", "reasoning_effort", "web_search_options", "functions", "function_call", "n", "seed", "stop", "stream",
    "stream_options", "temperature", "top_p", "max_tokens", "max_completion_tokens", "counterpoint", *NEUTRAL,
)  # fmt: skip


async def test_neutral_values_are_never_refused_and_change_nothing() -> None:
    unable = [expert("a", say("Rome"), can=[])]
    for body in (NEUTRAL, dict.fromkeys(NULLS)):
        assert (await post(unable, asked("Which?", **body))).json()["choices"][0]["message"]["content"] == "Rome"
    older = {
        "prompt": "Which?",
        "logprobs": None,
        "echo": False,
        "suffix": None,
        "best_of": 1,
        "logit_bias": None,
        "frequency_penalty": 0.0,
    }
    assert (await post(unable, older, "completions")).json()["choices"][0]["text"] == "Rome"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"store": True}, "store: Input should be False"),
        ({"service_tier": "flex"}, "service_tier: Input should be 'auto' or 'default'"),
        ({"logit_bias": {"50256": -100}}, "logit_bias: "),
        ({"audio": {"voice": "alloy"}}, "audio: not supported"),
        ({"presence_penalty": 3}, "presence_penalty: Input should be less than or equal to 2"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs: Input should be less than or equal to 20"),
        ({"top_logprobs": 2}, "top_logprobs: needs logprobs, true"),
        ({"tool_choice": "required"}, "tool_choice: required needs tools"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "f"}}}, "no tool is called 'f'; there are weather"),
        ({"tools": [WEATHER, WEATHER]}, "tools: two are called 'weather'"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools.0.type: Input should be 'function'"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0: tool_call_id and the role tool come together"),
        ({"messages": [{"role": "assistant", "content": None}]}, "messages.0: content: wanted a text"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_its_field(body: dict[str, Any], words: str) -> None:
    status, message = error_of(await post([expert("a", say("x"))], asked("Which?") | body))
    assert status == 400
    assert words in message


def test_the_config_may_not_promise_what_an_engine_does_not_offer() -> None:
    from experts import EngineError
    from serving.config import expert_specs

    def specs(**settings: Any) -> list[Any]:
        entry = {"name": "a", "model": "m", **settings}
        return expert_specs(MixtureConfig.model_validate({"version": 1, "experts": [entry]}))

    with pytest.raises(EngineError, match="can: the engine 'transformers' of 'a' does not offer tools"):
        specs(engine="transformers", can=["tools"])
    with pytest.raises(EngineError, match=r"name vLLM's parser in options\.tool_parser"):
        specs(engine="vllm", can=["tools"])
    assert specs(engine="vllm", can=["tools"], options={"tool_parser": "hermes"})[0].can == ("tools",)


def test_a_schema_carries_its_name_and_strictness_to_servers() -> None:
    from experts.extras import more_of

    schema = Schema(json.dumps(CITY), "city", "A city.", True)
    told = {"name": "city", "schema": CITY, "strict": True, "description": "A city."}
    assert more_of(Sampling(schema=schema)) == {"response_format": {"type": "json_schema", "json_schema": told}}


async def test_an_expert_that_answers_other_questions_only_does_not_count_as_one_that_can() -> None:
    greeter = expert("greeter", say("Hello!"), role="constant", match=["hi"])
    experts = [expert("a", say("x"), can=[]), greeter]
    status, message = error_of(await post(experts, asked("Which city?", logprobs=True)))
    assert (status, "needs logprobs, which no expert that may answer can: a;" in message) == (400, True)


async def test_a_batch_keeps_to_schemas_and_names_what_nobody_can(tmp_path: Path) -> None:
    from serving.batch import run_batch
    from serving.pipeline import Pipeline

    experts = [
        expert("a", say("It is Rome."), can=["json_schema"]),
        expert("b", call("Rome", "weather"), say(ROME), can=["json_schema", "tools"]),
    ]
    bodies = [
        asked("Which?", response_format=BY_SCHEMA),
        asked("What is the weather?", tools=[WEATHER]),
        asked("Which?", logprobs=True, model="b"),
    ]
    lines = [json.dumps({"custom_id": str(at), "body": {"model": "mix"} | body}) for at, body in enumerate(bodies)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    async with Pipeline.of(MixtureConfig.model_validate({"version": 1, "name": "mix", "experts": experts})) as mixture:
        await run_batch(mixture, tmp_path / "in.jsonl", tmp_path / "out.jsonl", lambda done, total: None)
    rows = {row["custom_id"]: row["response"] for row in map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())}
    assert rows["0"]["body"]["choices"][0]["message"]["content"] == ROME
    assert rows["1"]["body"]["choices"][0]["finish_reason"] == "tool_calls"
    assert (rows["2"]["status_code"], "needs logprobs" in rows["2"]["body"]["error"]["message"]) == (400, True)


async def test_a_recalled_answer_calls_the_same_tools() -> None:
    gateway = Gateway(
        MixtureConfig.model_validate(
            {"version": 1, "name": "mix", "experts": [expert("a", call("Rome"))], "serving": {"cache": {"kind": "exact"}}}
        )
    )
    await gateway.start()
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(make_app(gateway)), base_url="http://127.0.0.1") as client:
            body = {"model": "mix"} | asked("What is the weather?", tools=[WEATHER])
            first, again = [await client.post("/v1/chat/completions", json=body) for _ in range(2)]
            other = await client.post("/v1/chat/completions", json=body | {"tool_choice": "none"})
    finally:
        await gateway.stop()
    assert [each.headers["x-counterpoint-cache"] for each in (first, again, other)] == ["miss", "hit", "miss"]
    assert again.json()["choices"] == first.json()["choices"]
