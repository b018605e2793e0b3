"""The two clients, one for plain code and one for asyncio; both speak OpenAI's protocol by httpx."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import httpx

from counterpoint.errors import ConnectionFailedError, ServerError, error_of
from counterpoint.lines import async_lines, lines
from counterpoint.types import Chunk, Completion

Messages = str | Sequence[Mapping[str, str]]
"""A question, or a conversation as OpenAI's protocol writes it."""

OPTIONS = ("k", "experts", "exclude", "aggregator", "explain")


def _body(model: str, messages: Messages, stream: bool, settings: Mapping[str, Any]) -> dict[str, Any]:
    turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else [dict(message) for message in messages]
    ours = {name: value for name, value in settings.items() if name in OPTIONS and value is not None}
    theirs = {name: value for name, value in settings.items() if name not in OPTIONS and value is not None}
    body: dict[str, Any] = {"model": model, "messages": turns, **theirs}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body | ({"counterpoint": ours} if ours else {})


def _settings(base_url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    return {"base_url": base_url.rstrip("/"), "headers": headers, "timeout": httpx.Timeout(timeout_s, connect=10.0)}


def _chunk(line: str) -> Chunk | None:
    data = line.removeprefix("data:").strip()
    if not line.startswith("data:") or data == "[DONE]":
        return None
    try:
        body = json.loads(data)
    except ValueError as error:
        raise ConnectionFailedError(f"the endpoint sent what is no JSON: {data[:80]!r}") from error
    if "error" in body:
        raise ServerError(str(body["error"].get("message", body["error"])), 502, body["error"].get("code"))
    return Chunk.of(body)


@contextmanager
def _plain_errors(base_url: object) -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        raise ConnectionFailedError(f"{base_url} did not answer in time ({type(error).__name__}); give a larger timeout_s") from error
    except httpx.HTTPError as error:
        raise ConnectionFailedError(
            f"cannot reach {base_url}: {error or type(error).__name__}; is `counterpoint serve` running?"
        ) from error


class Counterpoint:
    """Ask a mixture.

    Args:
        base_url: Where the endpoint listens.
        api_key: The key, where the endpoint asks for one.
        model: The mixture's name, or one expert's.
        timeout_s: Seconds without a byte after which a call is given up.
        transport: Where the bytes travel; for tests.

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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.model = model
        self._http = httpx.Client(transport=transport, **_settings(base_url, api_key, timeout_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def chat(self, messages: Messages, *, model: str | None = None, **settings: Any) -> Completion:
        """Ask, and wait for the answer.

        Args:
            messages: A question, or a conversation.
            model: The mixture's name or one expert's; None is the client's own.
            **settings: OpenAI's (`temperature`, `max_tokens`, `stop`, `seed`) and ours (`k`, `experts`, `exclude`, `aggregator`,
                `explain`).

        Raises:
            CounterpointError: What went wrong, as one sentence.
        """
        with _plain_errors(self._http.base_url):
            response = self._http.post("/v1/chat/completions", json=_body(model or self.model, messages, False, settings))
        if response.is_error:
            raise error_of(response)
        return Completion.of(response.json())

    def stream(self, messages: Messages, *, model: str | None = None, **settings: Any) -> Iterator[Chunk]:
        """Ask, and yield the answer as it comes; the arguments are those of `chat`.

        With `explain=True` the first piece bears the route, later ones each expert's answer, the last the whole account.
        """
        body = _body(model or self.model, messages, True, settings)
        with _plain_errors(self._http.base_url), self._http.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.is_error:
                response.read()
                raise error_of(response)
            for line in lines(response.iter_text()):
                if (chunk := _chunk(line)) is not None:
                    yield chunk

    def models(self) -> list[str]:
        """Name the mixture and its experts."""
        with _plain_errors(self._http.base_url):
            response = self._http.get("/v1/models")
        if response.is_error:
            raise error_of(response)
        return [model["id"] for model in response.json()["data"]]


class AsyncCounterpoint:
    """Ask a mixture from asyncio; the arguments and methods are those of `Counterpoint`."""

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        model: str = "counterpoint",
        timeout_s: float = 120.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.model = model
        self._http = httpx.AsyncClient(transport=transport, **_settings(base_url, api_key, timeout_s))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def chat(self, messages: Messages, *, model: str | None = None, **settings: Any) -> Completion:
        """Ask, and wait for the answer."""
        with _plain_errors(self._http.base_url):
            response = await self._http.post("/v1/chat/completions", json=_body(model or self.model, messages, False, settings))
        if response.is_error:
            raise error_of(response)
        return Completion.of(response.json())

    async def stream(self, messages: Messages, *, model: str | None = None, **settings: Any) -> AsyncIterator[Chunk]:
        """Ask, and yield the answer as it comes."""
        body = _body(model or self.model, messages, True, settings)
        with _plain_errors(self._http.base_url):
            async with self._http.stream("POST", "/v1/chat/completions", json=body) as response:
                if response.is_error:
                    await response.aread()
                    raise error_of(response)
                async for line in async_lines(response.aiter_text()):
                    if (chunk := _chunk(line)) is not None:
                        yield chunk

    async def models(self) -> list[str]:
        """Name the mixture and its experts."""
        with _plain_errors(self._http.base_url):
            response = await self._http.get("/v1/models")
        if response.is_error:
            raise error_of(response)
        return [model["id"] for model in response.json()["data"]]
