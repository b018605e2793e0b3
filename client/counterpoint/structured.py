"""Calls of tools and log-probabilities, as answers bear them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the mixture wants to be called.

    Attributes:
        id: Name of the call; the turn with its result repeats it as `tool_call_id`.
        name: The function.
        arguments: Its arguments, as JSON text.
    """

    id: str
    name: str
    arguments: str

    @classmethod
    def all(cls, message: Mapping[str, Any] | None) -> tuple[ToolCall, ...]:
        """Read those of a message, or of a piece of one."""
        calls = (message or {}).get("tool_calls") or ()
        return tuple(cls(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls)

    @property
    def values(self) -> dict[str, Any]:
        """The arguments by their names.

        Example:
            >>> ToolCall("call_1", "weather", '{"city": "Rome"}').values
            {'city': 'Rome'}
        """
        read: dict[str, Any] = json.loads(self.arguments)
        return read

    def body(self) -> dict[str, Any]:
        """The call as a turn of a conversation has it."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of an answer, and how likely it was.

    Attributes:
        token: Its text.
        logprob: Its natural log-probability.
        top: The likeliest tokens in its place, each with its log-probability.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()

    @classmethod
    def all(cls, told: Mapping[str, Any] | None) -> tuple[TokenLogprob, ...]:
        """Read those of an answer, in the form of conversations or of prompts."""
        if not told:
            return ()
        if "tokens" in told:
            rows = zip(told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True)
            return tuple(cls(token, float(logprob), tuple((top or {}).items())) for token, logprob, top in rows)
        return tuple(
            cls(one["token"], float(one["logprob"]), tuple((other["token"], float(other["logprob"])) for other in one["top_logprobs"]))
            for one in told.get("content") or ()
        )
