"""What is asked of each engine, measured while serving."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import expm1, inf, log
from typing import TypeVar

from experts.base import EngineError

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Demand:
    """An engine and what is asked of it.

    Attributes:
        engine: Its name.
        bytes: Memory that it takes while awake.
        busy: Slots that its calls keep busy on average: calls per second x seconds of a call / lanes.
        swap_s: Seconds that bringing it into a slot takes.
        rate: Calls per second; infinite where unknown, and it is then brought in every cycle.
    """

    engine: str
    bytes: float
    busy: float
    swap_s: float = 5.0
    rate: float = inf


class Traffic:
    """Measure what is asked, with a memory that halves every `half_life_s` seconds.

    Rates are noise until about a tenth of a half-life has passed. Times are seconds on any clock that does not go back.

    Args:
        half_life_s: Seconds after which a call counts half.

    Example:
        >>> traffic = Traffic(half_life_s=600.0)
        >>> for second in range(3600):
        ...     traffic.seen(["code", "math"] if second % 2 else ["code"], now=float(second))
        ...     traffic.served("code", seconds=3.2, lanes=8)
        >>> round(traffic.busy()["code"], 2), {pair: round(share, 2) for pair, share in traffic.together().items()}
        (0.4, {('code', 'math'): 0.5})
    """

    def __init__(self, half_life_s: float = 900.0) -> None:
        if not 0 < half_life_s < inf:
            raise EngineError(f"half_life_s must be a number of seconds above 0, not {half_life_s}")
        self.half_life_s = half_life_s
        self._first: float | None = None
        self._base = self._now = 0.0
        self._requests = 0.0
        self._calls: dict[str, float] = defaultdict(float)
        self._work: dict[str, float] = defaultdict(float)
        self._pairs: dict[tuple[str, str], float] = defaultdict(float)

    def seen(self, engines: Sequence[str], now: float) -> None:
        """Count a request and the engines that it asks."""
        weight = self._at(now)
        self._requests += weight
        for engine in engines:
            self._calls[engine] += weight
        for pair in combinations(sorted(set(engines)), 2):
            self._pairs[pair] += weight

    def served(self, engine: str, seconds: float, lanes: int, now: float | None = None) -> None:
        """Count a call that took so many seconds in an engine that runs `lanes` at once; without a time, as of the latest."""
        self._work[engine] += self._at(now) * seconds / lanes

    def busy(self, now: float | None = None) -> dict[str, float]:
        """Slots that each engine keeps busy."""
        return self._per_second(self._work, now)

    def rate(self, now: float | None = None) -> dict[str, float]:
        """Calls of each engine per second."""
        return self._per_second(self._calls, now)

    def together(self) -> dict[tuple[str, str], float]:
        """Share of requests that ask both of two engines, whose names are in order."""
        return {pair: weight / self._requests for pair, weight in sorted(self._pairs.items())}

    def demand(self, engine: str, *, bytes: float, swap_s: float, now: float | None = None) -> Demand:
        """What is asked of an engine, 0 where it was never seen."""
        return Demand(engine, bytes, self.busy(now).get(engine, 0.0), swap_s, self.rate(now).get(engine, 0.0))

    def _at(self, now: float | None) -> float:
        """Go on to a time and give the weight of what happens then; weights grow, which spares ageing all that was counted."""
        if self._first is None:
            self._first = self._base = self._now = now or 0.0
        self._now = self._now if now is None else max(self._now, now)
        if self._now - self._base > 500 * self.half_life_s:  # 2 ** 1023 is the end of floating point
            shrink = 0.5 ** ((self._now - self._base) / self.half_life_s)
            self._base, self._requests = self._now, self._requests * shrink
            self._calls, self._work = _aged(self._calls, shrink), _aged(self._work, shrink)
            self._pairs = _aged(self._pairs, shrink)
        return float(2.0 ** ((self._now - self._base) / self.half_life_s))

    def _per_second(self, counts: dict[str, float], now: float | None) -> dict[str, float]:
        if self._first is None:
            return {}
        weight, life = self._at(now), self.half_life_s / log(2)
        seconds = -life * expm1((self._first - self._now) / life)
        return {engine: count / weight / seconds if seconds else 0.0 for engine, count in sorted(counts.items())}


def _aged(counts: dict[Key, float], shrink: float) -> dict[Key, float]:
    return defaultdict(float, {key: count * shrink for key, count in counts.items() if count * shrink > 1e-12})
