"""Pools what experts think of the options of a multiple-choice question, each under several prompts, with learned weights."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from aggregator.artefact import COMBINER
from aggregator.base import Aggregator, AggregatorError, Ask, chosen, none_usable
from aggregator.forms import choices_of
from aggregator.quoting import below
from aggregator.vote import Weighted
from data.artefact import read_artefact, write_artefact
from data.graders import read_choice
from data.records import Answer, Message, Request, Route, Usage
from data.scores import read_logprobs

LETTERS = "ABCDEFGHIJ"
"""The letters that options may have."""

PROMPTS = {"letter": "Answer with the letter of the right option only."}
"""The prompt that is used where no other is named: a short instruction below the question."""

SURE = 0.9
"""Probability of the letter that an expert writes, where its engine tells none."""

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
"""Pulls of the weights towards equal ones, of which cross-validation chooses."""

FOLDS = 5


def opinion(letters: str, answer: Answer) -> np.ndarray | None:
    """What an expert thinks of the options.

    Args:
        letters: The options.
        answer: Its answer.

    Returns:
        Log-probabilities that are normalised over the options, shape (n_letters,): what its engine told, else `SURE` for the
        letter that it wrote; None where it failed or wrote none.

    Example:
        >>> np.exp(opinion("ABC", Answer("B", "ann"))).round(2).tolist()
        [0.05, 0.9, 0.05]
    """
    if answer.error is not None:
        return None
    told = dict(answer.logprobs)
    if any(letter in told for letter in letters):
        least = min(told.values())
        values = np.array([told.get(letter, least) for letter in letters])
        return np.asarray(values - np.logaddexp.reduce(values))
    letter = read_choice(answer.text if answer.parsed is None else answer.parsed)
    if letter is None or letter not in letters:
        return None
    return np.log([SURE if other == letter else (1 - SURE) / (len(letters) - 1) for other in letters])


def pair(expert: str, prompt: str) -> str:
    """The name of an expert under a prompt, as in the column `expert` of a score table; the prompt "" adds nothing to a question.

    Example:
        >>> pair("ann", "letter"), pair("ann", "")
        ('ann@letter', 'ann')
    """
    return f"{expert}@{prompt}" if prompt else expert


def asked(request: Request, instruction: str) -> list[Message]:
    """The conversation with the instruction below its question."""
    return below(request, instruction) if instruction else list(request.messages)


@dataclass(frozen=True, slots=True)
class PoolWeights:
    """How much each expert counts under each prompt.

    Attributes:
        weights: Weight of each pair `expert@prompt`; may be negative.
        prompts: Text of each prompt, by its name.
        strength: Pull towards equal weights with which they were learned.
    """

    weights: Mapping[str, float]
    prompts: Mapping[str, str]
    strength: float = 0.0

    def of(self, expert: str) -> list[tuple[str, str]]:
        """The pairs of an expert: name of each, and text of its prompt."""
        return [(pair(expert, name), text) for name, text in self.prompts.items() if pair(expert, name) in self.weights]

    def save(self, folder: Path) -> None:
        """Write the artefact.

        Raises:
            AggregatorError: The folder cannot be written.
        """
        head = {"kind": Pooled.kind, "pairs": list(self.weights), "prompts": dict(self.prompts), "strength": self.strength}
        write_artefact(folder, (head, {"weights": np.array(list(self.weights.values()))}), COMBINER)

    @classmethod
    def load(cls, folder: Path) -> PoolWeights:
        """Read an artefact.

        Raises:
            AggregatorError: It is absent, damaged, or of another kind.
        """
        head, arrays = read_artefact(folder, COMBINER)
        if head.get("kind") != Pooled.kind:
            raise AggregatorError(f"the combiner in {folder} is of kind {head.get('kind')!r}, not {Pooled.kind!r}")
        try:
            return cls(dict(zip(head["pairs"], arrays["weights"].tolist(), strict=True)), dict(head["prompts"]), head["strength"])
        except (KeyError, TypeError, ValueError) as error:
            raise AggregatorError(f"the combiner in {folder} is damaged: {type(error).__name__}: {error}") from error


class Pooled(Aggregator):
    """Ask experts under several prompts how probable each option is, and pool: p(y) is proportional to exp(sum of w_i log p_i(y)).

    Here i are pairs of an expert and a prompt, and y the option letters, over which each p_i is normalised. A negative weight
    makes use of an expert that is wrong more often than chance. Experts without a weight are not asked; where none of the route's
    has one, the others that have are, as far as the request allows. A failed call drops out, and the other weights stay. A question without
    lettered options is asked as it is, and decided by `weighted`.

    Args:
        path: Folder of what `fit_pool` learned; without it, all experts of the route count alike under one prompt.

    Raises:
        AggregatorError: There is nothing learned at the path.

    Source:
        Hong et al. 2024, Mixtures of In-Context Learners, arXiv:2411.02830 (there a pair is a set of demonstrations); the prompts
        and the pull towards equal weights, which says most where the data say little, are ours.
    """

    kind: ClassVar[str] = "pool"
    llm: bool = True
    asks: bool = True
    replays = True  # from the log-probabilities of answers that are given, or their votes

    def __init__(self, path: str | None = None) -> None:
        self.learned = None if path is None else PoolWeights.load(Path(path))

    @classmethod
    def of(cls, learned: PoolWeights) -> Pooled:
        """Make one of weights at hand."""
        made = cls()
        made.learned = learned
        return made

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        """Ask and pool; answers that are given are pooled where they tell log-probabilities, and weighed like votes otherwise."""
        letters = LETTERS[: choices_of(request.question)]
        if answers:
            weights = self._weights_of([answer.expert for answer in answers])
            told = letters and any(answer.logprobs and weight for answer, weight in zip(answers, weights, strict=True))
            final = self._pool(letters, answers, weights) if told else None
            return final or await Weighted().aggregate(request, answers, route, ask)
        pairs = self._pairs(request, route) if letters else []
        if not pairs:
            return await self._plain(request, route, ask, Usage())
        calls = (
            ask(expert, asked(request, text), max_tokens=1, temperature=0.0, stop=(), choices=tuple(letters)) for expert, _, text in pairs
        )
        said = await asyncio.gather(*calls)
        usage = sum((answer.usage for answer in said), Usage())
        if final := self._pool(letters, said, self._weights_of([name for _, name, _ in pairs])):
            return replace(final, usage=usage)
        if all(answer.error is not None for answer in said):
            return replace(none_usable(list({answer.expert: answer for answer in said}.values())), usage=usage)
        return await self._plain(request, route, ask, usage)  # nobody begins with a letter

    def _pairs(self, request: Request, route: Route) -> list[tuple[str, str, str]]:
        """Who is asked: expert, name of the pair, and text of the prompt."""
        known, routed = self.learned, list(dict.fromkeys(route.experts))
        if known is None:
            return [(expert, pair(expert, name), text) for expert in routed for name, text in PROMPTS.items()]
        allowed = set(route.scores if request.experts is None else request.experts) - set(request.exclude)
        others = [expert for expert in route.scores if expert in allowed]
        return [(e, *one) for e in routed for one in known.of(e)] or [(e, *one) for e in others for one in known.of(e)]

    def _weights_of(self, names: Sequence[str]) -> list[float]:
        """The weight of each pair; 0 for those that nothing was learned of."""
        if self.learned is None:
            return [1 / len(names)] * len(names)
        return [self.learned.weights.get(name, 0.0) for name in names]

    async def _plain(self, request: Request, route: Route, ask: Ask, spent: Usage) -> Answer:
        """Ask the route's experts the question as it is, and weigh their answers like votes."""
        experts = list(dict.fromkeys(route.experts))
        said = await asyncio.gather(*(ask(expert, request.messages, final=len(experts) == 1) for expert in experts))
        final = await Weighted().aggregate(request, said, route, ask)
        return replace(final, usage=sum((answer.usage for answer in said), spent))

    def _pool(self, letters: str, answers: Sequence[Answer], weights: Sequence[float]) -> Answer | None:
        """The most probable letter, said to be of the expert that counts most of those that think so; None where nobody tells."""
        known = [(a, w, o) for a, w in zip(answers, weights, strict=True) if w and (o := opinion(letters, a)) is not None]
        if not known:
            return None
        shares = pooled(np.array([[o for _, _, o in known]]), np.array([w for _, w, _ in known]))[0]
        best = int(shares.argmax())
        agreeing = [one for one in known if int(one[2].argmax()) == best] or known
        expert = max(agreeing, key=lambda one: one[1])[0].expert
        support = list(zip(letters, shares.tolist(), strict=True))
        return chosen(Answer(letters[best], expert), answers, support)


