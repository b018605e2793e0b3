"""What a question is asked with, as the sidebar sets it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

AGGREGATORS = ("best", "vote", "weighted", "medoid", "fuse", "judge", "debate", "auto")
"""Kinds that need nothing but the experts; a mixture's own may be another."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a question; None leaves the choice to the mixture.

    Attributes:
        k: How many experts are asked.
        aggregator: What combines their answers.
        temperature: How much they vary.
        budget_usd: What all calls may cost.
        max_latency_s: What they may take.
        off: Experts that are not asked.
        objective: What a unit of price and of latency takes from a score.
        primary_first: Whether the first expert's words come at once.
    """

    k: int | None = None
    aggregator: str | None = None
    temperature: float | None = None
    budget_usd: float | None = None
    max_latency_s: float | None = None
    off: tuple[str, ...] = ()
    objective: tuple[tuple[str, float], ...] = ()
    primary_first: bool = False

    def options(self) -> dict[str, Any]:
        """Give them as the client's keywords.

        Example:
            >>> Settings(k=2, off=("slow",)).options()
            {'k': 2, 'exclude': ['slow']}
        """
        names = ("k", "aggregator", "temperature", "budget_usd", "max_latency_s")
        given: dict[str, Any] = {name: value for name in names if (value := getattr(self, name)) is not None}
        given |= {"exclude": list(self.off)} if self.off else {}
        given |= {"objective": dict(self.objective)} if self.objective else {}
        return given | ({"primary_first": True} if self.primary_first else {})

    def alone(self) -> dict[str, Any]:
        """Give what still holds where one expert is asked by its name."""
        return {"temperature": self.temperature}


PRESETS = {
    "As the mixture says": Settings(),
    "One expert, cheap": Settings(k=1, objective=(("price", 0.2),), primary_first=True),
    "Fast first words": Settings(k=2, primary_first=True),
    "Three opinions": Settings(k=3, aggregator="weighted"),
}
"""Presets that are always there."""

MOST_PRESETS = 20


def saved(presets: dict[str, Settings], name: str, settings: Settings) -> dict[str, Settings]:
    """Add a preset; those that are always there stay, and the oldest own one leaves where there are too many.

    Example:
        >>> list(saved({}, " Mine ", Settings(k=1)))
        ['Mine']
    """
    title = name.strip()[:40]
    if not title or title in PRESETS:
        return presets
    rest = {key: value for key, value in presets.items() if key != title}
    return dict([*rest.items()][-(MOST_PRESETS - 1) :]) | {title: replace(settings)}
