"""The answer that is most like the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from aggregator.base import Aggregator, AggregatorError, Ask, chosen, none_usable, usable
from data.encoders import STATIC, get_encoder
from data.records import Answer, Request, Route


class Medoid(Aggregator):
    """Give the answer whose text is nearest to the others', by the mean cosine of their vectors; for answers in prose.

    Args:
        encoder: Name of a text encoder that needs no training.
        weighted: Whether the others count by the route's weights.

    Raises:
        AggregatorError: There is no such encoder.
    """

    kind: ClassVar[str] = "medoid"

    def __init__(self, encoder: str = STATIC, weighted: bool = False) -> None:
        try:
            self.encode = get_encoder(encoder)
        except Exception as error:
            raise AggregatorError(f"the aggregator 'medoid': {error}") from error
        self.encoder, self.weighted = encoder, weighted

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        """Give the answer in the middle; equals are decided by the order of the route."""
        good = usable(answers)
        if not good:
            return none_usable(answers)
        share = dict(zip(route.experts, route.weights, strict=True)) if self.weighted else {}
        weights = [share.get(answer.expert, 1.0 / len(good)) for answer in good]
        near = centrality(np.concatenate([self.encode([answer.text]) for answer in good]), np.array(weights)).round(6).tolist()
        support: dict[str, float] = {}
        for answer, value in zip(good, near, strict=True):
            support.setdefault(answer.text, value)
        return chosen(good[near.index(max(near))], answers, [*support.items()])


def centrality(vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted mean cosine of each vector to the others.

    Args:
        vectors: Shape (n, dim).
        weights: Shape (n,).

    Returns:
        Shape (n,); 1 for a single vector.

    Example:
        >>> centrality(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.ones(3)).round(2).tolist()
        [0.5, 0.5, 0.0]
    """
    units = vectors.astype(float) / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    pull = (units @ units.T) * weights
    np.fill_diagonal(pull, 0.0)
    others = weights.sum() - weights
    return np.asarray(np.divide(pull.sum(axis=1), others, out=np.ones(len(units)), where=others > 0))
