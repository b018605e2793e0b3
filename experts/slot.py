"""A slot: a Ray actor that holds one engine at a time, with its GPUs or its share of the CPU."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from data.records import Call, Done
from experts.base import Engine, EngineError, Event, ExpertSpec

_FLUSH_S = 0.05
"""Events travel together for this long, so that a batch does not send one message a token."""

_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # 15 by default, which starves the slots beside anything else
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # 5 by default, too few where models load on the same cores
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
}


class Slot:
    """Load engines one after the other and stream their answers."""

    def __init__(self) -> None:
        self._engine: Engine | None = None

    async def load(self, specs: Sequence[ExpertSpec]) -> float:
        """End the engine that is there, start another, and tell how many seconds both took.

        Raises:
            EngineError: The engine cannot start; the slot is then empty.
        """
        from experts import make_engine

        start = time.monotonic()
        await self.unload()
        engine = make_engine(specs)
        await engine.start()
        self._engine = engine
        return time.monotonic() - start

    async def unload(self) -> None:
        """End the engine that is there."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.stop()

    async def generate(self, calls: Sequence[Call]) -> AsyncIterator[list[Event]]:
        """Answer calls, yielding events in small bundles."""
        if self._engine is None:
            raise EngineError("the slot holds no engine")
        bundle: list[Event] = []
        sent = 0.0  # the first word goes out at once
        async for event in self._engine.generate(calls):
            bundle.append(event)
            if isinstance(event, Done) or time.monotonic() - sent >= _FLUSH_S:
                yield bundle
                bundle, sent = [], time.monotonic()
        if bundle:
            yield bundle

    async def memory_bytes(self) -> int:
        """Bytes that the loaded engine takes."""
        return 0 if self._engine is None else self._engine.memory_bytes


def start_ray(num_cpus: int | None = None) -> None:
    """Join the cluster that `RAY_ADDRESS` names, or start one here, unless this process has one.

    The workers' folder is empty: theirs comes first on the import path, and a user's own `data/` there would hide ours.

    Args:
        num_cpus: CPUs that the new cluster may use; None is all.
    """
    for name, value in _RAY.items():
        os.environ.setdefault(name, value)
    if not {"RAY_ADDRESS", "RAY_AUTH_MODE"} & set(os.environ) and "ray" not in sys.modules:
        # Ray's own ports listen on every interface; whoever reaches them may run code, unless he must show a token.
        # Ray reads this when it is imported, so our programs import it here first.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import ray

    if ray.is_initialized():
        return
    empty = tempfile.mkdtemp(prefix="counterpoint-empty-")  # ours alone: what stands in it would be imported
    atexit.register(shutil.rmtree, empty, ignore_errors=True)
    settings: dict[str, Any] = {"runtime_env": {"working_dir": empty}, "log_to_driver": False, "logging_level": "ERROR"}
    if "RAY_ADDRESS" not in os.environ:
        settings |= {"num_cpus": num_cpus, "include_dashboard": False, "object_store_memory": 200 << 20, "address": "local"}
    ray.init(**settings)


def start_slot(gpus: int = 0) -> Any:
    """Start a slot and give its handle."""
    import ray

    variables = {name: os.environ[name] for name in ("COUNTERPOINT_CACHE", "HF_HUB_OFFLINE") if name in os.environ}
    actor = ray.remote(Slot).options(
        num_cpus=0, num_gpus=gpus, max_concurrency=1000, runtime_env={"env_vars": variables} if variables else None
    )
    return actor.remote()
