"""What serving and swapping cost, measured as it happens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Measured:
    """A mean that follows what was measured lately.

    Args:
        prior: The value before anything was measured.
        memory: Number of the latest measurements that the mean reaches back, roughly.

    Example:
        >>> swap = Measured(5.0)
        >>> swap.add(2.0), swap.add(4.0)
        (2.0, 3.0)
    """

    prior: float
    memory: int = 64
    seen: int = 0
    mean: float = 0.0

    def add(self, value: float) -> float:
        """Take in one measurement and give the new mean."""
        self.seen += 1
        self.mean += (value - self.mean) / min(self.seen, self.memory)
        return self.mean

    @property
    def value(self) -> float:
        """The mean, or the prior while there is none."""
        return self.mean if self.seen else self.prior
