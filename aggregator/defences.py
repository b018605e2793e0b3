"""Defences: wrappers of any aggregator for the case that an expert lies.

All stand on the same idea: a lie has fewer backers than the truth, as long as liars are fewer. What is dropped, grouped or
trusted less differs. Where there are fewer than three answers nobody can be outnumbered, and the inner aggregator sees all.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

import numpy as np

from aggregator.base import Aggregator, AggregatorError, Ask, degraded, is_usable, usable
from aggregator.forms import choices_of, shape
from aggregator.vote import elect
from data.encoders import get_encoder
from data.records import Answer, Message, Request, Route, Usage

ENOUGH = 3
"""Fewest answers among which one can be outnumbered."""
SHORT_WORDS = 3
"""A form of so many words or fewer can be compared by equality; a longer one is a sentence, which nobody says twice."""
ROOM = 4000
"""Characters of an open answer by which it is clustered."""


def groups_of(question: str, answers: Sequence[Answer]) -> list[list[int]]:
    """Group answers by what they say, the groups in order of their first answers.

    Closed answers (letters, numbers, names) are together where their forms are equal, and there are as many groups as forms.
    Open texts have no equals; they are put into two groups by their meaning (2-means on the static encoder, started from the
    two that are farthest apart).

    Example:
        >>> groups_of("Which? A) x B) y", [Answer("B", "a"), Answer("A, as all know.", "b"), Answer("(B)", "c")])
        [[0, 2], [1]]
    """
    forms = [shape(question, answer) for answer in answers]
    closed = bool(choices_of(question)) or 2 * sum(map(_closed, forms)) > len(forms)
    labels: Sequence[object] = forms if closed else two_means([answer.text for answer in answers])
    groups: dict[object, list[int]] = {}
    for at, label in enumerate(labels):
        groups.setdefault(label, []).append(at)
    return list(groups.values())


def two_means(texts: Sequence[str]) -> list[int]:
    """Put texts into two clusters, 0 and 1; alike in every process, and all 0 where all mean the same.

    Example:
        >>> two_means(["The cat sleeps on the sofa.", "Stocks fell on Monday.", "A cat is asleep on a couch."])
        [0, 1, 0]
    """
    vectors = get_encoder("static")([text[:ROOM] for text in texts]).astype(np.float64)
    near = vectors @ vectors.T
    one, other = np.unravel_index(int(np.argmin(np.round(near, 9))), near.shape)  # the first of equals
    if near[one, other] > 1 - 1e-6:
        return [0] * len(texts)
    centres = vectors[sorted((one, other))]
    labels = np.zeros(len(texts), dtype=int)
    for _ in range(20):  # so few points come to rest in a few steps
        distance = ((vectors[:, None] - centres[None]) ** 2).sum(axis=2)
        fresh = (distance[:, 1] < distance[:, 0] - 1e-12).astype(int)
        if (fresh == labels).all() and fresh.any():
            break
        labels = fresh
        centres = np.stack([vectors[labels == k].mean(axis=0) if (labels == k).any() else centres[k] for k in (0, 1)])
    return [int(label) for label in labels]


def biggest(groups: Sequence[Sequence[int]], weights: Sequence[float]) -> list[int]:
    """The biggest group; of equal ones that with more weight, else the first. Where nobody agrees with anybody, all are kept.

    Example:
        >>> biggest([[0, 3], [1, 2]], [0.1, 0.4, 0.4, 0.1]), biggest([[0], [1], [2]], [1, 1, 1])
        ([1, 2], [0, 1, 2])
    """
    best = max(groups, key=lambda group: (len(group), round(sum(weights[at] for at in group), 12)))
    return sorted(best) if len(best) > 1 else sorted(at for group in groups for at in group)


def narrowed(route: Route, answers: Sequence[Answer], kept: Sequence[int]) -> Route:
    """The route as if only the experts of some answers had been asked, their weights summing to 1 again."""
    experts = tuple(answers[at].expert for at in kept)
    primary = route.primary if route.primary in experts else experts[0]
    return replace(route, experts=experts, weights=_shares([_weight(route, at) for at in kept]), primary=primary)


class _Quiet:
    """An `Ask` whose words are nobody's answer, so that they are neither streamed nor shown."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def __call__(self, expert: str, messages: Sequence[Message], *, final: bool = False, **sampling: object) -> Awaitable[Answer]:
        return self._ask(expert, messages, final=False, **sampling)

    def route(self, text: str) -> Route:
        return self._ask.route(text)

    def draft(self, answer: Answer) -> None:
        pass


