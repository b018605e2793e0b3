"""What a key may take: requests and tokens a minute, and a budget in dollars."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from data.records import CounterpointError, Usage
from serving.keys import Key
from serving.store import BudgetError, Store
from serving.tables import Spend

MINUTE_S = 60.0
EPSILON_S = 1e-6
"""Waits below this are rounding, and no wait."""
CROWD = 10_000
"""Keys with buckets above which those that are full again are dropped."""


class LimitError(CounterpointError):
    """A request that would pass a limit of its key.

    Attributes:
        code: OpenAI's code: `rate_limit_exceeded` or `insufficient_quota`.
        kind: OpenAI's type: `requests`, `tokens` or `insufficient_quota`.
        retry_after_s: Seconds after which it would be admitted if the key asks for nothing else until then; None where waiting is no use.
    """

    def __init__(self, message: str, kind: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = "insufficient_quota" if kind == "insufficient_quota" else "rate_limit_exceeded"
        self.retry_after_s = retry_after_s

    @property
    def retry_after(self) -> str | None:
        """The header Retry-After, in whole seconds rounded up."""
        return None if self.retry_after_s is None else str(max(1, math.ceil(self.retry_after_s)))


@dataclass(slots=True)
class Bucket:
    """A token bucket that fills continuously, and holds at most a minute's worth.

    Attributes:
        level: What may be taken.
        at: When that was.
    """

    level: float
    at: float

    def fill(self, per_minute: float, now: float) -> None:
        """Bring the level up to now."""
        self.level = min(per_minute, self.level + (now - self.at) * per_minute / MINUTE_S)
        self.at = now

    def wait_s(self, amount: float, per_minute: float) -> float:
        """Seconds until an amount may be taken; 0 is now.

        Example:
            >>> Bucket(level=0.5, at=0.0).wait_s(1, per_minute=6)
            5.0
        """
        return max(0.0, amount - self.level) * MINUTE_S / per_minute


class Admission:
    """A request that has been let in, with what it may take set aside.

    Left as a context manager without a word it counts as the most that it could take: something may have been spent.

    Args:
        limiter: Who let it in.
        key: Who asks.
        tokens: Tokens set aside.
        usd: US dollars set aside.
        hold: Name of the hold in the store, or None where the key has no budget.
    """

    def __init__(self, limiter: Limiter, key: Key, tokens: int, usd: float, hold: str | None) -> None:
        self.key = key
        self.tokens = tokens
        self.usd = usd
        self._limiter = limiter
        self._hold = hold
        self._open = threading.Lock()  # held by whoever settles; nobody gives it back

    def settle(self, usage: Usage) -> None:
        """Replace what was set aside by what was taken; the second time does nothing."""
        if self._open.acquire(blocking=False):
            self._limiter.settled(self.key, self.tokens, usage, self._hold)

    def release(self) -> None:
        """Give everything back, for a request that was never begun; the request itself then does not count either."""
        if self._open.acquire(blocking=False):
            self._limiter.released(self.key, self.tokens, self._hold)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.settle(Usage(self.tokens, 0, self.usd, 1))


class Limiter:
    """Let requests in within the limits of their keys.

    Requests and tokens are counted in this process, from full buckets on. Money is counted in the store, for all processes that use it.
    Methods write to the disk, so asyncio code calls them in a thread.

    Args:
        store: Where spend is kept.
        clock: Seconds that only go up.

    Example:
        >>> import tempfile
        >>> from serving.keys import Keys
        >>> store = Store(f"sqlite:///{tempfile.mkdtemp()}/store.db")
        >>> key, _ = Keys(store).create("reports", budget_usd=0.03)
        >>> limiter = Limiter(store)
        >>> with limiter.admit(key, tokens=300, usd=0.02) as admission:
        ...     try:
        ...         limiter.admit(key, tokens=300, usd=0.02)
        ...     except LimitError as error:
        ...         print(error)
        ...     admission.settle(Usage(120, 30, cost_usd=0.01, calls=2))
        this request can cost up to $0.020000, and $0.010000 of the key's $0.03 is left
        >>> store.spend(key.id)
        Spend(usd=0.01, prompt_tokens=120, completion_tokens=30, requests=1)
        >>> store.close()
    """

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def admit(self, key: Key, *, tokens: int, usd: float) -> Admission:
        """Let a request in, and set aside what it can take.

        Args:
            key: Who asks.
            tokens: Most tokens that it can read and write, all its calls together.
            usd: Most that it can cost, in US dollars.

        Raises:
            LimitError: It would pass a limit; nothing has been taken.
        """
        if key.tokens_per_minute is not None and tokens > key.tokens_per_minute:
            allowed = f"the key's {key.tokens_per_minute:g} a minute"
            raise LimitError(f"this request can take {tokens} tokens, more than {allowed}: lower max_tokens or ask fewer experts", "tokens")
        wanted = [("requests", key.requests_per_minute, 1.0), ("tokens", key.tokens_per_minute, float(tokens))]
        self._take(key, [(kind, per_minute, amount) for kind, per_minute, amount in wanted if per_minute is not None])
        hold = None if key.budget_usd is None else uuid.uuid4().hex
        if hold is not None:
            try:
                self._store.hold(key.id, hold, usd)
            except BudgetError as error:
                self._give(key, 1, tokens)
                left = f"${error.left_usd:.6f} of the key's ${key.budget_usd:g} is left"
                raise LimitError(f"this request can cost up to ${usd:.6f}, and {left}", "insufficient_quota") from error
            except BaseException:
                self._give(key, 1, tokens)
                raise
        return Admission(self, key, tokens, usd, hold)

    def settled(self, key: Key, tokens: int, usage: Usage, hold: str | None) -> None:
        """Take what was used in place of what was set aside; `Admission.settle` calls it."""
        self._give(key, 0, tokens - usage.prompt_tokens - usage.completion_tokens)
        self._store.settle(key.id, Spend(usage.cost_usd, usage.prompt_tokens, usage.completion_tokens, 1), hold)

    def released(self, key: Key, tokens: int, hold: str | None) -> None:
        """Give back what was set aside; `Admission.release` calls it."""
        self._give(key, 1, tokens)
        if hold is not None:
            self._store.release(key.id, hold)

    def _take(self, key: Key, wanted: list[tuple[str, float, float]]) -> None:
        """Take from all buckets or from none."""
        now = self._clock()
        with self._lock:
            if len(self._buckets) > CROWD:
                self._buckets = {id: bucket for id, bucket in self._buckets.items() if now - bucket.at < MINUTE_S or bucket.level < 0}
            waits = []
            for kind, per_minute, amount in wanted:
                bucket = self._buckets.setdefault((key.id, kind), Bucket(per_minute, now))
                bucket.fill(per_minute, now)
                waits.append((bucket.wait_s(amount, per_minute), kind, per_minute))
            wait_s, kind, per_minute = max(waits, default=(0.0, "", 0.0))
            if wait_s > EPSILON_S:
                wait = max(1, math.ceil(wait_s))
                raise LimitError(f"the key's {per_minute:g} {kind} a minute are used up; try again in {wait} s", kind, wait_s)
            for kind, _, amount in wanted:
                self._buckets[key.id, kind].level -= amount

    def _give(self, key: Key, requests: float, tokens: float) -> None:
        """Put back what was not used; a negative amount was used beyond what was set aside."""
        now = self._clock()
        with self._lock:
            for kind, per_minute, amount in (
                ("requests", key.requests_per_minute, requests),
                ("tokens", key.tokens_per_minute, tokens),
            ):
                if per_minute is not None and (bucket := self._buckets.get((key.id, kind))) is not None:
                    bucket.fill(per_minute, now)
                    bucket.level += amount  # what is too much runs over when it is filled next
