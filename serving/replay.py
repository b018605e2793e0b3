"""The whole mixture over recorded answers: routes and aggregates for real, without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from aggregator import make_aggregator
from aggregator.base import Nobody
from data.recorded import Recorded
from data.records import Answer, CounterpointError, Message, Request, Route
from data.scores import experts_of, pivot
from router import FixedK, Router
from serving.evaluation.systems import System

Tick = Callable[[int, int], None]
"""Told of questions done and their total."""


async def aggregate_first(
    name: str,
    rows: Sequence[tuple[Request, Route, Sequence[Answer]]],
    k: int,
    aggregator: str,
    score: Callable[[Request, Answer], float],
) -> System:
    """Aggregate the first k answers of every route, without asking anyone again.

    Args:
        name: What to call the system.
        rows: Each request, its route with the best expert first, and the answers in the route's order.
        k: How many experts count.
        aggregator: Kind of the aggregator; one that chooses among the answers.
        score: Scores a final answer, 0 to 1.

    Raises:
        CounterpointError: The aggregator needs an LLM.
    """
    combine = make_aggregator(aggregator)

    ask = Nobody(aggregator)
    right, calls, tokens, costs = [], [], [], []
    for request, route, answers in rows:
        cut = Route(route.experts[:k], route.weights[:k], route.primary, route.scores)
        parts = answers[:k]
        final = await combine.aggregate(request, parts, cut, ask)
        right.append(score(request, final) if final.text and final.error is None else 0.0)
        calls.append(len(parts))
        tokens.append(sum(part.usage.prompt_tokens + part.usage.completion_tokens for part in parts))
        costs.append(sum(part.usage.cost_usd for part in parts))
    known = np.array(costs, dtype=float) if any(costs) else None
    return System(name, np.array(right, dtype=float), np.array(calls, dtype=float), np.array(tokens, dtype=float), known)


async def aggregate_recorded(
    name: str, queries: pd.DataFrame, routes: Sequence[Route], recorded: Recorded, k: int, aggregator: str
) -> System:
    """Aggregate the first k recorded answers of every route; the score is that of the expert whose answer is chosen.

    Args:
        name: What to call the system.
        queries: The questions (`query_id`, `query`).
        routes: The route of each, best expert first.
        recorded: The answers.
        k: How many experts are asked.
        aggregator: Kind of the aggregator; one that chooses among the answers.

    Raises:
        CounterpointError: The aggregator needs an LLM.
    """
    rows = [
        (Request(query_id, (Message("user", query),)), route, [recorded.answer(query_id, expert) for expert in route.experts])
        for query_id, query, route in zip(queries["query_id"], queries["query"], routes, strict=True)
    ]
    return await aggregate_first(name, rows, k, aggregator, lambda request, final: recorded.score(request.id, final.expert))


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
    table: pd.DataFrame, router: Router, k: int, aggregator: str, tick: Tick = lambda done, total: None
) -> tuple[System, System]:
    """Run router and aggregator over recorded answers: the router's first choice alone, and the mixture of k.

    Raises:
        CounterpointError: The router knows none of the table's experts, or the table holds no answers.
    """
    experts = [name for name in experts_of(table) if name in router.experts_]
    if not experts:
        raise CounterpointError(
            f"the router knows {', '.join(router.experts_)}, the score table {', '.join(experts_of(table))}: none in common"
        )
    queries, _ = pivot(table, experts)
    recorded, routes = Recorded(table), routes_of(router, queries, experts, k, tick)
    top = await aggregate_recorded("router-top-1", queries, routes, recorded, 1, "vote")
    return top, await aggregate_recorded(f"mixture-k{k}", queries, routes, recorded, k, aggregator)
