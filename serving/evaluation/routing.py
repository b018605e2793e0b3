"""Routers measured on score tables: one at a time beside the baselines, or all kinds side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from data.records import CounterpointError, Message, Request
from data.scores import experts_of, normalised, pivot, rows_of
from data.statistics import Interval, bootstrap, paired
from router import KINDS, BestSingleRouter, CategoryOracleRouter, FixedK, OracleRouter, RandomRouter, Router, metrics

Tick = Callable[[str, int, int], None]
"""Called with a stage's name, what is done of it, and the total."""

TIMED = 200
"""Questions by which the time of a decision is measured."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A router on n questions.

    Attributes:
        name: Its kind, or what it is called.
        right: Score of the first choice on each question, shape (n,), NaN where no score is known.
        categories: Category of each question, empty where there are none.
        predicted: Its scores, shape (n, n_experts).
        truth: What was recorded, same shape.
        costs: What each call cost, same shape; None where the table does not tell, or not of every expert.
        latency_ms: Median milliseconds of one decision, text in, route out, on one thread.
        fit_s: Seconds of fitting, NaN where it was loaded.
    """

    name: str
    right: np.ndarray
    categories: Sequence[str]
    predicted: np.ndarray
    truth: np.ndarray
    costs: np.ndarray | None
    latency_ms: float
    fit_s: float = float("nan")
    curve: tuple[np.ndarray, np.ndarray] | None = field(default=None)

    @property
    def accuracy(self) -> Interval:
        """Mean score of the first choice, with its 95% interval."""
        return bootstrap(self.right[~np.isnan(self.right)])

    @property
    def ece(self) -> float:
        """Expected calibration error over all known cells."""
        return metrics.calibration_error(self.predicted, self.truth)

    @property
    def cost(self) -> float:
        """Mean cost of the first choice; NaN where the table does not tell."""
        return float("nan") if self.costs is None else metrics.mean_cost(self.predicted, self.truth, self.costs)

    def by_category(self) -> dict[str, float]:
        """Accuracy of each category."""
        names = np.array(self.categories, dtype=object)
        known = ~np.isnan(self.right)
        return {str(name): float(self.right[known & (names == name)].mean()) for name in dict.fromkeys(names[known]) if name}

    def versus(self, other: Measured) -> Interval:
        """The paired difference to another one."""
        known = ~np.isnan(self.right - other.right)
        return paired(self.right[known], other.right[known])

    def two_experts(self) -> dict[str, float]:
        """APGR and CPT, where there are two experts; NaN where no question has both."""
        if self.truth.shape[1] != 2:
            return {}
        known = ~np.isnan(self.truth).any(axis=1)
        if not known.any():
            return dict.fromkeys(("apgr", "cpt50", "cpt80"), float("nan"))
        strong, weak = metrics.strong_of(self.truth)
        gain = (self.predicted[:, strong] - self.predicted[:, weak])[known]
        scores = self.truth[known, strong], self.truth[known, weak]
        return {
            "apgr": metrics.apgr(gain, *scores),
            "cpt50": metrics.cpt(gain, *scores, 0.5),
            "cpt80": metrics.cpt(gain, *scores, 0.8),
        }

    def aiq(self) -> float | None:
        """Average improvement in quality over the costs of all experts, where the table has costs."""
        if self.costs is None:
            return None
        cost, quality = metrics.cost_quality_curve(self.predicted, self.truth, self.costs)
        singles = [np.where(np.arange(self.truth.shape[1]) == at, 1.0, 0.0) for at in range(self.truth.shape[1])]
        alone = [np.tile(single, (len(self.truth), 1)) for single in singles]  # the range of costs is the same for every router
        cost = np.concatenate([cost, [metrics.mean_cost(each, self.truth, self.costs) for each in alone]])
        quality = np.concatenate([quality, [float(np.nanmean(metrics.right(each, self.truth))) for each in alone]])
        return metrics.aiq(cost, quality)


