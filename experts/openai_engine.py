"""Experts behind any OpenAI-compatible URL, by aiohttp, whose parser in C costs the gateway a third of what httpx does."""

from __future__ import annotations

import codecs
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

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

    _client: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Check the keys and open the connections."""
        for spec in self.specs.values():
            if not spec.api_base:
                raise EngineError(f"the expert {spec.name!r} needs api_base, the URL of its server up to /v1")
        await super().start()
        if self._client is None:
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),  # `concurrency` bounds the calls
                cookie_jar=aiohttp.DummyCookieJar(),  # no expert's server is told another's
                timeout=aiohttp.ClientTimeout(total=None),  # `timeout_s` bounds each call
                trust_env=True,
            )

    async def _ask(self, spec: ExpertSpec, call: Call) -> AsyncIterator[str | End]:
        try:
            async for piece in self._stream(spec, call):
                yield piece
        except (aiohttp.ClientError, OSError) as failure:
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
        async with self._client.post(url, json=body, headers=headers, allow_redirects=False) as response:
            if response.status >= 300:
                words = _words(await response.text(errors="replace"))
                raise RemoteError.of_status(spec.api_base, response.status, words, response.headers.get("retry-after"))
            async for line in _lines(response.content.iter_any()):
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
            raise aiohttp.ClientPayloadError("the stream ended before the answer did")
        prompt, completion = int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", pieces))
        priced = Usage(prompt, completion, spec.cost_usd(prompt, completion), calls=1)
        yield End(reason, priced, logprobs_of(sampling.choices, told), calls.made(), tokens.made())

    async def stop(self) -> None:
        """Close the connections."""
        await super().stop()
        if self._client is not None:
            await self._client.close()
        self._client = None


def _words(text: str) -> object:
    """The server's own words on an error."""
    try:
        error = json.loads(text)["error"]
        return error["message"] if isinstance(error, dict) else error
    except (ValueError, KeyError, TypeError):
        return text


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Cut a stream at line feeds only: JSON may hold the other characters that Unicode counts as line ends."""
    rest, decode = "", codecs.getincrementaldecoder("utf-8")("replace").decode
    async for piece in pieces:
        *whole, rest = (rest + decode(piece)).split("\n")
        for line in whole:
            yield line
    yield rest