def pooled(opinions: np.ndarray, weights: np.ndarray, offset: np.ndarray | float = 0.0) -> np.ndarray:
    """Pool log-probabilities.

    Args:
        opinions: Shape (n_questions, n_pairs, n_letters), 0 for pairs that tell nothing.
        weights: Shape (n_pairs,).
        offset: 0 for letters that a question has and minus infinity for the others, shape (n_questions, n_letters).

    Returns:
        Probabilities, shape (n_questions, n_letters).

    Example:
        >>> pooled(np.log([[[0.8, 0.2], [0.4, 0.6]]]), np.array([1.0, -1.0])).round(3).tolist()
        [[0.857, 0.143]]
    """
    logits = np.einsum("qpl,p->ql", opinions, weights) + offset
    return np.asarray(np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)))


@dataclass(frozen=True, slots=True)
class Opinions:
    """What pairs think of questions whose answers are known.

    Attributes:
        told: Log-probabilities, shape (n_questions, n_pairs, n_letters); 0 where a cell is missing or a letter is no option.
        offset: 0 for options and minus infinity for other letters, shape (n_questions, n_letters).
        truth: Index of the right letter, shape (n_questions,).
    """

    told: np.ndarray
    offset: np.ndarray
    truth: np.ndarray

    def part(self, rows: np.ndarray) -> Opinions:
        """Some of the questions."""
        return Opinions(self.told[rows], self.offset[rows], self.truth[rows])

    def loss(self, weights: np.ndarray, strength: float = 0.0, towards: float = 0.0) -> tuple[float, np.ndarray]:
        """The mean negative log-likelihood plus the pull towards equal weights of a size, and its gradient, shape (n_pairs,)."""
        rows = np.arange(len(self.truth))
        shares = pooled(self.told, weights, self.offset)
        away = weights - towards
        right = self.told[rows, :, self.truth]
        slope = (np.einsum("ql,qpl->qp", shares, self.told) - right).mean(axis=0)
        nll = -np.log(np.maximum(shares[rows, self.truth], 1e-300)).mean()
        return float(nll + strength * away @ away), slope + 2 * strength * away

    def size(self) -> float:
        """The size of equal weights of the least loss: 1 / n_pairs, or less where the experts are too sure of themselves."""
        from scipy.optimize import minimize_scalar

        ones = np.ones(self.told.shape[1])
        bounds = (0.05 / len(ones), 1 / len(ones))  # up to the geometric mean
        return float(minimize_scalar(lambda size: self.loss(size * ones)[0], bounds=bounds, method="bounded").x)

    def learn(self, strength: float) -> np.ndarray:
        """The weights of the least loss, shape (n_pairs,); there is one such set, for the loss is convex."""
        from scipy.optimize import minimize

        size = self.size()
        found = minimize(self.loss, np.full(self.told.shape[1], size), args=(strength, size), jac=True, method="L-BFGS-B")
        return np.asarray(found.x)


