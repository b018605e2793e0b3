"""Trained combiners: they score each distinct answer by what speaks for it, and say how sure they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from aggregator.artefact import COMBINER
from aggregator.base import Aggregator, AggregatorError, Ask, chosen, none_usable, usable
from aggregator.evidence import Asked, Evidence
from aggregator.gains import Gains
from aggregator.options import LOOKS
from aggregator.trees import Trees
from data.artefact import Parts, read_artefact, write_artefact
from data.records import Answer, Request, Route

DEPTHS = (1, 2, 3, 5, 8)
"""How many of a question's answers are learned from at once, the best expert's first: one combiner serves every number of calls."""
FOLDS = 5

Tick = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Example:
    """A question whose answers were graded.

    Attributes:
        asked: The question and its answers, the router's best expert first.
        right: The score of each answer, 0 to 1.
    """

    asked: Asked
    right: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Table:
    """Rows of candidates, question by question.

    Attributes:
        rows: Shape (n_rows, n_names).
        labels: Whether a candidate is right, shape (n_rows,).
        starts: First row of each question, and the end, shape (n_questions + 1,).
    """

    rows: np.ndarray
    labels: np.ndarray
    starts: np.ndarray

    def groups(self) -> Iterator[slice]:
        """The rows of each question."""
        for start, end in zip(self.starts, self.starts[1:], strict=False):
            yield slice(int(start), int(end))


class Fitted(Aggregator):
    """What trained combiners share: evidence, trees, gains, and the artefact.

    Args:
        path: Folder of the artefact, as `counterpoint combiner fit` writes it.
        price: Share of right answers that one more call must be expected to add, where the route has a reserve: then
            experts are asked one wave after the other. None leaves that to the route.

    Raises:
        AggregatorError: There is no such artefact, or it is another kind's.
    """

    def __init__(self, path: str, price: float | None = None) -> None:
        head, arrays = read_artefact(Path(path), COMBINER)
        if head.get("kind") != self.kind:
            raise AggregatorError(f"the combiner in {path} is a {head.get('kind')!r}, not a {self.kind!r}")
        if price is not None and not 0 <= price <= 1:
            raise AggregatorError(f"the aggregator {self.kind!r}: price must lie from 0 to 1, not at {price}")
        self.price = price
        try:
            self._restore(head, arrays)
        except KeyError as error:
            raise AggregatorError(f"the combiner in {path} lacks {error}: fit it again") from error

    def _restore(self, head: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.evidence = Evidence(head["experts"], arrays["usual"])
        self.columns = arrays["columns"]
        self.trees = [Trees.of(arrays, f"trees{at}", start) for at, start in enumerate(head["starts"])]
        self.gains = Gains(arrays["gains.sure"], arrays["gains.gain"])

    @classmethod
    def fit(
        cls,
        examples: Sequence[Example],
        *,
        options: bool = True,
        bag: int = 3,
        seed: int = 0,
        tick: Tick = lambda done, total: None,
    ) -> Self:
        """Learn from graded answers; what more calls gain is learned out of fold.

        Args:
            examples: The questions, their routers' scores out of fold.
            options: Whether the look of options counts, which is knowledge of exams.
            bag: Combiners whose scores are averaged, each fitted with another seed.
            seed: Seed of the draws and folds.
            tick: Told of fits done and their total.

        Raises:
            AggregatorError: There are fewer questions than folds, or none has a right and a wrong answer.
        """
        if len(examples) < FOLDS:
            raise AggregatorError(f"a combiner needs at least {FOLDS} questions to learn from, not {len(examples)}")
        made = cls.__new__(cls)
        made.price, made.trees = None, []
        made.evidence = Evidence.fit([example.asked for example in examples])
        names = made.evidence.names
        exam = {f"option_{name}" for name in LOOKS} | {"position", "last_option"}
        made.columns = np.array([at for at, name in enumerate(names) if options or name not in exam], dtype=np.int32)
        most = max(1, *(len(example.right) for example in examples))
        tables = {depth: made._table(examples, depth) for depth in range(1, most + 1)}
        total, done = FOLDS + bag, 0
        folds = np.random.default_rng(seed).permutation(len(examples)) % FOLDS
        sure, right = np.zeros((most, len(examples))), np.zeros((most, len(examples)))
        for fold in range(FOLDS):
            made.trees = [made._trees(tables, folds != fold, seed)]
            for depth, table in tables.items():
                for at, group in enumerate(table.groups()):
                    if folds[at] == fold and group.stop > group.start:
                        chances = made.chances(table.rows[group])
                        best = int(chances.argmax())
                        sure[depth - 1, at], right[depth - 1, at] = chances[best], table.labels[group][best]
            tick(done := done + 1, total)
        made.gains = Gains.fit(sure, right)
        made.trees = []
        for number in range(bag):
            made.trees = [*made.trees, made._trees(tables, np.ones(len(examples), dtype=bool), seed + number)]
            tick(done := done + 1, total)
        return made

    def _table(self, examples: Sequence[Example], depth: int) -> _Table:
        rows, labels, starts = [], [], [0]
        for example in examples:
            found, table = self.evidence.rows(example.asked.first(depth))
            rows.append(table)
            labels += [max(example.right[at] for at in one.backers) > 0.5 for one in found]
            starts.append(starts[-1] + len(found))
        return _Table(np.concatenate(rows), np.array(labels, dtype=int), np.array(starts))

    def _trees(self, tables: dict[int, _Table], kept: np.ndarray, seed: int) -> Trees:
        """Fit on some of the questions."""
        rows, labels = [], []
        for depth in sorted({min(depth, max(tables)) for depth in DEPTHS}):
            table = tables[depth]
            for keep, group in zip(kept, table.groups(), strict=True):
                if keep and group.stop > group.start:
                    x, y = self._lessons(table.rows[group][:, self.columns], table.labels[group])
                    rows.append(x)
                    labels.append(y)
        y = np.concatenate(labels or [np.zeros(0)])
        if len(set(y.tolist())) < 2:
            raise AggregatorError("a combiner needs right and wrong answers to learn from; here all are alike")
        leaf = min(200, max(5, len(y) // 100))
        return Trees.fit(np.concatenate(rows), y, trees=150, rate=0.05, leaves=15, smallest=leaf, ridge=5.0, seed=seed, max_features=0.4)

    def _lessons(self, rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the trees learn from one question."""
        return rows, labels

    def chances(self, rows: np.ndarray) -> np.ndarray:
        """The probability that each candidate is right, shape (n_candidates,)."""
        raw = np.mean([trees(rows[:, self.columns]) for trees in self.trees], axis=0)
        return np.asarray(1.0 / (1.0 + np.exp(-raw)))

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        """Give the answer that is most likely right; its probability stands in the support."""
        if not usable(answers):
            return none_usable(answers)
        found, rows = self.evidence.rows(Asked.of(request.question, answers, route.scores))
        chances = self.chances(rows).tolist()
        best = chances.index(max(chances))
        said = [answers[one.backers[0]] for one in found]
        return chosen(said[best], answers, [(answer.text, chance) for answer, chance in zip(said, chances, strict=True)])

    def more(self, request: Request, answers: Sequence[Answer], route: Route, final: Answer) -> int:
        """Ask as many more as promise more than they cost."""
        sure = final.support[0][1] if final.support else 0.0
        if self.price is None:
            return 0 if sure >= route.agreement else len(route.reserve)
        return self.gains.more(len(answers), sure, self.price, len(route.reserve))

    def state(self) -> Parts:
        """What an artefact holds."""
        head = {"kind": self.kind, "experts": self.evidence.experts, "starts": [trees.start for trees in self.trees]}
        arrays = {"usual": self.evidence.usual, "columns": self.columns, "gains.sure": self.gains.sure, "gains.gain": self.gains.gain}
        for at, trees in enumerate(self.trees):
            arrays |= trees.arrays(f"trees{at}")
        return head, arrays

    def save(self, folder: Path) -> None:
        """Write `combiner.json` and `weights.safetensors`.

        Raises:
            AggregatorError: The folder cannot be written.
        """
        write_artefact(folder, self.state(), COMBINER)


