"""A slot: a Ray actor with GPUs, or a share of the CPU, that holds engines awake and asleep."""

from __future__ import annotations

import asyncio
import atexit
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from data import tracing
from data.records import Answer, Call, Done, Message, Sampling
from experts.base import Engine, EngineDied, EngineError, Event, ExpertSpec
from experts.memory import engine_bytes
from experts.outbox import Outboxes, flush_s, gather, without_words
from experts.spans import traced

_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # 15 by default, which starves the slots beside anything else
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # 5 by default, too few where models load on the same cores
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
}
REMEMBERED = 10_000
"""Calls that are remembered because their callers had gone before they came."""
_CANARY = Sampling(max_tokens=4)


@dataclass(frozen=True, slots=True)
class Brought:
    """What bringing an engine came to.

    Attributes:
        seconds: How long it took, with what had to leave before.
        woken: Whether the engine was woken, not started.
        memory_bytes: What it takes while awake.
        stopped: Engines that should have slept and were ended, because they could not.
    """

    seconds: float
    woken: bool
    memory_bytes: int
    stopped: tuple[str, ...] = ()


@dataclass(slots=True)
class _Held:
    """An engine in the slot."""

    engine: Engine
    specs: Sequence[ExpertSpec]
    asleep: bool = False
    canary: str | None = None
    """What it said to the canary call before its first sleep."""
    calls: dict[str, asyncio.Task[None]] = field(default_factory=dict)


