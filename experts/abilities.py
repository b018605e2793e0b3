"""What experts can beside writing text, and what a request needs of them."""

from __future__ import annotations

from collections.abc import Sequence

from data.records import Message, Sampling, uses_tools
from experts.base import EngineError, ExpertSpec

TOOLS, JSON_SCHEMA, LOGPROBS, PENALTIES = "tools", "json_schema", "logprobs", "penalties"
ABILITIES = (TOOLS, JSON_SCHEMA, LOGPROBS, PENALTIES)
"""Calling tools, writing JSON by a schema, telling its tokens' log-probabilities, keeping off words that it wrote already."""

_ALL = frozenset(ABILITIES)
_ENGINES = {
    "vllm": frozenset({JSON_SCHEMA, LOGPROBS, PENALTIES}),
    "transformers": frozenset({LOGPROBS}),
    "openai": _ALL,
    "litellm": _ALL,
    "scripted": _ALL,
}
"""What an engine offers; one that is not here offers nothing."""


def engine_abilities(spec: ExpertSpec) -> frozenset[str]:
    """What an expert's engine offers: vLLM's tools need the name of its parser for the model's way to call them.

    Example:
        >>> sorted(engine_abilities(ExpertSpec("a", "m", "vllm", options={"tool_parser": "hermes"})))
        ['json_schema', 'logprobs', 'penalties', 'tools']
    """
    own = _ENGINES.get(spec.engine, frozenset())
    return own | {TOOLS} if spec.engine == "vllm" and spec.options.get("tool_parser") else own


def abilities(spec: ExpertSpec) -> frozenset[str]:
    """What an expert can: what its config says, else all that its engine offers.

    Raises:
        EngineError: The config says more than the engine offers.
    """
    offered = engine_abilities(spec)
    if spec.can is None:
        return offered
    if over := [name for name in spec.can if name not in offered]:
        hint = ": name vLLM's parser in options.tool_parser" if spec.engine == "vllm" and over[0] == TOOLS else ""
        raise EngineError(f"can: the engine {spec.engine!r} of {spec.name!r} does not offer {over[0]}{hint}")
    return frozenset(spec.can)


def needed(messages: Sequence[Message], sampling: Sampling) -> frozenset[str]:
    """What a conversation needs of whoever answers it.

    Example:
        >>> sorted(needed([Message("user", "Hi")], Sampling(top_logprobs=0, presence_penalty=0.5)))
        ['logprobs', 'penalties']
    """
    wanted = {
        TOOLS: bool(sampling.tools) or uses_tools(messages),
        JSON_SCHEMA: sampling.schema is not None,
        LOGPROBS: sampling.top_logprobs is not None,
        PENALTIES: bool(sampling.frequency_penalty or sampling.presence_penalty),
    }
    return frozenset(name for name, is_wanted in wanted.items() if is_wanted)
