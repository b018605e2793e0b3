"""The two clients, one for plain code and one for asyncio; both speak OpenAI's protocol by httpx."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, Self, TypeVar

import httpx

from counterpoint import asking
from counterpoint import pool as pools
from counterpoint import routers as routing
from counterpoint.asking import Messages
from counterpoint.batches import AsyncBatches, AsyncFiles, Batches, Files
from counterpoint.conversations import AsyncConversations, Conversations
from counterpoint.errors import CounterpointError
from counterpoint.lines import async_lines, lines
from counterpoint.pool import Pool
from counterpoint.routers import Routers, Tried
from counterpoint.runs import AsyncRuns, Runs
from counterpoint.steps import Call, Flow, Pause, Read, Retries, Step, persistent, plain
from counterpoint.types import Chunk, Completion, Explanation, Feedback, Route, Trace

T = TypeVar("T")


def _settings(base_url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise CounterpointError("an API key has letters, digits and dashes only; this one holds other characters")
    try:
        url = httpx.URL(base_url.rstrip("/"))
    except httpx.InvalidURL as error:
        raise CounterpointError(f"{base_url!r} is no address: wanted one such as http://127.0.0.1:8000") from error
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    return {"base_url": url, "headers": headers, "timeout": httpx.Timeout(timeout_s, connect=10.0)}


def _opening(call: Call) -> Flow[httpx.Response]:
    response: httpx.Response = yield call
    return response


@contextmanager
def _plain_errors(base_url: object) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise plain(error, base_url) from error


class Counterpoint:
    """Ask a mixture.

    Args:
        base_url: Where the endpoint listens.
        api_key: The key, where the endpoint asks for one.
        model: The mixture's name, or one expert's.
        timeout_s: Seconds without a byte after which a call is given up.
        retries: How often a call is tried again that was refused by 429 or 503, or could not connect: after what the endpoint asks
            for, at most 60 s, else after up to 0.5 s, 1 s, 2 s and so on. A stream that has begun is never tried again.
        transport: Where the bytes travel; for tests.
        sleep: Waits for seconds; for tests.

    Attributes:
        files: The files at the endpoint.
        batches: Jobs of many requests.
        conversations: Conversations that the endpoint keeps.
        runs: Evaluation runs at the endpoint.

    Raises:
        CounterpointError: The address or the key cannot be one.

    Example:
        >>> def endpoint(request: httpx.Request) -> httpx.Response:
        ...     message = {"role": "assistant", "content": "4"}
        ...     return httpx.Response(200, json={"id": "1", "choices": [{"message": message, "finish_reason": "stop"}]})
        >>> with Counterpoint(transport=httpx.MockTransport(endpoint)) as mixture:
        ...     mixture.chat("What is 2 + 2?").text
        '4'
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        model: str = "counterpoint",
        timeout_s: float = 120.0,
        retries: int = 2,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.model = model
        self._retries = Retries(retries)
        self._sleep = sleep
        self._http = httpx.Client(transport=transport, **_settings(base_url, api_key, timeout_s))
        self.files = Files(self)
        self.batches = Batches(self)
        self.conversations = Conversations(self)
        self.runs = Runs(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def run(self, flow: Flow[T]) -> T:
        """Carry out steps, and give what they end in; what the other methods are made of."""
        steps = persistent(flow, self._retries, self._http.base_url)
        try:
            step = next(steps)
            while True:
                step = steps.send(self._do(step))
        except StopIteration as ended:
            result: T = ended.value
            return result

    def _do(self, step: Step) -> object:
        match step:
            case Pause(seconds):
                return self._sleep(seconds)
            case Read(path):
                try:
                    return path.read_bytes()
                except OSError as error:
                    return error
            case Call(method, path, content, stream):
                try:
                    response = self._http.send(self._http.build_request(method, path, **content), stream=stream)
                    if stream and response.is_error:
                        response.read()
                    return response
                except httpx.HTTPError as error:
                    return error

    def lines(self, call: Call) -> Iterator[str]:
        """Yield the lines of a response as they come."""
        response = self.run(_opening(call))
        try:
            with _plain_errors(self._http.base_url):
                yield from lines(response.iter_text())
        finally:
            response.close()

    def chat(self, messages: Messages, *, model: str | None = None, **settings: Any) -> Completion:
        """Ask, and wait for the answer.

        Args:
            messages: A question, or a conversation.
            model: The mixture's name or one expert's; None is the client's own.
            **settings: OpenAI's (`temperature`, `max_tokens`, `stop`, `seed`, `n`, `tools`, `tool_choice`, `response_format`, `logprobs`,
                `top_logprobs`) and ours (`k`, `experts`, `exclude`, `aggregator`, `budget_usd`, `max_latency_s`, `objective`,
                `primary_first`, `timeout_s`, `explain`).

        Raises:
            CounterpointError: What went wrong, as one sentence.
        """
        return self.run(asking.chat(model or self.model, messages, settings))

    def stream(self, messages: Messages, *, model: str | None = None, **settings: Any) -> Iterator[Chunk]:
        """Ask, and yield the answer as it comes; the arguments are those of `chat`.

        With `explain=True` the first piece bears the route, later ones each expert's answer and drafts of the mixture's, the last the
        whole account. With `primary_first=True` the primary's words come as they are written, and a correction follows where the
        mixture's answer is another.
        """
        whole = asking.Whole()
        for line in self.lines(asking.stream(model or self.model, messages, settings)):
            if (chunk := whole.chunk_of(line)) is not None:
                yield chunk
        whole.check()

    def explain(self, messages: Messages, *, model: str | None = None, **settings: Any) -> Explanation:
        """Ask, and tell how the answer came about; the arguments are those of `chat`."""
        return self.run(asking.explain(model or self.model, messages, settings))

    def route(self, messages: Messages, *, model: str | None = None, **settings: Any) -> Route:
        """Tell who would be asked, and why, without asking anybody; the arguments are those of `chat`."""
        return self.run(asking.route(model or self.model, messages, settings))

    def complete(self, prompt: str | Sequence[str], *, model: str | None = None, **settings: Any) -> Completion:
        """Answer a prompt, or several each for itself; the settings are those of `chat`, the answers to all are in `texts`."""
        return self.run(asking.complete(model or self.model, prompt, settings))

    def feedback(self, id: str, score: float, comment: str | None = None) -> Feedback:
        """Say what an answer was worth.

        Args:
            id: Id of the answer.
            score: From 0, worthless, to 1.
            comment: Why.
        """
        return self.run(asking.feedback(id, score, comment))

    def trace(self, id: str) -> Trace:
        """Tell how an earlier answer to the same key came about, by its id."""
        return self.run(asking.trace(id))

    def models(self) -> list[str]:
        """Name the mixture and its experts."""
        return self.run(asking.models())

    def pool(self, since: float | None = None) -> Pool:
        """Tell how the pool stands and what it did lately; where the endpoint wants keys, an admin's sees that.

        Args:
            since: A time in seconds since 1970; only samples after it are given.
        """
        return self.run(pools.pool(since))

    def routers(self) -> Routers:
        """Tell what the router has learned, where its questions lie, and whether today's are like them; an admin's key sees that."""
        return self.run(routing.routers())

    def try_routers(self, text: str) -> Tried:
        """Tell how each router scores a text, and where it lies among the training questions; nobody is asked, and it is not kept."""
        return self.run(routing.tried(text))


class AsyncCounterpoint:
    """Ask a mixture from asyncio; the arguments and methods are those of `Counterpoint`."""

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        model: str = "counterpoint",
        timeout_s: float = 120.0,
        retries: int = 2,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.model = model
        self._retries = Retries(retries)
        self._sleep = sleep
        self._http = httpx.AsyncClient(transport=transport, **_settings(base_url, api_key, timeout_s))
        self.files = AsyncFiles(self)
        self.batches = AsyncBatches(self)
        self.conversations = AsyncConversations(self)
        self.runs = AsyncRuns(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def run(self, flow: Flow[T]) -> T:
        """Carry out steps, and give what they end in; what the other methods are made of."""
        steps = persistent(flow, self._retries, self._http.base_url)
        try:
            step = next(steps)
            while True:
                step = steps.send(await self._do(step))
        except StopIteration as ended:
            result: T = ended.value
            return result

    async def _do(self, step: Step) -> object:
        match step:
            case Pause(seconds):
                return await self._sleep(seconds)
            case Read(path):
                try:
                    return await asyncio.to_thread(path.read_bytes)
                except OSError as error:
                    return error
            case Call(method, path, content, stream):
                try:
                    response = await self._http.send(self._http.build_request(method, path, **content), stream=stream)
                    if stream and response.is_error:
                        await response.aread()
                    return response
                except httpx.HTTPError as error:
                    return error

    async def lines(self, call: Call) -> AsyncGenerator[str, None]:
        """Yield the lines of a response as they come."""
        response = await self.run(_opening(call))
        try:
            with _plain_errors(self._http.base_url):
                async for line in async_lines(response.aiter_text()):
                    yield line
        finally:
            await response.aclose()

    async def chat(self, messages: Messages, *, model: str | None = None, **settings: Any) -> Completion:
        """Ask, and wait for the answer."""
        return await self.run(asking.chat(model or self.model, messages, settings))

    async def stream(self, messages: Messages, *, model: str | None = None, **settings: Any) -> AsyncIterator[Chunk]:
        """Ask, and yield the answer as it comes."""
        whole = asking.Whole()
        async with aclosing(self.lines(asking.stream(model or self.model, messages, settings))) as came:
            async for line in came:
                if (chunk := whole.chunk_of(line)) is not None:
                    yield chunk
        whole.check()

    async def explain(self, messages: Messages, *, model: str | None = None, **settings: Any) -> Explanation:
        """Ask, and tell how the answer came about."""
        return await self.run(asking.explain(model or self.model, messages, settings))

    async def route(self, messages: Messages, *, model: str | None = None, **settings: Any) -> Route:
        """Tell who would be asked, and why, without asking anybody."""
        return await self.run(asking.route(model or self.model, messages, settings))

    async def complete(self, prompt: str | Sequence[str], *, model: str | None = None, **settings: Any) -> Completion:
        """Answer a prompt, or several each for itself."""
        return await self.run(asking.complete(model or self.model, prompt, settings))

    async def feedback(self, id: str, score: float, comment: str | None = None) -> Feedback:
        """Say what an answer was worth, from 0 to 1."""
        return await self.run(asking.feedback(id, score, comment))

    async def trace(self, id: str) -> Trace:
        """Tell how an earlier answer came about."""
        return await self.run(asking.trace(id))

    async def models(self) -> list[str]:
        """Name the mixture and its experts."""
        return await self.run(asking.models())

    async def pool(self, since: float | None = None) -> Pool:
        """Tell how the pool stands and what it did lately."""
        return await self.run(pools.pool(since))

    async def routers(self) -> Routers:
        """Tell what the router has learned, where its questions lie, and whether today's are like them."""
        return await self.run(routing.routers())

    async def try_routers(self, text: str) -> Tried:
        """Tell how each router scores a text, and where it lies among the training questions."""
        return await self.run(routing.tried(text))
