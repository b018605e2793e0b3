"""Several benchmarks as one: each with its weight, every question of one benchmark with the same.

Source:
    Ni et al. 2024, MixEval, arXiv:2406.06565 (a mixture of benchmarks, weighted by what people ask).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from data.benchmarks.loading import Loaded
from data.benchmarks.rows import BenchmarkError


def suite(parts: Sequence[Loaded], weights: Mapping[str, float] | None = None) -> Loaded:
    """Put benchmarks together.

    Args:
        parts: The benchmarks, loaded.
        weights: The weight of each by its name, or None for equal ones.

    Returns:
        All questions, named after their benchmark where two would have the same id. `weights` has what one question of each benchmark
        counts.

    Raises:
        BenchmarkError: A weight is none, is not above 0, or has no benchmark.

    Example:
        >>> from data.benchmarks import load
        >>> both = suite([load("skills:dates", limit=4), load("skills:logic", limit=2)], {"skills:dates": 1, "skills:logic": 1})
        >>> len(both.tasks), dict(both.weights)
        (6, {'skills:dates': 0.125, 'skills:logic': 0.25})
    """
    names = [part.name for part in parts]
    if twice := [name for name in names if names.count(name) > 1]:
        raise BenchmarkError(f"the benchmark {twice[0]!r} stands twice in the suite")
    told = dict.fromkeys(names, 1.0) if weights is None else dict(weights)
    if strange := [name for name in told if name not in names] or [name for name in names if name not in told]:
        raise BenchmarkError(f"wanted a weight for each of {', '.join(names)}; {strange[0]!r} is only on one side")
    for name, weight in told.items():
        if not (isinstance(weight, int | float) and math.isfinite(weight) and weight > 0):
            raise BenchmarkError(f"the weight of {name} must be a number above 0, not {weight!r}")
    total = sum(told.values())
    each = {part.name: told[part.name] / total / len(part.tasks) for part in parts}
    ids = [task.query_id for part in parts for task in part.tasks]
    if len(set(ids)) < len(ids):
        parts = [replace(part, tasks=[replace(task, query_id=f"{part.name}/{task.query_id}") for task in part.tasks]) for part in parts]
    dropped = {why: sum(part.dropped.get(why, 0) for part in parts) for why in ("twice", "in_test")}
    return Loaded(
        " + ".join(names),
        [task for part in parts for task in part.tasks],
        "; ".join(part.source for part in parts),
        "; ".join(f"{part.name}: {part.version}" for part in parts),
        dropped,
        sum(part.total for part in parts),
        parts[0].seed if parts else 0,
        max((part.shots for part in parts), default=0),
        each,
    )
