"""A mixture played again on what its experts answered alone: by a plain majority, and without one expert or another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aggregator import KINDS, Aggregator, make_aggregator, settings_of
from data.records import CounterpointError, Route
from router.policy import Policy, route_of
from serving.config import AggregatorConfig, PolicyConfig
from serving.evaluation.report.board import Board, Mixture
from serving.replay import aggregate_first

LEAST = 0.95
"""Share of questions on which the replay must score as the run did; below it, it would say little of the run."""


class NoReplayError(CounterpointError):
    """A mixture that cannot be played again; the text says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """A mixture played again without one expert or another.

    Attributes:
        whole: Scores with all experts, shape (n,), NaN on questions that it was not asked.
        without: Scores without each expert.
        same: Share of questions on which `whole` is the run's own score.
        by_policy: Whether the mixture's own policy chose anew; else who was asked stays, and the next best takes the place.
    """

    whole: np.ndarray
    without: dict[str, np.ndarray]
    same: float
    by_policy: bool


def majority(board: Board, mixture: Mixture) -> np.ndarray:
    """Scores of a plain majority over the answers of those whom a mixture asked, shape (n,), NaN where one was not recorded.

    Raises:
        NoReplayError: No answers were recorded.
    """
    known = [at for at in _asked(mixture) if all(name in board.experts for name in mixture.asked[at])]
    known = [at for at in known if not np.isnan([board.column(name)[at] for name in mixture.asked[at]]).any()]
    routes = {at: _route(mixture, at, mixture.asked[at]) for at in known}
    return _played(board, routes, make_aggregator("vote"))


def replayed(board: Board, mixture: Mixture) -> Replayed:
    """Play a mixture again, with all experts and without each.

    Raises:
        NoReplayError: It cannot be: its aggregator asks an LLM, or is not known, or answers are missing, or it comes out otherwise.
    """
    if len(board.data.experts) < 2:
        raise NoReplayError("without its only expert nobody is left")
    aggregator = _aggregator(board, mixture)
    if aggregator is None or not aggregator.replays:
        raise NoReplayError(
            f"the aggregator {mixture.rows['aggregator'].dropna().iloc[0]} asks an LLM, so recorded answers cannot replay it"
        )
    asked = _asked(mixture)
    if bare := [board.ids[at] for at in asked if set(mixture.asked[at]) - set(mixture.predicted[at])]:
        raise NoReplayError(f"the run holds no predicted probability of whom it asked on {len(bare)} questions, first {bare[0]}")
    routes = {at: _route(mixture, at, mixture.asked[at]) for at in asked}
    whole = _played(board, routes, aggregator)
    same = float(np.mean([abs(whole[at] - mixture.system.right[at]) < 1e-9 for at in asked]))
    if same < LEAST:
        raise NoReplayError(f"played again on recorded answers it scores as in the run on {100 * same:.0f}% of the questions only")
    policy = _policy(board, mixture, asked)
    without = {}
    for expert in board.data.experts:
        others = {at: _without(board, mixture, at, expert, policy) for at in asked}
        changed = {at: route for at, route in others.items() if route.experts != mixture.asked[at]}
        scores = whole.copy()
        scores[list(changed)] = _played(board, changed, aggregator)[list(changed)]
        without[expert] = scores
    return Replayed(whole, without, same, policy is not None)


def _asked(mixture: Mixture) -> list[int]:
    return [at for at in np.flatnonzero(~np.isnan(mixture.system.right)).tolist() if mixture.asked[at]]


def _route(mixture: Mixture, at: int, experts: Sequence[str]) -> Route:
    scores = {**dict.fromkeys(experts, 0.0), **mixture.predicted[at]}
    return route_of(experts, scores)


def _without(board: Board, mixture: Mixture, at: int, expert: str, policy: Policy | None) -> Route:
    """Whom it would ask if it did not have an expert."""
    scores = {name: score for name, score in mixture.predicted[at].items() if name != expert}
    if policy is not None:
        return policy.choose(board.requests[at], scores)
    kept = [name for name in mixture.asked[at] if name != expert]
    rest = sorted((name for name in scores if name not in kept), key=lambda name: -scores[name])
    return route_of([*kept, *rest[: len(mixture.asked[at]) - len(kept)]], scores)


def _policy(board: Board, mixture: Mixture, asked: Sequence[int]) -> Policy | None:
    """The mixture's policy, where the predicted probabilities are all that it needs to choose as it did in the run."""
    section = (board.data.about.get("config") or {}).get("router")
    try:
        policy = PolicyConfig.model_validate((section or {}).get("policy", {})).build()
        chosen = [policy.choose(board.requests[at], mixture.predicted[at]).experts == mixture.asked[at] for at in asked]
    except (CounterpointError, ValueError):
        return None
    return policy if section and all(chosen) else None


def _aggregator(board: Board, mixture: Mixture) -> Aggregator | None:
    """A system's aggregator, made anew; None where it is not one that chooses among answers.

    Raises:
        NoReplayError: It cannot be made.
    """
    about = board.data.about
    section: Any = (about.get("systems") or {}).get(mixture.name)
    if section is None and mixture.name == "mixture":
        section = (about.get("config") or {}).get("aggregator")
    if section is None:
        kind = str(mixture.rows["aggregator"].dropna().iloc[0]) if mixture.rows["aggregator"].notna().any() else ""
        if kind not in KINDS:
            raise NoReplayError(f"the run does not tell the settings of the aggregator {kind or 'of this system'}")
        if any(entry.default is entry.empty for entry in settings_of(kind).values()):
            return None
        section = {"kind": kind}
    try:
        return AggregatorConfig.model_validate(section).build()
    except (CounterpointError, ValueError, OSError) as error:
        raise NoReplayError(f"its aggregator cannot be made anew: {str(error).partition(chr(10))[0]}") from error


def _played(board: Board, routes: dict[int, Route], aggregator: Aggregator) -> np.ndarray:
    """Scores of some questions by their routes, shape (n,), NaN on the others."""
    right = np.full(len(board.ids), np.nan)
    if not routes:
        return right
    try:
        recorded = board.recorded
        rows = [
            (board.requests[at], route, [recorded.answer(board.ids[at], name) for name in route.experts]) for at, route in routes.items()
        ]
        most = max(len(route.experts) for route in routes.values())
        work = aggregate_first("replayed", rows, most, aggregator, lambda request, final: recorded.score(request.id, final.expert))
        right[list(routes)] = asyncio.run(work).right
    except CounterpointError as error:
        raise NoReplayError(str(error)) from error
    return right
