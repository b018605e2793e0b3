"""Ask a server of chat completions from so many clients at once, each over one connection that stays open, and keep every latency.

It runs as a process of its own and shares the cores with the server that it asks, so it is lean: asyncio's transports on uvloop, and the
parser that uvicorn uses.

Run: python -m benchmarks.load http://127.0.0.1:8000/v1 --model mix --concurrency 16 --seconds 5 [--stream]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

QUESTION = "What is the capital of France?"


class LoadError(Exception):
    """An answer that is none."""


@dataclass(frozen=True, slots=True)
class Timed:
    """One answered request.

    Attributes:
        began: When it was sent, on the monotonic clock.
        first: When its first word had come; for an answer that comes whole, when that had.
        ended: When all had come.
        tokens: Tokens that the server says it has written.
        text: The answer.
    """

    began: float
    first: float
    ended: float
    tokens: int
    text: str


@dataclass(frozen=True, slots=True)
class Measured:
    """What a number of clients got in a stretch of time.

    Attributes:
        seconds: Its length.
        latencies: Seconds from sending to the end of each answer that ended in it.
        firsts: Seconds from sending to each one's first word.
        tokens: Tokens of these answers.
        texts: Their texts, where they were asked to be kept.
    """

    seconds: float
    latencies: list[float]
    firsts: list[float]
    tokens: int
    texts: list[str] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    @property
    def median_s(self) -> float:
        """The median latency."""
        return statistics.median(self.latencies)

    @property
    def first_s(self) -> float:
        """The median time to the first word."""
        return statistics.median(self.firsts)

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds

    @classmethod
    def of(cls, timed: Sequence[Timed], start: float, end: float, *, keep: bool = False) -> Measured:
        """Sum up what ended between two moments.

        Args:
            timed: Answered requests.
            start: From when on they count, so that a warm-up does not.
            end: Until when they count.
            keep: Whether the texts are kept.

        Raises:
            LoadError: Nothing ended in this time.

        Example:
            >>> timed = [Timed(0.0, 0.5, 1.0, 2, "a"), Timed(1.0, 1.25, 2.0, 3, "b"), Timed(2.0, 2.5, 9.0, 4, "c")]
            >>> Measured.of(timed, 1.5, 3.5)
            Measured(seconds=2.0, latencies=[1.0], firsts=[0.25], tokens=3, texts=[])
        """
        inside = [one for one in timed if start < one.ended <= end]
        if not inside:
            raise LoadError(f"no answer in {end - start:.1f} s")
        return cls(
            end - start,
            [one.ended - one.began for one in inside],
            [one.first - one.began for one in inside],
            sum(one.tokens for one in inside),
            [one.text for one in inside] if keep else [],
        )


def events_of(raw: bytes) -> Iterator[Any]:
    r"""The JSON of each whole server-sent event, without the mark of the end.

    Example:
        >>> list(events_of(b'data: {"a": 1}\n\ndata: [DONE]\n\ndata: {"a"'))
        [{'a': 1}]
    """
    *whole, _ = raw.split(b"\n")
    for line in whole:
        if line.startswith(b"data:") and line.strip() != b"data: [DONE]":
            yield json.loads(line[5:])


def piece_of(event: Any) -> str:
    """The text that an event of a stream brings."""
    if "error" in event:
        raise LoadError(f"the stream broke off: {event['error']}")
    return "".join((choice.get("delta") or {}).get("content") or "" for choice in event["choices"])


def read(status: int, body: bytes, stream: bool) -> tuple[str, int]:
    """The text and the generated tokens of an answer.

    Raises:
        LoadError: It is no whole answer with some text.

    Example:
        >>> read(200, b'{"choices": [{"message": {"content": "Paris"}}], "usage": {"completion_tokens": 1}}', stream=False)
        ('Paris', 1)
    """
    usage: dict[str, Any]
    if status != 200:
        raise LoadError(f"wanted status 200, not {status}: {body[:200]!r}")
    if stream:
        events = list(events_of(body))
        text = "".join(map(piece_of, events))
        usage = next((event["usage"] for event in reversed(events) if event.get("usage")), {})
        if not body.rstrip().endswith(b"[DONE]"):
            raise LoadError(f"the stream has no end: {body[-200:]!r}")
    else:
        whole = json.loads(body)
        text, usage = whole["choices"][0]["message"]["content"], whole.get("usage") or {}
    if not (text or "").strip():
        raise LoadError(f"wanted some text: {body[:200]!r}")
    return text, int(usage.get("completion_tokens", 0))


class Connection(asyncio.Protocol):
    """One connection, kept open, with one request at a time; `httptools` calls its `on_` methods.

    Args:
        stream: Whether answers come as streams.
    """

    def __init__(self, stream: bool) -> None:
        self._stream = stream
        self._transport: Any = None
        self._answer: asyncio.Future[Timed] | None = None

    def connection_made(self, transport: Any) -> None:
        """Take the transport."""
        self._transport = transport

    def ask(self, request: bytes) -> asyncio.Future[Timed]:
        """Send a request."""
        import httptools

        self._parser = httptools.HttpResponseParser(self)
        self._body, self._seen, self._first = b"", 0, 0.0
        self._answer = asyncio.get_running_loop().create_future()
        self._began = time.perf_counter()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the parser; what it cannot read ends the request."""
        try:
            self._parser.feed_data(data)
        except Exception as error:
            self._fail(error)

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body, and look whether the first word has come."""
        self._body += body
        if self._stream and not self._first:
            known, self._seen = self._seen, self._body.rfind(b"\n") + 1
            if any(map(piece_of, events_of(self._body[known : self._seen]))):
                self._first = time.perf_counter()

    def on_message_complete(self) -> None:
        """Read the answer."""
        ended = time.perf_counter()
        answer, self._answer = self._answer, None
        if answer is None or answer.done():
            return
        try:
            text, tokens = read(self._parser.get_status_code(), self._body, self._stream)
        except Exception as error:
            answer.set_exception(error)
        else:
            answer.set_result(Timed(self._began, self._first or ended, ended, tokens, text))

    def connection_lost(self, error: Exception | None) -> None:
        """An answer that was awaited will not come."""
        self._fail(error or LoadError("the server closed the connection"))

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


def requests_of(url: str, model: str, questions: Sequence[str], max_tokens: int, stream: bool) -> list[bytes]:
    """Each question as the bytes of an HTTP request."""
    parts = urlsplit(url)
    more: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    made = []
    for question in questions:
        messages = [{"role": "user", "content": question}]
        body = json.dumps({"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0, **more}).encode()
        head = f"POST {parts.path}/chat/completions HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer none\r\n"
        made.append(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    return made


async def run(
    url: str,
    requests: Sequence[bytes],
    *,
    concurrency: int,
    stream: bool = False,
    seconds: float | None = None,
    warm_s: float = 0.0,
    keep: bool = False,
) -> Measured:
    """Ask, each client anew as soon as it has its answer.

    Args:
        url: The server's URL up to `/v1`.
        requests: What is asked; once each, or over and over where `seconds` are given.
        concurrency: Clients.
        stream: Whether the answers are streams.
        seconds: How long to ask.
        warm_s: Seconds of asking before that count for nothing.
        keep: Whether the texts are kept.

    Raises:
        LoadError: An answer is none.
    """
    parts = urlsplit(url)
    make: Callable[[], Connection] = lambda: Connection(stream)  # noqa: E731
    loop = asyncio.get_running_loop()
    clients = [(await loop.create_connection(make, parts.hostname or "127.0.0.1", parts.port or 80))[1] for _ in range(concurrency)]
    start = time.perf_counter() + warm_s
    end = float("inf") if seconds is None else start + seconds
    todo = iter(requests) if seconds is None else cycle(requests)
    timed: list[Timed] = []

    async def ask(client: Connection) -> None:
        for request in todo:
            if time.perf_counter() >= end:
                return
            timed.append(await client.ask(request))

    try:
        await asyncio.gather(*map(ask, clients))
    finally:
        for client in clients:
            client.close()
    return Measured.of(timed, start, min(end, max((one.ended for one in timed), default=start)), keep=keep)


def main() -> int:
    """Ask, and print what was measured as JSON."""
    import uvloop

    parser = argparse.ArgumentParser(description="Ask a server of chat completions, and print what was measured as JSON.")
    parser.add_argument("url", help="the server's URL up to /v1")
    parser.add_argument("--model", required=True)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--seconds", type=float, help="how long to ask; without it every question is asked once")
    parser.add_argument("--warm-s", type=float, default=0.0, help="seconds before that which count for nothing")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--keep", action="store_true", help="keep the texts")
    parser.add_argument("--questions", action="store_true", help="read the questions from standard input, a JSON list")
    asked = parser.parse_args()
    questions = json.load(sys.stdin) if asked.questions else [QUESTION]
    requests = requests_of(asked.url, asked.model, questions, asked.max_tokens, asked.stream)
    try:
        measured = uvloop.run(
            run(
                asked.url,
                requests,
                concurrency=asked.concurrency,
                stream=asked.stream,
                seconds=asked.seconds,
                warm_s=asked.warm_s,
                keep=asked.keep,
            )
        )
    except (LoadError, OSError) as error:
        print(f"load: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(json.dumps(asdict(measured)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
