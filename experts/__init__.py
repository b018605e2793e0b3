"""Call to Answer: engines that run experts, slots on Ray that hold engines, and the pool that groups calls by expert."""

from collections.abc import Sequence
from importlib import import_module

from experts.base import Engine, EngineError, Event, ExpertSpec
from experts.replay import ReplayEngine
from experts.scripted import ScriptedEngine

ENGINES = {
    "vllm": "experts.vllm_settings:make_vllm",
    "transformers": "experts.transformers_engine:TransformersEngine",
    "openai": "experts.openai_engine:OpenAIEngine",
    "litellm": "experts.litellm_engine:LiteLLMEngine",
    "replay": "experts.replay:ReplayEngine",
    "scripted": "experts.scripted:ScriptedEngine",
}
"""Where each kind of engine lives; only the kind that is asked for is imported."""


def make_engine(specs: Sequence[ExpertSpec]) -> Engine:
    """Make the engine of experts that share one.

    Raises:
        EngineError: Their kind is unknown, or an option has a value that it cannot have.
    """
    kind = specs[0].engine
    if kind not in ENGINES:
        raise EngineError(f"no engine is called {kind!r}; there are {', '.join(ENGINES)}")
    module, name = ENGINES[kind].split(":")
    engine: Engine = getattr(import_module(module), name)(specs)
    return engine


__all__ = ["ENGINES", "Engine", "EngineError", "Event", "ExpertSpec", "ReplayEngine", "ScriptedEngine", "make_engine"]
