"""Loading a benchmark: rows to questions, without doubles, with examples from train, a stratified part of them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data.benchmarks.choosing import same_text, stratified, without_doubles
from data.benchmarks.items import item_of
from data.benchmarks.prompts import ask, example, version
from data.benchmarks.rows import BenchmarkError, has, rows
from data.benchmarks.specs import SPECS, Item, Spec
from data.graders import CODE
from data.skills import Task


@dataclass(frozen=True, slots=True)
class Loaded:
    """The questions of a benchmark, and where they are from.

    Attributes:
        name: The benchmark, as it was asked for.
        tasks: The questions.
        source: Where they were read.
        version: Wording and number of examples, such as `options-1, 5 examples`.
        dropped: Questions left out: `twice` (the same text before) and `in_test` (the text also stands in test).
        total: How many there were to choose from.
        seed: Of the choice, of examples and of the order of options.
        shots: Worked examples before each question.
        weights: What a question of each benchmark counts; the weights of all questions sum to 1.
    """

    name: str
    tasks: list[Task]
    source: str
    version: str
    dropped: Mapping[str, int]
    total: int
    seed: int = 0
    shots: int = 0
    weights: Mapping[str, float] = field(default_factory=dict)


def load_spec(spec: Spec, path: Path | None, split: str, limit: int | None, seed: int, shots: int) -> Loaded:
    """Load a benchmark of `SPECS`.

    Args:
        spec: The benchmark.
        path: Its files, or None for the model hub.
        split: `train`, `tune` or `test`.
        limit: How many questions.
        seed: Of everything that is drawn.
        shots: Worked examples before each question, out of train.

    Raises:
        BenchmarkError: It cannot be loaded so.
    """
    if split not in spec.splits:
        raise BenchmarkError(f"{spec.name} has no split {split!r}; it has {', '.join(spec.splits)}")
    items = _items(spec, split, path, seed)
    test = set(_texts(_items(spec, "test", path, seed))) if split != "test" and has(spec, spec.splits["test"], path) else set()
    kept, dropped = without_doubles(items, _texts(items), test)
    if not kept:
        raise BenchmarkError(f"{spec.name} has no questions in {split}" + (" that do not also stand in test" if items else ""))
    examples = _examples(spec, path, seed, shots, kept, test) if shots else {}
    tasks = [_task(spec, item, split, at, examples.get(item.category, examples.get("", ()))) for at, item in enumerate(kept, start=1)]
    _unique(tasks)
    chosen = stratified(tasks, limit, seed)
    source = str(path) if path else f"{spec.hub} ({spec.licence})" if spec.licence else spec.hub
    worded = version(spec.prompt, shots)
    return Loaded(spec.name, chosen, source, worded, dropped, len(tasks), seed, shots, {spec.name: 1 / len(chosen)})


def _items(spec: Spec, split: str, path: Path | None, seed: int) -> list[Item]:
    return [item_of(spec, place, config, row, seed) for place, config, row in rows(spec, spec.splits[split], path)]


def _texts(items: Sequence[Item]) -> list[str]:
    """What makes two questions the same: the text with its options, in any order."""
    return same_text("\n".join([item.question, *sorted(item.options)]) for item in items)


def _task(spec: Spec, item: Item, split: str, at: int, examples: Sequence[str]) -> Task:
    grader = spec.grader if isinstance(spec.grader, str) else spec.grader(item.question, item.answer)
    query = ask(spec.prompt, item.question, item.options, examples)
    return Task(f"{spec.name}-{item.id or f'{split}-{at}'}", query, item.answer, grader, item.category or spec.name, split)


def _unique(tasks: Sequence[Task]) -> None:
    counts = Counter(task.query_id for task in tasks)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise BenchmarkError(f"the id {twice[0]!r} stands at {counts[twice[0]]} different questions")


def _examples(spec: Spec, path: Path | None, seed: int, shots: int, asked: Sequence[Item], test: set[str]) -> Mapping[str, Sequence[str]]:
    """Worked examples for each category, out of train: of the category where it has enough, else of all; never one that is asked."""
    if "train" not in spec.splits:
        raise BenchmarkError(f"{spec.name} has no train split to take {shots} examples from; ask without examples (shots: 0)")
    if not has(spec, spec.splits["train"], path):
        raise BenchmarkError(f"{spec.name}: {shots} examples come from train, and there is no {spec.splits['train']!r} split at {path}")
    train = _items(spec, "train", path, seed)
    free, _ = without_doubles(train, _texts(train), test | set(_texts(asked)))
    groups = {"": free} | {name: [item for item in free if item.category == name] for name in {item.category for item in asked} - {""}}
    made: dict[str, list[str]] = {}
    for name, group in groups.items():
        if len(group) < shots and (name or not free):
            continue
        if len(group) < shots:
            raise BenchmarkError(f"{spec.name} has {len(group)} questions in train that are not asked; wanted {shots} examples")
        picked = random.Random(f"{seed}/examples/{name}").sample(group, shots)
        made[name] = [_example(spec, item) for item in picked]
    if not made:
        raise BenchmarkError(f"{spec.name} has no question in train that is not asked; wanted {shots} examples")
    return made


def _example(spec: Spec, item: Item) -> str:
    if spec.grader == CODE:
        return example(spec.prompt, item.question, (), item.worked)
    return example(spec.prompt, item.question, item.options, item.answer, item.worked)


def spec_of(name: str) -> Spec:
    """Find a benchmark by its name.

    Raises:
        BenchmarkError: There is none.
    """
    if name not in SPECS:
        known = ", ".join([*SPECS, "skills", "skills:FAMILIES", "file:PATH", "scores:PATH"])
        raise BenchmarkError(f"no benchmark is called {name!r}; there are {known}")
    return SPECS[name]
