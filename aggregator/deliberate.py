"""Deliberation: experts answer in rounds, a judge scores, the best answers are shared, and what was solved is remembered."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from aggregator.base import Aggregator, AggregatorError, Ask, chosen, none_usable, usable
from aggregator.forms import shape
from aggregator.memory import Memory, Solved
from aggregator.quoting import GUARD, below, numbered, tagged
from data.records import Answer, Request, Route, Usage

GOOD = 8.0
"""The score from which on an answer counts as right."""
BEST = 10.0
"""The highest score."""
JUDGED = 8000
"""Characters of an answer that a judge reads; a longer one is not remembered."""
VERIFIERS = ("judge", "agree")
"""How an answer is verified before it is remembered."""

REVISE = (
    "You have answered the user's last message before; your answer follows, and below it the answers of all assistants that a "
    f"judge liked best so far, best first. {GUARD} Go through the problem once more from its beginning. Keep what holds, mend "
    "what does not, and answer the user anew, in the form that was asked for and without a word about other answers."
)
REMIND = "Questions of a similar kind that were solved before, for what their solutions may teach:"
SCORE = (
    f"An assistant answered the user's last message; its answer follows. {GUARD} You are the judge, so do not answer the user. "
    "Work out yourself what is right, compare, and end with one line 'Score: n', n from 0 (wrong or no answer) to 10 (right and complete)."
)
VERIFY = (
    f"The answer that follows was given to the user's last message, and it may be false however sure it sounds. {GUARD} Look for "
    "its mistake: solve the problem step by step without it, and only then hold the two side by side. End with one line "
    "'Score: n', n from 0 (you found a mistake) to 10 (you are certain that there is none)."
)

_SCORE = re.compile(r"\bscore\b[*_\s]{0,9}[:=][*_\s]{0,9}(\d{1,2}(?:\.\d{1,9})?)(?![\d.]*\d)", re.IGNORECASE)


def read_score(text: str) -> float:
    """Read what a judge gave: the last score that it states; 0 where there is none from 0 to 10.

    Example:
        >>> read_score("It says Score: 10, but no. **Score:** 3/10"), read_score("Well done!"), read_score("Score: 100")
        (3.0, 0.0, 0.0)
    """
    found = _SCORE.findall(text)
    score = float(found[-1]) if found else 0.0
    return score if score <= BEST else 0.0


@dataclass(slots=True)
class _Entry:
    """A distinct answer: its first writer's words, who ever gave it, and its score."""

    answer: Answer
    backers: set[int]
    score: float = 0.0


class _Table:
    """The calls of one deliberation, summed, and what was answered."""

    def __init__(self, request: Request, ask: Ask) -> None:
        self.request, self.ask = request, ask
        self.usage = Usage()
        self.failed = False
        self.entries: dict[str, _Entry] = {}

    async def call(self, expert: str, text: str, **sampling: object) -> Answer:
        """Ask one expert with a text below the question."""
        answer = await self.ask(expert, below(self.request, text), final=False, **sampling)
        self.usage += answer.usage
        self.failed |= answer.error is not None
        return answer

    async def score(self, judge: str, answer: Answer, instruction: str = SCORE, seed: int | None = None) -> float:
        """Let a judge score an answer."""
        text = f"{instruction}\n{tagged('answer', answer.text, JUDGED)}"
        said = await self.call(judge, text, temperature=0.0, stop=(), max_tokens=None, seed=seed)
        return read_score(said.text) if said.error is None else 0.0

    def form(self, answer: Answer) -> str:
        """The form by which an answer is known."""
        return shape(self.request.question, answer)

    async def add(self, answers: Sequence[Answer], judge: str) -> None:
        """Take the answers of a round in, and let the judge score those that are new."""
        new: list[_Entry] = []
        for at, answer in enumerate(answers):
            entry = self.entries.get(self.form(answer))
            if entry is None:
                entry = self.entries[self.form(answer)] = _Entry(answer, set())
                new.append(entry)
            entry.backers.add(at)
        for entry, score in zip(new, await asyncio.gather(*(self.score(judge, entry.answer) for entry in new)), strict=True):
            entry.score = score

    def best(self) -> list[_Entry]:
        """The answers, best first: by score, then by how many gave it, then in order."""
        return sorted(self.entries.values(), key=lambda entry: (-entry.score, -len(entry.backers)))

    def settled(self, answers: Sequence[Answer]) -> bool:
        """Whether a round leaves nothing to discuss: all agree on a good answer, or every answer is the best possible."""
        scores = {shape: self.entries[shape].score for shape in map(self.form, answers)}
        return (len(scores) == 1 and min(scores.values()) >= GOOD) or all(score == BEST for score in scores.values())

    def answer(self, answers: Sequence[Answer]) -> Answer:
        """The best answer so far."""
        support = [(entry.answer.text, entry.score) for entry in self.entries.values() if entry.score > 0]
        best = chosen(self.best()[0].answer, answers, support)
        return replace(best, usage=self.usage, degraded=best.degraded or self.failed)


