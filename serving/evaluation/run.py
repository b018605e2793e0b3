"""An evaluation run: every expert alone, every system of the mixture, and the best expert sampled as often, on the same questions."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pandas as pd

from aggregator.vote import elect
from data.records import Answer, Call, CounterpointError, Message, Request, Route, Sampling, Trace, Usage
from data.scores import read_scores, rows_of
from data.skills import Task
from serving.config import expert_specs
from serving.evaluation.aggregation import made_kinds
from serving.evaluation.grading import Grading
from serving.evaluation.kept import KeptPool
from serving.evaluation.played import TRAIN, TablePool
from serving.evaluation.rundata import OUTCOMES, QUESTIONS, RunData
from serving.evaluation.suite import Plan
from serving.evaluation.systems import best_single
from serving.journal import Journal
from serving.pipeline import Pipeline
from serving.profile import COLUMNS

CALLS = "calls.jsonl"
"""Every answer of an expert, written as it comes: what a run that was cut off goes on from."""
SAMPLED = "best-single sampled"

Tick = Callable[[str, int, int, str], None]
"""Called with a stage's name, what is done of it, the total, and what the pool does meanwhile."""


async def evaluate(
    plan: Plan, folder: Path, *, name: str, created: float, tick: Tick = lambda stage, done, total, note: None, recorded: Path | None = None
) -> RunData:
    """Ask and grade, and give what was found; a run that was cut off goes on where it stopped, and gives the same.

    Args:
        plan: What to ask.
        folder: The run's folder, where calls are kept.
        name: The run's id.
        created: When it began, in seconds since 1970.
        tick: Told of progress.
        recorded: Another run's folder, or a score table: its answers are taken, and nobody is asked anything. A table's own scores count,
            and the baselines choose by its other splits.

    Raises:
        CounterpointError: Something cannot be asked or graded, or an expert failed; what was answered is kept.
    """
    train = None
    with ExitStack() as stack:
        pool: KeptPool | TablePool
        if recorded is not None and recorded.is_file():
            pool, train = _played(plan, recorded)
        else:
            source = (recorded or folder) / CALLS
            if recorded is not None and not source.exists():
                raise CounterpointError(f"{recorded} holds no run to replay: there is no {CALLS} in it")
            journal = stack.enter_context(Journal(source))
            pool = KeptPool(expert_specs(plan.config), plan.config.pool.build(), journal, live=recorded is None)
        began = monotonic()
        async with pool:
            run = _Run(plan, pool, tick)
            cells, outcomes = await run.ask()
        work = _work(pool, monotonic() - began, max((spec.gpus for spec in pool.specs.values()), default=0))
    asked = [(question.benchmark, question.task) for question in plan.questions]
    rows = [[task.query_id, benchmark, task.category, task.query, task.answer, task.grader] for benchmark, task in asked]
    questions = pd.DataFrame(rows, columns=QUESTIONS)
    config, systems = plan.config.model_dump(mode="json", exclude_unset=True), {name: dict(settings) for name, settings in plan.systems}
    about = {**plan.about, "seed": plan.seed, "config": config, "systems": systems}
    return RunData(name, created, about, tuple(run.experts), questions, cells, outcomes, work, train)


def _played(plan: Plan, path: Path) -> tuple[TablePool, pd.DataFrame | None]:
    """A pool that plays back a score table, and the rows of its other splits, without those whose text is asked."""
    table = read_scores(path)
    asked = {question.task.split for question in plan.questions}
    others = sorted(set(table["split"].dropna()) - asked) if "split" in table.columns else []
    train = rows_of(table, others)[[name for name in TRAIN if name in table.columns]] if others else None
    ids = {question.task.query_id: question.own_id for question in plan.questions}
    return TablePool(expert_specs(plan.config), table, ids), train