def fit_pool(table: pd.DataFrame, prompts: Mapping[str, str] | None = None, seed: int = 0) -> PoolWeights:
    """Learn weights from what experts told of the options of questions whose answers are known.

    Args:
        table: A checked score table with the columns `answer`, a letter, and `logprobs`, and experts called `name@prompt` or
            `name`, as `counterpoint profile --options` writes it; other rows are left alone.
        prompts: Text of each prompt, by its name; None takes those of the column `prompt`.
        seed: Seed of the folds.

    Raises:
        AggregatorError: The table tells nothing of options, or the text of a prompt is not known.
    """
    if missing := [name for name in ("answer", "logprobs") if name not in table.columns]:
        raise AggregatorError(f"the score table has no column {missing[0]!r}: make one by `counterpoint profile --options`")
    pairs, known = opinions_of(table)
    named = {name for _, at, name in (one.rpartition("@") for one in pairs) if at}
    texts = _prompts_of(table, named) if prompts is None else dict(prompts)
    if unknown := sorted(named - set(texts)):
        raise AggregatorError(f"the text of the prompt {unknown[0]!r} is not known: it is not in the column prompt")
    texts = {name: text for name, text in texts.items() if name in named} | ({"": ""} if any("@" not in one for one in pairs) else {})
    strength = _best_strength(known, seed)
    return PoolWeights(dict(zip(pairs, known.learn(strength).tolist(), strict=True)), texts, strength)


