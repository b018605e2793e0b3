import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from jsonschema import Draft202012Validator

from serving.openapi import document
from serving.routes import ROUTERS
from tests.serving.test_gateway import FRANCE, chat, made_key, served

ROOT = Path(__file__).parents[2]
ROUTES = [route for router in ROUTERS for route in router.routes]
DOCUMENT = document(ROUTES)
METHODS = ("get", "post", "patch", "delete", "put")


def fits(name: str, value: Any) -> None:
    Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}).validate(value)


def refs(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from [part["$ref"]] if isinstance(part.get("$ref"), str) else []
    for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from refs(each)


def test_the_page_in_docs_is_fresh() -> None:
    spec = importlib.util.spec_from_file_location("docs_script", ROOT / "scripts" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert (ROOT / "docs" / "openapi.json").read_text() == script.openapi(), "run python scripts/docs.py"


def test_every_path_and_method_is_described() -> None:
    routes = {(route.path, method.lower()) for route in ROUTES if isinstance(route, APIRoute) for method in route.methods}
    told = {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert told == routes
    described = [operation for methods in DOCUMENT["paths"].values() for operation in methods.values()]
    assert [each["operationId"] for each in described if "200" not in each["responses"] or not each["summary"]] == []
    assert len({each["operationId"] for each in described}) == len(described)


def test_all_that_is_referred_to_is_there_and_every_schema_is_one() -> None:
    for ref in {*refs(DOCUMENT)}:
        kind, name = ref.removeprefix("#/components/").split("/")
        assert name in DOCUMENT["components"][kind], ref
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_each_id_of_a_path_is_a_parameter_and_each_error_has_our_shape() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            named = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert named == {*re.findall(r"{(\w+)}", path)}
            errors = [each for status, each in operation["responses"].items() if status >= "400"]
            assert all("$ref" in each or "NotReady" in json.dumps(each) for each in errors)
    for name, response in DOCUMENT["components"]["responses"].items():
        assert response["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}, name


async def test_it_is_served_to_everybody_or_where_keys_are_wanted_to_any_valid_one(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    mine = made_key(store)
    async with served() as client:
        made = (await client.get("/openapi.json")).json()
    assert (made["security"], made["paths"].keys()) == ([], DOCUMENT["paths"].keys())
    async with served(serving={"keys": True, "store": store}) as client:
        assert (await client.get("/openapi.json")).status_code == 401
        assert (await client.get("/openapi.json", headers=mine)).json() == DOCUMENT


EXPLAINED = {"counterpoint": {"explain": True, "primary_first": True}}
CHAT, TEXT = chat(FRANCE), {"model": "mix", "prompt": FRANCE}


@pytest.mark.parametrize(
    "asked", [CHAT, CHAT | EXPLAINED, CHAT | {"logprobs": True, "top_logprobs": 2}, TEXT, TEXT | EXPLAINED, TEXT | {"logprobs": 2}]
)
async def test_answers_and_every_event_of_streams_have_the_shapes_that_are_told(asked: dict[str, Any]) -> None:
    path = "/v1/chat/completions" if "messages" in asked else "/v1/completions"
    fits("ChatRequest" if "chat" in path else "CompletionRequest", asked)
    responses = DOCUMENT["paths"][path]["post"]["responses"]["200"]["content"]
    async with served() as client:
        whole = await client.post(path, json=asked)
        events = (await client.post(path, json=asked | {"stream": True, "stream_options": {"include_usage": True}})).text
    assert whole.status_code == 200, whole.text
    fits(responses["application/json"]["schema"]["$ref"].rpartition("/")[2], whole.json())
    lines = [line.removeprefix("data: ") for line in events.split("\n\n") if line]
    assert (len(lines) > 3, lines.pop()) == (True, "[DONE]")
    for line in lines:
        fits(responses["text/event-stream"]["x-event"]["$ref"].rpartition("/")[2], json.loads(line))


@pytest.mark.parametrize("field", ["max_tokens", "temperature", "stream", "n", "seed"])
async def test_a_text_is_no_number_and_no_truth_value_and_null_is_nothing(field: str) -> None:
    async with served() as client:
        assert (await client.post("/v1/chat/completions", json=chat(FRANCE) | {field: "1"})).status_code == 400
        assert (await client.post("/v1/chat/completions", json=chat(FRANCE) | {field: None})).status_code == 200
    fits("ChatRequest", chat(FRANCE) | {field: None})


async def test_a_method_that_is_not_there_is_told_with_those_that_are() -> None:
    async with served() as client:
        answer = await client.request("PATCH", "/v1/files/x")
        assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET")
        assert "allow" not in (await client.get("/v1/nothing")).headers
