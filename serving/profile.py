"""Measure experts on tasks with known answers: the score table that routers learn from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data.graders import grade, prediction
from data.records import Answer, Call, CounterpointError, Message, Sampling
from data.scores import FORMATS, ScoreTableError, write_scores
from data.skills import Task
from experts.pool import ExpertPool
from serving.journal import Journal

COLUMNS = [
    "query_id", "query", "category", "split", "expert", "score", "answer", "prediction", "response",
    "prompt_tokens", "completion_tokens", "cost",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cell:
    """One expert's graded answer to one task."""

    task: Task
    answer: Answer

    @property
    def right(self) -> bool:
        """Whether it is right."""
        return grade(self.task.grader, self.answer.text, self.task.answer)

    def row(self) -> dict[str, object]:
        """The cell as a row of a score table."""
        task, answer = self.task, self.answer
        return {
            "query_id": task.query_id,
            "query": task.query,
            "category": task.category,
            "split": task.split,
            "expert": answer.expert,
            "score": float(self.right),
            "answer": task.answer,
            "prediction": prediction(task.grader, answer.text),
            "response": answer.text,
            "prompt_tokens": answer.usage.prompt_tokens,
            "completion_tokens": answer.usage.completion_tokens,
            "cost": answer.usage.cost_usd,
        }


async def ask_all(
    pool: ExpertPool,
    tasks: Sequence[Task],
    experts: Sequence[str],
    sampling: Sampling | None = None,
    skip: set[tuple[str, str]] | None = None,
) -> AsyncGenerator[Cell]:
    """Ask every expert every task, all at once, so that the pool groups them; yield answers as they come.

    Args:
        pool: The experts.
        tasks: The questions.
        experts: Who is asked.
        sampling: Limits and randomness; greedy where None.
        skip: Pairs of query id and expert that are already known.
    """

    async def one(task: Task, expert: str) -> Cell:
        call = Call(f"{task.query_id}@{expert}", expert, (Message("user", task.query),), sampling or Sampling(), batch=True)
        return Cell(task, await pool.answer(call))

    wanted = [(task, expert) for task in tasks for expert in experts if (task.query_id, expert) not in (skip or set())]
    running = [asyncio.create_task(one(task, expert)) for task, expert in wanted]
    try:
        for done in asyncio.as_completed(running):
            yield await done
    finally:
        for task_ in running:
            task_.cancel()


async def profile(
    pool: ExpertPool, tasks: Sequence[Task], experts: Sequence[str], output: Path, on_cell: Callable[[int, int, Cell | None], None]
) -> pd.DataFrame:
    """Measure experts and write the score table; an interrupted run goes on where it stopped.

    Args:
        pool: The experts, started.
        tasks: The questions.
        experts: Who is measured.
        output: The table's path; the unfinished one stands beside it, ending in `.partial.jsonl`.
        on_cell: Called with the number of finished cells, their total, and the newest.

    Raises:
        CounterpointError: An expert failed on a question, or the table cannot be written; finished answers are kept.
    """
    if output.suffix not in FORMATS:  # before the work, not after it
        raise ScoreTableError(f"cannot write {output}: wanted a file ending in {', '.join(FORMATS)}")
    partial = output.with_suffix(".partial.jsonl")
    total = len(tasks) * len(experts)
    failures: list[str] = []
    with Journal(partial) as journal:
        asked = {task.query_id: (task.query, task.answer) for task in tasks}  # rows of other questions are not reused
        rows: list[dict[str, object]] = [row for row in journal.rows if asked.get(row["query_id"]) == (row["query"], row["answer"])]
        known = {(str(row["query_id"]), str(row["expert"])) for row in rows}
        on_cell(len(known), total, None)
        async with aclosing(ask_all(pool, tasks, experts, skip=known)) as cells:
            async for cell in cells:
                if cell.answer.error is not None:
                    failures.append(f"{cell.answer.expert}: {cell.answer.error}")
                    continue
                row = cell.row()
                journal.add(row)
                rows.append(row)
                on_cell(len(rows), total, cell)
    if failures:
        raise CounterpointError(
            f"{len(failures)} of {total} answers failed, first {failures[0]}; the others are kept in {partial}, run again to go on"
        )
    order = {task.query_id: at for at, task in enumerate(tasks)}
    names = list(experts)
    rows = [row for row in rows if row["query_id"] in order and row["expert"] in names]
    rows.sort(key=lambda row: (order[str(row["query_id"])], names.index(str(row["expert"]))))
    table = pd.DataFrame(rows, columns=COLUMNS)
    write_scores(table, output)
    partial.unlink()
    return table
