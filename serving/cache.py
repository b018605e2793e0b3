"""Answers that were given, kept for a while in memory for the same key that asks the same again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, Self

from data.records import Request, Trace, Usage
from serving.config import CacheConfig
from serving.likeness import Likeness, Place, encoder_of
from serving.pipeline import Finished

APART = ("id", "batch", "traceparent", "stream")
"""Fields of a request that have no part in its answer; any other field, also one that is new, has."""


@dataclass(frozen=True, slots=True)
class Recalled(Trace):
    """How an answer came about that was recalled instead of asked for: nothing was read, written or paid."""


@dataclass(frozen=True, slots=True)
class Address:
    """What a request is found by.

    Attributes:
        digest: Names its key and all that determines its answer.
        place: Where its last turn stands by its meaning; None where it is found to the letter only.
    """

    digest: str
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer that is kept.

    Attributes:
        address: What it is found by.
        finished: The answer and how it came about.
        at: When it was kept.
        size: About how many bytes it takes.
    """

    address: Address
    finished: Finished
    at: float
    size: int


Flight = asyncio.Task[Finished | None]
"""A request that is being answered for all who ask the same meanwhile; None where its answer is not for them."""


class Cache:
    """Keep answers within bounds of age, number and bytes; those used longest ago go first.

    Args:
        ttl_s: Seconds that an answer is kept.
        max_entries: Most answers, all keys together.
        max_bytes: About how many bytes they take at most.
        temperature_above: Whether answers drawn at temperatures above 0 are kept, too.
        likeness: Finds questions that mean the same; None finds the same words only.
        clock: Seconds that only go up.

    Attributes:
        hits: Requests that were answered from here.
        misses: Requests that could have been, and were not.
        bytes: About how many bytes the answers take.
        generation: Goes up whenever the cache is cleared.
        flights: Requests that are being answered, by their digest.

    Example:
        >>> from data.records import Answer, Route
        >>> from serving.pipeline import one_question
        >>> cache, request = Cache(), one_question("What is 2 + 2?")
        >>> trace = Trace("q", Route(("a",), (1.0,), "a", {"a": 1.0}), (), "vote", (), Usage(9, 1, calls=1))
        >>> cache.keep(cache.address("ann", request), Finished(Answer("4", "mix"), trace))
        >>> cache.find(cache.address("ann", request)).answer.text
        '4'
        >>> cache.find(cache.address("bob", request))
    """

    def __init__(
        self,
        *,
        ttl_s: float = 3600.0,
        max_entries: int = 10_000,
        max_bytes: int = 64 << 20,
        temperature_above: bool = False,
        likeness: Likeness | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ttl_s, self.max_entries, self.max_bytes, self.temperature_above = ttl_s, max_entries, max_bytes, temperature_above
        self.hits = self.misses = self.bytes = 0
        self.generation = 0
        self.flights: dict[str, Flight] = {}
        self._likeness = likeness
        self._clock = clock
        self._entries: OrderedDict[str, Entry] = OrderedDict()  # those used last at the end
        self._ages: dict[str, float] = {}  # the youngest at the end

    @classmethod
    def of(cls, config: CacheConfig) -> Self:
        """Make the cache that a config describes.

        Raises:
            CounterpointError: There is no such encoder.
        """
        likeness = Likeness(config.similarity, encoder_of(config.encoder)) if config.kind == "semantic" else None
        return cls(
            ttl_s=config.ttl_s,
            max_entries=config.max_entries,
            max_bytes=config.max_bytes,
            temperature_above=config.temperature_above,
            likeness=likeness,
        )

    def __len__(self) -> int:
        return len(self._entries)

    def address(self, key_id: str, request: Request) -> Address | None:
        """What a key's request is found by; None where its answers are not kept."""
        if request.sampling.temperature > 0 and not self.temperature_above:
            return None
        place = None
        if self._likeness is not None and request.messages and request.messages[-1].role == "user":
            *before, last = request.messages
            rest = replace(request, messages=(*before, replace(last, content="")))
            place = self._likeness.place(digest_of(key_id, rest), last.content)
        return Address(digest_of(key_id, request), place)

    def find(self, address: Address) -> Finished | None:
        """What was answered to the same request or, where meanings are compared, to one that means the same."""
        self._expire()
        digest: str | None = address.digest
        if digest not in self._entries:
            digest = None if self._likeness is None or address.place is None else self._likeness.nearest(address.place)
        if digest is None:
            return None
        self._entries.move_to_end(digest)
        return self._entries[digest].finished

    def keep(self, address: Address, finished: Finished, generation: int = 0) -> None:
        """Keep an answer, unless it failed, is not whole, or was asked for before the cache was cleared.

        Args:
            address: What it is found by.
            finished: The answer and how it came about.
            generation: The cache's `generation` when it was asked for.
        """
        if generation != self.generation or not is_whole(finished):
            return
        self._expire()
        self._drop(address.digest)
        size = bytes_in(address) + bytes_in(finished)
        if size > self.max_bytes:
            return
        now = self._clock()
        self._entries[address.digest], self._ages[address.digest] = Entry(address, finished, now, size), now
        self.bytes += size
        if self._likeness is not None and address.place is not None:
            self._likeness.add(address.digest, address.place)
        while len(self._entries) > self.max_entries or self.bytes > self.max_bytes:
            self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        """Forget all answers, and those that are on their way."""
        self.generation += 1
        self.bytes = 0
        for kept in (self._entries, self._ages, self.flights):
            kept.clear()
        if self._likeness is not None:
            self._likeness.clear()

    def _expire(self) -> None:
        """Drop what is too old."""
        oldest = self._clock() - self.ttl_s
        while self._ages and (first := next(iter(self._ages))) and self._ages[first] <= oldest:
            self._drop(first)

    def _drop(self, digest: str) -> None:
        entry = self._entries.pop(digest, None)
        if entry is None:
            return
        del self._ages[digest]
        self.bytes -= entry.size
        if self._likeness is not None and entry.address.place is not None:
            self._likeness.remove(digest, entry.address.place)


def digest_of(key_id: str, request: Request) -> str:
    """Name a key and all that determines the answer to a request of its.

    Example:
        >>> from serving.pipeline import one_question
        >>> digest_of("ann", one_question("Hi", id="1")) == digest_of("ann", one_question("Hi", id="2"))
        True
        >>> digest_of("ann", one_question("Hi")) == digest_of("bob", one_question("Hi"))
        False
    """
    asked = {name: value for name, value in asdict(request).items() if name not in APART}
    return hashlib.sha256(json.dumps([key_id, asked], sort_keys=True, default=repr).encode()).hexdigest()


def is_whole(finished: Finished) -> bool:
    """Whether an answer came about as it should: nobody failed, and nobody stood in for somebody else."""
    answer, trace = finished.answer, finished.trace
    failed = answer.error is not None or any(part.error is not None for part in trace.answers)
    return not (failed or answer.degraded or trace.instead)


def recalled(finished: Finished, request_id: str) -> Finished:
    """An answer as it is given again: under another id, and for nothing."""
    trace = finished.trace
    parts = tuple(replace(part, usage=Usage(), latency_s=0.0) for part in trace.answers)
    again = Recalled(request_id, trace.route, parts, trace.aggregator, trace.support, Usage())
    return Finished(replace(finished.answer, usage=Usage(), latency_s=0.0), again)


def cached_json(trace: Trace) -> dict[str, Any]:
    """What our field says beside the rest where an answer was recalled."""
    return {"cached": True} if isinstance(trace, Recalled) else {}


def bytes_in(value: Any) -> int:
    """About how many bytes a record takes, all that it holds among them.

    Example:
        >>> from data.records import Answer
        >>> 1000 <= bytes_in(Answer("x" * 1000, "mix")) < 2000
        True
    """
    size = sys.getsizeof(value)
    if is_dataclass(value):
        return size + sum(bytes_in(getattr(value, entry.name)) for entry in fields(value))
    if isinstance(value, Mapping):
        return size + sum(bytes_in(name) + bytes_in(entry) for name, entry in value.items())
    return size + sum(map(bytes_in, value)) if isinstance(value, tuple | list | frozenset) else size
