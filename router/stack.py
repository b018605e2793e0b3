"""The stack: several routers, each weighed by what it foretold of questions that it had not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from data.artefact import inner
from data.encoders import DEFAULT
from data.encoders.features import Features
from router.artefact import RouterError
from router.base import EmbeddingRouter, centred
from router.calibration import Calibration
from router.crossfit import MOST, out_of_fold

MEMBERS = ("category", "linear", "mlp", "knn")
"""Who stands in a stack where nothing else is said; `cluster` replaces `category` in tables without categories."""

ROUNDS = 3
"""How often the questions are divided into folds anew, so that the weights depend less on one division."""

SPREAD = 0.25
"""How far a member's weight is expected to lie from an equal share."""


class StackRouter(EmbeddingRouter):
    """Combine routers by weights that are fitted on their out-of-fold predictions.

    Every prediction is split into how easy the question is for all experts, and how much better than the others each expert
    is on it. The members get one non-negative weight for each of the two parts: a member that is good at telling hard
    questions from easy ones need not be good at telling experts apart, and only the latter moves a route.

    Args:
        members: Kinds of the members; each has its default settings.
        seed: Seed of the folds.
        texts: Whether members keep the training questions' texts, by which they explain their routes.
        encoder: Names of text encoders, joined by `+`; all members read the same features.

    Source:
        Wolpert 1992, Stacked Generalization; Breiman 1996, Stacked Regressions (non-negative weights); the split and the prior
        on the weights are ours.

    Example:
        >>> rows = [{"query_id": f"{n} {e}"[:-2], "query": f"{n} plus {n}", "expert": e, "score": float(e == "a")}
        ...         for n in range(20) for e in ("a", "b")]
        >>> StackRouter(members=("linear", "cluster")).fit(pd.DataFrame(rows)).scores(["3 plus 4"]).round().tolist()
        [[1.0, 0.0]]
    """

    kind = "stack"

    def __init__(self, *, members: Sequence[str] = MEMBERS, seed: int = 0, texts: bool = True, encoder: str = DEFAULT) -> None:
        super().__init__(encoder=encoder)
        self.members = tuple(members)
        self.seed = seed
        self.texts = texts

    def _prepare(self, features: Features, experts: Sequence[str]) -> None:
        self._context = features, experts

    def _fit(self, vectors: np.ndarray, scores: np.ndarray, queries: pd.DataFrame) -> None:
        if not self.members:
            raise RouterError("a stack wants at least one member")
        named = "category" in queries and queries["category"].nunique() > 1
        kinds = [kind if named or kind != "category" else "cluster" for kind in self.members]
        self.routers_ = [_make(kind, {"texts": self.texts} if kind == "knn" else {}) for kind in dict.fromkeys(kinds)]
        for router in self.routers_:
            router._prepare(*self._context)
        self.mean_ = np.nanmean(scores, axis=0)
        # before the members are fitted on everything, each foretells what it was not told, with other folds each time
        times = ROUNDS if len(vectors) <= MOST else 1  # of many questions one division says as much
        rounds = [
            [out_of_fold(router, vectors, scores, queries, seed=ROUNDS * self.seed + n) for router in self.routers_] for n in range(times)
        ]
        self._seen = np.concatenate([scores[foretold[0][0]] for foretold in rounds])
        guesses = [np.concatenate([foretold[at][1] for foretold in rounds]) for at in range(len(self.routers_))]
        # where a cell was not seen, its guess does not count either: both are then centred over the same experts
        self._parts = [centred(np.where(np.isfinite(guess) & ~np.isnan(self._seen), guess, np.nan), self.mean_) for guess in guesses]
        ease, rest = centred(self._seen, self.mean_)
        self.ease_ = _weights([part[0] for part in self._parts], ease, times)
        self.rest_ = _weights([part[1] for part in self._parts], rest, times)
        for router in self.routers_:
            router._fit(vectors, scores, queries)

    def _calibrate(self, vectors: np.ndarray, scores: np.ndarray, queries: pd.DataFrame) -> Calibration:
        calibration = Calibration.fit(self._combine(self._parts), self._seen)
        del self._parts, self._seen, self._context  # only fitting needs them
        return calibration

    def _combine(self, parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        total = self.mean_
        for (ease, rest), of_ease, of_rest in zip(parts, self.ease_, self.rest_, strict=True):
            total = total + of_ease * ease + of_rest * rest
        return np.asarray(total)

    def _score(self, vector: np.ndarray) -> np.ndarray:
        # as `_combine`, for one question of which every member knows every expert
        rest = np.stack([router._score(vector) for router in self.routers_]) - self.mean_
        ease = rest.mean(axis=1)
        return np.asarray(self.mean_ + self.ease_ @ ease + self.rest_ @ (rest - ease[:, None]))

    def _reasons(self, vector: np.ndarray, experts: Sequence[str]) -> tuple[str, ...]:
        return tuple(line for router in self.routers_ for line in router._reasons(vector, experts))

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        states = [(router.kind, router.settings(), *router._state()) for router in self.routers_]
        meta = [{"kind": kind, "settings": settings, "state": state} for kind, settings, state, _ in states]
        arrays = {f"{kind}.{name}": array for kind, _, _, own in states for name, array in own.items()}
        return {"members": meta}, arrays | {"mean": self.mean_, "ease": self.ease_, "rest": self.rest_}

    def _restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.mean_, self.ease_, self.rest_ = arrays["mean"], arrays["ease"], arrays["rest"]
        self.routers_ = []
        for member in meta["members"]:
            router = _make(member["kind"], member["settings"])
            router._restore(member["state"], inner(member["kind"], arrays))
            self.routers_.append(router)


def _make(kind: str, settings: dict[str, Any] | None = None) -> EmbeddingRouter:
    from router import KINDS

    able = {name: other for name, other in KINDS.items() if issubclass(other, EmbeddingRouter) and name != StackRouter.kind}
    if kind not in able:
        raise RouterError(f"a stack has no member called {kind!r}; there are {', '.join(able)}")
    return able[kind](**(settings or {}))


def _weights(guesses: Sequence[np.ndarray], seen: np.ndarray, times: int) -> np.ndarray:
    """Non-negative weights of the guesses whose sum comes nearest to what was seen, shape (n_guesses,).

    Where the questions say little they stay near equal shares: a ridge draws them there, as strongly as a normal prior would
    whose standard deviation is `SPREAD`.
    """
    from scipy.optimize import nnls

    known = np.isfinite(seen) & np.all([np.isfinite(guess) for guess in guesses], axis=0)
    count = len(guesses)
    equal = np.full(count, 1 / count)
    if not known.any():
        return equal
    pull = np.sqrt(times * np.var(seen[known])) / SPREAD  # each question stands there that often
    rows = np.stack([guess[known] for guess in guesses], axis=1)
    weights, _ = nnls(np.vstack([rows, pull * np.eye(count)]), np.concatenate([seen[known], pull * equal]))
    return np.asarray(weights)
