"""Kinds of aggregators measured: what each makes of the same questions, live or recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from aggregator import Aggregator
from data.graders import grade
from data.recorded import Recorded
from data.records import Answer, Call, CounterpointError, Done, Message, Request, Route, Sampling, Usage
from data.scores import pivot
from data.skills import Task
from data.statistics import Interval, paired
from experts.base import Event, ExpertSpec
from experts.pool import ExpertPool, PoolSettings
from router import Router
from serving.combiner import experts_in
from serving.config import MixtureConfig, expert_specs
from serving.evaluation.resumed import known_rows, mark_of, written
from serving.evaluation.systems import System
from serving.journal import Journal
from serving.pipeline import Pipeline
from serving.replay import aggregate_first, routes_of

Tick = Callable[[str, int, int], None]
"""Called with a stage's name, the number of finished answers, and their total."""
Kind = tuple[str, Mapping[str, Any]]
"""A name, and the section `aggregator` of a config."""


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
        (task.query_id, name): mark_of(task.query, task.grader, task.answer, how, setup, own.aggregator.model_dump_json())
        for name, own in made.items()
        for task in tasks
    }
    with Journal(output) as journal:
        rows = known_rows(journal, "kind", marks)
        running = pool or PoolOnce(expert_specs(config), config.pool.build())
        if pool is None and len(rows) < len(marks):
            await running.start()
        try:
            if len(rows) < len(marks):
                work = _answers(running, made, tasks, how, marks, rows)
                await written(work, journal, "kind", rows, len(marks), lambda done: tick("answering", done, len(marks)))
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
    return [_system(name, each) for name, each in shared_of(rows, kinds).items()]


def shared_of(rows: Iterable[Outcome], kinds: Sequence[str] | None = None) -> dict[str, list[Outcome]]:
    """The outcomes of each kind, at the questions that every kind has answered, in the same order.

    Args:
        rows: The outcomes.
        kinds: The kinds wanted, in this order; None is all of them, in the order of the rows.

    Raises:
        CounterpointError: A kind has no rows, or no question was answered by all.
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
    return {name: [found[name][query_id] for query_id in shared] for name in names}


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
