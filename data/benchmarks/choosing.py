"""Which questions: without those that stand twice, a stratified part of them, and categories left out."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from typing import TypeVar

import pandas as pd

from data.benchmarks.rows import BenchmarkError
from data.scores import normalised
from data.skills import Task

Kind = TypeVar("Kind")


def same_text(texts: Iterable[str]) -> list[str]:
    """Write texts by which questions count as the same (`data.scores.normalised`)."""
    return list(normalised(pd.Series(list(texts), dtype=object)))


def without_doubles(items: Sequence[Kind], texts: Sequence[str], test: Collection[str] = ()) -> tuple[list[Kind], dict[str, int]]:
    """Drop what stands twice, and what also stands in test.

    Args:
        items: Questions of any kind.
        texts: The text of each, as `same_text` writes it.
        test: Texts of the test questions, where these are others.

    Returns:
        What is left, the first of each text, and how many went: `twice` and `in_test`.

    Example:
        >>> without_doubles([1, 2, 3], ["a", "a", "b"], {"b"})
        ([1], {'twice': 1, 'in_test': 1})
    """
    kept, seen, dropped = [], set(), {"twice": 0, "in_test": 0}
    for item, text in zip(items, texts, strict=True):
        if text in test:
            dropped["in_test"] += 1
        elif text in seen:
            dropped["twice"] += 1
        else:
            kept.append(item)
        seen.add(text)
    return kept, dropped


def stratified(tasks: Sequence[Task], limit: int | None, seed: int) -> list[Task]:
    """Pick questions at random, as many of each category as its share says (largest remainders), in their old order.

    Args:
        tasks: The questions.
        limit: How many; None or more than there are takes all.
        seed: The same seed picks the same ones.

    Raises:
        BenchmarkError: The limit is below 1.
    """
    if limit is not None and limit < 1:
        raise BenchmarkError(f"the limit must be 1 or more, not {limit}")
    if limit is None or limit >= len(tasks):
        return list(tasks)
    sizes = Counter(task.category for task in tasks)
    exact = {name: limit * size / len(tasks) for name, size in sizes.items()}
    counts = {name: int(share) for name, share in exact.items()}
    for name in sorted(exact, key=lambda one: (counts[one] - exact[one], one))[: limit - sum(counts.values())]:
        counts[name] += 1
    chosen: set[int] = set()
    for name, count in counts.items():
        places = [at for at, task in enumerate(tasks) if task.category == name]
        chosen |= set(random.Random(f"{seed}/{name}").sample(places, count))
    return [task for at, task in enumerate(tasks) if at in chosen]


def leave_out(tasks: Sequence[Task], categories: Sequence[str]) -> tuple[list[Task], list[Task]]:
    """Split questions for a test out of distribution: those that routers may be fitted on, and those of categories that they never see.

    Args:
        tasks: The questions.
        categories: The categories left out.

    Returns:
        The questions of other categories, and those of these.

    Raises:
        BenchmarkError: No question has such a category, or all have.

    Example:
        >>> tasks = [Task(str(at), "?", "A", "choice", name, "test") for at, name in enumerate(["law", "physics", "law"])]
        >>> [len(part) for part in leave_out(tasks, ["law"])]
        [1, 2]
    """
    known = sorted({task.category for task in tasks})
    for name in categories:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise BenchmarkError(f"no question has the category {name!r}{hint} There are {', '.join(known)}")
    out = [task for task in tasks if task.category in set(categories)]
    if len(out) == len(tasks) and out:
        raise BenchmarkError(f"every question has a category left out ({', '.join(known)}): nothing is left to fit on")
    return [task for task in tasks if task.category not in set(categories)], out
