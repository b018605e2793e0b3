"""Experts ranked as aggregators: who writes the right answer from a right one and two wrong ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aggregator.base import is_usable
from aggregator.forms import form, shape
from aggregator.fuse import Fuse
from data.graders import grade, prediction
from data.recorded import Recorded
from data.records import Answer, Call, CounterpointError, Message, Request, Sampling
from data.scores import experts_of
from data.skills import Task
from data.statistics import Interval, bootstrap, paired
from experts.pool import ExpertPool
from serving.evaluation.resumed import known_rows, mark_of, written
from serving.journal import Journal

GIVEN = 3
"""Answers that a candidate writes from: a right one and two wrong ones."""
CHANCE = 1.0 / GIVEN
"""Accuracy of whoever copies one of them at random."""

Tick = Callable[[str, int, int], None]
"""Called with a stage's name, the number of finished answers, and their total."""


@dataclass(frozen=True, slots=True)
class Draw:
    """A question with the answers to write from.

    Attributes:
        task: The question.
        given: A right answer and two wrong ones that all differ, in the order in which they are quoted.
        place: Number of the right one, from 1.
        alone: The recorded score of each expert's own answer.
        skills: Keywords of the question, where the table has them.
    """

    task: Task
    given: tuple[Answer, ...]
    place: int
    alone: Mapping[str, float]
    skills: tuple[str, ...] = ()

    @property
    def messages(self) -> tuple[Message, ...]:
        """The prompt of `aggregator.fuse.Fuse`."""
        request = Request(self.task.query_id, (Message("user", self.task.query),))
        return tuple(Fuse().messages(request, self.given))

    def copied(self, text: str) -> int:
        """The number of the given answer that a text says again, from 1; 0 for none."""
        query = self.task.query
        said = {form(query, text), form(query, prediction(self.task.grader, text) or "")} - {""}
        again = (shape(query, one) in said or one.text.strip() == text.strip() for one in self.given)
        return next((at for at, same in enumerate(again, start=1) if same), 0)


def drawn(tasks: Sequence[Task], table: pd.DataFrame, seed: int = 0) -> list[Draw]:
    """Draw a right answer and two wrong ones of each question, among those of all experts, and shuffle them.

    Answers of the same form count once; which of them is quoted is drawn, too. Questions without such three are left out.

    Args:
        tasks: The questions; they are found in the table by their text.
        table: The recorded answers.
        seed: Seed of the draws; each question has its own, so that it is drawn alike in every selection of questions.

    Raises:
        CounterpointError: The table holds no answers, or none of the questions has a right one and two different wrong ones.
    """
    recorded, experts, draws = Recorded(table), experts_of(table), []
    queries = table.drop_duplicates("query_id")
    tags = dict(zip(queries["query_id"], queries["keywords"], strict=True)) if "keywords" in table.columns else {}
    for task in tasks:
        known = recorded.id_of(task.query)
        if known is None:
            continue
        said = {name: recorded.answer(known, name) for name in experts}
        groups: dict[str, list[Answer]] = {}
        for answer in filter(is_usable, said.values()):
            groups.setdefault(shape(task.query, answer), []).append(answer)
        right = [key for key, group in groups.items() if any(recorded.score(known, one.expert) > 0.5 for one in group)]
        wrong = [key for key in groups if key not in right]
        if not right or len(wrong) < GIVEN - 1:
            continue
        chance = random.Random(f"{seed}/{task.query_id}")
        good = chance.choice([one for key in right for one in groups[key] if recorded.score(known, one.expert) > 0.5])
        given = [good, *(chance.choice(groups[key]) for key in chance.sample(wrong, GIVEN - 1))]
        chance.shuffle(given)
        alone = {name: recorded.score(known, name) for name, answer in said.items() if answer.error is None}
        skills = tuple(word for part in str(tags.get(known) or "").split(";") if (word := part.strip()) and word != "nan")
        draws.append(Draw(task, tuple(given), given.index(good) + 1, alone, skills))
    if not draws:
        raise CounterpointError(
            f"none of the {len(tasks)} questions has a right answer and two different wrong ones in the score table: "
            "give questions that its experts have answered"
        )
    return draws


@dataclass(frozen=True, slots=True)
class Candidate:
    """How well an expert writes the right answer from a right one and two wrong ones.

    Attributes:
        expert: Its name.
        right: Whether it wrote the right answer, shape (n,).
        copied: The number of the given answer that it said again, 0 for none, shape (n,).
        tokens: Tokens read and written, shape (n,).
        alone: The score of its own answer, without any given, shape (n,); NaN where the table does not tell.
        behind: The best candidate's accuracy less its own, paired.
    """

    expert: str
    right: np.ndarray
    copied: np.ndarray
    tokens: np.ndarray
    alone: np.ndarray
    behind: Interval

    @property
    def accuracy(self) -> Interval:
        """Share of right answers, with its 95% interval."""
        return bootstrap(self.right)

    @property
    def copies(self) -> float:
        """Share of answers that say one of the given ones again."""
        return float((self.copied > 0).mean())

    @property
    def copies_first(self) -> float:
        """Share of these that say the first one again: a third where the place does not count; NaN where nothing is copied."""
        return float((self.copied == 1).sum() / np.count_nonzero(self.copied)) if self.copied.any() else float("nan")

    def row(self) -> dict[str, object]:
        """The candidate as JSON."""
        accuracy, alone = self.accuracy, self.alone[~np.isnan(self.alone)]
        return {
            "expert": self.expert,
            "accuracy": round(accuracy.mean, 4),
            "low": round(accuracy.low, 4),
            "high": round(accuracy.high, 4),
            "copies": round(self.copies, 4),
            "copies_first": round(self.copies_first, 4) if self.copied.any() else None,
            "alone": round(float(alone.mean()), 4) if len(alone) else None,
            "tokens": round(float(self.tokens.mean()), 1),
            "behind": [round(value, 4) for value in (self.behind.mean, self.behind.low, self.behind.high)],
            "tie": self.behind.tie,
        }


