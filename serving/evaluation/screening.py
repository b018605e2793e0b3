"""Experts that no pool needs: those that only guess, and those that say what another one says."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from data.statistics import Interval, bootstrap, paired
from serving.evaluation.reach import Part

HARD = 1 / 3
"""A question is hard for an expert where at most this share of the others is right."""
DUPLICATE = 0.8
"""Share of the agreement beyond expectation, from 0 to 1, from which two experts are one."""
GROUPS = 5
"""Groups of questions of similar difficulty, within which agreement is expected by chance."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An expert that is not considered.

    Attributes:
        expert: Its name.
        reason: In a word.
        why: In figures.
    """

    expert: str
    reason: Literal["guesses", "lucky", "duplicate"]
    why: str


def screened(part: Part, seed: int = 0) -> list[Rejected]:
    """Find guessers, then duplicates among the others.

    An expert guesses where its score is not above the guessing rate, by a 95% interval. It is a lucky one where that holds of hard
    questions, where it is besides below the best of the others by the same measure, and where it is best in no category: what it alone
    has right, it has by chance. Of two duplicates the one that is right less often goes; of equals, the later.
    """
    found = [one for at in range(len(part.experts)) if (one := _guesser(part, at, seed))]
    gone = {one.expert for one in found}
    left = [at for at, name in enumerate(part.experts) if name not in gone]
    order = sorted(left, key=lambda at: (-part.scores[:, at].mean(), at))
    kept: list[int] = []
    for at in order:
        twins = [(excess, one) for one in kept if (excess := agreement(part, at, one, left, seed)) is not None and excess.low > DUPLICATE]
        if twins:
            excess, twin = max(twins, key=lambda pair: pair[0].mean)
            why = f"says what {part.experts[twin]} says: {_percent(excess)} of the agreement that expectation leaves open"
            found.append(Rejected(part.experts[at], "duplicate", why))
        else:
            kept.append(at)
    return found


def _guesser(part: Part, at: int, seed: int) -> Rejected | None:
    name, own = part.experts[at], part.scores[:, at]
    above = bootstrap(own - part.chance, seed=seed)
    rate = f"guessing gets {100 * part.chance.mean():.1f}%"
    if above.low <= 0:
        return Rejected(name, "guesses", f"{_percent(bootstrap(own, seed=seed))} right is not above guessing; {rate}")
    others = np.delete(part.scores, at, axis=1)
    if not others.shape[1]:
        return None
    hard = others.mean(axis=1) <= HARD
    best = others[:, int(others.mean(axis=0).argmax())]
    if not hard.any() or not paired(own, best, seed=seed).high < 0 or _leads(part, at):
        return None
    lucky = bootstrap((own - part.chance)[hard], seed=seed)
    if lucky.low > 0:
        return None
    told = _percent(bootstrap(own[hard], seed=seed))
    return Rejected(name, "lucky", f"on {int(hard.sum())} hard questions {told} right is not above guessing, and it is best at nothing")


def _leads(part: Part, at: int) -> bool:
    """Whether an expert is the best in a category, or as good as the best."""
    means = [part.scores[part.categories == one].mean(axis=0) for one in np.unique(part.categories)]
    return any(mean[at] >= mean.max() and mean[at] > 0 for mean in means)


def agreement(part: Part, one: int, other: int, among: list[int], seed: int = 0) -> Interval | None:
    """How much two experts agree beyond what is expected of questions of that difficulty, as a share of what could be.

    Within groups of questions of which equally many of the others have the answer, two that know nothing of each other agree as often as
    their rates of being right say, and, where both are wrong, as other pairs do that are. None where the table has no answers, or
    expectation leaves nothing open.

    Source:
        Cohen 1960, A Coefficient of Agreement for Nominal Scales (agreement less the expected, by what that leaves open).
    """
    if part.forms is None:
        return None
    rest = [at for at in among if at not in (one, other)]
    level = part.scores[:, rest].mean(axis=1) if rest else np.zeros(len(part))
    group = np.minimum((level * GROUPS).astype(int), GROUPS - 1)
    same = _same(part, one, other)
    right = part.scores >= 0.5
    expected = np.zeros(len(part))
    for each in np.unique(group):
        here = group == each
        first, second = right[here, one].mean(), right[here, other].mean()
        expected[here] = first * second + (1 - first) * (1 - second) * _wrong_alike(part, right, among, here, (one, other))
    if not (1 - expected).sum() > 1e-9:
        return None
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(0, len(part), len(part)) for _ in range(500)]
    kappas = [(same[at] - expected[at]).sum() / max((1 - expected[at]).sum(), 1e-9) for at in drawn]
    low, high = np.percentile(kappas, [2.5, 97.5])
    return Interval(float((same - expected).sum() / (1 - expected).sum()), float(low), float(high))


def _wrong_alike(part: Part, right: np.ndarray, among: list[int], here: np.ndarray, but: tuple[int, int]) -> float:
    """How often pairs of experts that are both wrong say the same."""
    alike, both = 0, 0
    for a, b in combinations(among, 2):
        if {a, b} != set(but):
            wrong = here & ~right[:, a] & ~right[:, b]
            both += int(wrong.sum())
            alike += int(_same(part, a, b)[wrong].sum())
    return alike / both if both else 0.0


def _same(part: Part, one: int, other: int) -> np.ndarray:
    assert part.forms is not None
    return np.asarray((part.forms[:, one] == part.forms[:, other]) & (part.forms[:, one] >= 0), dtype=float)


def _percent(interval: Interval) -> str:
    return f"{100 * interval.mean:.1f}% [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
