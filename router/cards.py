"""What policies know of experts besides their scores."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["routed", "shared", "constant"]


@dataclass(frozen=True, slots=True)
class Card:
    """One expert's card.

    Attributes:
        usd: The most that this request's call can cost, in US dollars.
        size_b: Parameters, in billions.
        latency_s: Seconds that its answers are known to take.
        age_days: Days since it was released.
        role: `routed` competes by its score; `shared` is asked for everything; `constant` answers alone what its patterns match.
        match: Regular expressions of the whole questions that a constant expert answers; case doesn't matter, nor do closing marks.
    """

    usd: float = 0.0
    size_b: float = 0.0
    latency_s: float = 0.0
    age_days: float = 0.0
    role: Role = "routed"
    match: tuple[str, ...] = ()

    def matches(self, question: str) -> bool:
        """Whether this is a constant expert that answers a question.

        Example:
            >>> Card(role="constant", match=("hello|hi",)).matches(" Hello!")
            True
        """
        if self.role != "constant":
            return False
        asked = question.strip()
        texts = (asked, asked.rstrip("!.? "))
        return any(re.fullmatch(pattern, text, re.IGNORECASE) for pattern in self.match for text in texts)


_PLAIN = Card()


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known when a request comes.

    Attributes:
        cards: Cards by expert; one without a card costs nothing and competes by its score.
        resident: Experts whose weights are loaded. Routes then depend on what others asked, so this stays empty unless an
            operator chose to prefer such experts.
        last: Experts that the conversation's last turn was routed to.
    """

    cards: Mapping[str, Card] = field(default_factory=dict)
    resident: frozenset[str] = frozenset()
    last: tuple[str, ...] = ()

    def card(self, name: str) -> Card:
        """The card of an expert."""
        return self.cards.get(name, _PLAIN)


NOTHING_KNOWN = Situation()