class Learned(Fitted):
    """Score each distinct answer by itself: boosted trees over votes, words, reasoning and form give its probability to be right."""

    kind: ClassVar[str] = "learned"


class Ranked(Fitted):
    """Compare distinct answers two by two; the one that wins most clearly is given.

    Source:
        Jiang, Ren and Lin 2023, LLM-Blender, arXiv:2306.02561 (PairRanker's idea; the features and the model are ours).
    """

    kind: ClassVar[str] = "rank"

    def _lessons(self, rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        right, wrong = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
        pairs = [(one, other) for one in right for other in wrong]
        ahead = [np.concatenate([rows[one], rows[one] - rows[other]]) for one, other in pairs]
        behind = [np.concatenate([rows[other], rows[other] - rows[one]]) for one, other in pairs]
        width = 2 * rows.shape[1]
        return np.array([*ahead, *behind]).reshape(-1, width), np.array([1] * len(pairs) + [0] * len(pairs), dtype=int)

    def chances(self, rows: np.ndarray) -> np.ndarray:
        """The share of comparisons that each candidate wins, softly; 1 for a single one."""
        used, n = rows[:, self.columns], len(rows)
        if n == 1:
            return np.ones(1)
        pairs = [(one, other) for one in range(n) for other in range(n) if one != other]
        table = np.array([np.concatenate([used[one], used[one] - used[other]]) for one, other in pairs])
        raw = np.mean([trees(table) for trees in self.trees], axis=0).reshape(n, n - 1)
        wins = np.exp((raw - raw.max()).mean(axis=1))
        return np.asarray(wins / wins.sum())
