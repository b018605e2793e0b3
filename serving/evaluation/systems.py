"""The systems that a mixture is compared with, question by question, and their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from data.scores import pivot
from data.statistics import Interval, bootstrap, paired


@dataclass(frozen=True, slots=True)
class System:
    """How one system did on n questions.

    Attributes:
        name: Its name in tables.
        right: Score of each question, shape (n,).
        calls: Calls of experts for each question, shape (n,).
        tokens: Tokens read and written for each question, shape (n,).
        costs: What its calls cost on each question, in the table's unit, shape (n,); None where that is not known.
    """

    name: str
    right: np.ndarray
    calls: np.ndarray
    tokens: np.ndarray
    costs: np.ndarray | None = None

    def interval(self, seed: int = 0) -> Interval:
        """Accuracy with its 95% interval."""
        return bootstrap(self.right, seed=seed)

    def row(self, seed: int = 0) -> dict[str, object]:
        """The system as JSON."""
        accuracy = self.interval(seed)
        return {
            "name": self.name,
            "accuracy": round(accuracy.mean, 4),
            "low": round(accuracy.low, 4),
            "high": round(accuracy.high, 4),
            "mean_calls": round(float(self.calls.mean()), 3),
            "tokens": round(float(self.tokens.mean()), 1),
        }


def _tokens(table: pd.DataFrame, queries: Sequence[str], experts: Sequence[str]) -> np.ndarray:
    """Tokens of each query and expert, shape (n, n_experts); 0 where the table does not tell."""
    if "prompt_tokens" not in table.columns or "completion_tokens" not in table.columns:
        return np.zeros((len(queries), len(experts)))
    total = table["prompt_tokens"].fillna(0) + table["completion_tokens"].fillna(0)
    wide = table.assign(total=total).pivot(index="query_id", columns="expert", values="total")
    return np.asarray(wide.reindex(index=list(queries), columns=list(experts)).fillna(0).to_numpy(dtype=float))


def _costs(table: pd.DataFrame, queries: Sequence[str], experts: Sequence[str]) -> np.ndarray | None:
    """What each expert took for each query, shape (n, n_experts); None where nothing has a price."""
    if "cost" not in table.columns or not (table["cost"].fillna(0) > 0).any():
        return None
    wide = table.pivot(index="query_id", columns="expert", values="cost")
    return np.asarray(wide.reindex(index=list(queries), columns=list(experts)).fillna(0).to_numpy(dtype=float))


def baselines(test: pd.DataFrame, train: pd.DataFrame | None, experts: Sequence[str]) -> list[System]:
    """The baselines that need no model: every expert alone, random, best single, category oracle, oracle.

    The best single expert is the one that is best on these very questions, which is the hardest form of that baseline. The
    category oracle knows each question's true family and takes the expert that was best on it in train; without a train
    table that has all experts, the best on these questions.

    Args:
        test: Score table of the questions.
        train: Score table by which the category oracle chooses, or None.
        experts: The mixture's experts.
    """
    queries, scores = pivot(test, experts)
    scores = np.nan_to_num(scores)
    tokens, costs = _tokens(test, list(queries["query_id"]), experts), _costs(test, list(queries["query_id"]), experts)
    n, one = len(queries), np.ones(len(queries))
    best = int(scores.mean(axis=0).argmax())
    every = np.arange(n)

    def picking(name: str, picks: np.ndarray) -> System:
        return System(name, scores[every, picks], one, tokens[every, picks], None if costs is None else costs[every, picks])

    systems = [
        System("random", scores.mean(axis=1), one, tokens.mean(axis=1), None if costs is None else costs.mean(axis=1)),
        picking("best-single", np.full(n, best)),
    ]
    if "category" in queries.columns:
        source, quality = pivot(train if train is not None and set(experts) <= set(train["expert"]) else test, experts)
        known = {name: _best_column(quality[(source["category"] == name).to_numpy()]) for name in source["category"].dropna().unique()}
        picks = np.array([known.get(category, best) for category in queries["category"]])
        systems.append(picking("category-oracle", picks))
    systems.append(picking("oracle", scores.argmax(axis=1)))
    return systems + [picking(f"expert:{name}", np.full(n, at)) for at, name in enumerate(experts)]


def _best_column(scores: np.ndarray) -> int:
    """The column of the highest mean; one without any score is never it."""
    count = (~np.isnan(scores)).sum(axis=0)
    return int(np.where(count > 0, np.nansum(scores, axis=0) / np.maximum(count, 1), -1).argmax())


def best_single(test: pd.DataFrame, experts: Sequence[str]) -> str:
    """Name the expert that is best on these questions; equals keep the mixture's order."""
    _, scores = pivot(test, experts)
    return experts[int(np.nan_to_num(scores).mean(axis=0).argmax())]


def versus(a: System, b: System, seed: int = 0) -> str:
    """Say in words how one system compares with another on the same questions.

    Example:
        >>> ones, half = np.ones(40), np.tile([0.0, 1.0], 20)
        >>> versus(System("a", ones, ones, ones), System("b", half, ones, ones))[:24]
        'a - b: +50.0 points [+35'
    """
    gap = paired(a.right, b.right, seed=seed)
    verdict = ", a tie" if gap.tie else ""
    return f"{a.name} - {b.name}: {100 * gap.mean:+.1f} points [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]{verdict}"
