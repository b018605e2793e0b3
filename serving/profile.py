"""Measure experts on tasks with known answers: the score table that routers learn from."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from aggregator.forms import choices_of
from aggregator.pooling import LETTERS, asked, opinion, pair
from data.graders import grade, prediction
from data.records import Answer, Call, CounterpointError, Message, Request, Sampling
from data.scores import FORMATS, ScoreTableError, write_scores
from data.skills import Task
from experts.pool import ExpertPool
from serving.journal import Journal

COLUMNS = [
    "query_id", "query", "category", "split", "expert", "score", "answer", "prediction", "response",
    "prompt_tokens", "completion_tokens", "cost",
]  # fmt: skip
OPTIONS = ["prompt", "logprobs"]
"""Further columns, where experts were asked how probable each option is."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One expert's graded answer to one task.

    Attributes:
        task: The task.
        answer: The answer.
        prompt: Name and text of the instruction below the question, where options were asked for, or None.
    """

    task: Task
    answer: Answer
    prompt: tuple[str, str] | None = None

    @property
    def said(self) -> str:
        """What it says: its words, or the letter that it holds most probable."""
        letters = letters_of(self.task)
        thought = None if self.prompt is None else opinion(letters, self.answer)
        return self.answer.text if thought is None else letters[int(thought.argmax())]

    @property
    def right(self) -> bool:
        """Whether it is right."""
        return grade(self.task.grader, self.said, self.task.answer)

    def row(self) -> dict[str, object]:
        """The cell as a row of a score table."""
        task, answer = self.task, self.answer
        name, text = self.prompt or ("", None)
        told = {"prompt": text, "logprobs": json.dumps(dict(answer.logprobs))} if self.prompt else {}
        return told | {
            "query_id": task.query_id,
            "query": task.query,
            "category": task.category,
            "split": task.split,
            "expert": pair(answer.expert, name),
            "score": float(self.right),
            "answer": task.answer,
            "prediction": prediction(task.grader, self.said),
            "response": answer.text,
            "prompt_tokens": answer.usage.prompt_tokens,
            "completion_tokens": answer.usage.completion_tokens,
            "cost": answer.usage.cost_usd,
        }


def letters_of(task: Task) -> str:
    """The letters of a task's options; none where its answer is no letter."""
    return LETTERS[: choices_of(task.query)] if task.grader == "choice" else ""


async def ask_all(
    pool: ExpertPool,
    tasks: Sequence[Task],
    experts: Sequence[str],
    sampling: Sampling | None = None,
    skip: set[tuple[str, str]] | None = None,
    prompts: Mapping[str, str] | None = None,
) -> AsyncGenerator[Cell]:
    """Ask every expert every task, all at once, so that the pool groups them; yield answers as they come.

    Args:
        pool: The experts.
        tasks: The questions.
        experts: Who is asked.
        sampling: Limits and randomness; greedy where None.
        skip: Pairs of query id and expert, or `expert@prompt`, that are already known.
        prompts: Prompts by name, under each of which every expert is also asked how probable each lettered option is.
    """
    prompts = prompts or {}

    async def one(task: Task, expert: str, name: str) -> Cell:
        request = Request(task.query_id, (Message("user", task.query),), sampling or Sampling())
        if name:
            request = replace(request, sampling=Sampling(max_tokens=1, choices=tuple(letters_of(task))))
        messages = tuple(asked(request, prompts.get(name, "")))
        answer = await pool.answer(Call(f"{task.query_id}@{pair(expert, name)}", expert, messages, request.sampling, batch=True))
        return Cell(task, answer, (name, prompts[name]) if name else None)

    running = [
        asyncio.create_task(one(task, expert, name))
        for task in tasks
        for expert in experts
        for name in ("", *(prompts if letters_of(task) else ()))
        if (task.query_id, pair(expert, name)) not in (skip or set())
    ]
    try:
        for done in asyncio.as_completed(running):
            yield await done
    finally:
        for task_ in running:
            task_.cancel()


async def profile(
    pool: ExpertPool,
    tasks: Sequence[Task],
    experts: Sequence[str],
    output: Path,
    on_cell: Callable[[int, int, Cell | None], None],
    prompts: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Measure experts and write the score table; an interrupted run goes on where it stopped.

    Args:
        pool: The experts, started.
        tasks: The questions.
        experts: Who is measured.
        output: The table's path; the unfinished one stands beside it, ending in `.partial.jsonl`.
        on_cell: Called with the number of finished cells, their total, and the newest.
        prompts: Prompts by name, under each of which every expert is also asked how probable each lettered option is.

    Raises:
        CounterpointError: An expert failed on a question, or the table cannot be written; finished answers are kept.
    """
    if output.suffix not in FORMATS:  # before the work, not after it
        raise ScoreTableError(f"cannot write {output}: wanted a file ending in {', '.join(FORMATS)}")
    partial = output.with_suffix(".partial.jsonl")
    prompts = prompts or {}
    pairs = {pair(expert, name): text for expert in experts for name, text in prompts.items()}
    total = len(tasks) * len(experts) + sum(bool(letters_of(task)) for task in tasks) * len(pairs)
    failures: list[str] = []
    with Journal(partial) as journal:
        asked = {task.query_id: (task.query, task.answer) for task in tasks}  # rows of other questions are not reused
        rows: list[dict[str, object]] = [row for row in journal.rows if asked.get(row["query_id"]) == (row["query"], row["answer"])]
        rows = [row for row in rows if row.get("prompt") == pairs.get(str(row["expert"]))]  # nor those of another prompt
        known = {(str(row["query_id"]), str(row["expert"])) for row in rows}
        on_cell(len(known), total, None)
        async with aclosing(ask_all(pool, tasks, experts, skip=known, prompts=prompts)) as cells:
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
    names = [*experts, *pairs]
    rows = [row for row in rows if row["query_id"] in order and row["expert"] in names]
    rows.sort(key=lambda row: (order[str(row["query_id"])], names.index(str(row["expert"]))))
    table = pd.DataFrame(rows, columns=COLUMNS + (OPTIONS if pairs else []))
    write_scores(table, output)
    partial.unlink()
    return table
