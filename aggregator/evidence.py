"""What speaks for each distinct answer: who gave it, how they argued, and how it looks beside the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aggregator.base import is_usable
from aggregator.candidates import Candidate, candidates_of
from aggregator.forms import LETTERS, divided
from aggregator.options import LOOKS, looks
from aggregator.reading import WORDS, Reading, read, support
from data.records import Answer

_VOTES = (
    *("backers", "backers_of_next", "share", "weak", "score_sum", "score_sum_of_next", "score_max", "score_max_of_next", "score_mean"),
    *("odds", "odds_margin", "asked", "distinct", "silent", "mean_of_all", "best_of_all", "first", "second", "position", "last_option"),
)
_SUPPORT = ("tail", "body", "overlap", "number", "any_number", "letter")
_TRUST = ("agrees_with_own_end", "contradicts_own_end", "rambles")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with all answers to it, read once.

    Attributes:
        question: The question.
        options: The texts of its options, none for an open question.
        looks: How these look, shape (n_options, n_looks).
        answers: The answers.
        readings: Each answer's words.
        scores: Each expert's predicted probability of a right answer.
    """

    question: str
    options: list[str]
    looks: np.ndarray
    answers: Sequence[Answer]
    readings: list[Reading]
    scores: Mapping[str, float]

    @classmethod
    def of(cls, question: str, answers: Sequence[Answer], scores: Mapping[str, float]) -> Asked:
        """Read a question and its answers."""
        stem, options = divided(question)
        return cls(question, options, looks(stem, options), answers, [read(answer.text) for answer in answers], scores)

    def place(self, form: str) -> int:
        """The place of an answer's letter among the options, -1 where it is none."""
        place = LETTERS.find(form) if len(form) == 1 else -1
        return place if place < len(self.options) else -1

    def first(self, count: int) -> Asked:
        """The same with the first answers only."""
        return Asked(self.question, self.options, self.looks, self.answers[:count], self.readings[:count], self.scores)


