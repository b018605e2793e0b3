import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from counterpoint import AsyncCounterpoint, BadRequestError, ConnectionFailedError, Counterpoint, OverloadedError, ServerError
from counterpoint.steps import Retries

GOOD = httpx.Response(200, json={"id": "1", "choices": [{"message": {"content": "4"}, "finish_reason": "stop"}]})
STREAM = 'data: {"choices": [{"delta": {"content": "4"}}]}\n\ndata: [DONE]\n\n'
Outcome = httpx.Response | Exception


def refused(status: int = 429, code: str | None = None, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"error": {"message": "full", "code": code}}, headers=named)


def in_turn(*outcomes: Outcome) -> tuple[Callable[[httpx.Request], httpx.Response], list[Any]]:
    """An endpoint that does one after the other, and the bodies that it is sent."""
    left, seen = list(outcomes), []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome.stream, Broken):
            return outcome
        return httpx.Response(outcome.status_code, headers=outcome.headers, content=outcome.content)  # one response serves one client

    return answer, seen


def asked(outcomes: tuple[Outcome, ...], kind: str, retries: int) -> tuple[list[float], list[Any], str | Exception]:
    """Ask by one of the clients: the pauses that it made, what it sent, and what came of it."""
    pauses: list[float] = []
    answer, seen = in_turn(*outcomes)
    transport = httpx.MockTransport(answer)

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def ask() -> str:
        async with AsyncCounterpoint(transport=transport, retries=retries, sleep=sleep) as mixture:
            return (await mixture.chat("hi")).text

    try:
        if kind == "asyncio":
            return pauses, seen, asyncio.run(ask())
        with Counterpoint(transport=transport, retries=retries, sleep=pauses.append) as mixture:
            return pauses, seen, mixture.chat("hi").text
    except Exception as error:
        return pauses, seen, error


@pytest.fixture(params=["plain", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_who_is_refused_comes_again_when_told_to(kind: str) -> None:
    pauses, seen, came = asked((refused(retry_after="7"), refused(503, retry_after="300"), GOOD), kind, 2)
    assert (came, pauses) == ("4", [7.0, 60.0])
    assert seen[0] == seen[1] == seen[2]


def test_without_a_word_on_when_the_waits_grow(kind: str) -> None:
    pauses, _, came = asked((refused(), httpx.ConnectError("refused"), refused(503), GOOD), kind, 3)
    assert came == "4"
    assert all(0 <= pause <= most for pause, most in zip(pauses, (0.5, 1.0, 2.0), strict=True)), pauses


def test_the_waits_are_drawn_from_nothing_to_twice_the_last() -> None:
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    again = Retries(20, draw)
    longest = [again.pause_s(attempt, httpx.ConnectTimeout("slow")) for attempt in (0, 1, 2, 9)]
    assert (longest, drawn[0]) == ([0.5, 1.0, 2.0, 60.0], (0.0, 0.5))


def test_after_the_last_try_the_error_is_raised(kind: str) -> None:
    pauses, seen, came = asked((refused(retry_after="1"),) * 3, kind, 2)
    assert (len(pauses), len(seen), isinstance(came, OverloadedError)) == (2, 3, True)
    pauses, seen, came = asked((httpx.ConnectError("refused"),) * 2, kind, 1)
    assert (len(seen), isinstance(came, ConnectionFailedError)) == (2, True)


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (refused(400), BadRequestError),
        (refused(500), ServerError),
        (refused(502), ServerError),
        (httpx.ReadTimeout("slow"), ConnectionFailedError),  # it may have been answered, and paid for
        (httpx.RemoteProtocolError("cut off"), ConnectionFailedError),
        (refused(429, "insufficient_quota"), OverloadedError),  # no wait fills a budget
    ],
)
def test_what_another_try_may_not_help_is_raised_at_once(kind: str, outcome: Outcome, error: type[Exception]) -> None:
    pauses, seen, came = asked((outcome, GOOD), kind, 2)
    assert (pauses, len(seen), type(came)) == ([], 1, error)


def test_no_retries_means_one_try(kind: str) -> None:
    pauses, seen, came = asked((refused(retry_after="1"), GOOD), kind, 0)
    assert (pauses, len(seen), isinstance(came, OverloadedError)) == ([], 1, True)


def test_fewer_than_no_retries_are_refused() -> None:
    with pytest.raises(ValueError, match="retries must be 0 or more, not -1"):
        Counterpoint(retries=-1)


class Broken(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A stream that breaks after its first bytes."""

    def __iter__(self) -> Iterator[bytes]:
        yield STREAM.encode()[:51]
        raise httpx.ReadError("cut off")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in (STREAM.encode()[:51],):
            yield piece
        raise httpx.ReadError("cut off")


def test_a_stream_that_was_refused_is_begun_again() -> None:
    pauses: list[float] = []
    answer, seen = in_turn(refused(retry_after="3"), httpx.Response(200, text=STREAM))
    with Counterpoint(transport=httpx.MockTransport(answer), sleep=pauses.append) as mixture:
        assert [chunk.text for chunk in mixture.stream("hi")] == ["4"]
    assert (pauses, len(seen)) == ([3.0], 2)


def test_a_stream_that_has_begun_is_never_tried_again() -> None:
    pauses: list[float] = []
    answer, seen = in_turn(httpx.Response(200, stream=Broken()), httpx.Response(200, text=STREAM))
    with Counterpoint(transport=httpx.MockTransport(answer), sleep=pauses.append) as mixture:
        chunks = mixture.stream("hi")
        assert next(chunks).text == "4"
        with pytest.raises(ConnectionFailedError, match="cut off"):
            next(chunks)
    assert (pauses, len(seen)) == ([], 1)


async def test_nor_is_it_in_asyncio() -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    answer, seen = in_turn(refused(), httpx.Response(200, stream=Broken()), httpx.Response(200, text=STREAM))
    async with AsyncCounterpoint(transport=httpx.MockTransport(answer), sleep=sleep) as mixture:
        with pytest.raises(ConnectionFailedError, match="cut off"):
            assert [chunk.text async for chunk in mixture.stream("hi")] == []
    assert (len(pauses), len(seen)) == (1, 2)
