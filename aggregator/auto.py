"""The choice among aggregators: the one whose measured gain on questions like this is worth its tokens."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from aggregator.artefact import COMBINER
from aggregator.base import Aggregator, AggregatorError, Ask
from data.artefact import read_artefact, write_artefact
from data.encoders import STATIC, get_encoder
from data.records import Answer, Request, Route

FOLDS = 5
PULLS = (3e1, 1e2, 3e2, 1e3, 3e3, 1e4)
"""Strengths of the pull towards the mean difference that are tried."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What aggregators made of the same questions.

    Attributes:
        questions: The questions.
        best: The router's score of its best expert for each, shape (n,).
        right: Score of each aggregator's answers, shape (n,) each, by name.
        tokens: Tokens of each, all its calls together, shape (n,) each, by name.
    """

    questions: Sequence[str]
    best: np.ndarray
    right: Mapping[str, np.ndarray]
    tokens: Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which aggregator is worth its tokens, by question.

    Attributes:
        names: The aggregators, the one that is best as a whole first.
        weights: What each gains over the first, linear in what is seen of a question, shape (n_names, dim).
        means: What each gains on average, shape (n_names,).
        tokens: Mean tokens of each, shape (n_names,).
        centre: What is seen of a question on average, shape (dim,).
        price: Share of right answers that a thousand tokens must gain.
    """

    names: tuple[str, ...]
    weights: np.ndarray
    means: np.ndarray
    tokens: np.ndarray
    centre: np.ndarray
    price: float

    @classmethod
    def fit(cls, measured: Measured, price: float, seed: int = 0) -> Choice:
        """Learn on which questions one gains over another; gains that are not sure shrink to the mean.

        Args:
            measured: What each made of the same questions.
            price: Share of right answers that a thousand tokens must gain.
            seed: Seed of the folds.

        Raises:
            AggregatorError: There are fewer than ten questions, or fewer than two aggregators.
        """
        n = len(measured.questions)
        if n < 10 or len(measured.right) < 2:
            raise AggregatorError(f"a choice needs ten questions and two aggregators, not {n} and {len(measured.right)}")
        worth = {name: right.mean() - price * measured.tokens[name].mean() / 1000 for name, right in measured.right.items()}
        names = tuple(sorted(worth, key=lambda name: -worth[name]))  # equals in the order given
        rows = np.array([seen(text, best) for text, best in zip(measured.questions, measured.best, strict=True)])
        centre, base = rows.mean(axis=0), measured.right[names[0]]
        gains = [measured.right[name] - base for name in names]
        weights = np.array([np.zeros(len(centre)), *(_ridge(rows - centre, gain - gain.mean(), seed) for gain in gains[1:])])
        tokens = np.array([measured.tokens[name].mean() for name in names])
        return cls(names, weights, np.array([gain.mean() for gain in gains]), tokens, centre, price)

    def __call__(self, question: str, best: float, price: float | None = None) -> str:
        """Choose for a question, of which the router scores its best expert so."""
        gains = self.means + self.weights @ (seen(question, best) - self.centre)
        worth = gains - (self.price if price is None else price) * (self.tokens - self.tokens[0]) / 1000
        return self.names[int(np.argmax(np.round(worth, 9)))]


def seen(question: str, best: float) -> np.ndarray:
    """What is seen of a question: what it is about, and how sure the router is."""
    return np.concatenate([get_encoder(STATIC)([question])[0].astype(float), [best]])


def _ridge(rows: np.ndarray, gains: np.ndarray, seed: int) -> np.ndarray:
    """Fit what explains gains; nothing, where nothing foretells them out of fold."""
    fold = np.random.default_rng(seed).permutation(len(rows)) % FOLDS

    def solved(kept: np.ndarray, pull: float) -> np.ndarray:
        x = rows[kept]
        return np.asarray(np.linalg.solve(x.T @ x + pull * np.eye(x.shape[1]), x.T @ gains[kept]))

    def error(pull: float) -> float:
        return sum(float(((gains[fold == f] - rows[fold == f] @ solved(fold != f, pull)) ** 2).sum()) for f in range(FOLDS))

    errors = {pull: error(pull) for pull in PULLS}
    best = min(errors, key=errors.__getitem__)
    return solved(np.ones(len(rows), dtype=bool), best) if errors[best] < float((gains**2).sum()) else np.zeros(rows.shape[1])


class Auto(Aggregator):
    """Choose the aggregator for each question by what was measured: its gain on questions like this against its tokens.

    Args:
        path: Folder of the artefact, as `counterpoint combiner choose` writes it.
        price: Share of right answers that a thousand tokens must gain; None is what it was fitted with.

    Raises:
        AggregatorError: There is no such artefact, or one of its aggregators cannot be made.
    """

    kind: ClassVar[str] = "auto"

    def __init__(self, path: str, price: float | None = None) -> None:
        from aggregator import make_aggregator

        folder = Path(path)
        head, arrays = read_artefact(folder, COMBINER)
        if head.get("kind") != self.kind:
            raise AggregatorError(f"the combiner in {path} is a {head.get('kind')!r}, not a choice among aggregators")
        self.price = price
        kept = {name: arrays[name] for name in ("weights", "means", "tokens", "centre")}
        self.choice = Choice(tuple(head["names"]), **kept, price=head["price"])
        self.inner: dict[str, Aggregator] = {}
        for name, settings in head["settings"].items():
            inside = {key: str(folder / value) if key == "path" else value for key, value in settings.items() if key != "kind"}
            self.inner[name] = make_aggregator(settings["kind"], **inside)
        self.llm = any(inner.llm for inner in self.inner.values())

    def suited(self, request: Request, route: Route) -> Aggregator:
        """The aggregator that is worth its tokens for a request."""
        return self.inner[self.choice(request.question, max(route.scores.values(), default=0.0), self.price)]

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        """Let the chosen one combine."""
        return await self.suited(request, route).aggregate(request, answers, route, ask)

    def more(self, request: Request, answers: Sequence[Answer], route: Route, final: Answer) -> int:
        """Ask as many more as the chosen one wants."""
        return self.suited(request, route).more(request, answers, route, final)


def save_choice(choice: Choice, settings: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Write the artefact, with the artefacts of the aggregators in it.

    Args:
        choice: The choice.
        settings: For each of its names the aggregator's `kind` and settings; a `path` is copied.
        folder: Where to.

    Raises:
        AggregatorError: The folder cannot be written, or a path cannot be read.
    """
    kept: dict[str, dict[str, Any]] = {}
    for name in choice.names:
        kept[name] = dict(settings[name])
        if (path := kept[name].get("path")) is not None:
            try:
                shutil.copytree(path, folder / name, dirs_exist_ok=True)
            except OSError as error:
                raise AggregatorError(f"cannot copy the combiner in {path} to {folder / name}: {error}") from error
            kept[name]["path"] = name
    arrays = {"weights": choice.weights, "means": choice.means, "tokens": choice.tokens, "centre": choice.centre}
    head = {"kind": Auto.kind, "names": list(choice.names), "settings": kept, "price": choice.price}
    write_artefact(folder, (head, arrays), COMBINER)
