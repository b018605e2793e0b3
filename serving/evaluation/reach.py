"""What a mixture of some experts would reach without a router of its own: bounds from below and from above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from aggregator.forms import choices_of, shape
from data.recorded import Recorded
from data.scores import pivot

FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some questions of a score table, n of them.

    Attributes:
        experts: All experts of the table.
        scores: Shape (n, n_experts).
        categories: The number of each question's category, shape (n,); all are 0 where the table has none.
        names: The categories.
        forms: The number of each answer's form on its question, shape (n, n_experts), -1 for no answer; None without answers.
        chance: The share of right answers that guessing gets, shape (n,): one by the number of lettered options, else 0.
    """

    experts: tuple[str, ...]
    scores: np.ndarray
    categories: np.ndarray
    names: tuple[str, ...]
    forms: np.ndarray | None
    chance: np.ndarray

    @classmethod
    def of(cls, table: pd.DataFrame, experts: Sequence[str]) -> Part:
        """Read it from a score table in which every question has every expert."""
        queries, scores = pivot(table, experts)
        labels = queries["category"].fillna("") if "category" in queries.columns else pd.Series([""] * len(queries))
        names = tuple(sorted(set(map(str, labels))))
        forms = None
        if {"prediction", "response"} & set(table.columns):
            recorded = Recorded(table)
            forms = np.array(
                [_forms(recorded, id, query, experts) for id, query in zip(queries["query_id"], queries["query"], strict=True)]
            )
        options = np.array([choices_of(query) for query in queries["query"]], dtype=float)
        chance = np.divide(1.0, options, out=np.zeros(len(options)), where=options > 1)
        return cls(tuple(experts), scores, np.array([names.index(str(one)) for one in labels]), names, forms, chance)

    def __len__(self) -> int:
        return len(self.scores)


def _forms(recorded: Recorded, id: str, query: str, experts: Sequence[str]) -> list[int]:
    numbers: dict[str, int] = {}
    made = []
    for name in experts:
        answer = recorded.answer(id, name)
        form = shape(query, answer) if answer.text.strip() and answer.parsed != "" else None
        made.append(-1 if form is None else numbers.setdefault(form, len(numbers)))
    return made


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """What pools of experts reach on the questions that they are selected by, and on others.

    Attributes:
        part: The questions that they are selected by.
        means: Mean score of each expert by category outside each fold, shape (folds, categories, n_experts).
        sums: Sum of its scores by category within each fold, same shape.
        best: Mean score of each expert by category over all, shape (categories, n_experts).
    """

    part: Part
    means: np.ndarray
    sums: np.ndarray
    best: np.ndarray

    @classmethod
    def fit(cls, part: Part) -> Reach:
        """Learn who is good at what; a category outside a fold without questions counts as all of them together."""
        folds = _folds(part.categories)
        sums = np.zeros((FOLDS, len(part.names), len(part.experts)))
        counts = np.zeros((FOLDS, len(part.names), 1))
        np.add.at(sums, (folds, part.categories), part.scores)
        np.add.at(counts, (folds, part.categories), 1.0)
        outside, known = sums.sum(axis=0) - sums, counts.sum(axis=0) - counts
        overall = part.scores.mean(axis=0)
        means = np.where(known > 0, outside / np.maximum(known, 1), overall)
        total = counts.sum(axis=0)
        return cls(part, means, sums, np.where(total > 0, sums.sum(axis=0) / np.maximum(total, 1), overall))

    @property
    def objective(self) -> str:
        """What pools are compared by, in words."""
        picks = "the best member of each category, cross-fitted" if len(self.part.names) > 1 else "the best member, cross-fitted"
        if self.part.forms is not None:
            return f"mean of two simple mixtures: {picks}, and the majority; of equals, the higher oracle"
        return f"{picks}; of equals, the higher oracle"

    def value(self, members: Sequence[int]) -> tuple[float, float]:
        """What a pool reaches in validation: what it is compared by, then what decides between equals."""
        picked = np.argmax(self.means[:, :, list(members)], axis=2)
        chosen = np.take_along_axis(self.sums[:, :, list(members)], picked[:, :, None], axis=2)
        reached = [float(chosen.sum()) / len(self.part)]
        if self.part.forms is not None:
            reached.append(float(self._majority(self.part, members).mean()))
        return round(float(np.mean(reached)), 9), round(float(self.part.scores[:, list(members)].max(axis=1).mean()), 9)

    def on(self, part: Part, members: Sequence[int]) -> dict[str, np.ndarray]:
        """What a pool reaches on each question of a part, shape (n,) each, with what was learned in validation."""
        chosen = list(members)
        row = {name: at for at, name in enumerate(self.part.names)}
        overall = self.part.scores.mean(axis=0)
        best = np.array([self.best[row[name]] if name in row else overall for name in part.names])[:, chosen].argmax(axis=1)
        picks = np.array(chosen)[best[part.categories]]
        made = {"category": part.scores[np.arange(len(part)), picks]}
        if part.forms is not None and self.part.forms is not None:
            made["majority"] = self._majority(part, members)
        return made | {"oracle": part.scores[:, chosen].max(axis=1)}

    def _majority(self, part: Part, members: Sequence[int]) -> np.ndarray:
        """Scores of the answer that most members give; of equals, that of the members with more right answers in validation."""
        assert part.forms is not None
        forms, scores = part.forms[:, list(members)], part.scores[:, list(members)]
        weights = 1 + self.part.scores[:, list(members)].mean(axis=0) / (2 * len(members))  # all together less than one vote
        said = forms >= 0
        same = (forms[:, :, None] == forms[:, None, :]) & said[:, :, None] & said[:, None, :]
        support = (same * weights).sum(axis=2)
        winner = support.argmax(axis=1)
        return np.where(said.any(axis=1), scores[np.arange(len(part)), winner], 0.0)


def _folds(categories: np.ndarray) -> np.ndarray:
    """A fold for each question, in turn within its category."""
    folds = np.zeros(len(categories), dtype=int)
    for name in np.unique(categories):
        at = np.flatnonzero(categories == name)
        folds[at] = (np.arange(len(at)) + name) % FOLDS
    return folds
