"""Drift as the endpoint sees it: what its traces show of today's questions, beside those that the router was fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import select

from data.records import CounterpointError, Message, Request
from router import Router
from router.drift import LEAST, measure_drift
from router.knn import KNNRouter
from router.profile import parts_of
from serving import tables
from serving.store import Store

MOST = 400
"""Questions of each side: the latest ones, and training questions drawn by the seed 0."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the latest traces tell of the questions.

    Attributes:
        scores: The experts' scores, question by question.
        texts: The questions, of traces that hold texts.
    """

    scores: Sequence[Mapping[str, float]]
    texts: Sequence[str]


def drift_json(router: Router, store: Store | None) -> dict[str, Any]:
    """Compare the latest questions of all keys with the training questions, as far as either are kept; only figures come out.

    Args:
        router: The mixture's router.
        store: Where traces are, or None.
    """
    if store is None:
        return _told(0, "traces are kept where serving.store names a place")
    traffic = traffic_of(store, router.experts_)
    count = len(traffic.scores)
    if count < LEAST:
        return _told(count, f"{count} questions are too few to tell a drift: wanted {LEAST} or more")
    trained = training_texts(router)
    if len(set(trained)) >= LEAST and len(set(traffic.texts)) >= LEAST:
        try:
            return _told(count, None) | _measured(router, trained, traffic.texts)
        except CounterpointError as error:
            return _told(count, str(error))
    why = "the endpoint keeps no texts (serving.keep_text)" if trained else "the router's artefact holds no texts"
    return _told(count, f"{why}: questions cannot be compared, choices and confidence can") | _chosen(router, trained, traffic.scores)


def traffic_of(store: Store, experts: Sequence[str], most: int = MOST) -> Traffic:
    """Read the latest traces of all keys; requests that left experts out tell nothing of what the router would choose."""
    scores: list[Mapping[str, float]] = []
    texts: list[str] = []
    wanted = select(tables.traces.c.body).order_by(tables.traces.c.at.desc()).limit(2 * most)
    with store.database.reading() as connection:
        for body in connection.execute(wanted).scalars():
            told = body.get("route", {}).get("scores", {})
            found = {name: told[name] for name in experts if name in told}
            if len(scores) == most or not found:
                continue
            if scores and found.keys() != scores[0].keys():
                if len(found) < len(scores[0]):
                    continue
                scores, texts = [], []
            scores.append(found)
            if (messages := body.get("messages")) is not None:
                texts.append(Request("", tuple(Message(turn["role"], turn["content"]) for turn in messages)).asked)
    return Traffic(scores, texts)


def training_texts(router: Router) -> list[str]:
    """Training questions that the router's artefact holds, some of many."""
    part = next((part for part in parts_of(router) if isinstance(part, KNNRouter)), None)
    texts = [] if part is None else part.queries_
    if len(texts) <= MOST:
        return list(texts)
    return [texts[at] for at in np.sort(np.random.default_rng(0).permutation(len(texts))[:MOST])]


def _measured(router: Router, before: Sequence[str], now: Sequence[str]) -> dict[str, Any]:
    found = measure_drift(router, _frame(before), _frame(now))
    return {
        "told_apart": round(found.told_apart, 4),
        "chance": round(found.chance, 4),
        "moved": round(found.moved, 4),
        "shares": {"before": _rounded(found.shares_before), "now": _rounded(found.shares_now)},
        "confidence": {"before": round(found.confidence[0], 4), "now": round(found.confidence[1], 4)},
    }


def _chosen(router: Router, trained: Sequence[str], scores: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """First choices and confidence now, and before where the training questions can be scored again."""
    names = list(scores[0])
    now = np.array([[each[name] for name in names] for each in scores])
    columns = [router.experts_.index(name) for name in names]
    before = router.scores(trained)[:, columns] if len(trained) >= LEAST else None
    shares = {"before": None if before is None else _shares(names, before), "now": _shares(names, now)}
    moved = None if before is None else sum(abs(shares["now"][name] - shares["before"][name]) for name in names) / 2  # type: ignore[index]
    return {
        "moved": None if moved is None else round(moved, 4),
        "shares": shares,
        "confidence": {"before": None if before is None else _confidence(before), "now": _confidence(now)},
    }


def _shares(names: Sequence[str], scores: np.ndarray) -> dict[str, float]:
    counts = np.bincount(scores.argmax(axis=1), minlength=len(names)) / len(scores)
    return _rounded(dict(zip(names, counts.tolist(), strict=True)))


def _confidence(scores: np.ndarray) -> float:
    return round(float(scores.max(axis=1).mean()), 4)


def _told(questions: int, note: str | None) -> dict[str, Any]:
    return {
        "questions": questions,
        "note": note,
        "told_apart": None,
        "chance": None,
        "moved": None,
        "shares": {"before": None, "now": None},
        "confidence": {"before": None, "now": None},
    }


def _frame(texts: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame({"query_id": [str(at) for at in range(len(texts))], "query": list(texts)})


def _rounded(shares: Mapping[str, float]) -> dict[str, float]:
    return {name: round(share, 4) for name, share in shares.items()}
