"""The life of a pool: experts join and leave, and ratings come in, without fitting the others again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd

from data.artefact import Parts, inner, nested
from data.encoders import get_encoder
from data.encoders.features import Tick
from data.scores import check_scores, pivot
from router.artefact import RouterError
from router.base import BaseRouter, Router
from router.gradient import Weights, minimise, sigmoid

_EDGE = 1e-3
LIMIT = 2.0
"""Most log-odds by which ratings may move a score: a good expert at 0.8 stays above 0.35 whatever is said of it."""

_LONGEST = 2 * LIMIT
"""Length of what ratings add up to: more could move nothing, and would have to be unlearned when an expert changes."""


class LivingRouter(BaseRouter):
    """A fitted router whose pool changes: what it wraps stays as it is, to the last bit.

    Args:
        base: A fitted router, or None where one is restored.
        rate: Step of a rating, in log-odds per unit of surprise.
        frozen: Whether ratings are ignored.

    Example:
        >>> from router.baselines import BestSingleRouter
        >>> row = {"query_id": "1", "query": "two plus two", "expert": "a", "score": 0.5}
        >>> living = LivingRouter(BestSingleRouter().fit(pd.DataFrame([row])))
        >>> living.join("b", pd.DataFrame([row | {"expert": "b", "score": 1.0}])).experts_
        ['a', 'b']
        >>> living.leave("a").experts_
        ['b']
    """

    kind = "living"

    def __init__(self, base: Router | None = None, *, rate: float = 0.3, frozen: bool = False) -> None:
        if base is not None and not hasattr(base, "experts_"):
            raise RouterError(f"the {base.kind} router is not fitted: only a fitted one can live on")
        self.rate = rate
        self.frozen = frozen
        self._heads: dict[str, np.ndarray] = {}
        self._described: dict[str, np.ndarray] = {}
        self._told: dict[str, np.ndarray] = {}
        self._counts: dict[str, int] = {}
        if base is not None:
            self._base = base
            self.experts_ = list(base.experts_)

    @property
    def rate(self) -> float:
        """Step of a rating, in log-odds per unit of surprise.

        Raises:
            RouterError: It is set to something else than a number above 0 and up to 10.
        """
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        if not 0 < rate <= 10:
            raise RouterError(f"the rate of ratings must lie above 0 and up to 10, not {rate}")
        self._rate = rate

    def fit(self, table: pd.DataFrame, tick: Tick | None = None) -> Self:
        """Refuse: what lives on is fitted already.

        Raises:
            RouterError: Always.
        """
        raise RouterError("a living router is not fitted anew: fit its base, and wrap that")

    # who is in the pool

    def join(self, name: str, probes: pd.DataFrame) -> Self:
        """Add an expert that answered some probe questions; nobody else is fitted again.

        Its score is learned from how the others score the same questions: as good as their average where nothing else is
        known, better or worse on the kinds of questions where the probes say so. Ten probes tell how good it is as a whole,
        fifty begin to tell at what.

        Args:
            name: The expert.
            probes: A score table; its rows of this expert count.

        Raises:
            RouterError: There is an expert of this name already.
            ScoreTableError: The table has no row of the expert.
        """
        self._check_new(name)
        queries, scores = pivot(check_scores(probes), [name])
        known = ~np.isnan(scores[:, 0])
        seen = self._seen(self._base.scores(list(queries["query"][known])))
        start = {"lift": np.zeros(1), "head": np.zeros((seen.shape[1], 1))}

        def forward(w: Weights, x: np.ndarray) -> Any:
            # the average of the others is where it starts, so that few probes move it little
            logits = x[:, :1] + x @ w["head"] + w["lift"]
            return logits, lambda g: {"head": x.T @ g, "lift": g.sum(axis=0)}

        found = minimise(start, forward, seen, scores[known], decay=1.0 / max(1, int(known.sum())), steps=200)
        self._heads[name] = np.concatenate([found["lift"], found["head"][:, 0]])
        self.experts_.append(name)
        return self

    def join_described(self, name: str, description: str, others: Mapping[str, str], scale: float = 2.0) -> Self:
        """Add an expert of which only a description is known.

        It scores like the others' average, more where a question is nearer to its description than to theirs.

        Args:
            name: The expert.
            description: What it is good at, in a few words.
            others: The descriptions of the experts that are there; one without any is described by its name.
            scale: Log-odds for a whole unit of cosine.

        Raises:
            RouterError: There is an expert of this name already, or the description is empty.
        """
        self._check_new(name)
        if not description.strip():
            raise RouterError(f"the description of {name!r} is empty: say in a few words what it is good at")
        texts = [description, *(others.get(known) or known.replace("-", " ") for known in self.experts_)]
        vectors = get_encoder()(texts)
        # cosine with its own description less the mean cosine with the others': one vector tells both
        self._described[name] = scale * (vectors[0] - vectors[1:].mean(axis=0))
        self.experts_.append(name)
        return self

    def leave(self, name: str) -> Self:
        """Remove an expert; the scores of all others stay as they are.

        Raises:
            RouterError: There is no such expert, or it is the last one.
        """
        if name not in self.experts_:
            raise RouterError(f"no expert is called {name!r}; the router has {', '.join(self.experts_)}")
        if len(self.experts_) == 1:
            raise RouterError(f"{name!r} is the last expert: a router needs one")
        self.experts_.remove(name)
        for part in (self._heads, self._described, self._told):
            part.pop(name, None)
        self._counts.pop(name, None)
        return self

    def _check_new(self, name: str) -> None:
        self._check_fitted()
        if not name.strip():
            raise RouterError("the new expert has no name")
        if name in self.experts_ or name in self._base.experts_:
            raise RouterError(f"there is an expert called {name!r} already, or there was: give the new one another name")

    # what people say of the answers

    def rate_answer(self, text: str, expert: str, score: float) -> Self:
        """Take one rating of one expert's answer: a bandit step that moves this expert only.

        Args:
            text: The question.
            expert: Who answered it.
            score: How good that was, 0 to 1.

        Raises:
            RouterError: There is no such expert, or the score is none.
        """
        self._check_fitted()
        if expert not in self.experts_:
            raise RouterError(f"no expert is called {expert!r}; the router has {', '.join(self.experts_)}")
        if not 0 <= score <= 1:
            raise RouterError(f"a rating lies from 0 to 1, not {score}")
        if self.frozen:
            return self
        features = np.concatenate([[1.0], get_encoder()([text])[0]])
        predicted = self.scores([text])[0][self.experts_.index(expert)]
        count = self._counts.get(expert, 0)
        told = self._told.get(expert, np.zeros(len(features)))
        step = self.rate / math.sqrt(1 + count / 100)  # later ratings move less, but never nothing
        told = told + step * (score - predicted) * features
        self._told[expert] = told * min(1.0, _LONGEST / max(float(np.linalg.norm(told)), 1e-12))
        self._counts[expert] = count + 1
        return self

    # scores

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Predict the probability of a right answer, shape (n_texts, n_experts)."""
        self._check_fitted()
        rows = [self._score(text) for text in texts]
        return np.stack(rows) if rows else np.zeros((0, len(self.experts_)))

    def _score(self, text: str) -> np.ndarray:
        base = self._base.scores([text])
        seen = self._seen(base)[0]
        known = dict(zip(self._base.experts_, base[0], strict=True))
        vector = get_encoder()([text])[0] if self._described or self._told else None
        row = np.empty(len(self.experts_))
        for at, name in enumerate(self.experts_):
            if name in self._heads:
                head = self._heads[name]
                row[at] = sigmoid(seen[0] + head[0] + head[1:] @ seen)
            elif name in self._described:
                row[at] = sigmoid(seen[0] + self._described[name] @ vector)
            else:
                row[at] = known[name]
            told = self._told.get(name)
            if told is not None and vector is not None:
                moved = float(np.clip(told[0] + told[1:] @ vector, -LIMIT, LIMIT))
                there = sigmoid(_log_odds(row[at]) + moved)  # log-odds end at the edges: beyond them praise must not lower a score
                row[at] = max(row[at], there) if moved > 0 else min(row[at], there) if moved < 0 else row[at]
        return row

    @staticmethod
    def _seen(scores: np.ndarray) -> np.ndarray:
        """What a new expert is learned from: the others' average log-odds, and how each differs from it."""
        odds = _log_odds(scores)
        mean = odds.mean(axis=1, keepdims=True)
        return np.concatenate([mean, odds - mean], axis=1)

    def reasons(self, text: str) -> tuple[str, ...]:
        """Tell the base's reasons, and who moved by ratings or is new."""
        self._check_fitted()
        new = [f"{name}: new, from probes" for name in self._heads] + [f"{name}: new, from its description" for name in self._described]
        rated = [f"{name}: {count} rating{'s' if count > 1 else ''}" for name, count in self._counts.items()]
        return (*self._base.reasons(text), *new, *rated)

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments but for the base."""
        return {"rate": self.rate, "frozen": self.frozen}

    def _state(self) -> Parts:
        base, arrays = nested("base", self._base.state())
        groups = {"head": self._heads, "described": self._described, "told": self._told}
        arrays |= {f"{group}.{at}": array for group, part in groups.items() for at, array in enumerate(part.values())}
        names = {group: list(part) for group, part in groups.items()}
        return {"base": base, "names": names, "counts": self._counts}, arrays

    def _restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        from router import restore_router

        self._base = restore_router(meta["base"], inner("base", arrays))
        self._counts = dict(meta["counts"])
        self._heads, self._described, self._told = (
            {name: arrays[f"{group}.{at}"] for at, name in enumerate(meta["names"][group])} for group in ("head", "described", "told")
        )


def _log_odds(p: np.ndarray) -> np.ndarray:
    inside = np.clip(p, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(inside / (1 - inside)))
