"""Whether a conversation and its answer fit an expert's context, before anyone is asked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from data.records import Message, Sampling, bytes_of
from experts.base import EngineError, ExpertSpec
from experts.chat import prepare, prompt_ids, tools_of
from experts.models import resolve

_AROUND = 64, 16
"""Tokens that a chat template puts around a conversation, and around each turn, at most."""

_BYTES_PER_TOKEN = 3
"""Of experts whose tokenizer is not here; English has about four, so this errs on the side of caution."""


def fits(spec: ExpertSpec, messages: Sequence[Message], sampling: Sampling) -> bool:
    """Say whether an expert's context holds the prompt and the longest answer.

    No tokenizer makes more tokens than the text has bytes, so most conversations need not be counted. Longer ones are counted
    by the expert's own tokenizer where its weights are local, and estimated by their bytes where it is not.

    Args:
        spec: The expert.
        messages: The conversation.
        sampling: For the length of the answer.

    Example:
        >>> spec = ExpertSpec("far", "m", "openai", max_model_len=100, max_tokens=10)
        >>> fits(spec, [Message("user", "Hi")], Sampling()), fits(spec, [Message("user", "Hi " * 200)], Sampling())
        (True, False)
    """
    room = spec.max_model_len - spec.limit(sampling)
    turns = prepare(spec, messages)
    size = bytes_of(messages, sampling) + (len((spec.system or "").encode()) if len(turns) > len(messages) else 0)
    around = _AROUND[0] + _AROUND[1] * (len(turns) + len(sampling.tools))
    if size + around <= room:
        return True
    if spec.engine in ("vllm", "transformers"):
        try:
            tokenizer = _tokenizer(spec.model, spec.revision, spec.trust_remote_code)
        except Exception:  # no such model, or a broken one: its engine will say so, to those who ask this expert
            return True
        try:
            prompt_ids(spec, tokenizer, messages, spec.limit(sampling), tools_of(sampling))
        except EngineError:
            return False
        except Exception:  # a template may refuse the order of roles: likewise
            return True
        return True
    return -(-size // _BYTES_PER_TOKEN) <= room


@cache
def _tokenizer(model: str, revision: str | None, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(resolve(model, revision), trust_remote_code=trust_remote_code)
