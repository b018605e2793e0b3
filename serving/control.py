"""What the gateways of one mixture share: the pool, and how much each key has asked lately."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prometheus_client.metrics_core import Metric

from data import tracing
from experts.base import EngineError
from experts.host import PoolHost
from serving.limits import Amount, Buckets, Refusal
from serving.metrics import samples


class Control(PoolHost):
    """A Ray actor beside the gateways; there is one, and Serve starts another where it dies."""

    def __init__(self) -> None:
        super().__init__()
        self.buckets = Buckets()
        self._config: dict[str, Any] = {}

    async def samples(self) -> list[Metric]:
        """What the pool has counted, for Prometheus."""
        return samples(self.pool)

    async def config(self, first: dict[str, Any]) -> dict[str, Any]:
        """The config that the gateways go by: what was loaded last, else the one that they were started with."""
        self._config = self._config or first
        tracing.start(self._config.get("serving", {}).get("otlp"))  # before the pool: slots are told where spans go
        return self._config

    async def remember(self, config: dict[str, Any]) -> None:
        """Keep a config for gateways that start later."""
        self._config = config

    async def take(self, key_id: str, wanted: Sequence[Amount]) -> Refusal | None:
        """Take from all buckets of a key or from none."""
        return self.buckets.take(key_id, wanted)

    async def give(self, key_id: str, amounts: Sequence[Amount]) -> None:
        """Put back what was not used."""
        self.buckets.give(key_id, amounts)


class SharedBuckets:
    """The buckets that all gateways take from, as `Limiter` uses them: in threads, for it waits for the answer.

    Args:
        pool: The gateway's pool, which knows the actor's handle.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def take(self, key_id: str, wanted: Sequence[Amount]) -> Refusal | None:
        """Take from all buckets of a key or from none.

        Raises:
            EngineError: Nobody gives them.
        """
        import ray

        try:
            refusal: Refusal | None = ray.get(self._pool.host.take.remote(key_id, wanted), timeout=10)
        except Exception as error:  # Ray's, of many kinds
            raise EngineError(f"the shared pool cannot be reached ({type(error).__name__})") from error
        return refusal

    def give(self, key_id: str, amounts: Sequence[Amount]) -> None:
        """Put back what was not used."""
        self._pool.host.give.remote(key_id, amounts)
