"""A circuit breaker: an expert that keeps failing is left alone for a while, then tried with one call."""

from __future__ import annotations

from dataclasses import dataclass

FAILURES = 4
"""Failures in a row after which an engine is left alone: one more than a single call can cause by killing its engine at every try."""
HOPELESS = 10
"""Failures in a row after which the calls that wait for an engine are ended, too."""
FIRST_S = 1.0
LONGEST_S = 60.0


@dataclass(slots=True)
class Breaker:
    """Count an engine's failures in a row; pure, times are seconds on any clock.

    Example:
        >>> breaker = Breaker()
        >>> for _ in range(4):
        ...     breaker.failed(10.0)
        >>> breaker.wait_s(10.5), breaker.wait_s(11.0)
        (0.5, 0.0)
        >>> breaker.wait_s(11.0)  # one trial is under way
        1.0
        >>> breaker.worked()
        >>> breaker.wait_s(11.0)
        0.0
    """

    failures: int = 0
    until: float = 0.0
    trial: bool = False

    def failed(self, now: float) -> None:
        """Take note of a failure; each beyond the fourth doubles the time of rest."""
        self.failures += 1
        self.trial = False
        if self.failures >= FAILURES:
            self.until = now + min(LONGEST_S, FIRST_S * 2 ** (self.failures - FAILURES))

    @property
    def open(self) -> bool:
        """Whether the engine is left alone, but for a trial now and then."""
        return self.failures >= FAILURES

    def withdrawn(self) -> None:
        """Take note that the trial has left without a verdict, for its caller has gone, say; the next call is another."""
        self.trial = False

    def worked(self) -> None:
        """Take note of a success."""
        self.failures, self.until, self.trial = 0, 0.0, False

    def wait_s(self, now: float) -> float:
        """Seconds until a call may go through, 0 where it may; the first after a rest is a trial, others wait for its end."""
        if not self.open:
            return 0.0
        if now < self.until:
            return self.until - now
        if self.trial:
            return FIRST_S
        self.trial = True
        return 0.0
