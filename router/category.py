"""The category router: what kind of question is it, and who is good at that kind?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from data.encoders import DEFAULT
from data.encoders.features import Features
from router.artefact import RouterError
from router.base import EmbeddingRouter


class CategoryRouter(EmbeddingRouter):
    """Classify the question's category, then score each expert by its mean on that category.

    With a budget, the experts are first chosen once for the whole pool, and each category is assigned to one of them, so that
    the expected score is highest within the budget; an expert that scores above the assigned one is lowered to below it.

    Args:
        soft: Whether every category counts by its probability, or only the likeliest.
        floor: Where the likeliest category is less probable than this, the experts' overall means decide.
        prior: Weight of an expert's overall mean in each category's, in questions.
        strength: Inverse of the classifier's ridge penalty (`C` of scikit-learn).
        sizes: Each expert's parameters or cost, in any one unit; needed for the budgets.
        budget: Most that the chosen experts may have together, or None.
        active: Most that the expert of an average question may have, or None.
        encoder: Names of text encoders, joined by `+`.

    Source:
        Jain et al. 2024, Composition of Experts, arXiv:2412.01868 (category router and category-to-expert map under a budget);
        the map is solved here as an integer program; soft categories are ours.

    Example:
        >>> rows = [{"query_id": q, "query": q, "category": c, "expert": e, "score": float(e == c)}
        ...         for q, c in [("two plus two", "sums"), ("six plus one", "sums"), ("spell cat", "words"), ("spell dog", "words")]
        ...         for e in ("sums", "words")]
        >>> CategoryRouter().fit(pd.DataFrame(rows)).reasons("nine plus nine")[0].split()[0]
        'sums'
    """

    kind = "category"
    _sizes: np.ndarray | None = None
    _folded = False

    def __init__(
        self,
        *,
        soft: bool = True,
        floor: float = 0.0,
        prior: float = 20.0,
        strength: float = 5.0,
        sizes: Mapping[str, float] | None = None,
        budget: float | None = None,
        active: float | None = None,
        encoder: str = DEFAULT,
    ) -> None:
        super().__init__(encoder=encoder)
        self.soft = soft
        self.floor = floor
        self.prior = prior
        self.strength = strength
        self.sizes = sizes
        self.budget = budget
        self.active = active

    def _prepare(self, features: Features, experts: Sequence[str]) -> None:
        self._sizes = None
        if self.budget is None and self.active is None:
            return
        if absent := [name for name in experts if name not in (self.sizes or {})]:
            raise RouterError(f"a budget needs the size of every expert: there is none for {absent[0]!r}; sizes={{name: number, ...}}")
        self._sizes = np.array([float((self.sizes or {})[name]) for name in experts])
        if not (np.isfinite(self._sizes) & (self._sizes >= 0)).all():
            raise RouterError(f"sizes must be numbers from 0, not {dict(zip(experts, self._sizes.tolist(), strict=True))}")

    def _adopt(self, other: CategoryRouter, known: np.ndarray) -> None:
        self._folded = True  # the curve of calibration is that of the map without a budget

    def _fit(self, vectors: np.ndarray, scores: np.ndarray, queries: pd.DataFrame) -> None:
        from sklearn.linear_model import LogisticRegression

        if self.prior < 0 or self.strength <= 0 or not 0 <= self.floor <= 1:
            wanted = "a prior of at least 0, a strength above 0 and a floor from 0 to 1"
            raise RouterError(f"the category router wants {wanted}, not prior={self.prior}, strength={self.strength}, floor={self.floor}")
        self.mean_ = np.nanmean(scores, axis=0)
        if self._folded and not queries["category"].notna().any():  # a fold that happens to have none
            queries = queries.assign(category="any")
        if "category" not in queries or not queries["category"].notna().any():
            raise RouterError("the category router wants a score table with a column 'category'; without one, use cluster or stack")
        named = queries["category"].notna().to_numpy()
        labels = queries["category"][named].astype(str).to_numpy()
        self.categories_ = sorted(set(labels))
        self.quality_ = np.stack([_shrunk(scores[named][labels == name], self.mean_, self.prior) for name in self.categories_])
        self.share_ = np.array([(labels == name).mean() for name in self.categories_])
        if len(self.categories_) == 1:
            self.coef_, self.intercept_ = np.zeros((1, vectors.shape[1])), np.zeros(1)
        else:
            model = LogisticRegression(C=self.strength, max_iter=1000).fit(vectors[named], labels)
            two = len(self.categories_) == 2  # one row then stands for the second against the first
            coef, intercept = model.coef_.astype(np.float64), model.intercept_.astype(np.float64)
            # in the memory's own order, so that a loaded router multiplies by the same steps
            self.coef_ = np.ascontiguousarray(np.concatenate([-coef / 2, coef / 2]) if two else coef)
            self.intercept_ = np.concatenate([-intercept / 2, intercept / 2]) if two else intercept
        self.assigned_ = np.full(len(self.categories_), -1)
        if self._sizes is not None:
            self.assigned_ = assign(self.quality_, self.share_, self._sizes, self.budget, self.active)
            self.quality_ = np.stack([_below(row, at) for row, at in zip(self.quality_, self.assigned_, strict=True)])
            bought = sorted(set(self.assigned_.tolist()))
            self.mean_ = _below(self.mean_, bought[int(self.mean_[bought].argmax())])

    def posterior(self, vector: np.ndarray) -> np.ndarray:
        """Each category's probability, shape (n_categories,)."""
        logits = self.coef_ @ vector + self.intercept_
        odds = np.exp(logits - logits.max())
        return np.asarray(odds / odds.sum())

    def _score(self, vector: np.ndarray) -> np.ndarray:
        probability = self.posterior(vector)
        best = int(probability.argmax())
        if probability[best] < self.floor:
            return np.asarray(self.mean_)
        return np.asarray(probability @ self.quality_ if self.soft and self.assigned_[best] < 0 else self.quality_[best])

    def _reasons(self, vector: np.ndarray, experts: Sequence[str]) -> tuple[str, ...]:
        """Name the likeliest categories and who is best on each."""
        probability = self.posterior(vector)
        order = np.argsort(-probability, kind="stable")[:3]
        return tuple(
            f"{self.categories_[at]} {probability[at]:.2f}: best is {experts[int(self.quality_[at].argmax())]}"
            for at in order
            if probability[at] >= 0.05 or at == order[0]
        )

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        arrays = {
            "coef": self.coef_,
            "intercept": self.intercept_,
            "quality": self.quality_,
            "mean": self.mean_,
            "assigned": self.assigned_,
        }
        return {"categories": self.categories_}, arrays

    def _restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.categories_ = list(meta["categories"])
        self.coef_, self.intercept_, self.quality_ = arrays["coef"], arrays["intercept"], arrays["quality"]
        self.mean_, self.assigned_ = arrays["mean"], arrays["assigned"]