class Slot:
    """Hold engines, bring one awake when told so, and stream their answers.

    Args:
        budget: Bytes for what is awake, or None: one engine at a time.
        sleep_level: vLLM's level of sleep, 1 (weights in host memory) or 2 (weights on disk only).
    """

    def __init__(self, budget: int | None = None, sleep_level: int = 1) -> None:
        self._budget = budget
        self._level = sleep_level
        self._held: dict[str, _Held] = {}
        self._swapping = asyncio.Lock()
        self._outboxes = Outboxes()
        self._gone: dict[str, bool] = {}
        tracing.start()

    async def bring(self, key: str, specs: Sequence[ExpertSpec], sleep: Sequence[str] = (), stop: Sequence[str] = ()) -> Brought:
        """Make room, then wake an engine or start it.

        A wake that fails, or after which the engine answers other than before, is undone by a cold start.

        Args:
            key: The engine.
            specs: Its experts.
            sleep: Engines to put to sleep first; what cannot sleep is ended.
            stop: Engines to end first.

        Raises:
            EngineError: It cannot start; it then takes nothing here.
        """
        async with self._swapping:
            began, stopped = time.monotonic(), []
            for name in stop:
                await self._end(name)
            for name in sleep:
                if not await self._put_to_sleep(name):
                    stopped.append(name)
            self._reserve(key, specs)
            held = self._held.get(key)
            woken = held is not None and held.asleep and [*held.specs] == [*specs] and await self._wake(held)
            if not woken:
                await self._end(key)
                await self._start(key, specs)
            return Brought(time.monotonic() - began, woken, self._held[key].engine.memory_bytes, tuple(stopped))

    def _reserve(self, key: str, specs: Sequence[ExpertSpec]) -> None:
        """See that an engine's bytes are free.

        Raises:
            EngineError: They are not.
        """
        awake = {name: held.engine.memory_bytes for name, held in self._held.items() if not held.asleep and name != key}
        if self._budget is None:
            if awake:
                raise EngineError(f"the slot still holds {', '.join(awake)}")
            return
        needed = self._held[key].engine.memory_bytes if key in self._held else engine_bytes(specs) or 0
        if sum(awake.values()) + needed > self._budget:
            raise EngineError(
                f"{specs[0].name!r} needs {needed / 1e9:.1f} GB, and {(self._budget - sum(awake.values())) / 1e9:.1f} GB of the slot's "
                f"{self._budget / 1e9:.1f} are free"
            )

    async def _start(self, key: str, specs: Sequence[ExpertSpec]) -> None:
        from experts import make_engine

        engine = make_engine(specs)
        try:
            await engine.start()
        except BaseException:
            with suppress(Exception):
                await engine.stop()
            raise
        self._held[key] = _Held(engine, specs)

    async def _put_to_sleep(self, key: str) -> bool:
        """Put an engine to sleep, or end it where it cannot; False where it was ended."""
        held = self._held.get(key)
        if held is None or held.asleep:
            return held is not None
        try:
            if held.canary is None:
                held.canary = await self._ask_canary(held)
            await held.engine.sleep(self._level)
        except EngineError:
            await self._end(key)
            return False
        held.asleep = True
        return True

    async def _wake(self, held: _Held) -> bool:
        """Wake an engine and see that it answers as before; False where it does not."""
        try:
            await held.engine.wake()
            held.asleep = False
            return await self._ask_canary(held) == held.canary
        except EngineError:
            return False

    async def _ask_canary(self, held: _Held) -> str:
        call = Call("canary", held.specs[0].name, (Message("user", "Count: 1 2 3 4"),), _CANARY)
        async with aclosing(held.engine.generate([call])) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, Done):
                    if event.answer.error is not None:
                        raise EngineError(event.answer.error)
                    return event.answer.text
        raise EngineError("the canary call had no end")

    async def _end(self, key: str) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            await held.engine.stop()

    async def _bury(self, key: str, held: _Held) -> None:
        """End what is left of an engine that died, before anyone brings it again."""
        async with self._swapping:
            if self._held.get(key) is held:
                await self._end(key)

    async def end(self) -> None:
        """End all engines."""
        async with self._swapping:
            for key in [*self._held]:
                await self._end(key)

    async def prefetch(self, specs: Sequence[ExpertSpec]) -> float:
        """Read an engine's weights ahead, so that its start finds them in the page cache; give the seconds that it took."""
        from experts.memory import read_ahead

        began = time.monotonic()
        await asyncio.to_thread(read_ahead, specs)
        return time.monotonic() - began

    async def read(self, sent: str) -> AsyncIterator[list[Event]]:
        """Yield the words of a call that is read here, to whoever knows its name."""
        async with aclosing(self._outboxes.read(sent)) as bundles:  # type: ignore[type-var]
            async for bundle in bundles:
                yield bundle

    async def generate(self, key: str, calls: Sequence[Call], read_here: Sequence[str] = ()) -> AsyncIterator[list[Event]]:
        """Answer calls of one engine, yielding events in small bundles.

        Args:
            key: The engine.
            calls: The calls.
            read_here: Ids of those whose words somebody reads by `read`; of these only the end is yielded, without words.

        Raises:
            EngineDied: The engine is not awake here, or ends meanwhile.
        """
        held = self._held.get(key)
        if held is None or held.asleep:
            raise EngineDied(f"the slot does not hold {key}")
        events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        groups = [calls] if getattr(held.engine, "whole_batches", False) else [[call] for call in calls]
        tasks = [asyncio.create_task(_pump(held.engine, group, events)) for group in groups]
        if len(groups) == len(calls):
            held.calls |= {call.id: task for call, task in zip(calls, tasks, strict=True)}
            for call, task in zip(calls, tasks, strict=True):
                task.add_done_callback(partial(_note_abandoned, events, call))
                if self._gone.pop(call.id, False):
                    task.cancel()
        left, last = {call.id for call in calls}, 0.0  # the first word goes out at once
        outside = {*read_here}
        try:
            while left:
                bundle: list[Event] = []
                error: Exception | None = None
                for event in await gather(events, last, flush_s(len(held.calls))):
                    if isinstance(event, Exception):
                        error = error or event
                        continue
                    if event.call_id in left and event.call_id not in outside:  # else abandoned at its last word, and ended twice
                        bundle.append(event)
                    elif event.call_id in left:
                        self._outboxes.put(event.call_id, event)
                        bundle += [without_words(event)] if isinstance(event, Done) else []
                    if isinstance(event, Done):
                        left.discard(event.call_id)
                        held.calls.pop(event.call_id, None)
                if bundle:
                    yield bundle
                    last = time.monotonic()
                if error is not None and left:
                    if isinstance(error, EngineDied) and self._held.get(key) is held:
                        await self._bury(key, held)
                    raise error
        finally:
            for call_id in left:
                held.calls.pop(call_id, None)
            for call_id in left & outside:
                self._outboxes.put(call_id, EngineDied(f"the engine of {held.specs[0].name!r} ended without an answer"))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def abandon(self, key: str, call_id: str) -> None:
        """Stop a call that nobody reads any more, where the engine can; else it runs to its end."""
        held = self._held.get(key)
        if held is not None and (task := held.calls.pop(call_id, None)) is not None:
            task.cancel()
        elif held is not None and not getattr(held.engine, "whole_batches", False):  # on its way, or at its end
            self._gone[call_id] = True
            if len(self._gone) > REMEMBERED:
                del self._gone[next(iter(self._gone))]

    async def bytes(self) -> dict[str, int]:
        """Bytes of what is awake and of what sleeps."""
        tiers = {"awake": 0, "asleep": 0}
        for held in self._held.values():
            tiers["asleep" if held.asleep else "awake"] += held.engine.memory_bytes
        return tiers

    async def pid(self) -> int:
        """Number of the slot's process."""
        return os.getpid()

    async def live(self) -> None:
        """Never return: who waits for it hears of the end of the slot's process."""
        await asyncio.Event().wait()


