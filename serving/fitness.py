"""Whether an expert's answer is what the schema and the tools of a request ask for."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

from data.records import Answer, Sampling, ToolCall
from serving.schema import misfit

UNFIT = "unfit"
"""The code of the error of an answer that is not what was asked for."""


async def as_asked(answer: Answer, sampling: Sampling) -> Answer:
    """An answer as it may stand; what there is to check of it is checked in a thread, so that others go on."""
    if answer.error is not None or not (sampling.schema or sampling.tools or answer.tool_calls):
        return answer
    return await asyncio.to_thread(checked, answer, sampling)


def checked(answer: Answer, sampling: Sampling) -> Answer:
    """An answer as it may stand: itself, or a failed one that says why; what it took counts either way.

    Example:
        >>> from data.records import ANY_OBJECT
        >>> checked(Answer("It is 4.", "a"), Sampling(schema=ANY_OBJECT)).error
        'its text does not fit the schema: it is no JSON: Expecting value: line 1 column 1 (char 0)'
    """
    wrong = _wrong_calls(answer.tool_calls, sampling)
    if wrong is None and sampling.schema is not None and not answer.tool_calls:
        wrong = misfit(sampling.schema.text, answer.text)
        cut = "it was cut at max_tokens, and " if answer.finish_reason == "length" else ""
        wrong = None if wrong is None else f"its text does not fit the schema: {cut}{wrong}"
    if wrong is not None:
        return replace(answer, text="", tool_calls=(), tokens=(), finish_reason="error", error=wrong, error_code=UNFIT)
    return replace(answer, finish_reason="tool_calls") if answer.tool_calls else answer


def _wrong_calls(calls: tuple[ToolCall, ...], sampling: Sampling) -> str | None:
    """What is wrong with the tools that an answer calls, or does not."""
    kind, _, name = sampling.tool_choice.partition(":")
    if not calls:
        return "it calls no tool, and must" if sampling.tools and kind in ("required", "function") else None
    if kind == "none" or not sampling.tools:
        return f"it calls {calls[0].name!r}, and may call no tool"
    if len(calls) > 1 and not sampling.parallel_tool_calls:
        return f"it calls {len(calls)} tools, and may call one"
    known = {tool["name"]: tool for tool in map(json.loads, sampling.tools) if not name or tool["name"] == name}
    for call in calls:
        if call.name not in known:
            return f"it calls {call.name!r}; it may call {', '.join(known)}"
        tool = known[call.name]
        parameters = tool.get("parameters") if tool.get("strict") else None
        if (wrong := misfit(json.dumps(parameters or {"type": "object"}), call.arguments)) is not None:
            return f"its arguments for {call.name!r} do not fit: {wrong}"
    return None
