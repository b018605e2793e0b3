"""A run as its report needs it: all scores in the order of its questions, beside who was asked and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from data.recorded import Recorded
from data.records import CounterpointError, Message, Request
from data.scores import pivot
from serving.evaluation.rundata import RunData
from serving.evaluation.systems import System, baselines

SAMPLED = "best-single sampled"


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """What one system of the mixture made of the run's n questions.

    Attributes:
        system: Its scores, NaN on questions that it was not asked, with calls, tokens and dollars.
        rows: Its outcomes, a row a question.
        asked: Whom it asked on each question, best first.
        weights: How much each of these counted.
        predicted: Each expert's predicted probability of being right, by question.
    """

    system: System
    rows: pd.DataFrame
    asked: tuple[tuple[str, ...], ...]
    weights: tuple[tuple[float, ...], ...]
    predicted: tuple[dict[str, float], ...]

    @property
    def name(self) -> str:
        """The system's name."""
        return self.system.name

    def text(self, at: int) -> str:
        """Its answer to a question."""
        found = self.rows["text"].iloc[at]
        return found if isinstance(found, str) else ""


@dataclass(frozen=True, eq=False)
class Board:
    """All scores of a run of n questions.

    Attributes:
        data: The run.
        seed: Seed of all resampling.
        ids: The questions, in the run's order.
        experts: Those of the mixture's experts who were asked alone.
        truth: Their scores, shape (n, n_experts), NaN where a cell is missing.
        baselines: Random, best single, category oracle, oracle, each expert; none where nobody was asked alone.
        sampled: The best single expert sampled as often as the mixture calls, or None.
        mixtures: The systems of the mixture.
    """

    data: RunData
    seed: int
    ids: tuple[str, ...]
    experts: tuple[str, ...]
    truth: np.ndarray
    baselines: tuple[System, ...]
    sampled: System | None
    mixtures: tuple[Mixture, ...]

    @classmethod
    def of(cls, data: RunData) -> Board:
        """Lay a run out.

        Raises:
            CounterpointError: It has no questions, or outcomes that cannot be read.
        """
        if data.questions.empty:
            raise CounterpointError(f"the run {data.name} has no questions")
        ids = tuple(map(str, data.questions["question_id"]))
        cells = data.cells[data.cells["query_id"].isin(ids)] if len(data.cells) else data.cells
        there = set(cells["expert"]) if len(cells) else set()
        experts = tuple(name for name in data.experts if name in there)
        truth, systems = np.full((len(ids), len(experts)), np.nan), []
        if experts:
            order = pd.Categorical(cells["query_id"], categories=list(ids))
            cells = cells.assign(_at=order.codes).sort_values("_at", kind="stable").drop(columns="_at")
            cells = cells[cells["expert"].isin(experts)]
            queries, scores = pivot(cells, experts)
            at = pd.Index(ids).get_indexer(pd.Index(queries["query_id"].astype(str)))
            truth[at] = scores
            systems = [_spread(system, at, len(ids)) for system in baselines(cells, data.train, experts)]
        made = [_mixture(str(name), rows, ids) for name, rows in data.outcomes.groupby("system", sort=False)]
        sampled = next((one.system for one in made if one.name == SAMPLED), None)
        mixtures = tuple(one for one in made if one.name != SAMPLED)
        return cls(data, int(data.about.get("seed") or 0), ids, experts, truth, tuple(systems), sampled, mixtures)

    @cached_property
    def requests(self) -> list[Request]:
        """Each question as it was asked."""
        queries = self.data.questions["query"].astype(str)
        return [Request(id, (Message("user", query),)) for id, query in zip(self.ids, queries, strict=True)]

    @cached_property
    def recorded(self) -> Recorded:
        """What the experts answered alone.

        Raises:
            CounterpointError: Their answers were not recorded.
        """
        return Recorded(self.data.cells)

    @property
    def systems(self) -> list[System]:
        """All systems: chance and the best single expert first, then what knows the truth, the experts, the mixture's."""
        head = [*self.baselines[:2], *([self.sampled] if self.sampled is not None else [])]
        return [*head, *self.baselines[2:], *(one.system for one in self.mixtures)]

    def baseline(self, name: str) -> System | None:
        """A baseline by its name."""
        return next((one for one in self.baselines if one.name == name), None)

    @property
    def best(self) -> str | None:
        """The best single expert."""
        return self.experts[int(np.nan_to_num(self.truth).mean(axis=0).argmax())] if self.experts else None

    @property
    def categories(self) -> np.ndarray:
        """The category of each question, shape (n,), empty where it has none."""
        return np.array(self.data.questions["category"].fillna("").astype(str), dtype=object)

    @property
    def benchmarks(self) -> np.ndarray:
        """The benchmark of each question, shape (n,)."""
        return np.array(self.data.questions["benchmark"].astype(str), dtype=object)

    def column(self, expert: str) -> np.ndarray:
        """The scores of one expert, shape (n,), NaN where it was not asked alone."""
        return self.truth[:, self.experts.index(expert)] if expert in self.experts else np.full(len(self.ids), np.nan)

    def responses(self, expert: str) -> list[str | None]:
        """What one expert answered alone, None where that was not recorded."""
        column = next((name for name in ("response", "prediction") if name in self.data.cells.columns), None)
        if column is None:
            return [None] * len(self.ids)
        rows = self.data.cells[self.data.cells["expert"] == expert]
        found = dict(zip(rows["query_id"].astype(str), rows[column], strict=True))
        return [text if isinstance(text := found.get(id), str) else None for id in self.ids]


def _spread(system: System, at: np.ndarray, n: int) -> System:
    """A system on all n questions, NaN where it was not measured."""

    def whole(values: np.ndarray) -> np.ndarray:
        made = np.full(n, np.nan)
        made[at] = values
        return made

    costs = None if system.costs is None else whole(system.costs)
    return System(system.name, whole(system.right), whole(system.calls), whole(system.tokens), costs)


def _mixture(name: str, rows: pd.DataFrame, ids: tuple[str, ...]) -> Mixture:
    rows = rows.assign(question_id=rows["question_id"].astype(str))
    if rows["question_id"].duplicated().any():
        raise CounterpointError(f"the outcomes of {name} name a question twice")
    rows = rows.set_index("question_id").reindex(list(ids))

    def numbers(column: str) -> np.ndarray:
        return rows[column].to_numpy(dtype=float, na_value=np.nan)

    costs = numbers("cost")
    tokens = numbers("prompt_tokens") + numbers("completion_tokens")
    system = System(name, numbers("score"), numbers("calls"), tokens, costs if np.nansum(costs) > 0 else None)
    asked, weights, predicted = (
        _read(name, rows[column], kind) for column, kind in (("experts", list), ("weights", list), ("predicted", dict))
    )
    return Mixture(system, rows, tuple(map(tuple, asked)), tuple(map(tuple, weights)), tuple(predicted))


def _read(name: str, cells: pd.Series[Any], kind: Callable[[], Any]) -> list[Any]:
    """JSON of each question; empty where there is none."""
    made = []
    for id, text in cells.items():
        try:
            value = json.loads(text) if isinstance(text, str) else kind()
        except ValueError:
            value = None
        if type(value) is not type(kind()):
            raise CounterpointError(
                f"outcomes of {name}, question {id}, column {cells.name}: no JSON {type(kind()).__name__}: {str(text)[:40]!r}"
            )
        made.append(value)
    return made