async def _pump(engine: Engine, calls: Sequence[Call], events: asyncio.Queue[Event | Exception]) -> None:
    """Put what an engine writes into a queue."""
    try:
        async with aclosing(traced(engine.generate(calls), calls)) as stream:  # type: ignore[type-var]
            async for event in stream:
                events.put_nowait(event)
    except Exception as error:
        events.put_nowait(error)


def _note_abandoned(events: asyncio.Queue[Event | Exception], call: Call, task: asyncio.Task[None]) -> None:
    """End a call that was abandoned, also where its task had not yet begun."""
    if task.cancelled():
        events.put_nowait(Done(call.id, Answer.failed(call.expert, "the caller has gone")))


def start_ray(num_cpus: int | None = None, *, dashboard: bool = False) -> str | None:
    """Join the cluster that `RAY_ADDRESS` names, or start one here, unless this process has one.

    The workers' folder is empty: theirs comes first on the import path, and a user's own `data/` there would hide ours.

    Args:
        num_cpus: CPUs that the new cluster may use; None is all.
        dashboard: Whether a cluster that is started here has Ray's dashboard, on loopback.

    Returns:
        The dashboard's address, where there is one.
    """
    for name, value in _RAY.items():
        os.environ.setdefault(name, value)
    if not {"RAY_ADDRESS", "RAY_AUTH_MODE"} & set(os.environ) and "ray" not in sys.modules:
        # Ray's own ports listen on every interface; whoever reaches them may run code, unless he must show a token.
        # Ray reads this when it is imported, so our programs import it here first.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import ray

    if ray.is_initialized():
        return None
    empty = tempfile.mkdtemp(prefix="counterpoint-empty-")  # ours alone: what stands in it would be imported
    atexit.register(shutil.rmtree, empty, ignore_errors=True)
    settings: dict[str, Any] = {"runtime_env": {"working_dir": empty}, "log_to_driver": False, "logging_level": "ERROR"}
    if "RAY_ADDRESS" not in os.environ:
        settings |= {"num_cpus": num_cpus, "include_dashboard": dashboard, "object_store_memory": 200 << 20, "address": "local"}
    url = ray.init(**settings).dashboard_url
    return f"http://{url}" if url else None


async def ray_answers(timeout_s: float = 5.0) -> bool:
    """Whether Ray's control process can be reached and knows a machine that is alive."""
    import ray

    if not ray.is_initialized():
        return False
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, int(port))  # a question to one that is gone would wait for a minute
            writer.close()
            return any(node["Alive"] for node in await asyncio.to_thread(ray.nodes))
    except (OSError, TimeoutError):
        return False


@cache
def _actor_class() -> Any:
    """The slot as Ray knows it, made once: each new one would be sent to Ray's control process, and wait for it where it is gone."""
    import ray

    return ray.remote(Slot)


def start_slot(gpus: int = 0, budget: int | None = None, sleep_level: int = 1) -> Any:
    """Start a slot and give its handle.

    Args:
        gpus: GPUs that it holds.
        budget: Bytes for what is awake, or None: one engine at a time.
        sleep_level: vLLM's level of sleep.
    """
    variables = {name: os.environ[name] for name in ("COUNTERPOINT_CACHE", "HF_HUB_OFFLINE") if name in os.environ}
    variables |= tracing.variables()
    actor = _actor_class().options(
        num_cpus=0,
        num_gpus=gpus,
        max_concurrency=1000,
        scheduling_strategy="SPREAD",
        runtime_env={"env_vars": variables} if variables else None,
    )
    return actor.remote(budget, sleep_level)