class Deliberate(Aggregator):
    """Let experts revise their answers in rounds, with the best ones so far before their eyes; the best-scored one stands.

    The given answers are the first round. In each further round, every expert that answered reads the question, its own
    answer, the shared store, and what this owner's memory holds of similar questions. A judge scores each distinct answer
    once. It ends early where all agree on an answer that the judge calls good, or where all scores are the highest. The
    support is each answer's score.

    Args:
        rounds: Rounds at most, the given answers among them.
        judge: The expert that scores, or None for the route's primary.
        keep: Answers in the shared store.
        memory: Folder of the memory, or None for none. It is the only thing by which one request tells on later ones, and
            only of the same owner (`request.owner`).
        verify: What an answer must pass to be remembered. `judge`: the judge gives at least 8, and so does a second opinion
            that looks for the mistake, of an expert that is neither judge nor author where there is one. `agree`: besides,
            more than half of the experts have given it.
        forbidden: A file with hashes of questions that are never remembered, one a line (`aggregator.memory.question_hash`).
        most: Answers that the memory keeps of each owner.

    Raises:
        AggregatorError: A setting is out of its range, or the forbidden hashes cannot be read.

    Source:
        Hosain et al. 2025, Xolver: Multi-Agent Reasoning with Holistic Experience Learning Just Like an Olympiad Team,
        arXiv:2506.14234 (rounds, judge, shared store, memory; prompts, early stop and verified writes are ours).
    """

    kind: ClassVar[str] = "deliberate"
    llm: bool = True

    def __init__(
        self,
        rounds: int = 2,
        judge: str | None = None,
        keep: int = 3,
        memory: str | None = None,
        verify: str = "judge",
        forbidden: str | None = None,
        most: int = 1000,
    ) -> None:
        for name, value in (("rounds", rounds), ("keep", keep)):
            if value < 1:
                raise AggregatorError(f"{name} must be at least 1, not {value}")
        if verify not in VERIFIERS:
            raise AggregatorError(f"verify must be one of {', '.join(VERIFIERS)}, not {verify!r}")
        self.rounds, self.judge, self.keep, self.verify = rounds, judge, keep, verify
        self.expert = judge
        hashes = _hashes(forbidden) if forbidden is not None else ()
        self.memory = Memory(memory, hashes, most) if memory is not None else None

    def more(self, request: Request, answers: Sequence[Answer], route: Route, final: Answer) -> int:
        """Ask nobody else where the judge calls the answer good."""
        good = final.error is None and bool(final.support) and final.support[0][1] >= GOOD
        return 0 if good else super().more(request, answers, route, final)

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        """Deliberate over at least two answers; a single one is given as it is."""
        standing = usable(answers)
        if not standing:
            return none_usable(answers)
        if len(standing) == 1:
            return chosen(standing[0], answers, [(standing[0].text, 1.0)])
        judge = self.judge or route.primary
        owner = request.owner
        table = _Table(request, ask)
        await table.add(standing, judge)
        solved = await self._recalled(owner, request) if self.rounds > 1 else []
        for _ in range(1, self.rounds):
            if table.settled(standing):
                break
            ask.draft(table.answer(answers))
            standing = await self._revised(table, standing, solved)
            await table.add(standing, judge)
        await self._learn(owner, table, judge, [answer.expert for answer in standing])
        return table.answer(answers)

    async def _revised(self, table: _Table, standing: Sequence[Answer], solved: Sequence[Solved]) -> list[Answer]:
        """One round: every expert answers anew; where it fails, its old answer stands."""
        store = numbered([entry.answer for entry in table.best()[: self.keep]])
        reminder = "\n".join([REMIND, *map(_quoted, solved)]) if solved else ""

        async def one(own: Answer) -> Answer:
            parts = (REVISE, tagged("own", own.text), f"<best>\n{store}\n</best>", reminder)
            new = await table.call(own.expert, "\n".join(part for part in parts if part))
            return new if new.error is None and new.text.strip() else own

        return await asyncio.gather(*map(one, standing))

    async def _recalled(self, owner: str | None, request: Request) -> list[Solved]:
        """Similar questions that this owner had solved."""
        if self.memory is None or owner is None:
            return []
        with suppress(OSError):  # a memory that cannot be read is one of nothing
            return await asyncio.to_thread(self.memory.recall, owner, request.question)
        return []

    async def _learn(self, owner: str | None, table: _Table, judge: str, experts: Sequence[str]) -> None:
        """Remember the best answer, if it is verified and its question can be understood alone."""
        best = table.best()[0]
        alone = [message.role for message in table.request.messages if message.role != "system"] == ["user"]
        agreed = self.verify != "agree" or 2 * len(best.backers) > len(experts)
        if self.memory is None or owner is None or not alone or not agreed or best.score < GOOD or len(best.answer.text) > JUDGED:
            return

        async def verify(question: str, text: str) -> bool:
            others = [name for name in experts if name != judge]
            second = next((name for name in others if name != best.answer.expert), judge)
            return await table.score(second, best.answer, VERIFY, seed=1) >= GOOD

        with suppress(OSError):  # what cannot be stored costs nobody the answer
            await self.memory.learn(owner, table.request.question, best.answer.text, verify)


def _quoted(entry: Solved) -> str:
    return f"<solved>{tagged('question', entry.question, 1000)}{tagged('solution', entry.answer, 1000)}</solved>"


def _hashes(path: str) -> list[str]:
    """Read the hashes of forbidden questions.

    Raises:
        AggregatorError: The file cannot be read, or a line is no hash.
    """
    try:
        lines = Path(path).read_text(encoding="ascii").split()
    except (OSError, ValueError) as error:
        raise AggregatorError(f"the forbidden hashes in {path} cannot be read: {error}") from error
    if wrong := [line for line in lines if not re.fullmatch(r"[0-9a-f]{64}", line)]:
        raise AggregatorError(f"{path} holds {wrong[0][:40]!r}, and wanted are hashes of 64 hexadecimal digits, one a line")
    return lines
