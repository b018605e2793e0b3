"""A map of the training questions: what is alike lies together, and a new question finds its place among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from router.base import EmbeddingRouter, Router
from router.category import CategoryRouter
from router.cluster import ClusterRouter
from router.knn import KNNRouter
from router.profile import fitted, parts_of
from router.skill import SkillRouter

MOST_POINTS = 2000
SHORT = 160
"""Characters of a question's text."""


@dataclass(frozen=True, slots=True)
class Point:
    """A training question, or a cluster of them.

    Attributes:
        x: Its place along the first axis.
        y: Its place along the second.
        best: The expert that did best, the first of equals, or None where nobody was right.
        right: The experts that were right.
        category: What kind of question it is, as the router foretells it from what the question means; None where it foretells none.
        text: The beginning of the question, where the artefact holds texts.
        questions: Questions that it stands for.
    """

    x: float
    y: float
    best: str | None
    right: tuple[str, ...]
    category: str | None = None
    text: str | None = None
    questions: int = 1


class Landscape:
    """The training questions that a router holds, on the plane on which they differ most (principal components).

    Args:
        router: A fitted router that has places.
        source: The part of it that holds them.
        most: Points at most, drawn by the seed 0 from more questions.

    Source:
        Hotelling 1933, Analysis of a complex of statistical variables into principal components.
    """

    def __init__(self, router: EmbeddingRouter, source: KNNRouter | ClusterRouter, most: int = MOST_POINTS) -> None:
        self.of: Literal["questions", "clusters"] = "questions" if isinstance(source, KNNRouter) else "clusters"
        self._router, self._source = router, source
        places = source._search if isinstance(source, KNNRouter) else source.centres_
        self._dim = places.shape[1]
        self.total = len(places)
        rows = np.arange(self.total)
        if self.total > most:
            rows = np.sort(np.random.default_rng(0).permutation(self.total)[:most])
        self._index = {int(row): at for at, row in enumerate(rows)}
        chosen = places[rows].astype(np.float64)
        self._centre = chosen.mean(axis=0)
        self._axes = _principal(chosen - self._centre)
        self.points = [self._point(int(row), places[row]) for row in rows]

    @classmethod
    def of_router(cls, router: Router, most: int = MOST_POINTS) -> Self | None:
        """Draw a router's map; None where it holds no places of questions."""
        base, parts = fitted(router), [*parts_of(router)]
        source = next((part for part in parts if isinstance(part, KNNRouter)), None)
        other = next((part for part in parts if isinstance(part, ClusterRouter)), None)
        found = source or other
        return None if found is None or not isinstance(base, EmbeddingRouter) else cls(base, found, most)

    def place(self, text: str) -> tuple[float, float]:
        """Where a text lies."""
        return self._place(self._router.vectors([text])[0][: self._dim])

    def nearest(self, text: str, most: int = 5) -> list[tuple[float, Point, int | None]]:
        """The training questions or clusters that are nearest to a text, with their similarity, and their number on the map."""
        vector = self._router.vectors([text])[0]
        if isinstance(self._source, KNNRouter):
            rows, alike = self._source._nearest(vector)
            places = self._source._search
        else:
            rows, alike = self._source._near(vector)
            places = self._source.centres_
        found = list(zip(rows.tolist(), alike.tolist(), strict=True))[:most]
        return [(round(close, 4), self._point(row, places[row]), self._index.get(row)) for row, close in found]

    def _place(self, vector: np.ndarray) -> tuple[float, float]:
        x, y = (vector.astype(np.float64) - self._centre) @ self._axes.T
        return round(float(x), 4), round(float(y), 4)

    def _point(self, row: int, vector: np.ndarray) -> Point:
        x, y = self._place(vector)
        quality, experts = self._source.quality_[row], self._router.experts_
        right = tuple(name for name, score in zip(experts, quality, strict=True) if score >= 0.5)
        top = int(np.nan_to_num(quality, nan=-1.0).argmax())
        best = experts[top] if quality[top] > 0 else None
        if isinstance(self._source, ClusterRouter):
            return Point(x, y, best, right, f"cluster {row}", None, int(self._source.size_[row]))
        texts = self._source.queries_
        return Point(x, y, best, right, self._category(vector), shortened(texts[row]) if texts else None)

    def _category(self, vector: np.ndarray) -> str | None:
        """Foretell the kind of a question from what it means; what else the router reads of a text is not kept, and stands at its mean."""
        for part in parts_of(self._router):
            match part:
                case CategoryRouter():
                    return str(part.categories_[int(part.posterior(_padded(vector, part.coef_.shape[1])).argmax())])
                case SkillRouter():
                    tags, _ = part._tags(_padded(vector, part.coef_.shape[1]))
                    return str(part.keywords_[int(tags[0])]) if len(tags) else None
                case ClusterRouter():
                    return f"cluster {int(part._near(_padded(vector, part.centres_.shape[1]))[0][0])}"
        return None


def shortened(text: str, most: int = SHORT) -> str:
    """The beginning of a text, in one line.

    Example:
        >>> shortened("What is two plus three?", 12)
        'What is two…'
    """
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _padded(vector: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([vector, np.zeros(max(0, size - len(vector)))])


def _principal(centred: np.ndarray) -> np.ndarray:
    """The two directions in which rows differ most, shape (2, dim), each with its largest part positive."""
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = np.concatenate([axes[:2], np.zeros((max(0, 2 - len(axes)), centred.shape[1]))])
    signs = np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])  # svd leaves them open
    return np.asarray(axes * np.where(signs == 0, 1, signs)[:, None])
