"""The main job on the mixture that ships: real models answer real questions, measured against honest baselines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from aggregator import make_aggregator
from aggregator.base import Nobody
from data.graders import grade
from data.records import Answer, Call, Message, Request, Route, Sampling, Trace
from data.scores import read_scores, rows_of
from data.skills import FAMILIES, Task, generate
from experts.models import PACKAGED, installed
from experts.pool import ExpertPool
from router import DEFAULT_KIND, KINDS, FixedK
from serving.config import ASSETS, ExpertConfig, MixtureConfig, expert_specs, load_config
from serving.evaluation.systems import System, baselines, best_single, versus
from serving.pipeline import Pipeline
from serving.profile import profile
from serving.replay import aggregate_first

MIXTURE = ASSETS / "mixture.yaml"
SCORES = ASSETS / "scores.parquet"
CONTROL = "multitask"
"""The adapter of equal total rank and steps that was trained on all families: a control, not an expert of the mixture."""

MEASURED = (("train", 60), ("tune", 10), ("test", 40))
"""Questions of each family, by split, on which experts are measured."""

DISJOINT = (
    "These specialists were trained on disjoint families by design: the table shows that the machinery works, "
    "not that mixtures win on questions of your own."
)

Tick = Callable[[str, int, int], None]
"""Called with a stage's name, the number of finished answers, and their total."""


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What a demo measured.

    Attributes:
        n: Number of questions.
        systems: The mixture and its baselines.
        loads: Model loads and seconds, grouped against in order of arrival.
        comparisons: Lines that compare the mixture with the baselines, paired.
        examples: Some questions with the whole account of their answers.
        seconds: Seconds of the whole measurement.
    """

    n: int
    systems: list[System]
    loads: dict[str, Any]
    comparisons: list[str]
    examples: list[tuple[Task, Answer, Trace]]
    seconds: float

    def json(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "n": self.n,
            "systems": [system.row() for system in self.systems],
            "loads": self.loads,
            "comparisons": self.comparisons,
            "note": DISJOINT,
            "seconds": round(self.seconds, 1),
        }


def demo_config() -> MixtureConfig:
    """The mixture that ships, without the experts whose model package is not installed."""
    config = load_config(MIXTURE)
    there = [e for e in config.experts if not _package(e) or installed(_package(e))]
    absent = {e.name for e in config.experts} - {e.name for e in there}
    return config.model_copy(update={"experts": [e for e in there if e.base not in absent]})


def _package(expert: ExpertConfig) -> str:
    name = (expert.model or "").removeprefix("packaged:")
    return name if name in PACKAGED and expert.model != name else ""


def control_config(config: MixtureConfig) -> MixtureConfig:
    """The mixture with the control as one more expert, where its adapter is there, for measuring it."""
    adapter = ASSETS / "adapters" / CONTROL
    if not adapter.is_dir():
        return config
    control = ExpertConfig(name=CONTROL, base="general", adapter=str(adapter), system="Answer briefly.")
    return config.model_copy(update={"experts": [*config.experts, control]})


def requests_of(tasks: Sequence[Task]) -> list[Request]:
    """Tasks as requests."""
    return [Request(task.query_id, (Message("user", task.query),)) for task in tasks]


async def measure(config: MixtureConfig, folder: Path, tick: Tick) -> MixtureConfig:
    """Measure every expert and the control on train, tune and test questions, and fit the router on what came out.

    Args:
        config: The mixture.
        folder: Where `scores.parquet` and `router/` go; an interrupted measurement goes on from there.
        tick: Told of progress.

    Returns:
        The mixture with the new router.
    """
    tasks = [task for split, per_family in MEASURED for task in generate(split, per_family)]
    measured = control_config(config)
    async with ExpertPool(expert_specs(measured), config.pool.build()) as pool:
        names = [expert.name for expert in measured.experts]
        table = await profile(pool, tasks, names, folder / "scores.parquet", lambda done, total, _: tick("measuring experts", done, total))
    train = rows_of(table, ["train"])
    KINDS[DEFAULT_KIND]().fit(train[train["expert"] != CONTROL]).save(folder / "router")
    assert config.router is not None
    return config.model_copy(update={"router": config.router.model_copy(update={"path": str(folder / "router")})})


async def run_demo(questions: int, *, arrival: int = 8, samples: int = 3, scratch: Path | None = None, tick: Tick) -> DemoReport:
    """Answer test questions by the mixture and by its baselines.

    Args:
        questions: Test questions of mixed families, at most 440.
        arrival: Questions that also run in order of arrival, without grouping.
        samples: How often the best single expert is sampled for its vote.
        scratch: Folder in which the experts are measured and the router is fitted anew; None takes what ships.
        tick: Told of progress.
    """
    start = time.monotonic()
    config = demo_config() if scratch is None else await measure(demo_config(), scratch, tick)
    experts = [expert.name for expert in config.experts]
    tasks = generate("test", -(-questions // len(FAMILIES)))[:questions]
    scores = read_scores(SCORES if scratch is None else scratch / "scores.parquet")
    test = scores[scores["query_id"].isin({task.query_id for task in tasks})]
    train = rows_of(scores, ["train", "tune"])

    pool = ExpertPool(expert_specs(config), config.pool.build())
    async with Pipeline.of(config, pool) as pipeline:
        done, routes, traces = 0, {}, {}
        answers: dict[str, Answer] = {}
        tick("mixture of 3", 0, questions)
        mixed_start = time.monotonic()
        async with aclosing(pipeline.answer_all(requests_of(tasks))) as results:
            async for at, answer, trace in results:
                done += 1
                tick("mixture of 3", done, questions)
                assert trace is not None
                answers[tasks[at].query_id], traces[tasks[at].query_id] = answer, trace
                routes[tasks[at].query_id] = trace.route
        grouped_s, grouped = time.monotonic() - mixed_start, pool.stats.loads
        engines = {pool.specs[name].engine_key for trace in traces.values() for name in trace.route.experts}
        best = best_single(test, experts)
        sampled = await _sampled(pool, tasks, best, samples, tick)

    systems = baselines(test, train, experts)
    wanted = {task.query_id: task for task in tasks}

    def score(request: Request, final: Answer) -> float:
        return float(grade(wanted[request.id].grader, final.text, wanted[request.id].answer))

    rows = [(request, routes[request.id], traces[request.id].answers) for request in requests_of(tasks)]
    for k, name in ((1, "router-top-1"), (2, "mixture-k2"), (3, "mixture-k3")):
        systems.append(await aggregate_first(name, rows, k, config.aggregator.build(), score))
    systems.append(sampled)
    if CONTROL in set(test["expert"]):
        systems += [
            replace(s, name=CONTROL) for s in baselines(test[test["expert"] == CONTROL], None, [CONTROL]) if s.name == f"expert:{CONTROL}"
        ]
    loads = {"grouped": grouped, "distinct_engines": len(engines), "grouped_s": round(grouped_s, 1), "grouped_n": questions}
    loads |= await _arrival(config, tasks[:arrival], routes, tick)
    order = ["random", "best-single", "best-single-k", CONTROL, "category-oracle", "router-top-1", "mixture-k2", "mixture-k3", "oracle"]
    by_name = {system.name: system for system in systems}
    listed = [by_name[name] for name in order if name in by_name] + [s for s in systems if s.name.startswith("expert:")]
    mixture = by_name["mixture-k3"]
    rivals = ["best-single", "best-single-k", CONTROL, "router-top-1", "category-oracle"]
    comparisons = [versus(mixture, by_name[name]) for name in rivals if name in by_name]
    comparisons.append(versus(by_name["router-top-1"], by_name["category-oracle"]))
    shown = [(task, answers[task.query_id], traces[task.query_id]) for task in tasks[:12:4]]  # three families
    return DemoReport(questions, listed, loads, comparisons, shown, time.monotonic() - start)


async def _sampled(pool: ExpertPool, tasks: Sequence[Task], expert: str, samples: int, tick: Tick) -> System:
    """Sample the best single expert several times a question, and vote."""
    vote, stage = make_aggregator("vote"), f"{expert}, {samples} samples"
    done = 0

    async def one(task: Task, sample: int) -> Answer:
        nonlocal done
        how = Sampling(temperature=0.7, seed=sample)
        answer = await pool.answer(Call(f"{task.query_id}#{sample}", expert, (Message("user", task.query),), how, batch=True))
        done += 1
        tick(stage, done, len(tasks) * samples)
        return answer

    tick(stage, 0, len(tasks) * samples)
    drawn = await asyncio.gather(*(asyncio.gather(*(one(task, s) for s in range(samples))) for task in tasks))
    right, tokens = [], []
    for task, answers in zip(tasks, drawn, strict=True):
        final = await vote.aggregate(requests_of([task])[0], answers, Route((expert,), (1.0,), expert, {expert: 1.0}), Nobody("vote"))
        right.append(grade(task.grader, final.text, task.answer))
        tokens.append(sum(answer.usage.prompt_tokens + answer.usage.completion_tokens for answer in answers))
    return System("best-single-k", np.array(right, dtype=float), np.full(len(tasks), float(samples)), np.array(tokens, dtype=float))


async def _arrival(config: MixtureConfig, tasks: Sequence[Task], routes: dict[str, Route], tick: Tick) -> dict[str, Any]:
    """Run some of the questions in order of arrival, and the same ones grouped, on slots that start empty."""
    loads, seconds = await _loads(config, tasks, routes, "fifo", lambda done: tick("in order of arrival", done, len(tasks)))
    again, grouped_s = await _loads(config, tasks, routes, "counterpoint", lambda done: tick("the same, grouped", done, len(tasks)))
    return {"arrival": loads, "arrival_s": seconds, "arrival_n": len(tasks), "grouped_subset": again, "grouped_subset_s": grouped_s}


async def _loads(
    config: MixtureConfig, tasks: Sequence[Task], routes: dict[str, Route], rule: str, on_done: Callable[[int], None]
) -> tuple[int, float]:
    """Count the model loads and the seconds of some questions under a rule of the scheduler."""
    async with ExpertPool(expert_specs(config), replace(config.pool.build(), rule=rule)) as pool:
        pipeline = Pipeline(pool, None, FixedK(), config.aggregator.build())
        start = time.monotonic()
        running = [asyncio.create_task(pipeline.answer(request, routes[request.id])) for request in requests_of(tasks)]
        for done, answer in enumerate(asyncio.as_completed(running), start=1):
            await answer
            on_done(done)
        return pool.stats.loads, round(time.monotonic() - start, 1)
