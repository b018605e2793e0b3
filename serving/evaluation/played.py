"""A pool that plays back a score table: its experts say what was recorded of them, and it counts what was recorded of that."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence

import pandas as pd

from data.recorded import Recorded
from data.records import Answer, Call, CounterpointError, Done
from data.scores import experts_of
from data.skills import Task
from experts.base import Event, ExpertSpec
from experts.pool import ExpertPool

TRAIN = ["query_id", "query", "category", "expert", "score"]


class TablePool(ExpertPool):
    """Answer out of a score table; nobody is asked, and what it does not hold fails.

    Args:
        specs: The experts, in the mixture's order.
        table: The score table, with answers.
        ids: The table's id of each of the run's questions.

    Raises:
        CounterpointError: The table has no answers, or not those of an expert.
    """

    def __init__(self, specs: Sequence[ExpertSpec], table: pd.DataFrame, ids: Mapping[str, str]) -> None:
        super().__init__(specs)
        known = experts_of(table)
        if missing := [spec.name for spec in specs if spec.name not in known]:
            raise CounterpointError(f"the score table has no rows of {missing[0]!r}; it has {', '.join(known)}")
        self.made = 0
        """Calls that were made: none."""
        self._recorded = Recorded(table)
        self._ids = ids

    async def start(self) -> None:
        """Start nobody."""

    async def answer(self, call: Call) -> Answer:
        """What the expert said to the question that the call is for."""
        alone = call.id.removesuffix(f"@{call.expert}")
        question = alone if alone in self._ids else call.id.rpartition("/")[0]  # a system numbers its calls
        return self._recorded.answer(self._ids.get(question, ""), call.expert)

    async def stream(self, call: Call) -> AsyncGenerator[Event]:
        """The whole answer at once."""
        yield Done(call.id, await self.answer(call))

    async def grade(self, task: Task, answer: Answer) -> tuple[float, str | None]:
        """The score that the answer's expert has for the question, and what was read out of it."""
        return self._recorded.score(self._ids.get(task.query_id, ""), answer.expert), answer.parsed or None
