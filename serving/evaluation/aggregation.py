"""Aggregators measured: who writes the right answer from right and wrong ones, and what each kind makes of the same questions."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from aggregator import Aggregator
from aggregator.base import is_usable
from aggregator.forms import form, shape
from aggregator.fuse import Fuse
from data.graders import grade, prediction
from data.recorded import Recorded
from data.records import Answer, Call, CounterpointError, Done, Message, Request, Route, Sampling, Usage
from data.scores import experts_of, pivot
from data.skills import Task
from data.statistics import Interval, bootstrap, paired
from experts.base import Event, ExpertSpec
from experts.pool import ExpertPool, PoolSettings
from router import Router
from serving.combiner import experts_in
from serving.config import MixtureConfig, expert_specs
from serving.evaluation.systems import System
from serving.journal import Journal
from serving.pipeline import Pipeline
from serving.replay import aggregate_first, routes_of

GIVEN = 3
"""Answers that a candidate writes from: a right one and two wrong ones."""
CHANCE = 1.0 / GIVEN
"""Accuracy of whoever copies one of them at random."""

Tick = Callable[[str, int, int], None]
"""Called with a stage's name, the number of finished answers, and their total."""
Kind = tuple[str, Mapping[str, Any]]
"""A name, and the section `aggregator` of a config."""


# candidates for the aggregator


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
        (draw.task.query_id, name): _mark(draw.task.grader, draw.task.answer, draw.messages, how, pool.specs[name])
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
        rows = _known(journal, "expert", marks)
        work = [one(draw, name) for draw in draws for name in experts if (draw.task.query_id, name) not in rows]
        await _written(work, journal, "expert", rows, len(marks), lambda done: tick("writing from given answers", done, len(marks)))
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


