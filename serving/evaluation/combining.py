"""What a combiner makes of recorded answers: by the number of calls, by the price of a call, and how far its word can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from aggregator import Aggregator, make_aggregator
from aggregator.learned import Fitted
from data.recorded import Recorded
from data.records import Answer, Request
from data.scores import pivot
from data.statistics import Interval, paired
from router import Router
from router.metrics import calibration_error
from serving.combiner import experts_in
from serving.evaluation.systems import System
from serving.replay import aggregate_first, played, routes_of

PRICES = (0.05, 0.04, 0.03, 0.025, 0.02, 0.015, 0.01, 0.005)
"""Prices of a call that are looked at: the gain that it must promise."""

Tick = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Point:
    """A combiner at one number of calls or one price.

    Attributes:
        system: The combiner.
        vote: The majority of as many answers, None for a price.
        error: Expected calibration error of its confidence.
    """

    system: System
    vote: System | None
    error: float

    @property
    def gain(self) -> Interval | None:
        """What it gains over the majority, paired."""
        return None if self.vote is None else paired(self.system.right, self.vote.right)

    def row(self) -> dict[str, object]:
        """The point as JSON."""
        gain = self.gain
        made = self.system.row() | {"calibration_error": round(self.error, 4)}
        if gain is not None and self.vote is not None:
            made |= {"vote": round(float(self.vote.right.mean()), 4), "gain": [round(x, 4) for x in (gain.mean, gain.low, gain.high)]}
        return made


async def measure(table: pd.DataFrame, router: Router, combiner: Fitted, tick: Tick) -> tuple[list[Point], list[Point]]:
    """Measure a combiner on a score table.

    Args:
        table: Graded answers that it was not fitted on.
        router: Who is asked first.
        combiner: The combiner.
        tick: Told of progress.

    Returns:
        A point for each number of calls from 1 on, and one for each of `PRICES`, asked from one expert up to all.

    Raises:
        CounterpointError: Router and table have no two experts in common, or the table holds no answers.
    """
    experts = experts_in(table, router)
    queries, _ = pivot(table, experts)
    routes = routes_of(router, queries, experts, len(experts), lambda done, total: tick("routing", done, total))
    rows, score = played(queries, routes, Recorded(table))
    stages, done = len(experts) + len(PRICES), 0
    vote = make_aggregator("vote")

    async def point(name: str, k: int, most: int | None, beside: Aggregator | None) -> Point:
        nonlocal done
        sure = dict.fromkeys((request.id for request, _, _ in rows), 0.0)

        def kept(request: Request, final: Answer) -> float:
            sure[request.id] = final.support[0][1]
            return score(request, final)

        system = await aggregate_first(name, rows, k, combiner, kept, most)
        other = None if beside is None else await aggregate_first(f"vote-k{k}", rows, k, beside, score)
        tick("measuring", done := done + 1, stages)
        return Point(system, other, calibration_error(np.array([[*sure.values()]]), system.right[None]))

    counts = [await point(f"{combiner.kind}-k{k}", k, None, vote) for k in range(1, len(experts) + 1)]
    prices, own = [], combiner.price
    try:
        for price in PRICES:
            combiner.price = price
            prices.append(await point(f"{combiner.kind}, a call must gain {100 * price:g} points", 1, len(experts), None))
    finally:
        combiner.price = own
    return counts, prices
