import copy
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator
from schemathesis import APIOperation, Case, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from serving.openapi import document
from serving.routes import ROUTERS
from tests.serving.fuzzing import GOOD
from tests.serving.listening import Listening, listening

DOCUMENT = document(route for router in ROUTERS for route in router.routes)
LINE = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": GOOD["/v1/route"]}

KEPT = {"runs": "first", "models": "mix"}
"""What is there from the beginning, by kind."""


class Things:
    """What paths with an id are about: made anew for each case, so that one that is deleted is missed by no other."""

    def __init__(self, endpoint: Listening) -> None:
        self.client = httpx.Client(base_url=endpoint.url, headers=endpoint.headers)

    def id(self, path: str) -> str:
        """The id of a thing of the kind that a path is about."""
        kind = path.split("/")[2]
        makers: dict[str, Callable[[], httpx.Response]] = {
            "files": self.file,
            "batches": lambda: self.client.post("/v1/batches", json=self.batch()),
            "conversations": lambda: self.client.post("/v1/conversations", json=GOOD["/v1/conversations"]),
            "traces": self.answer,
        }
        return KEPT[kind] if kind in KEPT else str(makers[kind]().json()["id"])

    def file(self) -> httpx.Response:
        return self.client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", json.dumps(LINE).encode())})

    def answer(self) -> httpx.Response:
        return self.client.post("/v1/chat/completions", json=GOOD["/v1/chat/completions"])

    def batch(self) -> dict[str, Any]:
        return GOOD["/v1/batches"] | {"input_file_id": self.file().json()["id"]}

    def body(self, path: str) -> Any:
        """A body that a path takes."""
        if path == "/v1/feedback":
            return GOOD[path] | {"id": self.answer().json()["id"]}
        return self.batch() if path == "/v1/batches" else copy.deepcopy(GOOD[path])


def hit(case: Case, things: Things, turns: Iterator[int]) -> None:
    """Makes a case that is valid be about something that is there: else hardly one would get beyond the first 404."""
    path, turn = case.operation.path, next(turns)
    if "{id}" in path and turn % 4:
        case.path_parameters["id"] = things.id(path)
    if path == "/v1/runs/compare" and turn % 4:
        case.query.update(a="first", b="second")
    if path in GOOD and turn % 4 and isinstance(case.body, dict):
        good = things.body(path)
        names = sorted(case.body.keys() - good.keys()) if turn % 4 == 1 else sorted(case.body.keys() - {"model", "input_file_id", "id"})
        case.body = good | ({name: case.body[name] for name in names[turn % 7 :][:2]} if turn % 4 < 3 else {})
    if case.method == "GET" and path in ("/v1/files", "/v1/conversations"):
        case.query.pop("after", None)


def promised(response: Response, case: Case) -> bool:
    """Whether an error of the 500s is what the document says: scripted experts fit no schema and call no tools, and time can be up."""
    body = case.body if isinstance(case.body, dict) else {}
    error = response.json()["error"]
    if response.status_code == 504:
        return error["code"] == "deadline_exceeded" and "timeout_s" in (body.get("counterpoint") or {})
    asks = (body.get("response_format") or {}).get("type") in ("json_schema", "json_object") or bool(body.get("tools"))
    return response.status_code == 502 and error["code"] == "unfit" and asks


class Tried:
    """Cases that were tried on an endpoint.

    Attributes:
        count: How many.
        done: How many of each operation were valid and done.
    """

    def __init__(self, endpoint: Listening) -> None:
        self.endpoint, self.things = endpoint, Things(endpoint)
        self.count, self.done = 0, Counter[str]()
        self.session = requests.Session()

    def cases(self, operation: APIOperation, mode: GenerationMode, most: int) -> None:
        """Tries cases of an operation."""
        turns = itertools.count(1)
        quick = settings(
            max_examples=most, phases=[Phase.generate], deadline=None, database=None, derandomize=True, suppress_health_check=[*HealthCheck]
        )

        @quick
        @given(case=operation.as_strategy(generation_mode=mode))
        def run(case: Case) -> None:
            if mode is GenerationMode.POSITIVE:
                hit(case, self.things, turns)
            self.case(case, mode)

        run()

    def case(self, case: Case, mode: GenerationMode) -> None:
        """Tries one case."""
        self.count += 1
        response = case.call(base_url=self.endpoint.url, headers=self.endpoint.headers, session=self.session, timeout=30)
        assert self.endpoint.faults == []
        assert response.status_code < 500 or promised(response, case), f"{case.as_curl_command()}\n{response.text}"
        # what no schema can say (a tool's turn answers a call) is refused too, and parameters that nobody knows are let through
        without = [not_a_server_error, positive_data_acceptance] + ([] if refusable(case) else [negative_data_rejection])
        case.validate_response(response, excluded_checks=without, headers=self.endpoint.headers)
        check_fields(response, case)
        self.done[case.operation.label] += mode is GenerationMode.POSITIVE and response.status_code == 200


def check_fields(response: Response, case: Case) -> None:
    """Checks that an answer has no field that the document does not tell; schemathesis lets such through."""
    told = DOCUMENT["paths"][case.operation.path][case.operation.method.lower()]["responses"][str(response.status_code)]
    told = DOCUMENT["components"]["responses"][told["$ref"].rpartition("/")[2]] if "$ref" in told else told
    if response.headers["content-type"][0].partition(";")[0] == "application/json":
        schema = told["content"]["application/json"]["schema"]
        Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(response.json())


def refusable(case: Case) -> bool:
    """Whether it is the body that is wrong."""
    return case.operation.method.upper() in ("POST", "PATCH") and case.operation.path in GOOD


def spoilable(operation: APIOperation) -> bool:
    """Whether anything of it can be wrong: headers may hold any text."""
    about = DOCUMENT["paths"][operation.path][operation.method.lower()]
    return "requestBody" in about or any(each["in"] != "header" for each in about["parameters"])


@pytest.mark.parametrize("each", [2, pytest.param(34, marks=pytest.mark.conformance)])
def test_no_case_of_schemathesis_is_a_fault_and_every_answer_is_as_the_document_says(tmp_path: Path, each: int) -> None:
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == sum(len(methods) for methods in DOCUMENT["paths"].values())
    with listening(tmp_path) as endpoint:
        tried = Tried(endpoint)
        with tried.session, tried.things.client:
            for operation in operations:
                wrong = each if spoilable(operation) else 0
                tried.cases(operation, GenerationMode.POSITIVE, 2 * each - wrong)
                if wrong:
                    tried.cases(operation, GenerationMode.NEGATIVE, wrong)
    assert tried.count >= 1.9 * each * len(operations)
    assert [operation.label for operation in operations if not tried.done[operation.label]] == []
