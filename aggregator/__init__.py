"""Answers to Answer: votes, and fusion by an LLM."""

from collections.abc import Callable

from aggregator.base import Aggregator, AggregatorError, Ask
from aggregator.fuse import Fuse
from aggregator.vote import Vote, Weighted

KINDS: dict[str, Callable[..., Aggregator]] = {"vote": Vote, "weighted": Weighted, "fuse": Fuse}
"""Every kind of aggregator, by the name that configs use."""


def make_aggregator(kind: str, **settings: object) -> Aggregator:
    """Make an aggregator.

    Raises:
        AggregatorError: The kind or a setting is unknown.

    Example:
        >>> make_aggregator("vote").kind
        'vote'
    """
    if kind not in KINDS:
        raise AggregatorError(f"no aggregator is called {kind!r}; there are {', '.join(KINDS)}")
    try:
        return KINDS[kind](**settings)
    except TypeError as error:
        raise AggregatorError(f"the aggregator {kind!r} does not take {', '.join(settings)}: {error}") from error


__all__ = ["KINDS", "Aggregator", "AggregatorError", "Ask", "Fuse", "Vote", "Weighted", "make_aggregator"]
