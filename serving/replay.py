"""The whole mixture over recorded answers: routes and aggregates for real, without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from aggregator import Aggregator, AggregatorError, make_aggregator
from aggregator.base import Nobody, with_reserve
from data.recorded import Recorded
from data.records import Answer, CounterpointError, Message, Request, Route
from data.scores import experts_of, pivot
from router import FixedK, Router
from router.policy import route_of
from serving.evaluation.systems import System

Tick = Callable[[int, int], None]
"""Told of questions done and their total."""


async def aggregate_first(
    name: str,
    rows: Sequence[tuple[Request, Route, Sequence[Answer]]],
    k: int,
    aggregator: Aggregator,
    score: Callable[[Request, Answer], float],
    most: int | None = None,
) -> System:
    """Aggregate the first k answers of every route, and more as long as the aggregator wants them, without asking anyone again.

    Args:
        name: What to call the system.
        rows: Each request, its route with the best expert first, and the answers in the route's order.
        k: How many experts count at first.
        aggregator: One that chooses among the answers.
        score: Scores a final answer, 0 to 1.
        most: Up to how many it may want; None is k.

    Raises:
        CounterpointError: The aggregator needs an LLM.
    """
    ask = Nobody(aggregator.kind)
    if not aggregator.replays:
        raise AggregatorError(f"the aggregator {aggregator.kind!r} asks an LLM, so given answers cannot replay it")
    right, calls, tokens, costs = [], [], [], []
    for request, route, answers in rows:
        reserve = route.experts[k:most] if most is not None else ()
        cut = replace(route_of(route.experts[:k], route.scores), reserve=reserve)
        chosen = aggregator.suited(request, cut)
        final = await chosen.aggregate(request, answers[: len(cut.experts)], cut, ask)
        while cut.reserve and (wanted := chosen.more(request, answers[: len(cut.experts)], cut, final)) > 0:
            cut = with_reserve(cut, wanted)
            final = await chosen.aggregate(request, answers[: len(cut.experts)], cut, ask)
        parts = answers[: len(cut.experts)]
        right.append(score(request, final) if final.text and final.error is None else 0.0)
        calls.append(len(parts))
        tokens.append(sum(part.usage.prompt_tokens + part.usage.completion_tokens for part in parts))
        costs.append(sum(part.usage.cost_usd for part in parts))
    known = np.array(costs, dtype=float) if any(costs) else None
    return System(name, np.array(right, dtype=float), np.array(calls, dtype=float), np.array(tokens, dtype=float), known)


async def aggregate_recorded(
    name: str,
    queries: pd.DataFrame,
    routes: Sequence[Route],
    recorded: Recorded,
    k: int,
    aggregator: Aggregator,
    most: int | None = None,
) -> System:
    """Aggregate the first k recorded answers of every route; the score is that of the expert whose answer is chosen.

    Args:
        name: What to call the system.
        queries: The questions (`query_id`, `query`).
        routes: The route of each, best expert first.
        recorded: The answers.
        k: How many experts are asked at first.
        aggregator: One that chooses among the answers.
        most: Up to how many it may want; None is k.

    Raises:
        CounterpointError: The aggregator needs an LLM.
    """
    rows, score = played(queries, routes, recorded)
    return await aggregate_first(name, rows, k, aggregator, score, most)


def played(
    queries: pd.DataFrame, routes: Sequence[Route], recorded: Recorded
) -> tuple[list[tuple[Request, Route, list[Answer]]], Callable[[Request, Answer], float]]:
    """Recorded answers as `aggregate_first` takes them, and what scores a final one by the expert that gave it."""
    rows = [
        (Request(query_id, (Message("user", query),)), route, [recorded.answer(query_id, expert) for expert in route.experts])
        for query_id, query, route in zip(queries["query_id"], queries["query"], routes, strict=True)
    ]
    return rows, lambda request, final: recorded.score(request.id, final.expert)


def routes_of(router: Router, queries: pd.DataFrame, experts: Sequence[str], k: int, tick: Tick = lambda done, total: None) -> list[Route]:
    """Route every question to its k best experts among those of the table."""
    policy = FixedK(k)
    routes: list[Route] = []
    for query_id, query in zip(queries["query_id"], queries["query"], strict=True):
        tick(len(routes) + 1, len(queries))
        scores = dict(zip(router.experts_, router.scores([query])[0].tolist(), strict=True))
        routes.append(policy.choose(Request(query_id, (Message("user", query),)), {name: scores[name] for name in experts}))
    return routes


async def replay(
    table: pd.DataFrame,
    router: Router,
    k: int,
    aggregators: Sequence[Aggregator],
    most: int | None = None,
    tick: Tick = lambda done, total: None,
) -> tuple[System, list[System]]:
    """Run router and aggregators over recorded answers: the router's first choice alone, and the mixture of k by each aggregator.

    Args:
        table: The recorded answers.
        router: Who is asked.
        k: How many experts are asked at first.
        aggregators: Each makes a mixture of its own.
        most: Up to how many an aggregator may want; None is k.
        tick: Told of questions routed and their total.

    Raises:
        CounterpointError: The router knows none of the table's experts, or the table holds no answers.
    """
    experts = [name for name in experts_of(table) if name in router.experts_]
    if not experts:
        raise CounterpointError(
            f"the router knows {', '.join(router.experts_)}, the score table {', '.join(experts_of(table))}: none in common"
        )
    queries, _ = pivot(table, experts)
    recorded, routes = Recorded(table), routes_of(router, queries, experts, max(k, most or k), tick)
    top = await aggregate_recorded("router-top-1", queries, routes, recorded, 1, make_aggregator("best"))
    names = [f"mixture-k{k}" if len(aggregators) == 1 else f"{aggregator.kind}-k{k}" for aggregator in aggregators]
    pairs = zip(names, aggregators, strict=True)
    return top, [await aggregate_recorded(name, queries, routes, recorded, k, aggregator, most) for name, aggregator in pairs]
