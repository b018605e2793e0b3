"""Turn a conversation into the text that a model reads, the same in every local engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data.records import Message
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


def prepare(spec: ExpertSpec, messages: Sequence[Message]) -> list[dict[str, str]]:
    """Put the expert's system message before a conversation that has none.

    Example:
        >>> prepare(ExpertSpec("a", "m", "scripted", system="Be brief."), [Message("user", "Hi")])
        [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Hi'}]
    """
    turns = [{"role": m.role, "content": m.content} for m in messages]
    if spec.system and all(m.role != "system" for m in messages):
        turns.insert(0, {"role": "system", "content": spec.system})
    return turns


def template_of(spec: ExpertSpec, tokenizer: Any) -> str | None:
    """Tell which template an expert uses: its own setting, else the model's (None), else ours for base models."""
    return spec.chat_template or (None if tokenizer.chat_template else BASE_MODEL_TEMPLATE)


def stops(spec: ExpertSpec, tokenizer: Any) -> tuple[str, ...]:
    """Tell which strings end an answer besides the caller's own."""
    return BASE_MODEL_STOP if template_of(spec, tokenizer) == BASE_MODEL_TEMPLATE else ()


def prompt_ids(spec: ExpertSpec, tokenizer: Any, messages: Sequence[Message], max_tokens: int) -> list[int]:
    """Write a conversation as the tokens that the model reads.

    Args:
        spec: The expert, for its system message, template and context.
        tokenizer: The model's tokenizer.
        messages: The conversation.
        max_tokens: Tokens that the answer may take.

    Returns:
        Token ids, which with the answer fit the expert's context.

    Raises:
        EngineError: They do not fit.
    """
    text = tokenizer.apply_chat_template(
        prepare(spec, messages), chat_template=template_of(spec, tokenizer), tokenize=False, add_generation_prompt=True
    )
    bos = tokenizer.bos_token or ""
    own = template_of(spec, tokenizer) == BASE_MODEL_TEMPLATE
    ids: list[int] = tokenizer(text, add_special_tokens=own and not (bos and text.startswith(bos)))["input_ids"]
    if len(ids) + max_tokens > spec.max_model_len:
        raise EngineError(
            f"the prompt takes {len(ids)} tokens and the answer up to {max_tokens}, "
            f"but the context of {spec.name!r} holds {spec.max_model_len}; shorten the prompt or lower max_tokens"
        )
    return ids
