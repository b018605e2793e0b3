"""Experts, as a config names them."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from experts import ENGINES
from serving.config.base import Section


class Price(Section):
    """US dollars per million tokens."""

    input: NonNegativeFloat = 0.0
    output: NonNegativeFloat = 0.0


class ExpertConfig(Section):
    """One expert: a model of its own, or an adapter on another expert's."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """What routes, traces and callers call it."""
    model: str | None = None
    """Folder, hub id, `packaged:NAME`, or a remote model's id."""
    base: str | None = None
    """Name of the expert whose model an adapter sits on."""
    adapter: str | None = None
    """Folder of a LoRA adapter."""
    engine: str = "auto"
    """Kind of engine; `auto` is vLLM where it is installed, else transformers."""
    description: str = ""
    """What it is good at, in a few words."""
    role: Literal["routed", "shared", "constant"] = "routed"
    """`routed` competes by its score, `shared` is asked for everything, `constant` answers alone what `match` describes."""
    match: list[str] = Field(default_factory=list)
    """Regular expressions of whole questions that a constant expert answers, such as greetings."""
    size_b: NonNegativeFloat = 0.0
    """Parameters in billions, for objectives and budgets."""
    latency_s: NonNegativeFloat = 0.0
    """Seconds that its answers are known to take, for objectives and budgets."""
    released: date | None = None
    """Day of its release, for objectives."""
    licence: str = ""
    """Licence of the weights."""
    revision: str | None = None
    """Revision on the hub."""
    gpus: Annotated[int, Field(ge=0)] | None = None
    """GPUs of one replica; None is one where the machine has one, else none."""
    max_model_len: PositiveInt = 2048
    """Tokens that prompt and answer may take together."""
    max_tokens: PositiveInt = 256
    """Limit of an answer where the caller gives none."""
    dtype: Literal["bfloat16", "float16", "float32"] | None = None
    """Number type of the weights; None is the engine's own choice."""
    quantization: str | None = None
    """vLLM's name of a quantisation."""
    chat_template: str | None = None
    """Jinja text in place of the model's own template."""
    system: str | None = None
    """System message for conversations that bring none."""
    trust_remote_code: bool = False
    """Whether Python that comes with the weights may run."""
    price: Price = Price()
    """US dollars per million tokens."""
    api_base: str | None = None
    """URL of a remote server, up to /v1."""
    api_key_env: str | None = None
    """Environment variable that holds the key; the key itself never stands in a config."""
    timeout_s: PositiveFloat = 120.0
    """Seconds that a remote expert may take for one answer."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of one engine only."""
    can: list[Literal["tools", "json_schema", "logprobs", "penalties"]] | None = None
    """What it can beside writing text; null is all that its engine offers."""

    @model_validator(mode="after")
    def _whole(self) -> ExpertConfig:
        if (self.model is None) == (self.base is None):
            raise ValueError("wanted either model, or base with adapter")
        if (self.base is None) != (self.adapter is None):
            raise ValueError("base and adapter come together: base names the expert whose model the adapter sits on")
        if (self.role == "constant") != bool(self.match):
            raise ValueError("a constant expert and its match come together: match says which questions it answers")
        for pattern in self.match:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"match: {pattern!r} is no regular expression: {error}") from error
        if self.engine != "auto" and self.engine not in ENGINES:
            raise ValueError(f"no engine is called {self.engine!r}; there are auto, {', '.join(ENGINES)}")
        return self
