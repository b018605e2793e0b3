"""What one more call is expected to gain, by how sure the combiner is now."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 8


@dataclass(frozen=True, slots=True)
class Gains:
    """Expected gains of further calls.

    Attributes:
        sure: Mean confidence of each class of questions after each number of calls, ascending, shape (most, bins).
        gain: Share of right answers that stopping after another number of calls adds, shape (most, bins, most).

    Source:
        The idea of asking more only while it pays, as in TLC and SMART; the table is ours.
    """

    sure: np.ndarray
    gain: np.ndarray

    @classmethod
    def fit(cls, sure: np.ndarray, right: np.ndarray, bins: int = BINS) -> Gains:
        """Count gains among questions that were not learned from.

        Args:
            sure: Confidence after each number of calls, shape (most, n).
            right: Whether the answer then was right, shape (most, n).
            bins: Classes of confidence, of equal size.
        """
        most, n = sure.shape
        bins = max(1, min(bins, n // 20))
        rows, gains = np.zeros((most, bins)), np.zeros((most, bins, most))
        for calls in range(most):
            for at, members in enumerate(np.array_split(np.argsort(sure[calls], kind="stable"), bins)):
                rows[calls, at] = sure[calls, members].mean()
                gains[calls, at] = (right[:, members] - right[calls, members]).mean(axis=1)
            for value in np.unique(rows[calls]):  # who is equally sure of all has one class
                same = rows[calls] == value
                gains[calls, same] = gains[calls, same].mean(axis=0)
        return cls(rows, gains)

    def more(self, calls: int, sure: float, price: float, reserve: int) -> int:
        """Say how many more calls are worth their price together.

        Args:
            calls: Calls so far.
            sure: Confidence now.
            price: What one more call must gain.
            reserve: The most that can be asked.

        Example:
            >>> gains = Gains(np.array([[0.2, 0.8], [0.2, 0.8]]), np.array([[[0, 0.3], [0, 0.01]], [[0, 0], [0, 0]]]))
            >>> gains.more(1, 0.3, 0.05, reserve=3), gains.more(1, 0.8, 0.05, reserve=3)
            (1, 0)
        """
        most = len(self.sure)
        if not 0 < calls < most or not reserve:
            return 0
        ahead = range(1, min(reserve, most - calls) + 1)
        worth = {
            further: float(np.interp(sure, self.sure[calls - 1], self.gain[calls - 1, :, calls - 1 + further])) - price * further
            for further in ahead
        }
        best = max(worth, key=worth.__getitem__)
        return best if worth[best] > 0 else 0