class _Run:
    """The work of one run.

    Args:
        plan: What to ask.
        pool: Whom to ask, started.
        tick: Told of progress.
    """

    def __init__(self, plan: Plan, pool: KeptPool | TablePool, tick: Tick) -> None:
        self.plan, self.pool, self.tick = plan, pool, tick
        self.experts = [expert.name for expert in plan.config.experts if expert.role == "routed"]
        self.grade = pool.grade if isinstance(pool, TablePool) else Grading(pool, allow_code=plan.allow_code, judge=plan.judge)
        self.done: Counter[str] = Counter()
        self._began = monotonic()

    async def ask(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Ask every expert and every system at once, so that the pool groups it all; then sample the best expert."""
        tasks = [question.task for question in self.plan.questions]
        alone = [self._alone(task, expert) for task in tasks for expert in (self.experts if self.plan.alone else ())]
        mixed = self._mixed(tasks)
        rows = await _gathered([*alone, *mixed])
        cells = pd.DataFrame(rows[: len(alone)], columns=[*COLUMNS, "latency_s"])
        outcomes = rows[len(alone) :]
        if self.plan.sampled and self.plan.alone:
            best = best_single(cells, self.experts)
            calls = {row["question_id"]: row["calls"] for row in outcomes[: len(tasks)]}
            outcomes += await _gathered([self._sampled(task, best, calls[task.query_id]) for task in tasks])
        return cells, pd.DataFrame(outcomes, columns=OUTCOMES)

    def _step(self, stage: str, total: int) -> None:
        self.done[stage] += 1
        stats = self.pool.stats
        seconds = monotonic() - self._began
        self.tick(stage, self.done[stage], total, f"{sum(stats.tokens.values()) / seconds:.0f} tokens/s, {stats.loads + stats.wakes} swaps")

    async def _alone(self, task: Task, expert: str) -> dict[str, Any]:
        """One expert's graded answer, as a row of a score table."""
        answer = await self.pool.answer(_call(f"{task.query_id}@{expert}", expert, task, self.plan.sampling))
        if answer.error is not None and "context of" not in answer.error:  # what its context cannot hold, it cannot answer
            raise CounterpointError(f"{expert}, {task.query_id}: {answer.error}")
        score, read = (0.0, None) if answer.error is not None else await self.grade(task, answer)
        self._step("experts", len(self.plan.questions) * len(self.experts))
        return {
            "query_id": task.query_id,
            "query": task.query,
            "category": task.category,
            "split": task.split,
            "expert": expert,
            "score": score,
            "answer": task.answer,
            "prediction": read,
            "response": answer.text,
            "prompt_tokens": answer.usage.prompt_tokens,
            "completion_tokens": answer.usage.completion_tokens,
            "cost": answer.usage.cost_usd,
            "latency_s": answer.latency_s,
        }

    def _mixed(self, tasks: Sequence[Task]) -> list[Coroutine[None, None, dict[str, Any]]]:
        """Every system on every question, each question routed once for all of them."""
        plan = self.plan
        base = Pipeline.of(plan.config, self.pool)
        requests = {task.query_id: Request(task.query_id, _turn(task), plan.sampling, batch=True) for task in tasks}
        routes: dict[str, Route] = {}
        for query_id, request in requests.items():
            with suppress(CounterpointError):  # it is said again where the question is asked
                routes[query_id] = base.route(request)
        work = []
        for name, own in made_kinds(plan.config, plan.systems).items():
            system = Pipeline(self.pool, base.router, base.policy, own.aggregator.build(), own.name, base.cards, tokens=base.tokens)
            work += [self._answered(name, system, task, requests[task.query_id], routes.get(task.query_id)) for task in tasks]
        return work

    async def _answered(self, name: str, system: Pipeline, task: Task, request: Request, route: Route | None) -> dict[str, Any]:
        answer, trace = await system.answer(request, route)
        if answer.error is not None:
            raise CounterpointError(f"{name}, {task.query_id}: {answer.error}")
        row = await self._outcome(name, task, answer, trace)
        self._step(name, len(self.plan.questions))
        return row

    async def _sampled(self, task: Task, expert: str, calls: int) -> dict[str, Any]:
        """The majority of one expert's samples, the first greedy, as many as there were calls."""
        how = self.plan.sampling
        ways = [how, *(replace(how, temperature=how.temperature or 0.7, seed=self.plan.seed + at) for at in range(1, max(1, calls)))]
        asked = [self.pool.answer(_call(f"{task.query_id}@{expert}#{at}", expert, task, way)) for at, way in enumerate(ways)]
        answers = await asyncio.gather(*asked)
        if failed := next((answer for answer in answers if answer.error is not None), None):
            raise CounterpointError(f"{expert}, {task.query_id}: {failed.error}")
        answer = elect(task.query, answers, [1.0] * len(answers))
        route = Route((expert,), (1.0,), expert, {})
        usage = sum((each.usage for each in answers), Usage())
        trace = Trace(task.query_id, route, tuple(answers), "vote", answer.support, usage)
        row = await self._outcome(SAMPLED, task, replace(answer, latency_s=max(each.latency_s for each in answers)), trace)
        self._step(SAMPLED, len(self.plan.questions))
        return row

    async def _outcome(self, name: str, task: Task, answer: Answer, trace: Trace) -> dict[str, Any]:
        route, usage = trace.route, trace.usage
        score, read = await self.grade(task, answer)
        return {
            "system": name,
            "question_id": task.query_id,
            "score": score,
            "text": answer.text,
            "prediction": read,
            "calls": usage.calls,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cost": usage.cost_usd,
            "seconds": answer.latency_s,
            "degraded": answer.degraded,
            "experts": json.dumps(route.experts),
            "weights": json.dumps([round(weight, 6) for weight in route.weights]),
            "primary": route.primary,
            "predicted": json.dumps({expert: round(score, 6) for expert, score in route.scores.items()}),
            "support": json.dumps([[text, round(weight, 6)] for text, weight in trace.support], ensure_ascii=False),
            "aggregator": trace.aggregator,
        }


def _turn(task: Task) -> tuple[Message, ...]:
    return (Message("user", task.query),)


def _call(id: str, expert: str, task: Task, sampling: Sampling) -> Call:
    return Call(id, expert, _turn(task), sampling, batch=True)


async def _gathered(work: Sequence[Coroutine[None, None, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Do all of it; what fails is told when the rest is done, and kept.

    Raises:
        CounterpointError: Some of it failed.
    """
    rows: list[dict[str, Any]] = []
    failures: list[BaseException] = []
    for done in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(done, BaseException):
            failures.append(done)
        else:
            rows.append(done)
    if failures:
        raise CounterpointError(f"{len(failures)} of {len(work)} failed, first: {failures[0]}; the others are kept, run it again to go on")
    return rows


def _work(pool: KeptPool | TablePool, wall_s: float, gpus: int) -> dict[str, Any]:
    """What the run took in this process; answers that were kept before took nothing."""
    stats = pool.stats
    tokens = sum(stats.tokens.values())
    return {
        "wall_s": round(wall_s, 1),
        "calls_made": pool.made,
        "loads": stats.loads,
        "wakes": stats.wakes,
        "swap_s": round(stats.load_s, 1),
        "busy_s": round(stats.busy_s, 1),
        "gpus": gpus,
        "gpu_seconds": round(stats.busy_s * gpus, 1),
        "tokens_per_s": round(tokens / wall_s, 1) if wall_s else 0.0,
    }