# kinds of aggregators on the same questions


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a kind of aggregator made of one question.

    Attributes:
        query_id: The question's id.
        query: The question.
        category: Its family.
        kind: Name of the kind.
        right: Score of the final answer, 0 to 1.
        calls: Calls of experts, the aggregator's own among them.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
        best_score: The router's highest probability of a right answer.
        cost_usd: Price of the calls in US dollars.
        degraded: Whether a call failed, or wrote nothing, and the others stood in for it.
    """

    query_id: str
    query: str
    category: str
    kind: str
    right: float
    calls: int
    prompt_tokens: int
    completion_tokens: int
    best_score: float
    cost_usd: float = 0.0
    degraded: bool = False

    @classmethod
    def of(cls, kind: str, task: Task, right: float, usage: Usage, route: Route, *, degraded: bool = False) -> Outcome:
        """Make it of what a question took."""
        best = max(route.scores.values(), default=0.0)
        spent = (usage.calls, usage.prompt_tokens, usage.completion_tokens)
        return cls(task.query_id, task.query, task.category, kind, right, *spent, best, usage.cost_usd, degraded)


class PoolOnce(ExpertPool):
    """A pool that asks an expert once what several callers ask it in the same words: greedily, or with the same seed.

    So kinds that are compared combine the very same answers, and differ by nothing else. Each caller's answer bears its full usage.
    Words are not streamed.

    Args:
        specs: The experts, in the mixture's order.
        settings: How they share the machine.
    """

    def __init__(self, specs: Sequence[ExpertSpec], settings: PoolSettings | None = None) -> None:
        super().__init__(specs, settings)
        self._told: dict[tuple[str, tuple[Message, ...], Sampling], asyncio.Task[Answer]] = {}

    async def stop(self) -> None:
        """Stop as any pool, and let go of what was asked."""
        for task in self._told.values():
            task.cancel()
        await asyncio.gather(*self._told.values(), return_exceptions=True)
        await super().stop()

    async def answer(self, call: Call) -> Answer:
        """Ask one expert, or wait for what it is asked already."""
        if call.sampling.temperature > 0 and call.sampling.seed is None:
            return await self._fresh(call)
        key = call.expert, call.messages, call.sampling
        if key not in self._told:
            self._told[key] = asyncio.create_task(self._fresh(call))
        return await asyncio.shield(self._told[key])  # a caller that goes away takes it from nobody else

    async def stream(self, call: Call) -> AsyncGenerator[Event]:
        """Ask one expert; the whole answer comes at once."""
        yield Done(call.id, await self.answer(call))

    async def _fresh(self, call: Call) -> Answer:
        async with aclosing(super().stream(replace(call, stream=False))) as events:
            async for event in events:
                if isinstance(event, Done):
                    return event.answer
        raise AssertionError("a stream ends in Done")


async def measure_kinds(
    config: MixtureConfig,
    tasks: Sequence[Task],
    kinds: Sequence[Kind],
    output: Path,
    tick: Tick = lambda stage, done, total: None,
    *,
    sampling: Sampling | None = None,
    pool: PoolOnce | None = None,
) -> list[Outcome]:
    """Let the live mixture answer questions once for each kind of aggregator, and grade what comes out.

    All kinds run at once on one pool and by the same routes: engines are loaded once, and what several of them ask an expert in the
    same words, first of all the question itself, is asked once.

    Args:
        config: The mixture; its own aggregator is not used.
        tasks: Questions with known answers.
        kinds: Each kind's name, and its section `aggregator` as in a config: `("self of 5", {"kind": "self", "samples": 5})`.
        output: JSON lines, a row a question and kind; an interrupted run goes on from there.
        tick: Told of progress.
        sampling: Limits and randomness of each answer; greedy where None.
        pool: A started pool of the mixture's experts, which is left running; None makes one.

    Returns:
        The outcomes, kind by kind, in the order of the tasks.

    Raises:
        CounterpointError: A kind does not fit, a question could not be answered, or the output holds rows of other questions or
            settings; finished rows are kept.
    """
    made = made_kinds(config, kinds)
    how, setup = sampling or Sampling(), config.model_dump_json(exclude={"name", "aggregator", "pool", "serving"})
    marks = {
        (task.query_id, name): _mark(task.query, task.grader, task.answer, how, setup, own.aggregator.model_dump_json())
        for name, own in made.items()
        for task in tasks
    }
    with Journal(output) as journal:
        rows = _known(journal, "kind", marks)
        running = pool or PoolOnce(expert_specs(config), config.pool.build())
        if pool is None and len(rows) < len(marks):
            await running.start()
        try:
            if len(rows) < len(marks):
                work = _answers(running, made, tasks, how, marks, rows)
                await _written(work, journal, "kind", rows, len(marks), lambda done: tick("answering", done, len(marks)))
        finally:
            if pool is None:
                await running.stop()
    return outcomes_of(rows[task.query_id, kind] for kind in made for task in tasks)


def outcomes_of(rows: Iterable[Mapping[str, Any]]) -> list[Outcome]:
    """Read outcomes from the rows that `measure_kinds` writes, such as `Journal.rows`; what else they hold is left.

    Raises:
        CounterpointError: A row lacks something.
    """
    try:
        return [Outcome(**{name: row[name] for name in Outcome.__dataclass_fields__}) for row in rows]
    except KeyError as error:
        raise CounterpointError(f"a row is no outcome of a kind of aggregator: it has no {error.args[0]}") from error


def made_kinds(config: MixtureConfig, kinds: Sequence[Kind]) -> dict[str, MixtureConfig]:
    """The mixture with each kind as its aggregator, by the kind's name; paths start from the working directory.

    Raises:
        CounterpointError: Two kinds have the same name, or one's settings do not fit.
    """
    made: dict[str, MixtureConfig] = {}
    for name, settings in kinds:
        if name in made:
            raise CounterpointError(f"two kinds are called {name!r}: give each a name of its own")
        try:
            whole = MixtureConfig.model_validate(config.model_dump() | {"aggregator": dict(settings)})
        except ValidationError as error:
            raise CounterpointError(f"{name}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error
        made[name] = config.model_copy(update={"aggregator": whole.aggregator.absolute(Path.cwd())})
        whole.aggregator.build()  # what cannot be made is told before anybody is asked
    return made


def _answers(
    pool: PoolOnce,
    made: Mapping[str, MixtureConfig],
    tasks: Sequence[Task],
    sampling: Sampling,
    marks: Mapping[tuple[str, str], str],
    known: Collection[tuple[str, str]],
) -> list[Coroutine[None, None, tuple[str, dict[str, Any]]]]:
    """What is left to do: each question by each kind, routed once for all of them."""
    base = Pipeline.of(next(iter(made.values())))
    requests = {task.query_id: Request(task.query_id, (Message("user", task.query),), sampling, batch=True) for task in tasks}
    routes: dict[str, Route] = {}
    for query_id, request in requests.items():
        with suppress(CounterpointError):  # it is said again where the question is asked
            routes[query_id] = base.route(request)

    async def one(mixture: Pipeline, kind: str, task: Task) -> tuple[str, dict[str, Any]]:
        try:
            answer, trace = await mixture.answer(requests[task.query_id], routes.get(task.query_id))
        except Exception as error:  # a fault in one question must not end the others
            return f"{kind}, {task.query_id}: {error}", {}
        if answer.error is not None:
            return f"{kind}, {task.query_id}: {answer.error}", {}
        right = float(grade(task.grader, answer.text, task.answer))
        outcome = Outcome.of(kind, task, right, trace.usage, trace.route, degraded=answer.degraded)
        return "", asdict(outcome) | {"text": answer.text, "mark": marks[task.query_id, kind]}

    work = []
    for kind, own in made.items():
        mixture = Pipeline(pool, base.router, base.policy, own.aggregator.build(), own.name, base.cards, tokens=base.tokens)
        work += [one(mixture, kind, task) for task in tasks if (task.query_id, kind) not in known]
    return work


async def measure_replayed(
    table: pd.DataFrame, router: Router, aggregators: Sequence[tuple[str, Aggregator]], k: int, tick: Tick = lambda stage, done, total: None
) -> list[Outcome]:
    """Aggregate the recorded answers of each question's k best experts, and give the rows that `measure_kinds` gives.

    Args:
        table: The recorded answers.
        router: Who is asked.
        aggregators: Names, and aggregators that choose among the answers.
        k: How many experts are asked.
        tick: Told of progress.

    Raises:
        CounterpointError: Router and table have no two experts in common, the table holds no answers, or an aggregator asks an LLM.
    """
    experts, recorded = experts_in(table, router), Recorded(table)
    queries, _ = pivot(table, experts)
    routes = routes_of(router, queries, experts, k, lambda done, total: tick("routing", done, total))
    categories = queries["category"].fillna("") if "category" in queries.columns else [""] * len(queries)
    cells = zip(queries["query_id"], queries["query"], categories, strict=True)
    tasks = [Task(query_id, query, "", "exact", str(category), "") for query_id, query, category in cells]
    rows = [
        (Request(task.query_id, (Message("user", task.query),)), route, [recorded.answer(task.query_id, name) for name in route.experts])
        for task, route in zip(tasks, routes, strict=True)
    ]
    made = []
    for name, aggregator in aggregators:
        system = await aggregate_first(name, rows, k, aggregator, lambda request, final: recorded.score(request.id, final.expert))
        for at, (task, (_, route, answers)) in enumerate(zip(tasks, rows, strict=True)):
            usage = sum((answer.usage for answer in answers), Usage())
            failed = any(answer.error is not None for answer in answers)
            made.append(Outcome.of(name, task, float(system.right[at]), usage, route, degraded=failed))
    return made


def systems_of(rows: Iterable[Outcome], kinds: Sequence[str] | None = None) -> list[System]:
    """Turn outcomes into systems, at the questions that every kind has answered.

    Args:
        rows: The outcomes.
        kinds: The kinds wanted, in this order; None is all of them, in the order of the rows.

    Raises:
        CounterpointError: A kind has no rows, or no question was answered by all.

    Example:
        >>> rows = [Outcome("1", "?", "", "vote", 1.0, 3, 9, 3, 0.5), Outcome("1", "?", "", "fuse", 0.0, 4, 30, 5, 0.5)]
        >>> [(system.name, system.right.tolist(), system.tokens.tolist()) for system in systems_of(rows)]
        [('vote', [1.0], [12.0]), ('fuse', [0.0], [35.0])]
    """
    found: dict[str, dict[str, Outcome]] = {}
    for row in rows:
        found.setdefault(row.kind, {})[row.query_id] = row
    names = list(found) if kinds is None else list(kinds)
    if missing := [name for name in names if name not in found]:
        raise CounterpointError(f"no rows of the kind {missing[0]!r}; there are {', '.join(found) or 'none'}")
    shared = [query_id for query_id in (found[names[0]] if names else ()) if all(query_id in found[name] for name in names)]
    if not shared:
        raise CounterpointError(f"no question was answered by all of {', '.join(names) or 'no kinds'}")
    return [_system(name, [found[name][query_id] for query_id in shared]) for name in names]


def _system(name: str, rows: Sequence[Outcome]) -> System:
    right, calls, costs = (np.array([getattr(row, part) for row in rows], dtype=float) for part in ("right", "calls", "cost_usd"))
    tokens = np.array([row.prompt_tokens + row.completion_tokens for row in rows], dtype=float)
    return System(name, right, calls, tokens, costs if costs.any() else None)


def gaps(systems: Sequence[System], against: str) -> dict[str, Interval]:
    """Each other system's accuracy less that of one of them, paired by question, with its 95% interval.

    Raises:
        CounterpointError: None of them has that name.
    """
    base = next((system for system in systems if system.name == against), None)
    if base is None:
        raise CounterpointError(f"nothing was measured that is called {against!r}; there are {', '.join(s.name for s in systems)}")
    return {system.name: paired(system.right, base.right) for system in systems if system is not base}


# what both share


def _mark(*parts: object) -> str:
    """What tells rows of other questions and settings apart."""
    return hashlib.sha256("\0".join(map(repr, parts)).encode()).hexdigest()[:16]


def _known(journal: Journal, second: str, marks: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of an earlier run of the same work.

    Raises:
        CounterpointError: Some are of other questions or settings under the same names.
    """
    rows = {(str(row.get("query_id")), str(row.get(second))): row for row in journal.rows}
    for key in rows.keys() & marks.keys():
        if rows[key].get("mark") != marks[key]:
            raise CounterpointError(
                f"{journal.path} holds {key[1]!r} on {key[0]!r} from another run, of another question, answers or settings: "
                "name another file, or delete this one"
            )
    return {key: rows[key] for key in marks if key in rows}


async def _written(
    work: Sequence[Coroutine[None, None, tuple[str, dict[str, Any]]]],
    journal: Journal,
    second: str,
    rows: dict[tuple[str, str], dict[str, Any]],
    total: int,
    tick: Callable[[int], None],
) -> None:
    """Do all work at once, and write each row as it comes.

    Args:
        work: Each gives what went wrong, or a row.
        journal: Where rows go.
        second: What tells the rows of a question apart.
        rows: The rows that are there, and then all.
        total: Their number in the end.
        tick: Told of their number.

    Raises:
        CounterpointError: Some of it failed; the rest is kept.
    """
    failures: list[str] = []
    tasks = [asyncio.create_task(one) for one in work]
    tick(len(rows))
    try:
        for done in asyncio.as_completed(tasks):
            failure, row = await done
            if failure:
                failures.append(failure)
                continue
            journal.add(row)
            rows[str(row["query_id"]), str(row[second])] = row
            tick(len(rows))
    finally:
        for task in tasks:
            task.cancel()
    if failures:
        raise CounterpointError(
            f"{len(failures)} of {total} answers failed, first {failures[0]}; the others are kept in {journal.path}, run again to go on"
        )
