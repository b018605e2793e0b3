"""Tools, schemas and log-probabilities in the chat completions protocol, as the engines of remote experts speak it."""

from __future__ import annotations

import json
import math
from hashlib import blake2b
from typing import Any

from data.records import ANY_OBJECT, Sampling, Schema, TokenLogprob, ToolCall
from experts.chat import tools_of
from experts.choices import LEAST, TOLD

PARAMETERS = (
    "tools", "tool_choice", "parallel_tool_calls", "response_format", "logprobs", "top_logprobs", "frequency_penalty", "presence_penalty",
)  # fmt: skip
"""What `more_of` may say."""


def more_of(sampling: Sampling) -> dict[str, Any]:
    """What a body says beyond what every body does.

    Example:
        >>> more_of(Sampling())
        {}
        >>> more_of(Sampling(top_logprobs=2, presence_penalty=0.5))
        {'logprobs': True, 'top_logprobs': 2, 'presence_penalty': 0.5}
    """
    body: dict[str, Any] = {}
    if sampling.tools:
        body["tools"] = tools_of(sampling)
        kind, _, name = sampling.tool_choice.partition(":")
        if kind != "auto":
            body["tool_choice"] = {"type": kind, kind: {"name": name}} if name else kind
        if not sampling.parallel_tool_calls:
            body["parallel_tool_calls"] = False
    if sampling.schema is not None:
        body["response_format"] = _format(sampling.schema)
    if sampling.choices:
        body |= {"logprobs": True, "top_logprobs": TOLD}
    elif sampling.top_logprobs is not None:
        body |= {"logprobs": True} | ({"top_logprobs": sampling.top_logprobs} if sampling.top_logprobs else {})
    penalties = {"frequency_penalty": sampling.frequency_penalty, "presence_penalty": sampling.presence_penalty}
    return body | {name: value for name, value in penalties.items() if value}


def _format(schema: Schema) -> dict[str, Any]:
    if schema == ANY_OBJECT:
        return {"type": "json_object"}
    named: dict[str, Any] = {"name": schema.name or "answer", "schema": json.loads(schema.text), "strict": schema.strict}
    return {"type": "json_schema", "json_schema": named | ({"description": schema.description} if schema.description else {})}


def call_id(call: str, number: int) -> str:
    """Name a call of a tool, the same for the same call of an expert.

    Example:
        >>> call_id("r/0", 0) == call_id("r/0", 0), len(call_id("r/0", 1))
        (True, 29)
    """
    return f"call_{blake2b(f'{call}/{number}'.encode(), digest_size=12).hexdigest()}"


class Calls:
    """Calls of tools, put together from the pieces of a stream.

    Args:
        call: Id of the expert's call, for servers that name none.

    Example:
        >>> calls = Calls("r/0")
        >>> calls.take([{"index": 0, "id": "c", "function": {"name": "add", "arguments": '{"a"'}}])
        >>> calls.take([{"index": 0, "function": {"arguments": ": 1}"}}])
        >>> calls.made()
        (ToolCall(id='c', name='add', arguments='{"a": 1}'),)
    """

    def __init__(self, call: str) -> None:
        self._call = call
        self._parts: dict[int, list[str]] = {}

    def take(self, deltas: Any) -> None:
        """Take what a chunk bears."""
        for delta in deltas or ():
            function = delta.get("function") or {}
            at = delta.get("index")
            part = self._parts.setdefault(len(self._parts) if at is None else int(at), ["", "", ""])
            part[0] = part[0] or delta.get("id") or ""
            part[1] += function.get("name") or ""
            part[2] += function.get("arguments") or ""

    def made(self) -> tuple[ToolCall, ...]:
        """The calls, in their order."""
        parts = (self._parts[at] for at in sorted(self._parts))
        return tuple(ToolCall(id or call_id(self._call, at), name, args or "{}") for at, (id, name, args) in enumerate(parts))


class Tokens:
    """The tokens of a stream and their log-probabilities, where they are wanted.

    Args:
        sampling: Says whether they are.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._most = sampling.top_logprobs
        self._tokens: list[TokenLogprob] = []

    def take(self, told: Any) -> None:
        """Take what a chunk bears."""
        if self._most is not None and told:
            for one in told.get("content") or ():
                likeliest = tuple((str(other["token"]), _finite(other["logprob"])) for other in one.get("top_logprobs") or ())
                self._tokens.append(TokenLogprob(str(one["token"]), _finite(one["logprob"]), likeliest[: self._most]))

    def made(self) -> tuple[TokenLogprob, ...]:
        """The tokens."""
        return tuple(self._tokens)


def _finite(value: Any) -> float:
    number = float(value)
    return max(LEAST, number) if math.isfinite(number) else LEAST


def plain(told: Any) -> Any:
    """What a library's object says, as plain JSON."""
    return told.model_dump() if hasattr(told, "model_dump") else told