class _Noting(_Quiet):
    """An `Ask` that ends each prompt that quotes the answers by number with a note."""

    def __init__(self, ask: Ask, note: str, count: int) -> None:
        super().__init__(ask)
        self._note, self._last = note, f'<answer number="{count}">'

    def __call__(self, expert: str, messages: Sequence[Message], *, final: bool = False, **sampling: object) -> Awaitable[Answer]:
        *before, last = messages
        if self._last in last.content:
            messages = [*before, replace(last, content=f"{last.content}\n\n{self._note}")]
        return self._ask(expert, messages, final=final, **sampling)

    def draft(self, answer: Answer) -> None:
        self._ask.draft(answer)


class Defended(Aggregator):
    """An aggregator that another one stands behind.

    Args:
        inner: The aggregator that is defended.

    Raises:
        AggregatorError: The inner aggregator asks the experts itself, so that there are no answers to defend it against.

    Source:
        Wolf et al. 2025, This Is Your Doge, If It Please You: Exploring Deception and Robustness in Mixture of LLMs,
        arXiv:2503.05856 (dropout and vote, cluster and filter, dropout and cluster, cluster and prompt).
    """

    def __init__(self, inner: Aggregator) -> None:
        if inner.asks:
            raise AggregatorError(f"the defence {self.kind!r} needs answers, and the aggregator {inner.kind!r} asks the experts itself")
        self.inner = inner
        self.llm = inner.llm
        self.expert = inner.expert

    def is_called(self, kind: str) -> bool:
        """Whether a kind is the defence's or the inner aggregator's: who asks for that by name gets it defended."""
        return kind == self.kind or self.inner.is_called(kind)

    def learn(self, request_id: str, reward: float) -> bool:
        """Let the inner aggregator learn."""
        return self.inner.learn(request_id, reward)

    def more(self, request: Request, answers: Sequence[Answer], route: Route, final: Answer) -> int:
        """Ask as many more as the inner aggregator wants."""
        return self.inner.more(request, answers, route, final)

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        """Defend where there are enough answers."""
        if len(usable(answers)) < ENOUGH:
            return await self.inner.aggregate(request, answers, route, ask)
        return await self._defended(request, answers, route, ask)

    @abstractmethod
    async def _defended(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer: ...

    async def _of(self, kept: Sequence[int], request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        """What the inner aggregator makes of some of the answers."""
        return await self.inner.aggregate(request, [answers[at] for at in kept], narrowed(route, answers, kept), ask)


class _Dropping(Defended):
    """What the two defences have in common that aggregate subsets of the answers.

    Args:
        inner: The aggregator that is defended.
        every: Whether every non-empty subset is aggregated (2^n - 1 runs), or only those that leave one answer out (n runs).
        most: Answers from which on `every` is too dear, and one is left out.

    Raises:
        AggregatorError: `most` is less than 1.
    """

    def __init__(self, inner: Aggregator, every: bool = False, most: int = 6) -> None:
        super().__init__(inner)
        if most < 1:
            raise AggregatorError(f"most must be at least 1, not {most}")
        self.every, self.most = every, most

    def subsets(self, count: int) -> list[tuple[int, ...]]:
        """The subsets of so many answers, those of the best experts first.

        Example:
            >>> from aggregator.vote import Vote
            >>> DropoutVote(Vote()).subsets(3), len(DropoutVote(Vote(), every=True).subsets(5))
            ([(0, 1), (0, 2), (1, 2)], 31)
        """
        sizes = range(count, 0, -1) if self.every and count <= self.most else [count - 1]
        return [subset for size in sizes for subset in combinations(range(count), size)]

    async def outcomes(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> list[tuple[Answer, float]]:
        """Aggregate each subset; the outcomes with the route's weight behind each, in the order of what the experts said."""
        good = [at for at, answer in enumerate(answers) if is_usable(answer)]
        subsets = [[good[at] for at in subset] for subset in self.subsets(len(good))]
        made = await asyncio.gather(*(self._of(subset, request, answers, route, _Quiet(ask)) for subset in subsets))
        said = [shape(request.question, answers[at]) for at in good]
        weighed = [(outcome, sum(_weight(route, at) for at in subset)) for outcome, subset in zip(made, subsets, strict=True)]

        def place(entry: tuple[Answer, float]) -> int:
            made_of = shape(request.question, entry[0])
            return said.index(made_of) if made_of in said else len(said)

        return sorted(weighed, key=place)


class DropoutVote(_Dropping):
    """Dropout and vote: the inner aggregator runs on subsets of the answers, and the majority of the outcomes stands.

    A single lie is missing from some of the subsets. Ties go to what the best expert said.
    """

    kind: ClassVar[str] = "dropout"

    async def _defended(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        outcomes = [outcome for outcome, _ in await self.outcomes(request, answers, route, ask)]
        final = elect(request.question, outcomes, [1.0] * len(outcomes))
        said = {shape(request.question, answer): answer.text for answer in reversed(usable(answers))}
        shapes = {answer.text: shape(request.question, answer) for answer in outcomes}
        known = [(said[shapes[text]], weight) for text, weight in final.support if shapes[text] in said]
        support = tuple(known) if len(known) == len(final.support) else ()  # written texts are nobody's votes
        return replace(final, usage=_sum(outcomes), degraded=degraded(answers) or any(map(_marred, outcomes)), support=support)


class ClusterFilter(Defended):
    """Cluster and filter: the answers that agree most with each other are aggregated, the others left out.

    Closed answers: those of the commonest form, and all where no two agree. Open texts: the bigger of two clusters. Of equally
    big ones, that with more of the route's weight.
    """

    kind: ClassVar[str] = "filter"

    async def _defended(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        good = [at for at, answer in enumerate(answers) if is_usable(answer)]
        groups = groups_of(request.question, [answers[at] for at in good])
        kept = {good[at] for at in biggest(groups, [_weight(route, at) for at in good])}
        final = await self._of([at for at in good if at in kept], request, answers, route, ask)
        return replace(final, degraded=degraded(answers) or final.degraded)


class DropoutFilter(_Dropping):
    """Dropout and cluster: the inner aggregator runs on subsets, the biggest cluster of the outcomes is aggregated again.

    It is the outcomes that are clustered, not the answers: the paper's public code computes them, and clusters the answers.
    """

    kind: ClassVar[str] = "dropout-filter"

    async def _defended(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        made = await self.outcomes(request, answers, route, ask)
        alive = [(outcome, weight) for outcome, weight in made if outcome.error is None and outcome.text.strip()]
        outcomes, weights = [outcome for outcome, _ in alive] or [outcome for outcome, _ in made], [weight for _, weight in alive]
        kept = biggest(groups_of(request.question, outcomes), weights) if alive else list(range(len(outcomes)))
        clean = [replace(outcome, usage=Usage(), degraded=False, support=()) for outcome in outcomes]
        again = replace(narrowed(route, clean, kept), weights=_shares([1.0] * len(kept)))
        final = await self.inner.aggregate(request, [clean[at] for at in kept], again, ask)
        marred = degraded(answers) or any(_marred(outcome) for outcome, _ in made)
        usage = _sum([outcome for outcome, _ in made]) + final.usage
        return replace(final, usage=usage, degraded=marred or final.degraded)


class ClusterPrompt(Defended):
    """Cluster and prompt: all answers are kept, and an LLM that reads them is told how they group.

    Only prompts that quote the answers by number are changed; an inner aggregator without an LLM does as it would alone.
    """

    kind: ClassVar[str] = "groups"

    async def _defended(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        if not self.inner.llm:
            return await self.inner.aggregate(request, answers, route, ask)
        good = usable(answers)
        groups = groups_of(request.question, good)
        return await self.inner.aggregate(request, answers, route, _Noting(ask, grouping(groups), len(good)))


def grouping(groups: Sequence[Sequence[int]]) -> str:
    """Say how answers group.

    Example:
        >>> grouping([[0, 2, 3], [1]])
        'These answers fall into groups that say much the same: answers 1, 3, 4; answer 2. Numbers alone do not make a group right.'
    """
    named = "; ".join(f"answer{'s' * (len(group) > 1)} {', '.join(str(at + 1) for at in group)}" for group in groups)
    return f"These answers fall into groups that say much the same: {named}. Numbers alone do not make a group right."


Counts = Mapping[str, Sequence[int]]
"""Of each expert, how often it agreed with the others, and how often that could be said."""


class History(Defended):
    """Trust experts less whose past answers agreed with the others less often than the router's score promises.

    With s the router's score of an expert, its trust is (agreed + a s) / (total + a) / s, from 0.05 to 1. Its weight and its
    score are multiplied by it; below the threshold, its answer is left out while at least two others remain. Counts change
    by `observe` only, never by aggregating: an answer does not depend on the requests beside it.

    Args:
        inner: The aggregator that is defended.
        counts: The counts (`fit_history`), or None for none.
        path: A JSON file of counts to read instead, `{"expert": [agreed, total]}`.
        prior: The a: how many answers the router's score is worth.
        threshold: Least trust of an expert that is heard, from 0 to 1.
        memory: Where an expert's count grows beyond it, `observe` halves the count, so that who begins to lie is found out soon;
            None keeps all.

    Raises:
        AggregatorError: A setting is out of its range, or the counts are none.

    Source:
        Ours, after the question that Wolf et al. 2025, arXiv:2503.05856, leave open: who lies again and again.
    """

    kind: ClassVar[str] = "history"

    def __init__(
        self,
        inner: Aggregator,
        counts: Counts | None = None,
        path: str | None = None,
        prior: float = 10.0,
        threshold: float = 0.5,
        memory: int | None = None,
    ) -> None:
        super().__init__(inner)
        if counts is not None and path is not None:
            raise AggregatorError("give the counts or the path of their file, not both")
        if not prior > 0:
            raise AggregatorError(f"prior must be above 0, not {prior}")
        if not 0 <= threshold <= 1:
            raise AggregatorError(f"threshold must be from 0 to 1, not {threshold}")
        if memory is not None and memory < 1:
            raise AggregatorError(f"memory must be at least 1, not {memory}")
        self.prior, self.threshold, self.memory = prior, threshold, memory
        self.counts_ = _checked(_read(path) if path is not None else counts or {}, path or "the mapping")

    def trust(self, expert: str, score: float) -> float:
        """How much an expert is trusted of which the router expects a score.

        Example:
            >>> from aggregator.vote import Vote
            >>> history = History(Vote(), {"liar": (5, 90)})
            >>> history.trust("liar", 0.8), history.trust("stranger", 0.8)
            (0.1625, 1.0)
        """
        expected = min(max(score, 0.05), 1.0)
        agreed, total = self.counts_.get(expert, (0, 0))
        return round(min(max((agreed + self.prior * expected) / (total + self.prior) / expected, 0.05), 1.0), 12)

    def observe(self, answers: Sequence[Answer], question: str) -> None:
        """Count who agreed with the others on a question."""
        for expert, agreed in agreements(answers, question):
            before = self.counts_.get(expert, (0, 0))
            while self.memory is not None and before[1] >= self.memory:
                before = before[0] // 2, before[1] // 2
            self.counts_[expert] = (before[0] + agreed, before[1] + 1)

    def save(self, path: str | Path) -> None:
        """Write the counts, for `path`."""
        Path(path).write_text(json.dumps(self.counts_, indent=1) + "\n", encoding="utf-8")

    async def _defended(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        good = [at for at, answer in enumerate(answers) if is_usable(answer)]
        trust = {name: self.trust(name, score) for name, score in route.scores.items()}
        trusts = [trust.get(answers[at].expert, self.trust(answers[at].expert, 0.5)) for at in good]
        kept = set(good)
        for at, value in sorted(zip(good, trusts, strict=True), key=lambda pair: pair[1]):
            if value < self.threshold and len(kept) > 2:
                kept.discard(at)
        order = sorted(kept)
        weights = [_weight(route, at) * trusts[good.index(at)] for at in order]
        trusted = replace(
            narrowed(route, answers, order),
            weights=_shares(weights),
            scores={name: score * trust[name] for name, score in route.scores.items()},
        )
        final = await self.inner.aggregate(request, [answers[at] for at in order], trusted, ask)
        return replace(final, degraded=degraded(answers) or final.degraded)


class Peers(History):
    """Trust experts less whose past answers agreed with the others less often than those of their peers did.

    With m the median over the known experts of the share of answers that agreed, an expert's trust is
    (agreed + a m) / (total + a) / m, from 0.05 to 1, on every question alike. `History` holds the same count against the
    router's score of one question: it hears liars where the router expects little of them, and where two liars together
    spoil everybody's agreement it leaves out honest experts of whom the router expects much. Here both cancel.

    As all defences by agreement it is for experts that are good at the same questions: where each has a trade of its own, who
    is right alone is taken for a liar.

    Args:
        inner: The aggregator that is defended.
        counts: The counts (`fit_history`), or None for none.
        path: A JSON file of counts to read instead, `{"expert": [agreed, total]}`.
        prior: The a: how many answers the peers' share is worth.
        threshold: Least trust of an expert that is heard, from 0 to 1.
        memory: As for `History`.

    Raises:
        AggregatorError: A setting is out of its range, or the counts are none.

    Source:
        Ours.
    """

    kind: ClassVar[str] = "peers"

    def __init__(
        self,
        inner: Aggregator,
        counts: Counts | None = None,
        path: str | None = None,
        prior: float = 10.0,
        threshold: float = 0.8,
        memory: int | None = None,
    ) -> None:
        super().__init__(inner, counts, path, prior, threshold, memory)

    def trust(self, expert: str, score: float) -> float:
        """How much an expert is trusted, whatever the router expects of it; fully where fewer than three experts are known.

        Example:
            >>> from aggregator.vote import Vote
            >>> peers = Peers(Vote(), {"ann": (60, 100), "bob": (50, 100), "liar": (5, 100)})
            >>> peers.trust("ann", 0.9), round(peers.trust("liar", 0.1), 3), peers.trust("stranger", 0.9)
            (1.0, 0.182, 1.0)
        """
        rates = [agreed / total for agreed, total in self.counts_.values() if total]
        if len(rates) < ENOUGH:
            return 1.0
        usual = max(median(rates), 0.05)
        agreed, total = self.counts_.get(expert, (0, 0))
        return round(min(max((agreed + self.prior * usual) / (total + self.prior) / usual, 0.05), 1.0), 12)


def agreements(answers: Sequence[Answer], question: str) -> list[tuple[str, bool]]:
    """Of each expert, whether it says what most others say; nothing where its others do not agree among themselves.

    Example:
        >>> agreements([Answer("4", "a"), Answer("5", "b"), Answer("4.", "c"), Answer("4", "d")], "2 + 2?")
        [('a', True), ('b', False), ('c', True), ('d', True)]
    """
    good = usable(answers)
    forms = [shape(question, answer) for answer in good]
    found = []
    for at, answer in enumerate(good):
        others = Counter(forms[:at] + forms[at + 1 :])
        most = max(others.values(), default=0)
        if most > 1:
            found.append((answer.expert, others[forms[at]] == most))
    return found


def fit_history(rows: Sequence[tuple[str, Sequence[Answer]]]) -> dict[str, tuple[int, int]]:
    """Count over questions and their answers how often each expert agreed with the others, and how often that could be said.

    Example:
        >>> fit_history([("2 + 2?", [Answer("4", "a"), Answer("5", "b"), Answer("4", "c")])])
        {'b': (0, 1)}
    """
    counts: dict[str, tuple[int, int]] = {}
    for question, answers in rows:
        for expert, agreed in agreements(answers, question):
            before = counts.get(expert, (0, 0))
            counts[expert] = (before[0] + agreed, before[1] + 1)
    return counts


DEFENCES: dict[str, Callable[..., Defended]] = {
    kind.kind: kind for kind in (DropoutVote, ClusterFilter, DropoutFilter, ClusterPrompt, History, Peers)
}
"""Every defence, by name."""


def defence_settings(name: str) -> dict[str, inspect.Parameter]:
    """The settings that a defence takes.

    Raises:
        AggregatorError: The defence is unknown.
    """
    if name not in DEFENCES:
        raise AggregatorError(f"no defence is called {name!r}; there are {', '.join(DEFENCES)}")
    entries = inspect.signature(DEFENCES[name], eval_str=True).parameters
    return {name: entry for name, entry in entries.items() if name != "inner"}


def defended(inner: Aggregator, name: str, **settings: Any) -> Defended:
    """Put a defence around an aggregator.

    Raises:
        AggregatorError: The defence or a setting is unknown.

    Example:
        >>> from aggregator.vote import Vote
        >>> defended(Vote(), "dropout", every=True).kind
        'dropout'
    """
    known = defence_settings(name)
    if unknown := [entry for entry in settings if entry not in known]:
        raise AggregatorError(f"the defence {name!r} has no setting {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    return DEFENCES[name](inner, **settings)


def _closed(form: str) -> bool:
    """Whether others may come to the same form: a few words, a JSON object, or a list of them."""
    items = form.split(", ")
    listed = len(items) > 1 and all(len(item.split()) <= 2 for item in items)
    return len(form.split()) <= SHORT_WORDS or form.startswith("{") or listed


def _weight(route: Route, at: int) -> float:
    return route.weights[at] if at < len(route.weights) else 0.0


def _shares(weights: Sequence[float]) -> tuple[float, ...]:
    total = sum(weights)
    return tuple(weight / total if total > 0 else 1 / len(weights) for weight in weights)


def _sum(answers: Sequence[Answer]) -> Usage:
    return sum((answer.usage for answer in answers), Usage())


def _marred(outcome: Answer) -> bool:
    return outcome.degraded or outcome.error is not None


def _read(path: str) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AggregatorError(f"the counts in {path} cannot be read: {error}") from error


def _checked(counts: Any, source: str) -> dict[str, tuple[int, int]]:
    """Counts as they must be.

    Raises:
        AggregatorError: They are none.
    """
    if not isinstance(counts, Mapping):
        raise AggregatorError(f"the counts in {source} must be an object of [agreed, total] by expert, not {type(counts).__name__}")
    for expert, pair in counts.items():
        whole = isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(n, int) and not isinstance(n, bool) for n in pair)
        if not whole or not 0 <= pair[0] <= pair[1]:
            raise AggregatorError(f"the counts in {source} of {expert!r} must be [agreed, total] with 0 <= agreed <= total, not {pair!r}")
    return {str(expert): (int(pair[0]), int(pair[1])) for expert, pair in counts.items()}
