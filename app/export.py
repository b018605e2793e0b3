"""A conversation as a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict

from app.turns import Talk, Turn


def as_markdown(talk: Talk) -> str:
    """Write a conversation as Markdown.

    Example:
        >>> print(as_markdown(Talk((Turn("user", "2 + 2?"), Turn("assistant", "4")), title="Sums")))
        # Sums
        <BLANKLINE>
        ## You
        <BLANKLINE>
        2 + 2?
        <BLANKLINE>
        ## Counterpoint
        <BLANKLINE>
        4
        <BLANKLINE>
    """
    return "\n\n".join([f"# {talk.title or 'Conversation'}", *(part for turn in talk.turns for part in _parts(turn))]) + "\n"


def _parts(turn: Turn) -> Iterator[str]:
    name = "You" if turn.role == "user" else turn.author or "Counterpoint"
    yield f"## {name}{' (stopped)' if turn.stopped else ''}"
    yield turn.content
    if turn.account is not None:
        asked = ", ".join(f"{name} ({turn.account.route.scores.get(name, 0.0):.2f})" for name in turn.account.route.experts)
        yield f"*Asked: {asked}; combined by {turn.account.aggregator}; {turn.account.cost_usd:.6f} US dollars*"
    if turn.rival is not None:
        yield f"### Beside it: {turn.rival.author or 'another'}"
        yield turn.rival.content


def as_json(talk: Talk) -> str:
    """Write a conversation as JSON, with the account of each answer that is still there.

    Example:
        >>> json.loads(as_json(Talk((Turn("user", "Hi"),), title="Hi")))["messages"]
        [{'role': 'user', 'content': 'Hi'}]
    """
    return json.dumps({"title": talk.title, "messages": [_row(turn) for turn in talk.turns]}, indent=2, ensure_ascii=False) + "\n"


def _row(turn: Turn) -> dict[str, object]:
    row: dict[str, object] = {"role": turn.role, "content": turn.content}
    row |= {name: value for name in ("id", "author", "stopped", "vote") if (value := getattr(turn, name))}
    if turn.account is not None:
        row["account"] = asdict(turn.account)
    if turn.rival is not None:
        row["beside"] = _row(turn.rival)
    return row


def file_name(talk: Talk, ending: str) -> str:
    """Name a file by a conversation's title.

    Example:
        >>> file_name(Talk(title="What is 2 + 2?"), "md")
        'what-is-2-2.md'
    """
    return f"{re.sub(r'[^a-z0-9]+', '-', talk.title.casefold()).strip('-')[:50] or 'conversation'}.{ending}"
