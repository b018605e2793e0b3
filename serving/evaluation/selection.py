"""The best pool of m experts, by what a mixture of them would reach: good ones that differ, no lucky guessers, no duplicates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from data.records import CounterpointError
from data.scores import experts_of, normalised, rows_of
from data.statistics import Interval, bootstrap, paired
from serving.evaluation.reach import Part, Reach
from serving.evaluation.screening import Rejected, screened

Tick = Callable[[str, int, int], None]
"""Told of a stage, what is done and its total."""
LEAST = 20
"""Fewest questions on either side of the division."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The best pool of one size.

    Attributes:
        experts: Its members, in the order of the table.
        value: What the search saw on the validation questions, which is too good.
        reached: On held-out questions: `category` (the member that was best on each question's category in validation), `majority`
            (of its members, where the table has answers) and `oracle` (a right member wherever there is one).
        gain: The best of the first two, as validation tells, less the best single expert, paired, on held-out questions.
    """

    experts: tuple[str, ...]
    value: float
    reached: dict[str, Interval]
    gain: Interval

    def json(self) -> dict[str, Any]:
        """The pool as JSON."""
        reached = {name: _rounded(one) for name, one in self.reached.items()}
        gain = _rounded(self.gain) | {"tie": self.gain.tie}
        return {"size": len(self.experts), "experts": [*self.experts], "value": round(self.value, 4), "reached": reached, "gain": gain}


@dataclass(frozen=True, slots=True)
class Selection:
    """What was selected, and from what.

    Attributes:
        pools: The best pool of each size, from one on.
        chosen: The one that was asked for, or the smallest that is as good in validation as any, within half a point.
        rejected: Experts that were not considered, each with the reason.
        best_single: The best single expert in validation, among those considered.
        objective: What the search looked at, in words.
        validation: Questions that it searched on.
        held_out: Questions that results are of.
        dropped: Questions that lack the score of an expert.
        seed: Seed of the division and of resampling.
    """

    pools: tuple[Pool, ...]
    chosen: Pool
    rejected: tuple[Rejected, ...]
    best_single: str
    objective: str
    validation: int
    held_out: int
    dropped: int
    seed: int

    def json(self) -> dict[str, Any]:
        """The selection as JSON."""
        rejected = [{"expert": one.expert, "reason": one.reason, "why": one.why} for one in self.rejected]
        told = {name: getattr(self, name) for name in ("best_single", "objective", "validation", "held_out", "dropped", "seed")}
        return {"chosen": self.chosen.json(), "rejected": rejected, "pools": [pool.json() for pool in self.pools], **told}


def select_pool(table: pd.DataFrame, size: int | None = None, *, seed: int = 0, tick: Tick = lambda stage, done, total: None) -> Selection:
    """Select the best pool of m experts: greedily, then by swaps until none helps.

    Half of the questions, by the seed, are for validation: whom to reject, whom to take, who is best in which category. All that is told
    of pools is measured on the others. Where the table has a split `test` beside others, that is what is held out.

    Args:
        table: A score table; with the columns `category`, and `prediction` or `response`, more can be seen.
        size: How many experts; None is as few as are as good as any number.
        seed: Seed of the division and of resampling.
        tick: Told of progress.

    Raises:
        CounterpointError: There are too few questions, or fewer experts are left than are wanted.
    """
    table, dropped = _whole(table)
    names = experts_of(table)
    validation, held_out = (Part.of(part, names) for part in _divided(table, seed))
    if min(len(validation), len(held_out)) < LEAST:
        raise CounterpointError(
            f"a pool needs {LEAST} questions to be selected by and {LEAST} to be measured on, not {len(validation)} and {len(held_out)}"
        )
    rejected = screened(validation, seed)
    gone = {one.expert for one in rejected}
    left = [at for at, name in enumerate(names) if name not in gone]
    if not left or (size is not None and not 1 <= size <= len(left)):
        told = "; ".join(f"{one.expert}: {one.why}" for one in rejected)
        raise CounterpointError(f"wanted a pool of {size or 'any number'} of {len(left)} experts{f'; rejected: {told}' if told else ''}")
    reach = Reach.fit(validation)
    found = _searched(reach, left, tick)
    best = int(validation.scores[:, left].mean(axis=0).argmax())
    single = held_out.scores[:, left[best]]
    pools = tuple(_measured(reach, validation, held_out, members, single, seed) for members in found)
    enough = max(pool.value for pool in pools) - 0.005
    chosen = pools[size - 1] if size is not None else next(pool for pool in pools if pool.value >= enough)
    counts = len(validation), len(held_out), dropped
    return Selection(pools, chosen, tuple(rejected), names[left[best]], reach.objective, *counts, seed)


def _searched(reach: Reach, left: Sequence[int], tick: Tick) -> list[tuple[int, ...]]:
    """The best members found for each size; equals keep the table's order."""
    found: list[tuple[int, ...]] = []
    members: list[int] = []
    for size in range(1, len(left) + 1):
        tick("pools", size, len(left))
        members = max(([*members, one] for one in left if one not in members), key=reach.value)
        members = _swapped(reach, members, left)
        found.append(tuple(sorted(members)))
    return found


def _swapped(reach: Reach, members: list[int], left: Sequence[int]) -> list[int]:
    """Change one member for one that is not, the best such change first, until none helps."""
    value = reach.value(members)
    while True:
        outside = [one for one in left if one not in members]
        tried = [[*(each for each in members if each != out), new] for out, new in product(members, outside)]
        best = max(tried, key=reach.value, default=members)
        if not reach.value(best) > value:
            return members
        members, value = best, reach.value(best)


def _measured(reach: Reach, validation: Part, held_out: Part, members: Sequence[int], single: np.ndarray, seed: int) -> Pool:
    right = reach.on(held_out, members)
    seen = {name: float(scores.mean()) for name, scores in reach.on(validation, members).items() if name != "oracle"}
    best = max(seen, key=lambda name: seen[name])
    reached = {name: bootstrap(scores, seed=seed) for name, scores in right.items()}
    return Pool(tuple(held_out.experts[at] for at in members), reach.value(members)[0], reached, paired(right[best], single, seed=seed))


def _whole(table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The questions on which every expert has a score, and how many others there are.

    Raises:
        CounterpointError: Too few are left, although the table has enough.
    """
    counts = table.groupby("query_id")["expert"].transform("nunique")
    kept = table[counts == table["expert"].nunique()]
    if (common := kept["query_id"].nunique()) < 2 * LEAST <= table["query_id"].nunique():
        answered = table.groupby("expert", sort=False)["query_id"].nunique()
        raise CounterpointError(
            f"every expert has a score on {common} questions only; who has fewest, {answered.idxmin()}, has {answered.min()}: leave it out"
        )
    return kept.reset_index(drop=True), int(table["query_id"].nunique() - kept["query_id"].nunique())


def _divided(table: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows for validation and held-out rows; questions of the same text stay together."""
    splits = set(table["split"].dropna()) if "split" in table.columns else set()
    if "test" in splits and len(splits) > 1:
        return rows_of(table, sorted(splits - {"test"})), rows_of(table, ["test"])
    texts = normalised(table["query"])
    order = np.random.default_rng(seed).permutation(texts.nunique())
    held = texts.map(dict(zip(texts.unique(), order >= len(order) // 2, strict=True))).to_numpy(dtype=bool)
    return table[~held].reset_index(drop=True), table[held].reset_index(drop=True)


def _rounded(interval: Interval) -> dict[str, float]:
    return {"mean": round(interval.mean, 4), "low": round(interval.low, 4), "high": round(interval.high, 4)}
