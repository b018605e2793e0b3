"""What a key may take: requests and tokens a minute, and a budget in dollars."""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from data.records import CounterpointError, Usage
from serving.keys import Key
from serving.store import BudgetError, Store
from serving.tables import Spend

if TYPE_CHECKING:
    from serving.control import SharedBuckets

MINUTE_S = 60.0
EPSILON_S = 1e-6
"""Waits below this are rounding, and no wait."""
CROWD = 10_000
"""Keys with buckets above which those that are full again are dropped."""


class LimitError(CounterpointError):
    """A request that would pass a limit of its key.

    Attributes:
        code: OpenAI's code: `rate_limit_exceeded` or `insufficient_quota`; ours where no waiting helps: `request_too_large`.
        kind: OpenAI's type: `requests`, `tokens` or `insufficient_quota`.
        retry_after_s: Seconds after which it would be admitted if the key asks for nothing else until then; None where waiting is no use.
    """

    def __init__(self, message: str, kind: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        too_large = "request_too_large" if retry_after_s is None else "rate_limit_exceeded"
        self.code = "insufficient_quota" if kind == "insufficient_quota" else too_large
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


Amount = tuple[str, float, float]
"""What is taken: of which kind, how much a minute allows, how much."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a bucket gave nothing.

    Attributes:
        kind: What of: `requests` or `tokens`.
        per_minute: How much a minute allows.
        wait_s: Seconds until it would give what was wanted.
    """

    kind: str
    per_minute: float
    wait_s: float


class Buckets:
    """The buckets of all keys, in this process.

    Args:
        clock: Seconds that only go up.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def take(self, key_id: str, wanted: Sequence[Amount]) -> Refusal | None:
        """Take from all buckets of a key or from none, and say which would not give."""
        now = self._clock()
        with self._lock:
            if len(self._buckets) > CROWD:
                self._buckets = {id: bucket for id, bucket in self._buckets.items() if now - bucket.at < MINUTE_S or bucket.level < 0}
            refusals = []
            for kind, per_minute, amount in wanted:
                bucket = self._buckets.setdefault((key_id, kind), Bucket(per_minute, now))
                bucket.fill(per_minute, now)
                refusals.append(Refusal(kind, per_minute, bucket.wait_s(amount, per_minute)))
            longest = max(refusals, key=lambda refusal: refusal.wait_s, default=Refusal("", 0.0, 0.0))
            if longest.wait_s > EPSILON_S:
                return longest
            for kind, _, amount in wanted:
                self._buckets[key_id, kind].level -= amount
        return None

    def give(self, key_id: str, amounts: Sequence[Amount]) -> None:
        """Put back what was not used; a negative amount was used beyond what was set aside."""
        now = self._clock()
        with self._lock:
            for kind, per_minute, amount in amounts:
                if (bucket := self._buckets.get((key_id, kind))) is not None:
                    bucket.fill(per_minute, now)
                    bucket.level += amount  # what is too much runs over when it is filled next


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
        """Replace what was set aside by what was taken; the second time does nothing.

        Where the store cannot be written the answer is worth more than its booking: what was set aside stays so, and counts as spent later.
        """
        if self._open.acquire(blocking=False):
            try:
                self._limiter.settled(self.key, self.tokens, usage, self._hold)
            except CounterpointError as error:
                logging.getLogger(__name__).warning("what the key %s took is not booked: %s", self.key.id, error)

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

    Requests and tokens are counted in buckets that are full at first, in this process unless others are given; money is counted in the
    store, for all processes that use it.
    Methods write to the disk, so asyncio code calls them in a thread.

    Args:
        store: Where spend is kept.
        buckets: Where requests and tokens are counted.

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

    def __init__(self, store: Store, buckets: Buckets | SharedBuckets | None = None) -> None:
        self._store = store
        self._buckets = buckets or Buckets()

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
        self._take(key, [(kind, per_minute, amount) for kind, per_minute, amount in wanted if per_minute is not None and amount])
        hold = None if key.budget_usd is None or not (tokens or usd) else uuid.uuid4().hex  # what asks nobody is let in though all is spent
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

    def _take(self, key: Key, wanted: list[Amount]) -> None:
        refusal = self._buckets.take(key.id, wanted) if wanted else None
        if refusal is not None:
            wait = max(1, math.ceil(refusal.wait_s))
            text = f"the key's {refusal.per_minute:g} {refusal.kind} a minute are used up; try again in {wait} s"
            raise LimitError(text, refusal.kind, refusal.wait_s)

    def _give(self, key: Key, requests: float, tokens: float) -> None:
        """Put back what was not used; a negative amount was used beyond what was set aside."""
        amounts = [("requests", key.requests_per_minute, requests), ("tokens", key.tokens_per_minute, tokens)]
        if known := [(kind, per_minute, amount) for kind, per_minute, amount in amounts if per_minute is not None]:
            self._buckets.give(key.id, known)
