"""Grading the answers of a run: beside the others where it takes long, once for each text."""

from __future__ import annotations

import asyncio

from data.graders import CODE, PAIRWISE, grade, prediction
from data.pairwise import orders, win
from data.records import Answer, Call, CounterpointError, Sampling
from data.skills import Task
from experts.pool import ExpertPool

AT_ONCE = 2
"""Programs that run at the same time."""
_JUDGING = Sampling(max_tokens=256)


class Grading:
    """Grade answers.

    Args:
        pool: Where the judge is asked.
        allow_code: Whether programs that experts wrote are run, in the sandbox.
        judge: The expert that compares answers with a reference, or None.
    """

    def __init__(self, pool: ExpertPool, *, allow_code: bool = False, judge: str | None = None) -> None:
        self._pool, self._allow_code, self._judge = pool, allow_code, judge
        self._free = asyncio.Semaphore(AT_ONCE)
        self._graded: dict[tuple[str, str], asyncio.Task[tuple[float, str | None]]] = {}

    async def __call__(self, task: Task, answer: Answer) -> tuple[float, str | None]:
        """Give an answer's score from 0 to 1, and what was read out of it; None is nothing, and counts as wrong.

        Raises:
            CounterpointError: The judge failed, or a program cannot be run here.
        """
        text = answer.text
        if task.grader not in (CODE, PAIRWISE, "math"):
            return float(grade(task.grader, text, task.answer)), prediction(task.grader, text)
        key = (task.query_id, text)
        if key not in self._graded:
            self._graded[key] = asyncio.create_task(self._compared(task, text) if task.grader == PAIRWISE else self._run(task, text))
        return await asyncio.shield(self._graded[key])

    async def _run(self, task: Task, text: str) -> tuple[float, str | None]:
        async with self._free:
            right = await asyncio.to_thread(grade, task.grader, text, task.answer, allow_code=self._allow_code)
        return float(right), prediction(task.grader, text)

    async def _compared(self, task: Task, text: str) -> tuple[float, str | None]:
        """How often the judge prefers the text to the reference, asked in both orders."""
        if self._judge is None:
            raise CounterpointError(f"{task.query_id} needs a judge: name an expert that compares two answers (--judge)")
        asked = [
            Call(f"{task.query_id}@judge#{len(self._graded)}:{at}", self._judge, messages, _JUDGING, batch=True)
            for at, messages in enumerate(orders(task.query, text, task.answer))
        ]
        answers = await asyncio.gather(*(self._pool.answer(call) for call in asked))
        if failed := next((answer.error for answer in answers if answer.error is not None), None):
            raise CounterpointError(f"the judge {self._judge}, {task.query_id}: {failed}")
        worth = win(*(answer.text for answer in answers))
        return worth or 0.0, None if worth is None else f"{worth:g}"
