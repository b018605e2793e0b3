"""A conversation as the page keeps it: bounded, and changed by plain functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Literal

from counterpoint import ConversationMessage, Explanation

MOST_TURNS = 400
"""Turns of a conversation."""

MOST_BYTES = 700_000
"""Bytes that a conversation takes as JSON, in which the endpoint keeps up to a mebibyte."""

MOST_QUESTION = 50_000
"""Characters of a question."""

MOST_ACCOUNTS = 12
"""Answers whose whole account stays in the session; older ones are fetched from the endpoint where it keeps traces."""

MOST_ACCOUNT_CHARACTERS = 20_000
"""Characters of one expert's answer in an account."""

Vote = Literal["mixture", "rival", "tie"]


@dataclass(frozen=True, slots=True)
class Turn:
    """A message.

    Attributes:
        role: `user` or `assistant`.
        content: Its text.
        id: The endpoint's name for an answer, or None.
        author: The model that answered, where it was asked beside another.
        account: How the answer came about, or None.
        stopped: Whether somebody stopped it.
        rival: The other answer, where two were asked for.
        blind: Whether the names of both are hidden until a vote.
        swapped: Whether the rival stands on the left.
        vote: Which was found better.
    """

    role: str
    content: str
    id: str | None = None
    author: str | None = None
    account: Explanation | None = None
    stopped: bool = False
    rival: Turn | None = None
    blind: bool = False
    swapped: bool = False
    vote: Vote | None = None


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation.

    Attributes:
        turns: Its turns.
        id: Name of its place where it is kept, or None.
        title: Its title, or empty before the first question.
    """

    turns: tuple[Turn, ...] = field(default=())
    id: str | None = None
    title: str = ""

    @property
    def full(self) -> bool:
        """Whether nothing more fits."""
        return len(self.turns) + 2 > MOST_TURNS or sum(len(json.dumps(turn.content)) for turn in self.turns) > MOST_BYTES


def messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """Give the turns as the endpoint takes them; what has no words is left out, and questions that nobody answered, but for the last.

    Example:
        >>> [each["content"] for each in messages([Turn("user", "lost"), Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c")])]
        ['a', 'b', 'c']
    """
    said = [turn for turn in turns if turn.content]
    unanswered = [turn.role == "user" and after is not None and after.role == "user" for turn, after in zip_longest(said, said[1:])]
    return [{"role": turn.role, "content": turn.content} for turn, left in zip(said, unanswered, strict=True) if not left]


def kept(turns: Sequence[Turn]) -> list[ConversationMessage]:
    """Give the turns as a conversation keeps them."""
    return [ConversationMessage(turn.role, turn.content, turn.id) for turn in turns if turn.content]


def restored(come: Sequence[ConversationMessage]) -> tuple[Turn, ...]:
    """Read turns back.

    Example:
        >>> restored([ConversationMessage("assistant", "4", "chatcmpl-1")])[0].id
        'chatcmpl-1'
    """
    return tuple(Turn(each.role, each.content, each.trace_id) for each in come)


def title_of(question: str, most: int = 60) -> str:
    """Make a title of the first question.

    Example:
        >>> title_of("What is the capital of France?", most=12)
        'What is the…'
    """
    line = " ".join(question.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def trimmed(account: Explanation) -> Explanation:
    """Cut long answers in an account short."""
    answers = tuple(replace(answer, text=answer.text[:MOST_ACCOUNT_CHARACTERS]) for answer in account.answers)
    support = tuple((text[:MOST_ACCOUNT_CHARACTERS], weight) for text, weight in account.support)
    return replace(account, answers=answers, support=support)


def bounded(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Keep the accounts of the last answers only.

    Example:
        >>> turns = [Turn("user", str(number)) for number in range(3)]
        >>> bounded(turns) == tuple(turns)
        True
    """
    held = [at for at, turn in enumerate(turns) if turn.account is not None]
    old = set(held[: max(0, len(held) - MOST_ACCOUNTS)])
    return tuple(_light(turn) if at in old else turn for at, turn in enumerate(turns))


def _light(turn: Turn) -> Turn:
    return replace(turn, account=None, rival=turn.rival and replace(turn.rival, account=None))


def before(turns: Sequence[Turn], at: int) -> tuple[Turn, ...]:
    """Go back to what was said before a turn.

    Example:
        >>> [turn.content for turn in before([Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c")], 2)]
        ['a', 'b']
    """
    return tuple(turns[:at])


def voted(turn: Turn, vote: Vote) -> Turn:
    """Take a vote between two answers; the better one goes on in the conversation.

    Example:
        >>> voted(Turn("assistant", "4", rival=Turn("assistant", "5"), blind=True), "rival").content
        '5'
    """
    if turn.rival is None or turn.vote is not None:
        return turn
    if vote != "rival":
        return replace(turn, vote=vote)
    other = replace(turn, rival=None, vote=None, blind=False, swapped=False)
    return replace(turn.rival, rival=other, blind=turn.blind, swapped=not turn.swapped, vote=vote)


def sides(turn: Turn) -> tuple[Turn, Turn]:
    """Give two answers as they stand, left and right."""
    assert turn.rival is not None
    return (turn.rival, turn) if turn.swapped else (turn, turn.rival)


def worth(vote: Vote) -> tuple[float, float]:
    """Say what a vote makes the mixture's and the rival's answer worth.

    Example:
        >>> worth("mixture"), worth("tie")
        ((1.0, 0.0), (0.5, 0.5))
    """
    return {"mixture": (1.0, 0.0), "rival": (0.0, 1.0), "tie": (0.5, 0.5)}[vote]
