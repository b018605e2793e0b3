"""The gateway: a pipeline with a door before it, as long as it runs."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

from data.records import CounterpointError
from serving.config import MixtureConfig, ServingConfig
from serving.door import Door
from serving.jobs import Jobs
from serving.pipeline import Pipeline
from serving.store import default_url


class Gateway:
    """What the endpoint's paths ask: who may come in, and the mixture behind.

    Args:
        config: The mixture.
    """

    def __init__(self, config: MixtureConfig) -> None:
        self.config = config
        self.pipeline = Pipeline.of(config)
        self.door = Door(config.serving)
        self.jobs = None if self.door.store is None else Jobs(self.pipeline, self.door, self.door.store, journals(config.serving))
        self._tidying: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the pool, and load the engine that most experts share."""
        await self.pipeline.pool.start()
        await self.pipeline.pool.warm()
        self._tidying = asyncio.create_task(self._tidy())
        if self.jobs is not None and self.door.keys is not None:
            self.jobs.resume([*self.door.keys.list(), self.door.keys.local()])

    async def _tidy(self) -> None:
        """Delete once an hour what is kept no longer."""
        while True:
            with suppress(CounterpointError):  # a store that is busy will be tidied the next time
                await self.door.tidy()
            await asyncio.sleep(3600)

    async def stop(self) -> None:
        """Stop the pool, and close the store."""
        if self._tidying is not None:
            self._tidying.cancel()
        if self.jobs is not None:
            await self.jobs.stop()
        await self.pipeline.pool.stop()
        self.door.close()

    async def reload(self, config: dict[str, Any]) -> str:
        """Take over another config, and say in a line what came and went, or why nothing did."""
        try:
            new = MixtureConfig.model_validate(config)
            new = new.model_copy(update={"serving": self.config.serving})  # where it listens and who may come in need a restart
            came, went = await self.pipeline.reload(new)
        except CounterpointError as error:
            return f"not reloaded: {error}"
        self.config = new
        return f"reloaded: {', '.join(came) or 'nobody'} came, {', '.join(went) or 'nobody'} went"


def journals(config: ServingConfig) -> Path:
    """Where journals of running batches are: beside the store's file, or in the user's own folder."""
    url = config.store or default_url()
    base = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else Path(default_url().removeprefix("sqlite:///"))
    return base.parent / "batches"
