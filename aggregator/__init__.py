"""Answers to Answer: votes, choices, fusion by an LLM, debates, and defences."""

import inspect
from collections.abc import Callable
from typing import Any

from aggregator.auto import Auto
from aggregator.bandit import Bandit
from aggregator.base import Aggregator, AggregatorError, Ask
from aggregator.debate import Debate
from aggregator.defences import DEFENCES, defended
from aggregator.deliberate import Deliberate
from aggregator.fuse import Fuse
from aggregator.judge import Judge
from aggregator.layers import Layers
from aggregator.learned import Learned, Ranked
from aggregator.medoid import Medoid
from aggregator.pooling import Pooled
from aggregator.self_moa import SelfMoA, SelfMoASeq
from aggregator.single import Best
from aggregator.split import Split
from aggregator.structured import Choosing, Structured
from aggregator.vote import Vote, Weighted

_CHOOSING = (Best, Vote, Weighted, Medoid, Learned, Ranked, Bandit, Structured)
_ASKING = (Auto, Pooled, Fuse, Layers, SelfMoA, SelfMoASeq, Judge, Debate, Deliberate, Split)
KINDS: dict[str, Callable[..., Aggregator]] = {kind.kind: kind for kind in (*_CHOOSING, *_ASKING)}
"""Every kind of aggregator, by the name that configs use."""


def settings_of(kind: str) -> dict[str, inspect.Parameter]:
    """The settings that a kind takes.

    Raises:
        AggregatorError: The kind is unknown.

    Example:
        >>> list(settings_of("fuse"))
        ['expert']
    """
    if kind not in KINDS:
        raise AggregatorError(f"no aggregator is called {kind!r}; there are {', '.join(KINDS)}")
    entries = inspect.signature(KINDS[kind], eval_str=True).parameters
    return {name: entry for name, entry in entries.items() if entry.kind not in (entry.VAR_POSITIONAL, entry.VAR_KEYWORD)}


def make_aggregator(kind: str, **settings: Any) -> Aggregator:
    """Make an aggregator.

    Raises:
        AggregatorError: The kind or a setting is unknown, or a setting is missing.

    Example:
        >>> make_aggregator("vote").kind
        'vote'
    """
    known = settings_of(kind)
    if unknown := [name for name in settings if name not in known]:
        raise AggregatorError(f"the aggregator {kind!r} has no setting {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    if missing := [name for name, entry in known.items() if entry.default is entry.empty and name not in settings]:
        raise AggregatorError(f"the aggregator {kind!r} needs {', '.join(missing)}: set it in the config under aggregator")
    return KINDS[kind](**settings)


__all__ = [
    "DEFENCES",
    "KINDS",
    "Aggregator",
    "AggregatorError",
    "Ask",
    "Best",
    "Choosing",
    "Fuse",
    "Learned",
    "Structured",
    "Vote",
    "Weighted",
    "defended",
    "make_aggregator",
    "settings_of",
]
