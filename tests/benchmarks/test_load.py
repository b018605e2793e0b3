import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from benchmarks import upstream
from benchmarks.load import LoadError, Measured, Timed, events_of, read, requests_of, run


class _Server(uvicorn.Server):
    def install_signal_handlers(self) -> None: ...


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[str]:
    server = _Server(uvicorn.Config(app, port=0, lifespan="off", log_level="error", access_log=False))
    serving = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        await serving


def test_what_ended_before_the_window_or_after_it_does_not_count() -> None:
    timed = [Timed(at, at + 0.1, at + 0.5, 3, str(at)) for at in (0.0, 1.0, 2.0, 3.0)]
    measured = Measured.of(timed, 1.0, 3.0, keep=True)
    assert measured.texts == ["1.0", "2.0"]
    assert (measured.per_s, measured.tokens_per_s) == (1.0, 3.0)
    assert measured.median_s == pytest.approx(0.5)
    assert measured.first_s == pytest.approx(0.1)


def test_a_window_without_answers_is_no_rate_of_zero() -> None:
    with pytest.raises(LoadError, match=r"no answer in 2\.0 s"):
        Measured.of([Timed(0.0, 0.1, 0.5, 1, "a")], 1.0, 3.0)


def test_an_event_that_has_come_in_part_waits_for_its_rest() -> None:
    assert list(events_of(b'data: {"a": 1}\n\ndata: {"b": ')) == [{"a": 1}]


@pytest.mark.parametrize(
    ("status", "body", "stream", "wrong"),
    [
        (500, b"{}", False, "wanted status 200, not 500"),
        (200, b'{"choices": [{"message": {"content": " "}}]}', False, "wanted some text"),
        (200, b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n', True, "the stream has no end"),
        (200, b'data: {"error": {"message": "no"}}\n\ndata: [DONE]\n\n', True, "the stream broke off"),
        (200, b'data: {"choices": []}\n\ndata: [DONE]\n\n', True, "wanted some text"),
    ],
)
def test_what_is_no_answer_is_an_error(status: int, body: bytes, stream: bool, wrong: str) -> None:
    with pytest.raises(LoadError, match=wrong):
        read(status, body, stream)


@pytest.mark.parametrize("stream", [False, True])
async def test_every_question_is_asked_once_by_as_many_clients(stream: bool) -> None:
    async with listening(upstream.app) as url:
        requests = requests_of(url, "instant", [f"question {at}" for at in range(20)], 8, stream)
        measured = await run(url, requests, concurrency=3, stream=stream, keep=True)
    assert measured.texts == [upstream.TEXT] * 20
    assert measured.tokens == 20
    assert all(0 < first <= whole for first, whole in zip(measured.firsts, measured.latencies, strict=True))


async def test_no_more_requests_are_under_way_than_there_are_clients() -> None:
    running, most, ended = 0, 0, 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal running, most, ended
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.002)
        running, ended = running - 1, ended + 1
        await upstream.app(scope, receive, send)

    async with listening(app) as url:
        requests = requests_of(url, "instant", ["a"] * 30, 8, stream=False)
        measured = await run(url, requests, concurrency=4)
    assert (most, ended, len(measured.latencies)) == (4, 30, 30)


async def test_a_wrong_answer_ends_the_measurement() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"busy"})

    async with listening(app) as url:
        with pytest.raises(LoadError, match="not 503"):
            await run(url, requests_of(url, "m", ["a"], 8, stream=False), concurrency=2, seconds=5.0)


async def test_a_connection_that_is_closed_ends_the_measurement() -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server:
        with pytest.raises((LoadError, ConnectionError)):
            await run(url, requests_of(url, "m", ["a"], 8, stream=False), concurrency=1, seconds=5.0)
