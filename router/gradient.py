"""Fitting small networks to score tables: the log loss over the cells that are known, minimised whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Weights = dict[str, np.ndarray]
Forward = Callable[[Weights, np.ndarray], tuple[np.ndarray, Callable[[np.ndarray], Weights]]]
"""From weights and inputs to logits, shape (n, n_experts), and a function from their gradient to the weights' gradients."""


def minimise(start: Mapping[str, np.ndarray], forward: Forward, x: np.ndarray, scores: np.ndarray, decay: float, steps: int) -> Weights:
    """Minimise the mean log loss of known cells plus a penalty on squared weights, by L-BFGS.

    Args:
        start: Initial weights; those whose name starts with `bias` are not penalised.
        forward: The network.
        x: Inputs, shape (n, dim).
        scores: Shape (n, n_experts), NaN where a cell is missing; graded scores count as part right, part wrong.
        decay: Weight of the squared weights.
        steps: Iterations at most.

    Example:
        >>> def forward(w, x): return x @ w["a"], lambda g: {"a": x.T @ g}
        >>> found = minimise({"a": np.zeros((1, 1))}, forward, np.array([[1.0], [1.0]]), np.array([[1.0], [0.5]]), 0.0, 50)
        >>> round(float(1 / (1 + np.exp(-found["a"][0, 0]))), 3)
        0.75
    """
    from scipy.optimize import minimize

    names, shapes = list(start), [start[name].shape for name in start]
    cuts = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    known = ~np.isnan(scores)
    y, total = np.where(known, scores, 0), known.sum()
    penalised = np.concatenate([np.full(start[name].size, not name.startswith("bias"), dtype=float) for name in names])

    def unpack(flat: np.ndarray) -> Weights:
        return {name: part.reshape(shape) for name, part, shape in zip(names, np.split(flat, cuts), shapes, strict=True)}

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        logits, backward = forward(unpack(flat), x)
        p = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
        value = np.logaddexp(0, logits) - y * logits
        gradient = backward(np.where(known, p - y, 0) / total)
        flat_gradient = np.concatenate([gradient[name].ravel() for name in names])
        penalty = decay * penalised * flat
        return float(value[known].sum() / total + (penalty @ flat) / 2), flat_gradient + penalty

    first = np.concatenate([start[name].ravel() for name in names])
    found = minimize(loss, first, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    return unpack(found.x)


def start_logits(scores: np.ndarray) -> np.ndarray:
    """Each expert's mean as log-odds, where networks start, shape (n_experts,)."""
    mean = np.clip(np.nanmean(scores, axis=0), 0.01, 0.99)
    return np.asarray(np.log(mean / (1 - mean)))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Log-odds as probabilities."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))))
