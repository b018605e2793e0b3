"""The conversation on the page and what is under way in it.

Streamlit ends a run of the page at any look into the session's state when a newer one is wanted. So what must change together stands in one
object, whose methods look into nothing else: a question that was sent, or an answer that came, is never left between two places.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from app.history import Shelf
from app.trouble import Trouble, trouble_of
from app.turns import Talk, Turn, bounded, title_of, trimmed
from app.underway import Progress, Question
from counterpoint import CounterpointError


class Finder(Protocol):
    """Finds where conversations are kept."""

    def shelf(self) -> Shelf:
        """Find it."""
        ...


MOVED = "This conversation was changed or deleted elsewhere; it goes on here as one of its own."


@dataclass(slots=True, weakref_slot=True)
class Board:
    """A conversation that goes on; with it end the questions that nobody waits for any more.

    Attributes:
        talk: The conversation.
        under_way: Questions whose answers come: one, or the mixture's and its rival's.
        swapped: Whether the rival stands on the left.
        blind: Whether it is hidden who is who.
        trouble: Why the last question has no answer.
        next: What is asked once the answer under way has ended, or empty.
        again: Turns whose last one is asked anew in the next run of the page, by the settings of that run.
        not_kept: Why the conversation could not be kept, or empty.
        note: What one should know of where it is kept, or empty.
    """

    talk: Talk = field(default_factory=Talk)
    under_way: list[Question] = field(default_factory=list)
    swapped: bool = False
    blind: bool = False
    trouble: Trouble | None = None
    next: str = ""
    again: tuple[Turn, ...] = ()
    not_kept: str = ""
    note: str = ""
    _asked: list[Question] = field(default_factory=list)

    def __post_init__(self) -> None:
        weakref.finalize(self, _stop, self._asked)

    def put(self, talk: Talk, finder: Finder) -> None:
        """Go on with a conversation, and keep it; where that fails it is said, and the conversation goes on."""
        self.talk, self.not_kept = talk, ""
        try:
            self.talk = finder.shelf().keep(talk)
            if talk.id not in (None, self.talk.id):
                self.note = MOVED
        except CounterpointError as error:
            self.not_kept = str(error)

    def ask(self, turns: Sequence[Turn], questions: Sequence[Question], finder: Finder) -> None:
        """Ask what the last turn says."""
        self.trouble, self.again = None, ()
        self.put(replace(self.talk, turns=bounded(turns), title=self.talk.title or title_of(turns[-1].content)), finder)
        self.under_way = [question.start() for question in questions]
        self._asked[:] = questions

    def finish(self, mixture: str, finder: Finder) -> None:
        """Make what came part of the conversation."""
        questions, self.under_way = self.under_way, []
        made = [_turn(question.progress, question.model) for question in questions]
        failed = next((question.progress.error for question in questions if question.progress.error is not None), None)
        if failed is not None:
            self.trouble = trouble_of(failed)
        written = [turn for turn in made if turn.content]
        if not written:
            return
        answer = written[0]
        if len(written) == 2:
            answer = replace(made[0], author=mixture, rival=made[1], blind=self.blind, swapped=self.swapped)
        self.put(replace(self.talk, turns=bounded((*self.talk.turns, answer))), finder)

    def leave(self, mixture: str, finder: Finder) -> None:
        """Begin a new conversation; of an answer under way, what has come stays in the old one."""
        _stop(self.under_way)
        if self.under_way:
            self.finish(mixture, finder)
        self.clear()

    def clear(self) -> None:
        """Begin a new conversation; nothing of the old one is kept any more."""
        _stop(self.under_way)
        self.talk, self.under_way, self.trouble, self.next, self.again, self.not_kept, self.note = Talk(), [], None, "", (), "", ""


def _stop(questions: Iterable[Question]) -> None:
    for question in questions:
        question.stop()


def _turn(progress: Progress, model: str | None) -> Turn:
    account = trimmed(progress.account) if progress.account is not None else None
    cut = (progress.stopped or progress.error is not None) and account is None  # with the account all has come
    return Turn("assistant", progress.text.strip(), progress.id or None, model, account, cut)
