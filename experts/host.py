"""A pool in a Ray actor of its own, for several gateways: they ask it where a call may run, and read the words at the slot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from data.records import Call, Done
from experts.base import ExpertSpec
from experts.outbox import Placed
from experts.pool import ExpertPool, PoolSettings
from experts.snapshot import snapshot, together

GONE_S = 10.0
"""Seconds after which a gateway that has told no figures is taken to have ended; a living one tells them every two."""


@dataclass(frozen=True, slots=True)
class PoolState:
    """What gateways know of the pool between their calls.

    Attributes:
        broken: Experts whose calls would fail at once.
        resident: Experts that can answer without loading anything.
        refused: For each expert that would refuse a call now, the seconds after which it would accept one.
        waiting: Calls that wait for their start, by expert.
    """

    broken: frozenset[str] = frozenset()
    resident: frozenset[str] = frozenset()
    refused: Mapping[str, float] | None = None
    waiting: Mapping[str, int] | None = None


class PoolHost:
    """Decide for all gateways which slot runs which call; words do not pass through here."""

    def __init__(self) -> None:
        self.pool: ExpertPool | None = None
        self._changing = asyncio.Lock()
        self._told: dict[str, tuple[float, dict[str, Any]]] = {}

    @property
    def _pool(self) -> ExpertPool:
        assert self.pool is not None, "start comes first"
        return self.pool

    async def start(self, specs: Sequence[ExpertSpec], settings: PoolSettings) -> None:
        """Start the pool, unless another gateway has.

        Raises:
            EngineError: An engine cannot be loaded.
        """
        async with self._changing:
            if self.pool is None:
                pool = ExpertPool(specs, settings)
                await pool.start()
                try:
                    await pool.warm()
                except BaseException:
                    await pool.stop()
                    raise
                self.pool = pool

    async def place(self, call: Call, ticket: str) -> AsyncIterator[Placed | Done]:
        """Yield where a call has started, each time that it does, and its end."""
        async with aclosing(self._pool.placed(call, ticket)) as events:
            async for event in events:
                yield event

    async def abandon(self, ticket: str) -> None:
        """Stop a call whose caller has gone."""
        self._pool.abandon(ticket)

    async def state(self) -> PoolState:
        """Tell how the pool stands."""
        pool = self._pool
        refused = {name: wait for name in pool if (wait := pool.refused(name)) is not None}
        return PoolState(frozenset(name for name in pool if pool.is_broken(name)), pool.resident, refused, dict(pool.waiting()))

    async def snapshot(self, gateway: str, own: dict[str, Any]) -> dict[str, Any]:
        """Give the pool's figures, with those of the calls that need no slot, which each gateway sends itself.

        Args:
            gateway: Who asks.
            own: The figures of its own calls; the others' are as they told them last.
        """
        now = time.monotonic()
        self._told[gateway] = now, own
        self._told = {name: told for name, told in self._told.items() if now - told[0] < GONE_S}
        return together([snapshot(self._pool), *(figures for _, figures in self._told.values())])

    async def expect(self, expert: str, calls: int) -> None:
        """Declare calls that others will cause later."""
        self._pool.expect(expert, calls)

    async def predicted_s(self, calls: Mapping[str, int]) -> float:
        """Seconds that calls of experts would take."""
        return await self._pool.predicted_s(calls)

    async def prepare(self, specs: Sequence[ExpertSpec]) -> None:
        """Take in experts that are new, unless another gateway has."""
        async with self._changing:
            await self._pool.prepare(specs)

    async def settle(self, specs: Sequence[ExpertSpec], slots: int) -> None:
        """Have the experts that are wanted, and no others, unless another gateway has."""
        async with self._changing:
            await self._pool.settle(specs, slots)
