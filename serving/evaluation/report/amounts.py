"""Figures in words: scores in percent, differences in points with their intervals, dollars, counts."""

from __future__ import annotations

import numpy as np

from data.statistics import Interval, bootstrap, paired
from serving.evaluation.report.blocks import Cell

NONE = "-"
"""What stands where there is no figure; a note below says why."""


def percent(share: float) -> str:
    """A share in percent.

    Example:
        >>> percent(0.6251)
        '62.5'
    """
    return NONE if np.isnan(share) else f"{100 * share:.1f}"


def spread(interval: Interval | None) -> str:
    """The ends of a score's interval, in percent."""
    return NONE if interval is None else f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"


def gap_cell(interval: Interval | None) -> Cell:
    """A difference in points with its interval; one whose interval holds zero is called a tie.

    Example:
        >>> gap_cell(Interval(0.05, 0.01, 0.09)), gap_cell(Interval(0.01, -0.01, 0.03)).text
        (Cell(text='+5.0 [+1.0, +9.0]', tone='good'), 'tie +1.0 [-1.0, +3.0]')
    """
    if interval is None:
        return Cell(NONE, "quiet")
    words = f"{100 * interval.mean:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"
    return Cell(f"tie {words}", "quiet") if interval.tie else Cell(words, "good" if interval.mean > 0 else "bad")


def usd(dollars: float | None) -> str:
    """Dollars with as many digits as tell something.

    Example:
        >>> usd(12.5), usd(0.000123456), usd(0.0), usd(None)
        ('12.50', '0.000123', '0', '-')
    """
    if dollars is None or np.isnan(dollars):
        return NONE
    return "0" if dollars == 0 else f"{dollars:.2f}" if dollars >= 1 else np.format_float_positional(dollars, 3, fractional=False, trim="-")


def number(value: float, digits: int = 0) -> str:
    """A number with its thousands set apart.

    Example:
        >>> number(12345.6), number(1.25, 2)
        ('12,346', '1.25')
    """
    return NONE if np.isnan(value) else f"{value:,.{digits}f}"


def score_of(right: np.ndarray, seed: int) -> Interval | None:
    """The mean of the scores that are known, with its interval."""
    known = right[~np.isnan(right)]
    return bootstrap(known, seed=seed) if len(known) else None


def gap_of(a: np.ndarray, b: np.ndarray, seed: int) -> Interval | None:
    """`a - b` by question, where both are known, with its interval."""
    known = ~np.isnan(a - b)
    return paired(a[known], b[known], seed=seed) if known.any() else None
