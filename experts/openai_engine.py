"""Experts behind any OpenAI-compatible URL, by httpx."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from data.records import Call, Usage
from experts.base import EngineError, ExpertSpec
from experts.chat import prepare
from experts.choices import first_token, logprobs_of
from experts.extras import Calls, Tokens, more_of
from experts.remote import End, RemoteEngine, RemoteError, api_key


class OpenAIEngine(RemoteEngine):
    """Ask remote experts by the chat completions protocol, streamed.

    Args:
        specs: The experts; each has an `api_base` such as `https://api.example.com/v1`.
        concurrency: Largest number of calls under way at once.
    """

    _client: httpx.AsyncClient | None = None

    async def start(self) -> None:
        """Check the keys and open the connections."""
        for spec in self.specs.values():
            if not spec.api_base:
                raise EngineError(f"the expert {spec.name!r} needs api_base, the URL of its server up to /v1")
        await super().start()
        self._client = httpx.AsyncClient()

    async def _ask(self, spec: ExpertSpec, call: Call) -> AsyncIterator[str | End]:
        try:
            async for piece in self._stream(spec, call):
                yield piece
        except httpx.HTTPStatusError as failure:
            response = failure.response
            raise RemoteError.of_status(
                spec.api_base, response.status_code, _words(response), response.headers.get("retry-after")
            ) from failure
        except httpx.HTTPError as failure:
            raise RemoteError(f"cannot reach {spec.api_base}: {type(failure).__name__}: {failure}", retry=True) from failure
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as failure:
            reason = f"{type(failure).__name__}: {failure}"
            raise RemoteError(f"{spec.api_base} sent what is no chat completion: {reason}", retry=False) from failure

    async def _stream(self, spec: ExpertSpec, call: Call) -> AsyncIterator[str | End]:
        assert self._client is not None
        sampling, key = call.sampling, api_key(spec)
        body: dict[str, Any] = {
            "model": spec.model,
            "messages": prepare(spec, call.messages),
            "max_tokens": spec.limit(sampling),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        body |= {"stop": list(sampling.stop)} if sampling.stop else {}
        body |= {"seed": sampling.seed} if sampling.seed is not None else {}
        body |= more_of(sampling)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        url = f"{str(spec.api_base).rstrip('/')}/chat/completions"
        reason: str | None = None
        usage: dict[str, int] = {}
        pieces = 0
        told: list[tuple[str, float]] = []
        calls, tokens = Calls(call.id), Tokens(sampling)
        async with self._client.stream("POST", url, json=body, headers=headers, timeout=spec.timeout_s) as response:
            if response.is_error:
                await response.aread()
                response.raise_for_status()
            async for line in _lines(response.aiter_text()):
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:") or data == "[DONE]":
                    continue
                chunk = json.loads(data)
                if "error" in chunk:
                    raise RemoteError(f"{spec.api_base} broke off: {str(chunk['error'])[:200]}", retry=True)
                usage = chunk.get("usage") or usage
                for choice in chunk["choices"][:1]:
                    reason = choice.get("finish_reason") or reason
                    told = told or first_token(choice.get("logprobs"))
                    delta = choice.get("delta") or {}
                    calls.take(delta.get("tool_calls"))
                    tokens.take(choice.get("logprobs"))
                    if piece := delta.get("content"):
                        pieces += 1
                        yield piece
        if reason is None:
            raise httpx.RemoteProtocolError("the stream ended before the answer did")
        prompt, completion = int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", pieces))
        priced = Usage(prompt, completion, spec.cost_usd(prompt, completion), calls=1)
        yield End(reason, priced, logprobs_of(sampling.choices, told), calls.made(), tokens.made())

    async def stop(self) -> None:
        """Close the connections."""
        await super().stop()
        if self._client is not None:
            await self._client.aclose()
        self._client = None


def _words(response: httpx.Response) -> object:
    """The server's own words on an error."""
    try:
        error = response.json()["error"]
        return error["message"] if isinstance(error, dict) else error
    except (ValueError, KeyError, TypeError):
        return response.text


async def _lines(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    """Cut a stream at line feeds only: JSON may hold the other characters that Unicode counts as line ends."""
    rest = ""
    async for piece in pieces:
        *whole, rest = (rest + piece).split("\n")
        for line in whole:
            yield line
    yield rest
