"""Scores of answers in an evaluation run, by whatever their questions are graded by."""

from __future__ import annotations

from collections.abc import Sequence

from data.graders import grade
from data.skills import Task
from experts.pool import ExpertPool


class Scorer:
    """Score answers, each once.

    Args:
        pool: Where a judge is asked.
        judge: The expert that compares answers of questions without a single right one, or None.
        allow_code: Whether code that experts write may run.
        seed: Seed of what is drawn.
    """

    def __init__(self, pool: ExpertPool, judge: str | None = None, *, allow_code: bool = False, seed: int = 0) -> None:
        self._pool, self._judge, self._allow_code, self._seed = pool, judge, allow_code, seed
        self._known: dict[tuple[str, str], float] = {}

    def check(self, tasks: Sequence[Task]) -> None:
        """See that all answers can be scored."""

    async def score(self, task: Task, text: str) -> float:
        """The score of an answer, 0 to 1."""
        key = task.query_id, text
        if key not in self._known:
            self._known[key] = float(grade(task.grader, text, task.answer))
        return self._known[key]
