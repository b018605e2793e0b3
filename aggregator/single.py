"""The answer of one expert, as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from aggregator.base import Aggregator, Ask, chosen, none_usable, usable
from data.records import Answer, Request, Route


class Best(Aggregator):
    """Give the primary's answer, or where it failed, that of the next best expert."""

    kind: ClassVar[str] = "best"

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        """Give the answer of the best expert that has one."""
        good = usable(answers)
        if not good:
            return none_usable(answers)
        best = next((answer for answer in good if answer.expert == route.primary), good[0])
        support = dict.fromkeys((answer.text for answer in good), 0.0) | {best.text: 1.0}
        return chosen(best, answers, [*support.items()])
