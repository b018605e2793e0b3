"""Turn a conversation into the text that a model reads, the same in every local engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from data.records import Message, Sampling
from experts.base import EngineError, ExpertSpec

BASE_MODEL_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n"
    "{% elif m.role == 'user' %}Question: {{ m.content }}\n"
    "{% else %}Answer: {{ m.content }}\n\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Answer:{% endif %}"
)
"""For base models, which bring no template of their own: questions and answers in plain lines."""

BASE_MODEL_STOP = ("\nQuestion:", "\n\n")
"""Where the answer of a base model ends: it would go on with a question of its own."""


def prepare(spec: ExpertSpec, messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Put the expert's system message before a conversation that has none, and write all as OpenAI's protocol does.

    Example:
        >>> prepare(ExpertSpec("a", "m", "scripted", system="Be brief."), [Message("user", "Hi")])
        [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Hi'}]
    """
    turns = [turn(m) for m in messages]
    if spec.system and all(m.role != "system" for m in messages):
        turns.insert(0, {"role": "system", "content": spec.system})
    return turns


def turn(message: Message) -> dict[str, Any]:
    """A turn as OpenAI's protocol writes it.

    Example:
        >>> turn(Message("tool", "18 degrees", tool_call_id="call_1"))
        {'role': 'tool', 'content': '18 degrees', 'tool_call_id': 'call_1'}
    """
    calls = [{"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in message.tool_calls]
    made: dict[str, Any] = {"role": message.role, "content": message.content}
    made |= {"tool_calls": calls} if calls else {}
    return made | ({"tool_call_id": message.tool_call_id} if message.tool_call_id is not None else {})


def tools_of(sampling: Sampling) -> list[dict[str, Any]]:
    """The functions that may be called, as OpenAI's protocol writes them."""
    return [{"type": "function", "function": json.loads(tool)} for tool in sampling.tools]


def template_of(spec: ExpertSpec, tokenizer: Any) -> str | None:
    """Tell which template an expert uses: its own setting, else the model's (None), else ours for base models."""
    return spec.chat_template or (None if tokenizer.chat_template else BASE_MODEL_TEMPLATE)


def stops(spec: ExpertSpec, tokenizer: Any) -> tuple[str, ...]:
    """Tell which strings end an answer besides the caller's own."""
    return BASE_MODEL_STOP if template_of(spec, tokenizer) == BASE_MODEL_TEMPLATE else ()


def prompt_ids(
    spec: ExpertSpec, tokenizer: Any, messages: Sequence[Message], max_tokens: int, tools: Sequence[dict[str, Any]] = ()
) -> list[int]:
    """Write a conversation as the tokens that the model reads.

    Args:
        spec: The expert, for its system message, template and context.
        tokenizer: The model's tokenizer.
        messages: The conversation.
        max_tokens: Tokens that the answer may take.
        tools: The functions that may be called.

    Returns:
        Token ids, which with the answer fit the expert's context.

    Raises:
        EngineError: They do not fit.
    """
    turns = prepare(spec, messages)
    for call in (call for turn in turns for call in turn.get("tool_calls", ())):
        with suppress(ValueError):  # templates write arguments themselves
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    how: dict[str, Any] = {"tokenize": False, "add_generation_prompt": True} | ({"tools": list(tools)} if tools else {})
    text = tokenizer.apply_chat_template(turns, chat_template=template_of(spec, tokenizer), **how)
    bos = tokenizer.bos_token or ""
    own = template_of(spec, tokenizer) == BASE_MODEL_TEMPLATE
    ids: list[int] = tokenizer(text, add_special_tokens=own and not (bos and text.startswith(bos)))["input_ids"]
    if len(ids) + max_tokens > spec.max_model_len:
        raise EngineError(
            f"the prompt is too long: its {len(ids)} tokens with the answer's {max_tokens} exceed the available context size; "
            f"the context of {spec.name!r} holds {spec.max_model_len}: shorten the prompt or lower max_tokens"
        )
    return ids
