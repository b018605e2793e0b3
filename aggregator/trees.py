"""Gradient-boosted trees: fitted by scikit-learn, kept and read as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

ARRAYS = ("feature", "threshold", "left", "right", "value", "roots")


@dataclass(frozen=True, slots=True)
class Trees:
    """A sum of trees over the features of a row.

    Attributes:
        feature: The feature that a node splits on, -1 for a leaf, shape (n_nodes,), all trees one after the other.
        threshold: Rows go left up to it, shape (n_nodes,).
        left: Node to the left, shape (n_nodes,).
        right: Node to the right, shape (n_nodes,).
        value: What a leaf adds, shape (n_nodes,).
        roots: First node of each tree, shape (n_trees,).
        start: What all trees are added to.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray
    roots: np.ndarray
    start: float

    @classmethod
    def fit(
        cls,
        rows: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray | None = None,
        *,
        trees: int = 150,
        rate: float = 0.06,
        leaves: int = 8,
        smallest: int = 200,
        ridge: float = 10.0,
        seed: int = 0,
        **settings: Any,
    ) -> Trees:
        """Fit to binary labels under the logistic loss.

        Args:
            rows: Shape (n, n_features), finite.
            labels: 0 or 1, shape (n,).
            weights: Weight of each row, shape (n,), or None.
            trees: Number of trees.
            rate: How much of each is added.
            leaves: Most leaves of a tree.
            smallest: Fewest rows of a leaf.
            ridge: Pull of the leaves to 0.
            seed: Seed of what is drawn.
            settings: More settings of scikit-learn's `HistGradientBoostingClassifier`.
        """
        from sklearn.ensemble import HistGradientBoostingClassifier

        model = HistGradientBoostingClassifier(
            max_iter=trees,
            learning_rate=rate,
            max_leaf_nodes=leaves,
            min_samples_leaf=smallest,
            l2_regularization=ridge,
            early_stopping=False,
            random_state=seed,
            **settings,
        ).fit(rows, labels, weights)
        parts: dict[str, list[np.ndarray]] = {name: [] for name in ARRAYS}
        offset = 0
        for (predictor,) in model._predictors:
            nodes = predictor.nodes
            leaf = nodes["is_leaf"].astype(bool)
            parts["feature"].append(np.where(leaf, -1, nodes["feature_idx"]).astype(np.int32))
            parts["threshold"].append(np.where(leaf, 0.0, nodes["num_threshold"]))
            for side in ("left", "right"):
                parts[side].append(np.where(leaf, 0, nodes[side].astype(np.int64) + offset).astype(np.int32))
            parts["value"].append(np.where(leaf, nodes["value"], 0.0))
            parts["roots"].append(np.array([offset], dtype=np.int32))
            offset += len(nodes)
        arrays = {name: np.concatenate(part) for name, part in parts.items()}
        made = cls(**arrays, start=float(model._baseline_prediction.ravel()[0]))
        if not np.allclose(made(rows[:200]), model.decision_function(rows[:200])):
            raise RuntimeError("this scikit-learn keeps its trees in another form than the one that was pinned")
        return made

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Score rows, shape (n, n_features); gives shape (n,).

        Example:
            >>> leaf = np.array([0, -1, -1]), np.array([0.5, 0, 0]), np.array([1, 0, 0]), np.array([2, 0, 0])
            >>> Trees(*leaf, value=np.array([0.0, -1.0, 2.0]), roots=np.array([0]), start=0.5)(np.array([[0.0], [1.0]])).tolist()
            [-0.5, 2.5]
        """
        at = np.broadcast_to(self.roots, (len(rows), len(self.roots))).copy()
        every = np.arange(len(rows))[:, None]
        while (inside := self.feature[at] >= 0).any():
            left = rows[every, np.maximum(self.feature[at], 0)] <= self.threshold[at]
            at = np.where(inside, np.where(left, self.left[at], self.right[at]), at)
        return np.asarray(self.start + np.array([float(sum(row)) for row in self.value[at].tolist()]))

    def arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """What an artefact keeps, under names that begin with a prefix."""
        return {f"{prefix}.{name}": getattr(self, name) for name in ARRAYS}

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray], prefix: str, start: float) -> Trees:
        """Make trees of what an artefact keeps."""
        return cls(**{name: arrays[f"{prefix}.{name}"] for name in ARRAYS}, start=start)