class Evidence:
    """Turn answers into one row of numbers for each distinct one.

    Args:
        experts: The experts whose habits are known; the rows tell who of them stands behind an answer.
        usual: Mean and deviation of each expert's `WORDS`, shape (n_experts, 2, n_words); how unusual an answer is counts.
    """

    def __init__(self, experts: Sequence[str], usual: np.ndarray) -> None:
        self.experts, self.usual = list(experts), usual
        self._at = {expert: at for at, expert in enumerate(self.experts)}
        self._mean = usual.mean(axis=0) if len(usual) else np.stack([np.zeros(len(WORDS)), np.ones(len(WORDS))])

    @classmethod
    def fit(cls, asked: Sequence[Asked]) -> Evidence:
        """Learn how long and how sure each expert usually is."""
        words: dict[str, list[tuple[float, ...]]] = {}
        for one in asked:
            for answer, reading in zip(one.answers, one.readings, strict=True):
                if is_usable(answer):
                    words.setdefault(answer.expert, []).append(reading.words)
        experts = sorted(words)
        tables = [np.array(words[expert]) for expert in experts]
        return cls(experts, np.array([[table.mean(axis=0), table.std(axis=0) + 1e-6] for table in tables]))

    @property
    def names(self) -> list[str]:
        """What the numbers of a row are."""
        words = [*(f"words_{name}" for name in WORDS), *_TRUST]
        backing = [f"{who}_{name}" for name in _SUPPORT for who in ("own", "others")]
        return [*_VOTES, *words, *backing, *(f"option_{name}" for name in LOOKS), *(f"by_{expert}" for expert in self.experts)]

    def rows(self, asked: Asked) -> tuple[list[Candidate], np.ndarray]:
        """The distinct answers and their rows, shape (n_candidates, n_names)."""
        found = candidates_of(asked.question, asked.answers)
        if not found:
            return [], np.zeros((0, len(self.names)))
        votes = self._votes(asked, found)
        rows = [
            [*vote, *self._words(asked, one), *self._support(asked, one), *self._look(asked, one), *self._by(asked, one)]
            for vote, one in zip(votes, found, strict=True)
        ]
        return found, np.array(rows, dtype=float)

    def _votes(self, asked: Asked, found: Sequence[Candidate]) -> list[list[float]]:
        scores = [asked.scores.get(answer.expert, 0.0) for answer in asked.answers]
        odds = [math.log(min(max(p, 0.01), 0.99) / (1 - min(max(p, 0.01), 0.99))) + 2 for p in scores]
        every = list(asked.scores.values()) or [0.0]
        order = sorted(asked.scores, key=lambda name: -asked.scores[name])
        counts = np.array([len(one.backers) for one in found], dtype=float)
        sums = np.array([math.fsum(scores[at] for at in one.backers) for one in found])  # exact, so in any order
        most = np.array([max(scores[at] for at in one.backers) for one in found])
        weight = np.array([math.fsum(odds[at] for at in one.backers) for one in found])
        rows = []
        for number, one in enumerate(found):
            who = {asked.answers[at].expert for at in one.backers}
            stated = sum(asked.readings[at].stated in ("", one.form) for at in one.backers) if asked.options else len(one.backers)
            silent = sum(asked.readings[at].stated == "" for at in one.backers) if asked.options else 0
            place = asked.place(one.form)
            rows.append(
                [
                    *(counts[number], _next(counts, number), counts[number] / counts.sum(), float(len(one.backers) - stated + silent)),
                    *(sums[number], _next(sums, number), most[number], _next(most, number), sums[number] / counts[number]),
                    *(weight[number], weight[number] - _next(weight, number)),
                    *(float(len(asked.answers)), float(len(found)), len(asked.answers) - counts.sum()),
                    *(sum(every) / len(every), max(every), float(order[:1] != [] and order[0] in who)),
                    *(float(len(order) > 1 and order[1] in who), float(place), float(0 <= place == len(asked.options) - 1)),
                ]
            )
        return rows

    def _words(self, asked: Asked, one: Candidate) -> list[float]:
        unusual = np.zeros(len(WORDS))
        agrees = contradicts = rambles = 0.0
        for at in one.backers:
            reading = asked.readings[at]
            known = self._at.get(asked.answers[at].expert)
            mean, deviation = self._mean if known is None else self.usual[known]
            unusual += np.clip((np.array(reading.words) - mean) / deviation, -6, 6)
            own = self._ends_in(reading, one.form, one.text)
            other = any(
                self._ends_in(reading, letter, text) for letter, text in zip(LETTERS, asked.options, strict=False) if letter != one.form
            )
            agrees += own
            contradicts += other and not own
            rambles += reading.rambles
        count = len(one.backers)
        return [*(unusual / count).tolist(), agrees / count, contradicts / count, rambles / count]

    @staticmethod
    def _ends_in(reading: Reading, form: str, text: str) -> bool:
        said = support(reading, form, text)
        return said[0] > 0 or said[3] > 0 or said[4] > 0

    def _support(self, asked: Asked, one: Candidate) -> list[float]:
        letter = one.form if asked.options else ""
        table = np.array([support(reading, letter, one.text) for reading in asked.readings])
        mine = np.zeros(len(table), dtype=bool)
        mine[list(one.backers)] = True
        own, others = table[mine].mean(axis=0), table[~mine].sum(axis=0) / len(table)
        return [float(value) for pair in zip(own, others, strict=True) for value in pair]

    def _look(self, asked: Asked, one: Candidate) -> list[float]:
        place = asked.place(one.form)
        return [float(value) for value in asked.looks[place]] if place >= 0 else [0.0] * len(LOOKS)

    def _by(self, asked: Asked, one: Candidate) -> list[float]:
        who = {asked.answers[at].expert for at in one.backers}
        return [float(expert in who) for expert in self.experts]


def _next(values: np.ndarray, number: int) -> float:
    """The largest of the others."""
    return float(np.delete(values, number).max()) if len(values) > 1 else 0.0