@dataclass(frozen=True, slots=True)
class Ranking:
    """Experts in the order of their worth as aggregators.

    Attributes:
        candidates: The best first; equals keep the order in which they were given.
        categories: Category of each question, shape (n,).
        skills: Keywords of each question.
    """

    candidates: Sequence[Candidate]
    categories: Sequence[str]
    skills: Sequence[Collection[str]]

    @property
    def tied(self) -> list[str]:
        """The best, and all whose paired difference to it may be zero."""
        return [one.expert for one in self.candidates if one.behind.tie]

    def by_category(self) -> dict[str, dict[str, float]]:
        """Each candidate's accuracy on each category."""
        return self._by([(name,) if name else () for name in self.categories])

    def by_skill(self) -> dict[str, dict[str, float]]:
        """Each candidate's accuracy on the questions of each keyword; empty where there are none."""
        return self._by(self.skills)

    def _by(self, groups: Sequence[Collection[str]]) -> dict[str, dict[str, float]]:
        made = {}
        for name in dict.fromkeys(name for group in groups for name in group):
            inside = np.array([name in group for group in groups])
            made[name] = {one.expert: float(one.right[inside].mean()) for one in self.candidates}
        return made

    def json(self) -> dict[str, object]:
        """The ranking as JSON."""
        tables = {"by_category": self.by_category(), "by_skill": self.by_skill()}
        rows = [one.row() for one in self.candidates]
        return {"n": len(self.categories), "chance": CHANCE, "experts": rows, "tied": self.tied, **tables}


async def rank_experts(
    pool: ExpertPool,
    tasks: Sequence[Task],
    table: pd.DataFrame,
    experts: Sequence[str],
    output: Path,
    tick: Tick = lambda stage, done, total: None,
    *,
    sampling: Sampling | None = None,
    seed: int = 0,
) -> Ranking:
    """Rank experts by how often they write the right answer from a right one and two wrong ones.

    Args:
        pool: The experts, started; it is given all calls at once.
        tasks: Questions with known answers, of a split that nothing is tested on.
        table: Recorded answers to them, of any experts.
        experts: The candidates.
        output: JSON lines, a row an answer; an interrupted run goes on from there.
        tick: Told of progress.
        sampling: Limits and randomness of the answers; greedy where None.
        seed: Seed of the draws.

    Raises:
        CounterpointError: A candidate is not in the pool, no question can be used, an expert failed, or the output holds rows of
            other questions or settings; finished answers are kept.

    Source:
        Chen et al. 2025, Symbolic Mixture-of-Experts, arXiv:2503.05641 (the choice of the aggregator by a synthetic task; the
        prompt is that of `aggregator.fuse.Fuse`, so that the work that is chosen for is measured; theirs samples at 0.7).
    """
    if unknown := [name for name in experts if name not in pool]:
        raise CounterpointError(f"no expert is called {unknown[0]!r}; the pool has {', '.join(pool)}")
    draws, how = drawn(tasks, table, seed), sampling or Sampling()
    marks = {
        (draw.task.query_id, name): mark_of(draw.task.grader, draw.task.answer, draw.messages, how, pool.specs[name])
        for draw in draws
        for name in experts
    }

    async def one(draw: Draw, expert: str) -> tuple[str, dict[str, Any]]:
        call = Call(f"{draw.task.query_id}/{expert}", expert, draw.messages, how, batch=True)
        answer = await pool.answer(call)
        if answer.error is not None:
            return f"{expert}: {answer.error}", {}
        task, usage = draw.task, answer.usage
        return "", {
            "query_id": task.query_id,
            "query": task.query,
            "category": task.category,
            "expert": expert,
            "right": float(grade(task.grader, answer.text, task.answer)),
            "tokens": usage.prompt_tokens + usage.completion_tokens,
            "place": draw.place,
            "copied": draw.copied(answer.text),
            "text": answer.text,
            "mark": marks[task.query_id, expert],
        }

    with Journal(output) as journal:
        rows = known_rows(journal, "expert", marks)
        work = [one(draw, name) for draw in draws for name in experts if (draw.task.query_id, name) not in rows]
        await written(work, journal, "expert", rows, len(marks), lambda done: tick("writing from given answers", done, len(marks)))
    return _ranking(draws, experts, rows)


def _ranking(draws: Sequence[Draw], experts: Sequence[str], rows: Mapping[tuple[str, str], Mapping[str, Any]]) -> Ranking:
    def column(name: str, expert: str) -> np.ndarray:
        return np.array([rows[draw.task.query_id, expert][name] for draw in draws], dtype=float)

    right = {name: column("right", name) for name in experts}
    order = sorted(experts, key=lambda name: -right[name].mean())
    candidates = []
    for name in order:
        alone = np.array([draw.alone.get(name, np.nan) for draw in draws], dtype=float)
        behind = paired(right[order[0]], right[name])
        candidates.append(Candidate(name, right[name], column("copied", name), column("tokens", name), alone, behind))
    return Ranking(candidates, [draw.task.category for draw in draws], [draw.skills for draw in draws])
