"""The description router: what an expert says it is good at, beside what it has shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from data.encoders import DEFAULT
from data.encoders.features import Features
from router.artefact import RouterError
from router.base import EmbeddingRouter, centred
from router.crossfit import out_of_fold
from router.linear import LinearRouter


class DescriptionRouter(EmbeddingRouter):
    """Add to a learned head the similarity of the question and each expert's written description, by a scale that is learned.

    Args:
        descriptions: What each expert is good at, in its words; an expert without one is described by its name.
        scale: Weight of the similarity; None takes the one that foretells held-out questions best, from 0.
        encoder: Names of text encoders, joined by `+`; the first one reads the descriptions.

    Source:
        Li et al. 2024, Glider (global and local experts), arXiv:2410.07172; scores of whole models and the choice of the scale
        are ours.

    Example:
        >>> rows = [{"query_id": q, "query": q, "expert": e, "score": 1.0} for q in ("two plus two", "spell cat") for e in ("a", "b")]
        >>> router = DescriptionRouter(descriptions={"a": "sums and numbers", "b": "spelling words"}, scale=1.0)
        >>> a, b = router.fit(pd.DataFrame(rows)).scores(["how do you spell house?"])[0]
        >>> bool(b > a)
        True
    """

    kind = "description"

    def __init__(self, *, descriptions: Mapping[str, str] | None = None, scale: float | None = None, encoder: str = DEFAULT) -> None:
        super().__init__(encoder=encoder)
        self.descriptions = dict(descriptions or {})
        self.scale = scale

    def _prepare(self, features: Features, experts: Sequence[str]) -> None:
        if self.scale is not None and self.scale < 0:
            raise RouterError(f"the description router wants a scale from 0, not {self.scale}")
        if unknown := [name for name in self.descriptions if name not in experts]:
            raise RouterError(f"there is a description of {unknown[0]!r}, which the score table does not have; it has {', '.join(experts)}")
        self.described_ = features.first([self.descriptions.get(name) or name.replace("-", " ") for name in experts])

    def _adopt(self, other: Any, known: np.ndarray) -> None:
        self.described_ = other.described_[known]

    def _near(self, vector: np.ndarray) -> np.ndarray:
        """Cosine of the question and each description, shape (n_experts,)."""
        return np.asarray(self.described_ @ vector[: self.described_.shape[1]])

    def _fit(self, vectors: np.ndarray, scores: np.ndarray, queries: pd.DataFrame) -> None:
        self.head_ = LinearRouter()
        near = vectors[:, : self.described_.shape[1]] @ self.described_.T
        self.near_ = near.mean(axis=0)
        self.scale_ = self.scale if self.scale is not None else 0.0
        if self.scale is None:
            rows, guess = out_of_fold(self.head_, vectors, scores, queries)
            mean = np.nanmean(scores, axis=0)
            unseen = np.isnan(scores[rows])  # both sides are centred over the experts that were seen
            missed = centred(scores[rows], mean)[1] - centred(np.where(unseen, np.nan, guess), mean)[1]
            told = centred(np.where(unseen, np.nan, near[rows]), self.near_)[1]
            known = np.isfinite(missed)
            self.scale_ = max(0.0, float((missed[known] * told[known]).sum() / max(float((told[known] ** 2).sum()), 1e-12)))
        self.head_._fit(vectors, scores, queries)

    def _score(self, vector: np.ndarray) -> np.ndarray:
        return np.asarray(self.head_._score(vector) + self.scale_ * (self._near(vector) - self.near_))

    def _reasons(self, vector: np.ndarray, experts: Sequence[str]) -> tuple[str, ...]:
        """Say whose description is nearest."""
        near = self._near(vector)
        best = int(near.argmax())
        return (f"nearest description: {experts[best]} ({near[best]:.2f}, scale {self.scale_:.2f})",)

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        meta, arrays = self.head_._state()
        return {"scale": self.scale_, "head": meta}, arrays | {"described": self.described_, "near": self.near_}

    def _restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.scale_, self.described_, self.near_ = meta["scale"], arrays["described"], arrays["near"]
        self.head_ = LinearRouter()
        self.head_._restore(meta["head"], arrays)
