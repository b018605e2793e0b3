"""The baselines as routers: chance, the one best expert, and two that know what no router can."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd

from data.artefact import Parts
from data.encoders.features import Tick
from data.scores import check_scores, experts_of, pivot
from router.base import BaseRouter


class RandomRouter(BaseRouter):
    """Score every expert by chance; a text always by the same chance.

    Args:
        seed: Seed of the draw.

    Example:
        >>> row = {"query_id": "1", "query": "two plus two", "expert": "a", "score": 1.0}
        >>> RandomRouter().fit(pd.DataFrame([row])).scores(["three", "three"]).round(3).tolist()
        [[0.584], [0.584]]
    """

    kind = "random"
    learns = False

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, table: pd.DataFrame, tick: Tick | None = None) -> Self:
        """Learn who there is."""
        self.experts_ = experts_of(check_scores(table))
        return self

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Draw the scores of each text, shape (n_texts, n_experts)."""
        self._check_fitted()
        rows = [np.random.default_rng([self.seed, int(_key(text), 16)]).random(len(self.experts_)) for text in texts]
        return np.stack(rows) if rows else np.zeros((0, len(self.experts_)))

    def _state(self) -> Parts:
        return {}, {}

    def _restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None: ...


class BestSingleRouter(BaseRouter):
    """Score every expert by its overall mean, so that the best one answers everything.

    Example:
        >>> rows = [{"query_id": "1", "query": "two plus two", "expert": e, "score": s} for e, s in (("a", 0.0), ("b", 1.0))]
        >>> BestSingleRouter().fit(pd.DataFrame(rows)).scores(["anything"]).tolist()
        [[0.0, 1.0]]
    """

    kind = "best-single"
    learns = False

    def fit(self, table: pd.DataFrame, tick: Tick | None = None) -> Self:
        """Learn each expert's mean."""
        table = check_scores(table)
        self.mean_ = np.nanmean(pivot(table)[1], axis=0)
        self.experts_ = experts_of(table)
        return self

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Give the means to every text, shape (n_texts, n_experts)."""
        self._check_fitted()
        return np.tile(self.mean_, (len(texts), 1))

    def _state(self) -> Parts:
        return {}, {"mean": self.mean_}

    def _restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.mean_ = arrays["mean"]


class OracleRouter(BestSingleRouter):
    """Score every expert by what it really got on this very question: the most that any router could reach.

    What was not revealed is scored by the overall means.

    Example:
        >>> row = {"query_id": "1", "query": "two plus two", "expert": "a", "score": 1.0}
        >>> oracle = OracleRouter().fit(pd.DataFrame([row])).reveal(pd.DataFrame([row | {"query": "spell cat", "score": 0.0}]))
        >>> oracle.scores(["spell cat"]).tolist()
        [[0.0]]
    """

    kind = "oracle"

    def fit(self, table: pd.DataFrame, tick: Tick | None = None) -> Self:
        """Learn every question's scores."""
        table = check_scores(table)
        super().fit(table)
        self.known_: dict[str, list[float]] = {}
        return self.reveal(table)

    def reveal(self, table: pd.DataFrame) -> Self:
        """Learn the scores of more questions; experts that it does not know are left out."""
        table = table[table["expert"].isin(self.experts_)]
        queries, scores = pivot(table, [name for name in self.experts_ if name in set(table["expert"])])
        there = [at for at, name in enumerate(self.experts_) if name in set(table["expert"])]
        for query, row in zip(queries["query"], scores, strict=True):
            full = np.zeros(len(self.experts_))  # an expert that was not asked is never the best
            full[there] = np.nan_to_num(row)
            self.known_[_key(query)] = full.tolist()
        return self

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Look the scores of each text up, shape (n_texts, n_experts)."""
        self._check_fitted()
        rows = [self.known_.get(_key(text), self.mean_) for text in texts]
        return np.array(rows, dtype=float).reshape(len(texts), len(self.experts_))

    def _state(self) -> Parts:
        rows = np.array(list(self.known_.values())).reshape(-1, len(self.experts_))
        return {"known": list(self.known_)}, {"mean": self.mean_, "rows": rows}

    def _restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.mean_ = arrays["mean"]
        self.known_ = dict(zip(meta["known"], arrays["rows"].tolist(), strict=True))


class CategoryOracleRouter(BestSingleRouter):
    """Score every expert by its mean on the question's true category, which no router is told.

    A question whose category was not revealed, or a table without categories, is scored by the overall means.

    Example:
        >>> row = {"query_id": "1", "query": "two plus two", "category": "sums", "expert": "a", "score": 1.0}
        >>> CategoryOracleRouter().fit(pd.DataFrame([row])).scores(["two plus two"]).tolist()
        [[1.0]]
    """

    kind = "category-oracle"

    def fit(self, table: pd.DataFrame, tick: Tick | None = None) -> Self:
        """Learn each category's means, and every question's category."""
        table = check_scores(table)
        super().fit(table)
        queries, scores = pivot(table)
        named = queries["category"].fillna("") if "category" in queries else pd.Series([""] * len(queries))
        self.means_ = {name: _known_mean(scores[(named == name).to_numpy()], self.mean_) for name in named.unique() if name}
        self.categories_: dict[str, str] = {}
        return self.reveal(table)

    def reveal(self, table: pd.DataFrame) -> Self:
        """Learn the categories of more questions."""
        if "category" in table.columns:
            known = table.drop_duplicates("query_id").dropna(subset=["category"])
            self.categories_ |= {_key(query): str(name) for query, name in zip(known["query"], known["category"], strict=True)}
        return self

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Look each text's category up, shape (n_texts, n_experts)."""
        self._check_fitted()
        rows = [self.means_.get(self.categories_.get(_key(text), ""), self.mean_) for text in texts]
        return np.array(rows, dtype=float).reshape(len(texts), len(self.experts_))

    def _state(self) -> Parts:
        rows = np.array(list(self.means_.values())).reshape(-1, len(self.experts_))
        return {"means": list(self.means_), "categories": self.categories_}, {"mean": self.mean_, "rows": rows}

    def _restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.mean_, self.categories_ = arrays["mean"], dict(meta["categories"])
        self.means_ = dict(zip(meta["means"], arrays["rows"], strict=True))


def _known_mean(scores: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Means over the cells that are known; the overall mean where none is."""
    count = (~np.isnan(scores)).sum(axis=0)
    return np.asarray(np.where(count > 0, np.nansum(scores, axis=0) / np.maximum(count, 1), mean))


def _key(text: str) -> str:
    """A question without its words: what an artefact may hold of it."""
    return hashlib.sha256(" ".join(text.lower().split()).encode("utf-8", "replace")).hexdigest()[:16]
