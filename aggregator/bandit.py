"""A choice among answers that learns from feedback: a linear contextual bandit."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from aggregator.base import Aggregator, AggregatorError, Ask, chosen, none_usable, usable
from aggregator.forms import shape
from data.records import Answer, Request, Route

REMEMBERED = 10_000
"""Choices that wait for feedback at once; the oldest are forgotten."""
SEEN = ("one", "score", "share", "agreement", "primary", "length")
"""What is known of an answer besides its expert."""


class Bandit(Aggregator):
    """Pick one answer by its expected reward and what is still uncertain of it; learn from feedback.

    The reward of an answer is linear in its expert, the router's score and weight, the share of experts that agree with it,
    and its length. Ties and draws depend on nothing but the request and what feedback has taught. Every choice that gets
    feedback is one line of the log; reading the log again gives the same state.

    Args:
        path: The log, JSON lines; None keeps it in memory only.
        explore: Width of the confidence that is added to the expected reward; 0 only exploits.
        ridge: Strength of the pull of the weights to 0.

    Raises:
        AggregatorError: The log cannot be read, or a setting is out of its range.

    Source:
        Li et al. 2010, A Contextual-Bandit Approach to Personalized News Article Recommendation, arXiv:1003.0146 (LinUCB,
        with one model for all arms).
    """

    kind: ClassVar[str] = "bandit"

    def __init__(self, path: str | None = None, explore: float = 0.5, ridge: float = 1.0) -> None:
        if explore < 0 or ridge <= 0:
            raise AggregatorError(f"the aggregator 'bandit': wanted explore from 0 and ridge above 0, not {explore} and {ridge}")
        self.path = None if path is None else Path(path)
        self.explore, self.ridge = explore, ridge
        self._experts: list[str] = []
        self._inverse = np.eye(len(SEEN)) / ridge
        self._reward = np.zeros(len(SEEN))
        self._open: dict[str, tuple[str, list[float]]] = {}
        self._lock = threading.Lock()
        for expert, seen, reward in self._lines():
            self._learn(expert, seen, reward)

    def _lines(self) -> list[tuple[str, list[float], float]]:
        if self.path is None or not self.path.exists():
            return []
        try:
            text = self.path.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]
            if whole != text:  # a line that was cut off was not learned, and the next one must not go on with it
                self.path.write_text(whole, encoding="utf-8")
            lines = [json.loads(line) for line in whole.splitlines()]
            made = [(str(line["expert"]), [float(value) for value in line["seen"]], float(line["reward"])) for line in lines]
            if any(len(seen) != len(SEEN) for _, seen, _ in made):
                raise ValueError(f"wanted {len(SEEN)} numbers of an answer")
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise AggregatorError(f"the aggregator 'bandit': its log {self.path} cannot be read: {error}") from error
        return made

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        """Pick the answer that promises most; equals are decided by the order of the route."""
        good = usable(answers)
        if not good:
            return none_usable(answers)
        shapes = [shape(request.question, answer) for answer in good]
        seen = [self.seen(answer, good, shapes, route) for answer in good]
        with self._lock:
            worth = [self._worth(answer.expert, values) for answer, values in zip(good, seen, strict=True)]
            best = max(range(len(good)), key=worth.__getitem__)
            self._open[request.id] = (good[best].expert, seen[best])
            while len(self._open) > REMEMBERED:
                del self._open[next(iter(self._open))]
        support: dict[str, float] = {}
        for answer, value in zip(good, worth, strict=True):
            support[answer.text] = max(value, support.get(answer.text, 0.0))
        return chosen(good[best], answers, [*support.items()])

    def seen(self, answer: Answer, answers: Sequence[Answer], shapes: Sequence[str], route: Route) -> list[float]:
        """What is known of an answer besides its expert, in the order of `SEEN`."""
        share = dict(zip(route.experts, route.weights, strict=True))
        words = [len(other.text.split()) for other in answers]
        length = len(answer.text.split()) / max(1, *words)
        agreement = shapes.count(shapes[answers.index(answer)]) / len(shapes)
        score, weight = route.scores.get(answer.expert, 0.0), share.get(answer.expert, 0.0)
        return [1.0, score, weight, agreement, float(answer.expert == route.primary), length]

    def learn(self, request_id: str, reward: float) -> bool:
        """Learn how good the answer to a request was.

        Args:
            request_id: The request.
            reward: From 0 to 1.

        Returns:
            Whether its choice was still remembered; feedback counts once.

        Raises:
            AggregatorError: The reward is out of its range, or the log cannot be written; nothing is learned then.
        """
        if not 0 <= reward <= 1:
            raise AggregatorError(f"a reward lies from 0 to 1, not at {reward}")
        with self._lock:
            if request_id not in self._open:
                return False
            expert, seen = self._open[request_id]
            if self.path is not None:
                try:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    with self.path.open("a", encoding="utf-8") as file:
                        file.write(json.dumps({"request": request_id, "expert": expert, "seen": seen, "reward": reward}) + "\n")
                except OSError as error:
                    raise AggregatorError(f"the feedback cannot be written to {self.path}: {error.strerror}") from error
            del self._open[request_id]
            self._learn(expert, seen, reward)
        return True

    def _features(self, expert: str, seen: Sequence[float]) -> np.ndarray:
        arms = np.zeros(len(self._experts))
        if expert in self._experts:
            arms[self._experts.index(expert)] = 1.0
        return np.concatenate([seen, arms])

    def _worth(self, expert: str, seen: Sequence[float]) -> float:
        features = self._features(expert, seen)
        unsure = features @ self._inverse @ features + (0.0 if expert in self._experts else 1.0 / self.ridge)
        return float(features @ self._inverse @ self._reward + self.explore * np.sqrt(unsure))

    def _learn(self, expert: str, seen: Sequence[float], reward: float) -> None:
        if expert not in self._experts:
            self._experts.append(expert)
            size = len(self._inverse)
            grown = np.eye(size + 1) / self.ridge
            grown[:size, :size] = self._inverse
            self._inverse, self._reward = grown, np.append(self._reward, 0.0)
        features = self._features(expert, seen)
        turned = self._inverse @ features
        self._inverse = self._inverse - np.outer(turned, turned) / (1.0 + features @ turned)  # Sherman and Morrison
        self._reward = self._reward + reward * features
