"""The gateway: a pipeline with a door before it, as long as it runs."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Any

from prometheus_client.metrics_core import Metric

from data.records import CounterpointError
from experts.base import EngineError
from experts.shared import SharedPool
from experts.snapshot import snapshot
from serving.cache import Cache
from serving.config import MixtureConfig
from serving.control import SharedBuckets
from serving.door import Door
from serving.forgetting import journals_of
from serving.history import History
from serving.jobs import Jobs
from serving.keys import Key
from serving.metrics import samples
from serving.outlook import Outlook
from serving.pipeline import Pipeline
from serving.protocol import Asked
from serving.tables import Batch

RESUME_S = 30
TIDY_S = 3600

Peers = Callable[..., Awaitable[list[Any]]]


class Gateway:
    """What the endpoint's paths ask: who may come in, and the mixture behind.

    Args:
        config: The mixture.
        pool: The pool that it shares with other gateways; None gives it one of its own.
        peers: Calls a method of all gateways, this one among them, and gives what each said; None where there is no other.
    """

    def __init__(self, config: MixtureConfig, pool: SharedPool | None = None, peers: Peers | None = None) -> None:
        self.id = uuid.uuid4().hex
        self.config = config
        self.peers = peers
        self.pipeline = Pipeline.of(config, pool)
        self.door = Door(config.serving, None if pool is None else SharedBuckets(pool))
        self.jobs = None if self.door.store is None else Jobs(self.pipeline, self.door, self.door.store, journals_of(config.serving.store))
        self.history = History(self.figures)
        self.outlook = Outlook(self)
        self.cache = None if config.serving.cache is None else Cache.of(config.serving.cache)
        self._tidying: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the pool, and load the engine that most experts share."""
        await self.pipeline.pool.start()
        await self.pipeline.pool.warm()
        await self._resume()
        self._tidying = asyncio.create_task(self._tidy())
        self.history.start()

    async def _resume(self) -> None:
        keys = self.door.keys
        if self.jobs is not None and keys is not None:
            await self.jobs.resume(lambda: [*keys.list(), keys.local()])

    async def _tidy(self) -> None:
        """Delete once an hour what is kept no longer; go on with batches that nobody is at."""
        for turn in count():
            with suppress(CounterpointError):  # a store that is busy will be tidied the next time
                if turn % (TIDY_S // RESUME_S) == 0:
                    await self.door.tidy()
                else:
                    await self._resume()
            await asyncio.sleep(RESUME_S)

    async def stop(self) -> None:
        """Stop the pool, and close the store."""
        if self._tidying is not None:
            self._tidying.cancel()
        await self.history.stop()
        if self.jobs is not None:
            await self.jobs.stop()
        await self.pipeline.pool.stop()
        self.door.close()

    async def figures(self) -> dict[str, Any]:
        """The pool's figures, as they are now; what the other gateways did without a slot, as it was two seconds ago.

        Raises:
            EngineError: The shared pool cannot be reached.
        """
        pool = self.pipeline.pool
        if not isinstance(pool, SharedPool):
            return snapshot(pool)
        return dict(await _shared(pool.host.snapshot, self.id, snapshot(pool.local)))

    async def samples(self) -> list[list[Metric]]:
        """What all processes of the endpoint have counted, for Prometheus.

        Raises:
            EngineError: The shared pool cannot be reached.
        """
        pool = self.pipeline.pool
        if self.peers is None or not isinstance(pool, SharedPool):
            return [self.samples_here()]
        return [*await self.peers("samples_here"), await _shared(pool.host.samples)]

    def samples_here(self) -> list[Metric]:
        """What this process has counted."""
        return samples(self.pipeline.pool, self.pipeline.figures)

    async def begin_reload(self, config: dict[str, Any]) -> str:
        """Go by another config from now on, and say in a line what comes and goes, or why nothing does."""
        try:
            new = MixtureConfig.model_validate(config)
            new = new.model_copy(update={"serving": self.config.serving})  # where it listens and who may come in need a restart
            came, went = await self.pipeline.begin_reload(new)
        except CounterpointError as error:
            return f"not reloaded: {error}"
        finally:
            self._forget()  # also where only a part of it was taken over
        self.config = new
        return f"reloaded: {', '.join(came) or 'nobody'} came, {', '.join(went) or 'nobody'} went"

    async def end_reload(self) -> None:
        """Let go what the config does not have, once all gateways go by it."""
        await self.pipeline.end_reload(self.config)
        self._forget()

    def _forget(self) -> None:
        if self.cache is not None:
            self.cache.clear()

    def limit_s(self, asked: Asked) -> float:
        """Seconds that a request may take: the endpoint's limit, or less where it asks for less."""
        return min(self.config.serving.timeout_s, asked.counterpoint.timeout_s or self.config.serving.timeout_s)

    async def learn(self, request_id: str, score: float) -> bool:
        """Let the gateway that answered a request learn how good that was, and say whether it did."""
        if self.pipeline.learn(request_id, score):
            return True
        return self.peers is not None and any(await self.peers("learn_here", request_id, score))

    async def cancel_batch(self, key: Key, id: str) -> Batch | None:
        """End a batch early, whichever gateway is at it; None where the key has none of that id."""
        assert self.jobs is not None
        if self.peers is not None and not self.jobs.has(key, id):
            await self.peers("cancel_here", key, id)
        return await self.jobs.cancel(key, id)


async def _shared(method: Any, *args: Any) -> Any:
    """What a method of the shared pool gives."""
    try:
        return await method.remote(*args)
    except Exception as error:  # Ray's, of many kinds
        raise EngineError(f"the shared pool cannot be reached ({type(error).__name__})") from error
