"""Which engine a free slot serves next: pure rules, state in, decision out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Visit:
    """What a slot does next.

    Attributes:
        engine: The engine to serve, loaded first where it is not there.
        calls: How many of its waiting calls to take, oldest first.
    """

    engine: str
    calls: int


class Scheduler(Protocol):
    """Decides for one slot from what waits; has no clock and does nothing."""

    def next(self, waiting: Sequence[str], loaded: str | None, elsewhere: frozenset[str]) -> Visit | None:
        """Decide.

        Args:
            waiting: The engine of each waiting call, in order of arrival.
            loaded: The engine that the slot holds, or None.
            elsewhere: Engines that other slots hold; their calls are those slots' work.

        Returns:
            The next visit, or None where nothing is to be done.
        """
        ...


class Grouped:
    """Serve all that waits for the loaded engine, then move to the one with the most waiting calls.

    Example:
        >>> Grouped().next(["a", "b", "a", "b", "b"], "a", frozenset())
        Visit(engine='a', calls=2)
        >>> Grouped().next(["c", "b", "b"], "a", frozenset())
        Visit(engine='b', calls=2)
    """

    def next(self, waiting: Sequence[str], loaded: str | None, elsewhere: frozenset[str]) -> Visit | None:
        """Decide."""
        counts = Counter(engine for engine in waiting if engine not in elsewhere)
        if not counts:
            return None
        engine = loaded if loaded in counts else max(counts, key=lambda name: counts[name])  # max keeps the first of equals
        assert engine is not None
        return Visit(engine, counts[engine])


class Arrival:
    """Serve calls strictly in order of arrival, the yardstick that grouping is measured against.

    Example:
        >>> Arrival().next(["a", "a", "b", "a"], "b", frozenset())
        Visit(engine='a', calls=2)
    """

    def next(self, waiting: Sequence[str], loaded: str | None, elsewhere: frozenset[str]) -> Visit | None:
        """Decide."""
        mine = [engine for engine in waiting if engine not in elsewhere]
        if not mine:
            return None
        run = next((at for at, engine in enumerate(mine) if engine != mine[0]), len(mine))
        return Visit(mine[0], run)
