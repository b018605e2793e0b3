"""The calls about answers: what their bodies hold, and how what comes back is read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from counterpoint.errors import ConnectionFailedError, error_from
from counterpoint.steps import Call, Flow, asked
from counterpoint.types import Chunk, Completion, Explanation, Feedback, Route, Trace

Messages = str | Sequence[Mapping[str, Any]]
"""A question, or a conversation as OpenAI's protocol writes it."""

OPTIONS = ("k", "experts", "exclude", "aggregator", "budget_usd", "max_latency_s", "objective", "primary_first", "timeout_s", "explain")
"""Our own options, which travel in a field of their own."""

CHAT = "/v1/chat/completions"


def body(model: str, settings: Mapping[str, Any], **asked: Any) -> dict[str, Any]:
    """Make a request's body; settings that are None are left out.

    Example:
        >>> body("counterpoint", {"k": 1, "seed": None, "max_tokens": 5}, prompt="Hi")
        {'model': 'counterpoint', 'prompt': 'Hi', 'max_tokens': 5, 'counterpoint': {'k': 1}}
    """
    given = {name: value for name, value in settings.items() if value is not None}
    ours = {name: value for name, value in given.items() if name in OPTIONS}
    theirs = {name: value for name, value in given.items() if name not in OPTIONS}
    return {"model": model, **asked, **theirs} | ({"counterpoint": {**theirs.get("counterpoint", {}), **ours}} if ours else {})


def chat_body(model: str, messages: Messages, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Make the body of a conversation; a question is its only turn."""
    turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else [dict(message) for message in messages]
    return body(model, settings, messages=turns)


def chat(model: str, messages: Messages, settings: Mapping[str, Any]) -> Flow[Completion]:
    """Ask, and wait for the answer."""
    return asked(Call("POST", CHAT, {"json": chat_body(model, messages, settings)}), Completion.of)


def stream(model: str, messages: Messages, settings: Mapping[str, Any]) -> Call:
    """Ask for the answer as it comes."""
    made = chat_body(model, messages, settings) | {"stream": True, "stream_options": {"include_usage": True}}
    return Call("POST", CHAT, {"json": made}, stream=True)


def complete(model: str, prompt: str | Sequence[str], settings: Mapping[str, Any]) -> Flow[Completion]:
    """Ask one prompt or several."""
    prompts = prompt if isinstance(prompt, str) else list(prompt)
    return asked(Call("POST", "/v1/completions", {"json": body(model, settings, prompt=prompts)}), Completion.of)


def route(model: str, messages: Messages, settings: Mapping[str, Any]) -> Flow[Route]:
    """Ask who would be asked."""
    return asked(Call("POST", "/v1/route", {"json": chat_body(model, messages, settings)}), Route.of)


def explain(model: str, messages: Messages, settings: Mapping[str, Any]) -> Flow[Explanation]:
    """Ask, and keep the account only.

    Raises:
        ConnectionFailedError: None came with the answer.
    """
    answer = yield from chat(model, messages, {**settings, "explain": True})
    if answer.explanation is None:
        raise ConnectionFailedError("the endpoint answered without an account; is it Counterpoint?")
    return answer.explanation


def feedback(id: str, score: float, comment: str | None) -> Flow[Feedback]:
    """Say what an answer was worth."""
    given = {"id": id, "score": score} | ({} if comment is None else {"comment": comment})
    return asked(Call("POST", "/v1/feedback", {"json": given}), Feedback.of)


def trace(id: str) -> Flow[Trace]:
    """Ask how an earlier answer came about."""
    return asked(Call("GET", f"/v1/traces/{quote(id, safe='')}"), Trace.of)


def models() -> Flow[list[str]]:
    """Name the mixture and its experts."""
    return asked(Call("GET", "/v1/models"), lambda listed: [str(model["id"]) for model in listed["data"]])


@dataclass(slots=True)
class Whole:
    """Reads the lines of a stream, and knows whether it came to its end.

    Attributes:
        ended: Whether the line was read that ends every stream.
    """

    ended: bool = False

    def chunk_of(self, line: str) -> Chunk | None:
        """Read a line; None where it bears nothing.

        Raises:
            CounterpointError: It bears an error, or what is no JSON.
        """
        self.ended |= line.removeprefix("data:").strip() == "[DONE]"
        return chunk_of(line)

    def check(self) -> None:
        """See that the stream came to its end.

        Raises:
            ConnectionFailedError: It was cut off.
        """
        if not self.ended:
            raise ConnectionFailedError("the answer was cut off: the endpoint ended the stream before its end")


def chunk_of(line: str) -> Chunk | None:
    """Read a line of a stream; None where it bears nothing.

    Raises:
        CounterpointError: It bears an error, or what is no JSON.
    """
    data = line.removeprefix("data:").strip()
    if not line.startswith("data:") or data == "[DONE]":
        return None
    try:
        came = json.loads(data)
        if "error" not in came:
            return Chunk.of(came)
        code = came["error"].get("code")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConnectionFailedError(f"the endpoint sent what is no JSON of Counterpoint's: {data[:80]!r}") from error
    raise error_from({"overloaded": 429, "unavailable": 503, "late": 503, "deadline_exceeded": 504}.get(code, 502), came)
