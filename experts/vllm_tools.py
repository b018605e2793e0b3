"""Calls of tools in a model's own words, by vLLM's parsers: what holds the model to them, and what it called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from data.records import Call, ToolCall
from experts.base import EngineError, ExpertSpec
from experts.chat import prepare
from experts.extras import call_id, more_of


class ToolReader:
    """Read what one answer calls.

    Args:
        spec: The expert; `options["tool_parser"]` names vLLM's parser of its model's way to call tools.
        call: What is asked, with tools.
        tokenizer: The model's tokenizer.

    Attributes:
        settings: What vLLM's sampling parameters say more, so that calls come out as they must.

    Raises:
        EngineError: vLLM has no such parser.
    """

    def __init__(self, spec: ExpertSpec, call: Call, tokenizer: Any) -> None:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        self._call = call
        body = more_of(replace(call.sampling, choices=(), top_logprobs=None))
        turns: list[Any] = prepare(spec, call.messages)
        request = ChatCompletionRequest(model=spec.model, messages=turns, **body)
        self._parser = parser_of(spec)(tokenizer, request.tools)
        self._request = self._parser.adjust_request(request)
        held = self._request.extract_structured_outputs()
        self.settings = {"skip_special_tokens": self._request.skip_special_tokens} | ({"structured_outputs": held} if held else {})

    def read(self, text: str) -> tuple[str, tuple[ToolCall, ...]]:
        """What of an answer is text, and what it calls; only the first where one answer may want one call."""
        _, content, called = self._parser.parse(text, self._request, enable_auto_tools=True)
        kept = (called or ())[: None if self._call.sampling.parallel_tool_calls else 1]
        return content or "", tuple(ToolCall(call_id(self._call.id, at), one.name, one.arguments) for at, one in enumerate(kept))


def parser_of(spec: ExpertSpec) -> Any:
    """Find vLLM's parser of an expert's calls.

    Raises:
        EngineError: vLLM has none of that name.
    """
    name = spec.options.get("tool_parser")
    try:
        return _parser(str(name))
    except (KeyError, TypeError) as error:
        raise EngineError(f"the option tool_parser of {spec.name!r} names a parser of vLLM's, such as hermes, not {name!r}") from error


def check_parsers(specs: Sequence[ExpertSpec]) -> None:
    """Find the parsers that experts name.

    Raises:
        EngineError: vLLM has none of that name.
    """
    for spec in specs:
        if "tool_parser" in spec.options:
            parser_of(spec)


@lru_cache
def _parser(name: str) -> Any:
    from vllm.parser import ParserManager

    return ParserManager.get_parser(tool_parser_name=name, enable_auto_tools=True)