@dataclass(frozen=True, slots=True)
class Bench:
    """Questions to measure on, and those to fit and to choose baselines by.

    Attributes:
        test: Score table of the questions to measure on.
        train: Score table to fit on and to choose baselines by, or None.
    """

    test: pd.DataFrame
    train: pd.DataFrame | None

    @classmethod
    def of(cls, table: pd.DataFrame, fit: Iterable[str] | None, on: Iterable[str] | None) -> Bench:
        """Take splits of a table; one without splits is divided by the hash of each question's text, 70 to 30.

        Raises:
            ScoreTableError: A split is not there.
        """
        if "split" not in table.columns:
            share = pd.util.hash_array(normalised(table["query"]).to_numpy(dtype=object)) % 10
            return cls(table[share >= 7].reset_index(drop=True), table[share < 7].reset_index(drop=True))
        splits = list(table["split"].unique())
        learn = list(fit) if fit else [name for name in ("train", "tune") if name in splits]
        test = rows_of(table, list(on) if on else ["test"])
        return cls(test, rows_of(table, learn) if learn else None)

    def measure(self, name: str, router: Router, tick: Tick = lambda stage, done, total: None, fit_s: float = float("nan")) -> Measured:
        """Measure a fitted router.

        Raises:
            CounterpointError: Router and table have no expert in common.
        """
        experts = [expert for expert in experts_of(self.test) if expert in router.experts_]
        if not experts:
            known, there = ", ".join(router.experts_), ", ".join(experts_of(self.test))
            raise CounterpointError(f"the router knows {known}, the score table {there}: none in common")
        queries, truth = pivot(self.test, experts)
        if isinstance(router, CategoryOracleRouter | OracleRouter):
            router.reveal(self.test)
        texts, columns = list(queries["query"]), [router.experts_.index(expert) for expert in experts]
        latency = _latency(router, texts)
        parts = []
        for start in range(0, len(texts), 64):
            parts.append(router.scores(texts[start : start + 64])[:, columns])
            tick(name, min(start + 64, len(texts)), len(texts))
        predicted = np.concatenate(parts)
        categories = list(queries["category"].fillna("")) if "category" in queries else [""] * len(texts)
        return Measured(name, metrics.right(predicted, truth), categories, predicted, truth, self._costs(queries, experts), latency, fit_s)

    def _costs(self, queries: pd.DataFrame, experts: Sequence[str]) -> np.ndarray | None:
        if "cost" not in self.test.columns or not (self.test["cost"].fillna(0) > 0).any():
            return None
        wide = self.test.pivot(index="query_id", columns="expert", values="cost")
        costs = np.asarray(wide.reindex(index=queries["query_id"], columns=list(experts)).to_numpy(dtype=float))
        return None if np.isnan(costs).all(axis=0).any() else costs

    def fit(self, kind: str, settings: dict[str, Any], tick: Tick = lambda stage, done, total: None) -> Measured:
        """Fit a router of a kind on the train part, and measure it.

        Raises:
            CounterpointError: There is no train part, or the kind cannot be fitted on it.
        """
        if self.train is None:
            raise CounterpointError("there are no rows to fit on: the score table has neither a split train nor tune")
        begin = time.perf_counter()
        router = KINDS[kind](**settings).fit(self.train, lambda done, total: tick(f"{kind}: texts", done, total))
        return self.measure(kind, router, tick, time.perf_counter() - begin)

    def baselines(self) -> dict[str, Measured]:
        """Chance, the best single expert, and the two oracles.

        The best single expert is the one that is best on these very questions, which is the hardest form of that baseline; random
        is the mean over the experts that answered. The category oracle chooses by the train part where it has all experts.
        """
        experts = experts_of(self.test)
        queries, truth = pivot(self.test, experts)
        found = {"best-single": self.measure("best-single", BestSingleRouter().fit(self.test))}
        chance = self.measure("random", RandomRouter().fit(self.test))
        mean = np.full(len(truth), np.nan)
        known = ~np.isnan(truth).all(axis=1)
        mean[known] = np.nanmean(truth[known], axis=1)
        found["random"] = Measured("random", mean, chance.categories, chance.predicted, truth, chance.costs, chance.latency_ms)
        if "category" in queries:
            learned = self.train is not None and "category" in self.train.columns and set(experts) <= set(self.train["expert"])
            source = self.train if self.train is not None and learned else self.test
            fitted = CategoryOracleRouter().fit(source[source["expert"].isin(experts)])
            found["category-oracle"] = self.measure("category-oracle", fitted)
        found["oracle"] = self.measure("oracle", OracleRouter().fit(self.test))
        return found


def _latency(router: Router, texts: Sequence[str]) -> float:
    """Median milliseconds of one decision; each text gets a space at its end, so that no encoder remembers it."""
    policy = FixedK(1)
    names = router.experts_

    def decide(text: str) -> object:
        scores = dict(zip(names, router.scores([text])[0].tolist(), strict=True))
        return policy.choose(Request("r", (Message("user", text),)), scores)

    spread = [texts[at] + " " for at in np.linspace(0, len(texts) - 1, min(TIMED, len(texts))).astype(int)]
    warm = min(20, len(spread) // 4)
    return float(np.median(metrics.route_latency_ms(decide, spread, warm=warm)))


def report_json(measured: Measured, baselines: dict[str, Measured]) -> dict[str, Any]:
    """A router's measures and its baselines as JSON."""
    accuracy = measured.accuracy
    report: dict[str, Any] = {
        "accuracy": round(accuracy.mean, 4),
        "low": round(accuracy.low, 4),
        "high": round(accuracy.high, 4),
        "n": int((~np.isnan(measured.right)).sum()),
        "by_category": {name: round(value, 4) for name, value in measured.by_category().items()},
    }
    for name in ("best-single", "random", "category-oracle", "oracle"):
        other = baselines.get(name)
        report[name.replace("-", "_")] = None if other is None else round(other.accuracy.mean, 4)
    report["ece"] = round(measured.ece, 4)
    report["hit_rate"] = _rounded(metrics.hit_rate(measured.predicted, measured.truth))
    report["latency_ms"] = round(measured.latency_ms, 3)
    report |= {name: _rounded(value) for name, value in measured.two_experts().items()}
    if measured.costs is not None:
        report |= {"cost": _rounded(measured.cost, 8), "aiq": _rounded(measured.aiq())}
    report["versus"] = {name: _gap(measured.versus(other)) for name, other in baselines.items()}
    return report


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None or np.isnan(value) else round(value, digits)


def _gap(interval: Interval) -> dict[str, Any]:
    low, mean, high = (round(value, 4) for value in (interval.low, interval.mean, interval.high))
    return {"mean": mean, "low": low, "high": high, "tie": interval.tie}
