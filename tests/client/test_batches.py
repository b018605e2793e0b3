import json
from typing import Any

import httpx
import pytest

from counterpoint import ConnectionFailedError, Counterpoint, CounterpointError
from counterpoint.errors import retry_after_s

BATCH = {"id": "batch_1", "status": "failed", "created_at": 1, "input_file_id": "in", "errors": {"data": [{"message": "the disk is full"}]}}
BODY = {"id": "1", "choices": [{"message": {"content": "4"}, "finish_reason": "stop"}]}
ROW = {"custom_id": "one", "response": {"status_code": 200, "body": BODY}}


def client(batch: dict[str, Any], content: str = "") -> Counterpoint:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=content) if request.url.path.endswith("/content") else httpx.Response(200, json=batch)

    return Counterpoint("http://mixture", transport=httpx.MockTransport(answer))


def test_a_batch_that_failed_gives_what_was_answered_and_then_says_why() -> None:
    with client(BATCH | {"output_file_id": "out"}, json.dumps(ROW)) as mixture:
        results = mixture.batches.results("batch_1")
        assert next(results)[0] == "one"
        with pytest.raises(CounterpointError, match="batch batch_1 failed: the disk is full"):
            next(results)


def test_a_result_that_is_none_is_told() -> None:
    with client(BATCH | {"output_file_id": "out"}, "{half") as mixture, pytest.raises(ConnectionFailedError, match="no line of a batch"):
        list(mixture.batches.results("batch_1"))


def test_a_request_that_asks_nothing_is_named() -> None:
    with client(BATCH) as mixture, pytest.raises(ValueError, match="request 1 has neither messages nor a body, but role, content"):
        mixture.batches.create(["What is 2 + 2?", {"role": "user", "content": "hi"}])


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("nan", None), ("inf", None), ("Thu, 01 Jan 1970 00:00:05 GMT", 0.0)],
)
def test_when_to_come_back_is_never_in_the_past(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, now=20.0) == seconds