def _shrunk(scores: np.ndarray, mean: np.ndarray, prior: float) -> np.ndarray:
    """Means of some questions, drawn towards the overall mean as if that had been seen `prior` times."""
    count = (~np.isnan(scores)).sum(axis=0) + prior
    return np.asarray(np.where(count > 0, (np.nansum(scores, axis=0) + prior * mean) / np.maximum(count, 1e-12), mean))


def _below(row: np.ndarray, at: int) -> np.ndarray:
    """A category's scores with every other expert below the assigned one."""
    lowered = np.minimum(row, 0.999 * row[at] - 1e-6)
    lowered[at] = row[at]
    return np.asarray(lowered)


def assign(quality: np.ndarray, share: np.ndarray, sizes: np.ndarray, budget: float | None, active: float | None) -> np.ndarray:
    """Give each category one expert so that the expected score is highest within the budgets, as an integer program.

    Args:
        quality: Mean score of each expert on each category, shape (n_categories, n_experts).
        share: Each category's share of the questions, shape (n_categories,).
        sizes: Each expert's size, shape (n_experts,).
        budget: Most that the experts in use may have together, or None.
        active: Most that the expert of an average question may have, or None.

    Returns:
        The expert of each category, shape (n_categories,).

    Raises:
        RouterError: No expert fits.

    Example:
        >>> assign(np.array([[0.9, 0.5], [0.1, 0.8]]), np.array([0.5, 0.5]), np.array([7.0, 7.0]), 7.0, None).tolist()
        [1, 1]
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    n_categories, n_experts = quality.shape
    smallest, unit = f"{sizes.min():g}", max(float(sizes.max()), 1e-12)  # the solver's tolerance is for numbers near one
    wanted = f"a budget of {budget} and an average of {active}"
    sizes, budget, active = sizes / unit, None if budget is None else budget / unit, None if active is None else active / unit
    assigned, used = n_categories * n_experts, n_experts
    cost = np.concatenate([-(share[:, None] * quality).ravel(), np.zeros(used)])
    rows: list[np.ndarray] = []
    low: list[float] = []
    high: list[float] = []
    for category in range(n_categories):  # each category has one expert
        row = np.zeros(assigned + used)
        row[category * n_experts : (category + 1) * n_experts] = 1
        rows, low, high = [*rows, row], [*low, 1.0], [*high, 1.0]
    for category, expert in itertools.product(range(n_categories), range(n_experts)):  # and only one that is in use
        row = np.zeros(assigned + used)
        row[category * n_experts + expert], row[assigned + expert] = 1, -1
        rows, low, high = [*rows, row], [*low, -1.0], [*high, 0.0]
    if budget is not None:
        rows, low, high = [*rows, np.concatenate([np.zeros(assigned), sizes])], [*low, 0.0], [*high, budget]
    if active is not None:
        rows, low, high = [*rows, np.concatenate([np.outer(share, sizes).ravel(), np.zeros(used)])], [*low, 0.0], [*high, active]
    ones = np.ones(assigned + used)
    found = milp(cost, constraints=LinearConstraint(np.array(rows), low, high), integrality=ones, bounds=Bounds(0, 1))
    if not found.success:
        raise RouterError(f"no experts fit {wanted}: the smallest has {smallest}")
    return np.asarray(found.x[:assigned].reshape(n_categories, n_experts).argmax(axis=1))