def opinions_of(table: pd.DataFrame, pairs: Sequence[str] | None = None) -> tuple[list[str], Opinions]:
    """Read what pairs think of the options from a score table.

    Args:
        table: As `fit_pool` takes it.
        pairs: The pairs wanted, in order, or None for all.

    Returns:
        The pairs and their opinions, for the questions of which at least one told something.

    Raises:
        AggregatorError: There is none.
    """
    cells: dict[str, tuple[str, str, dict[str, np.ndarray]]] = {}
    for row in table.to_dict("records"):
        told, expert = read_logprobs(row["logprobs"]), str(row["expert"])
        if not told and "@" not in expert:  # an answer of its own words
            continue
        letters = LETTERS[: choices_of(str(row["query"]))] or "".join(sorted(letter for letter, _ in told if letter in LETTERS))
        right = read_choice(str(row["answer"]))
        if right is None or right not in letters or (pairs is not None and expert not in pairs):
            continue
        text = next((row[name] for name in ("prediction", "response") if isinstance(row.get(name), str)), "")
        if (thought := opinion(letters, Answer(text, expert, logprobs=told))) is not None:
            cells.setdefault(str(row["query_id"]), (letters, right, {}))[2][expert] = thought
    if not cells:
        raise AggregatorError("the score table tells nothing of options: make one by `counterpoint profile --options`")
    names = list(pairs) if pairs is not None else list(dict.fromkeys(name for _, _, said in cells.values() for name in said))
    told_all = np.zeros((len(cells), len(names), len(LETTERS)))
    offset = np.full((len(cells), len(LETTERS)), -np.inf)
    for at, (letters, _, said) in enumerate(cells.values()):
        offset[at, [LETTERS.index(letter) for letter in letters]] = 0.0
        for name, thought in said.items():
            told_all[at, names.index(name), [LETTERS.index(letter) for letter in letters]] = thought
    return names, Opinions(told_all, offset, np.array([LETTERS.index(right) for _, right, _ in cells.values()]))


def _prompts_of(table: pd.DataFrame, named: set[str]) -> dict[str, str]:
    """The texts of prompts, from the table's column, else those of our own."""
    texts = {name: text for name, text in PROMPTS.items() if name in named}
    if "prompt" in table.columns:
        for expert, text in table[["expert", "prompt"]].drop_duplicates().itertuples(index=False):
            if isinstance(text, str) and "@" in expert:
                texts[expert.rpartition("@")[2]] = text
    return texts


def _best_strength(known: Opinions, seed: int) -> float:
    """The pull of the least loss on questions that were left out; of equals the strongest."""
    n = len(known.truth)
    folds = min(FOLDS, n)
    if folds < 2:
        return STRENGTHS[-1]
    fold = np.random.default_rng(seed).permutation(n) % folds
    losses = {
        strength: float(np.mean([known.part(fold == f).loss(known.part(fold != f).learn(strength))[0] for f in range(folds)]))
        for strength in reversed(STRENGTHS)
    }
    return min(losses, key=lambda strength: losses[strength])
