"""Drift: are the questions of today still those that the router was fitted on, and is it still right?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from data.encoders import get_encoder
from data.records import CounterpointError
from data.scores import pivot
from data.statistics import Interval, bootstrap
from router.base import Router
from router.metrics import calibration_error, right

LEAST = 40
"""Questions of each side below which nothing can be said."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How two sets of questions differ, as a router sees them.

    Attributes:
        told_apart: Area under the curve of a classifier that tells new questions from old ones: 0.5 is chance, 1 is always.
        chance: What that area reaches by chance in 19 of 20 cases of this size.
        shares_before: Share of the questions that each expert is first for.
        shares_now: The same today.
        confidence: Mean of the best score before and now.
        accuracy: Accuracy of the first choice before and now, where the tables have scores of it; else None.
        calibration: Expected calibration error before and now, likewise.
    """

    told_apart: float
    chance: float
    shares_before: dict[str, float]
    shares_now: dict[str, float]
    confidence: tuple[float, float]
    accuracy: tuple[Interval, Interval] | None
    calibration: tuple[float, float] | None

    @property
    def moved(self) -> float:
        """Share of the questions that would have to change hands: half the sum of the shares' differences."""
        return sum(abs(self.shares_now[name] - self.shares_before[name]) for name in self.shares_before) / 2

    def lines(self) -> list[str]:
        """Say it in lines."""
        seen = "other questions than before" if self.told_apart > self.chance else "no other questions than chance would bring"
        lines = [
            f"told apart      {self.told_apart:.2f} (chance stays below {self.chance:.2f}): {seen}",
            f"first choices   {100 * self.moved:.1f}% moved from one expert to another",
            f"confidence      {self.confidence[0]:.3f} before, {self.confidence[1]:.3f} now",
        ]
        if self.accuracy is not None and self.calibration is not None:
            before, now = self.accuracy
            apart = now.high < before.low or now.low > before.high
            lines.append(
                f"accuracy        {100 * before.mean:.1f} [{100 * before.low:.1f}, {100 * before.high:.1f}] before, "
                f"{100 * now.mean:.1f} [{100 * now.low:.1f}, {100 * now.high:.1f}] now{'' if apart else ', a tie'}"
            )
            lines.append(f"calibration     {100 * self.calibration[0]:.1f} points off before, {100 * self.calibration[1]:.1f} now")
        return lines


def measure_drift(router: Router, before: pd.DataFrame, now: pd.DataFrame, seed: int = 0) -> Drift:
    """Compare two score tables, or two frames with `query_id` and `query` only.

    Args:
        router: A fitted router.
        before: Questions like those that it was fitted on.
        now: Questions of today.
        seed: Seed of the halves that the classifier learns from and is tried on.

    Raises:
        CounterpointError: A side has too few questions.

    Source:
        Lopez-Paz and Oquab 2017, Revisiting Classifier Two-Sample Tests, arXiv:1610.06545.
    """
    texts = [list(dict.fromkeys(frame["query"])) for frame in (before, now)]
    for name, side in zip(("before", "now"), texts, strict=True):
        if len(side) < LEAST:
            raise CounterpointError(f"{len(side)} questions {name} are too few to tell a drift: wanted {LEAST} or more")
    scores = [router.scores(side) for side in texts]
    shares = [np.bincount(part.argmax(axis=1), minlength=len(router.experts_)) / len(part) for part in scores]
    area, chance = _told_apart(texts[0], texts[1], seed)
    measured = [_measured(router, frame) for frame in (before, now)]
    whole = measured[0] is not None and measured[1] is not None
    return Drift(
        area,
        chance,
        dict(zip(router.experts_, shares[0].tolist(), strict=True)),
        dict(zip(router.experts_, shares[1].tolist(), strict=True)),
        (float(scores[0].max(axis=1).mean()), float(scores[1].max(axis=1).mean())),
        (measured[0][0], measured[1][0]) if whole and measured[0] and measured[1] else None,
        (measured[0][1], measured[1][1]) if whole and measured[0] and measured[1] else None,
    )


def _told_apart(before: Sequence[str], now: Sequence[str], seed: int) -> tuple[float, float]:
    """How well a held-out half of the questions is told apart, and what chance would reach."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import train_test_split

    vectors = get_encoder()([*before, *now])
    labels = np.array([0] * len(before) + [1] * len(now))
    # one half, since areas over folds that learn from each other spread more than chance by the formula
    learn, held = train_test_split(np.arange(len(labels)), test_size=0.5, stratify=labels, random_state=seed)
    model = LogisticRegression(C=1.0, max_iter=500).fit(vectors[learn], labels[learn])
    b = int(labels[held].sum())
    a = len(held) - b
    spread = np.sqrt((a + b + 1) / (12 * a * b))  # of the Mann-Whitney statistic where the sides are the same
    return float(roc_auc_score(labels[held], model.predict_proba(vectors[held])[:, 1])), float(0.5 + 1.645 * spread)


def _measured(router: Router, frame: pd.DataFrame) -> tuple[Interval, float] | None:
    if "score" not in frame.columns or not set(router.experts_) <= set(frame["expert"]):
        return None
    queries, truth = pivot(frame, router.experts_)
    predicted = router.scores(list(queries["query"]))
    score = right(predicted, truth)
    return bootstrap(score[~np.isnan(score)]), calibration_error(predicted, truth)
