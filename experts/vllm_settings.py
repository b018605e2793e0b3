"""What both vLLM engines share: which of them an expert gets, vLLM's settings, and how its outputs become events."""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data.records import Answer, Call, Delta, Done, Sampling, TokenLogprob, ToolCall, Usage
from experts.base import Engine, EngineDied, EngineError, Event, ExpertSpec
from experts.chat import prompt_ids, stops, tools_of
from experts.choices import LEAST, TOLD, logprobs_of, tokens_of
from experts.memory import number_type, weight_bytes
from experts.vllm_tools import ToolReader

# with multiprocessing at 1, vLLM's CPU platform puts another process under "uni"; AsyncLLM has its own process either way
_QUIET = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
_CPU = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}  # more threads than free cores spin
_CPU_CACHE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Options:
    """What a vLLM expert's `options` may say.

    Attributes:
        process: Whether vLLM's core runs in a process of its own; by default it does on GPUs, where only that one can sleep.
        cache_bytes: Bytes of the KV cache on each device, from `kv_cache_gb` (GiB); None is vLLM's own share of the GPU.
        max_num_seqs: Most calls that run at a time, or None for vLLM's own number.
    """

    process: bool
    cache_bytes: int | None
    max_num_seqs: int | None

    @classmethod
    def of(cls, spec: ExpertSpec) -> Options:
        """Read an expert's options.

        Raises:
            EngineError: One has a value that it cannot have.

        Example:
            >>> Options.of(ExpertSpec("a", "m", "vllm", options={"kv_cache_gb": 0.5}))
            Options(process=False, cache_bytes=536870912, max_num_seqs=None)
        """
        process, cache_gb, seqs = (spec.options.get(name) for name in ("process", "kv_cache_gb", "max_num_seqs"))
        if process is not None and not isinstance(process, bool):
            raise EngineError(f"the option process of {spec.name!r} is true or false, not {process!r}")
        is_number = isinstance(cache_gb, int | float) and not isinstance(cache_gb, bool)
        if cache_gb is not None and not (is_number and 0 < cache_gb < math.inf):
            raise EngineError(f"the option kv_cache_gb of {spec.name!r} is a number of GiB above 0, not {cache_gb!r}")
        if seqs is not None and (not isinstance(seqs, int) or isinstance(seqs, bool) or seqs < 1):
            raise EngineError(f"the option max_num_seqs of {spec.name!r} is a whole number above 0, not {seqs!r}")
        cache_bytes = int(cache_gb * (1 << 30)) if cache_gb is not None else None if spec.gpus else _CPU_CACHE_BYTES
        return cls(bool(spec.gpus) if process is None else process, cache_bytes, seqs)


def make_vllm(specs: Sequence[ExpertSpec]) -> Engine:
    """Make the vLLM engine of experts that share one: in this process, or with a core process of its own.

    Raises:
        EngineError: An option has a value that it cannot have.
    """
    if Options.of(base_of(specs)).process:
        from experts.vllm_async import AsyncVLLMEngine

        return AsyncVLLMEngine(specs)
    from experts.vllm_engine import VLLMEngine

    return VLLMEngine(specs)


def base_of(specs: Sequence[ExpertSpec]) -> ExpertSpec:
    """Give the expert whose settings the engine takes: the one without an adapter, where there is one."""
    return next((spec for spec in specs if spec.adapter is None), specs[0])


def prepare_environment(gpus: int) -> None:
    """Set the variables that vLLM reads when it is imported, where the user has not."""
    for name, value in (_QUIET | ({} if gpus else _CPU)).items():
        os.environ.setdefault(name, value)


def settings_of(specs: Sequence[ExpertSpec], folder: Path) -> dict[str, Any]:
    """Give the arguments of vLLM's EngineArgs.

    Args:
        specs: The experts that share the engine.
        folder: The base's checkpoint.

    Raises:
        EngineError: An adapter is not where it should be, or an option has a value that it cannot have.
    """
    base, adapters = base_of(specs), [spec for spec in specs if spec.adapter]
    options = Options.of(base)
    for spec in adapters:
        if not (Path(str(spec.adapter)) / "adapter_config.json").is_file():
            raise EngineError(f"the adapter of {spec.name!r} is not at {spec.adapter}: no adapter_config.json there")
    settings: dict[str, Any] = {
        "model": str(folder),
        "dtype": number_type(base),
        "max_model_len": max(spec.max_model_len for spec in specs),
        "quantization": base.quantization,
        "trust_remote_code": base.trust_remote_code,
        "kv_cache_memory_bytes": options.cache_bytes,
        "max_num_seqs": options.max_num_seqs,
        "disable_log_stats": True,
    }
    if adapters:
        # one place more than adapters: vLLM's CPU kernels take "no adapter" for the last place, which must therefore stay empty
        settings |= {"enable_lora": True, "max_loras": len(adapters) + 1, "max_lora_rank": _rank_for_vllm(adapters)}
    if base.gpus:
        if options.cache_bytes is not None:
            # vLLM wants this share of the GPU free before it starts, though the cache's size is given; engines that share it leave less
            settings["gpu_memory_utilization"] = 0.01
        return settings | {"tensor_parallel_size": base.gpus}
    return settings | {"enforce_eager": True, "distributed_executor_backend": "uni"}


def lora_requests(specs: Sequence[ExpertSpec]) -> dict[str, Any]:
    """Give what vLLM is told of each adapter with every call; it loads those that it does not hold."""
    from vllm.lora.request import LoRARequest

    adapters = [spec for spec in specs if spec.adapter]
    return {spec.name: LoRARequest(spec.name, number, str(spec.adapter)) for number, spec in enumerate(adapters, start=1)}


def memory_bytes_of(base: ExpertSpec, vllm_config: Any) -> int:
    """Bytes that a started engine takes on its devices: weights and cache, or the share of the GPUs that vLLM fills with both."""
    cache_bytes, devices = Options.of(base).cache_bytes, max(1, base.gpus)
    if cache_bytes is None:
        from vllm.platforms import current_platform

        return int(devices * vllm_config.cache_config.gpu_memory_utilization * current_platform.get_device_total_memory())
    return (weight_bytes(base) or 0) + devices * cache_bytes


@dataclass(slots=True, eq=False)
class Running:
    """A call inside an engine, what it has written, and where its events go."""

    call: Call
    spec: ExpertSpec
    events: asyncio.Queue[Event | EngineDied]
    started: float = field(default_factory=time.monotonic)
    text: str = ""
    tokens: int = 0
    told: list[tuple[str, float]] = field(default_factory=list)
    likely: list[TokenLogprob] = field(default_factory=list)
    tools: ToolReader | None = None

    def request(self, tokenizer: Any) -> tuple[dict[str, Any], Any]:
        """Give the prompt and the sampling parameters as vLLM takes them.

        Raises:
            EngineError: The prompt and the answer do not fit the context.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        spec, sampling = self.spec, self.call.sampling
        offered = tools_of(sampling) if sampling.tool_choice != "none" else []
        ids = prompt_ids(spec, tokenizer, self.call.messages, spec.limit(sampling), offered)
        if offered:
            self.tools = ToolReader(spec, self.call, tokenizer)
        params = SamplingParams(
            **(_by_schema(sampling) if self.tools is None else self.tools.settings),
            **_asking_for(sampling, tokenizer, SamplingParams),
            frequency_penalty=sampling.frequency_penalty,
            presence_penalty=sampling.presence_penalty,
            max_tokens=spec.limit(sampling),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            stop=[*sampling.stop, *stops(spec, tokenizer)],
            seed=sampling.seed,
            output_kind=RequestOutputKind.DELTA if self.call.stream else RequestOutputKind.FINAL_ONLY,
        )
        return {"prompt_token_ids": ids}, params

    def take(self, output: Any) -> list[Event]:
        """Turn one of vLLM's outputs into events; the last is `Done` where the call has ended."""
        part = output.outputs[0]
        if self.call.sampling.choices and not self.told and part.logprobs:
            self.told = [(one.decoded_token or "", one.logprob) for one in part.logprobs[0].values()]
        self._take_tokens(part)
        self.text += part.text
        self.tokens += len(part.token_ids)
        streams = self.call.stream and self.tools is None  # what calls a tool is no text
        events: list[Event] = [Delta(self.call.id, part.text)] if part.text and streams else []
        if output.finished and part.finish_reason == "error":
            return [*events, self.failed(EngineError("vLLM ended the call with an error, which its log tells"))]
        if output.finished:
            calls: tuple[ToolCall, ...] = ()
            if self.tools is not None:
                self.text, calls = self.tools.read(self.text)
                events += [Delta(self.call.id, self.text)] if self.text.strip() and self.call.stream else []
            prompt = len(output.prompt_token_ids or ())
            usage = Usage(prompt, self.tokens, self.spec.cost_usd(prompt, self.tokens), calls=1)
            seconds = time.monotonic() - self.started
            told = logprobs_of(self.call.sampling.choices, self.told)
            answer = Answer(self.text.strip(), self.spec.name, usage, part.finish_reason or "stop", seconds, logprobs=told)
            events.append(Done(self.call.id, replace(answer, tool_calls=calls, tokens=() if calls else tuple(self.likely))))
        return events

    def _take_tokens(self, part: Any) -> None:
        """Keep the log-probabilities of new tokens where they are wanted, but for the one that ends the sequence."""
        most = self.call.sampling.top_logprobs
        if most is None or self.call.sampling.choices or not part.logprobs:
            return
        ended = part.finish_reason == "stop" and not isinstance(part.stop_reason, str)
        for token, told in [*zip(part.token_ids, part.logprobs, strict=True)][: -1 if ended else None]:
            likeliest = sorted(told.values(), key=lambda one: -one.logprob)[:most]
            pairs = tuple((one.decoded_token or "", max(one.logprob, LEAST)) for one in likeliest)
            self.likely.append(TokenLogprob(told[token].decoded_token or "", max(told[token].logprob, LEAST), pairs))

    def failed(self, error: BaseException) -> Done:
        """The end of a call that vLLM or we refuse, in one line."""
        text = str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
        return Done(self.call.id, Answer.failed(self.spec.name, " ".join(text.split())))


def _by_schema(sampling: Sampling) -> dict[str, Any]:
    """The sampling parameters that hold an answer to a schema."""
    if sampling.schema is None:
        return {}
    from vllm.sampling_params import StructuredOutputsParams

    return {"structured_outputs": StructuredOutputsParams(json=sampling.schema.text)}


def _asking_for(sampling: Sampling, tokenizer: Any, params: Any) -> dict[str, Any]:
    """The sampling parameters that tell choices: those tokens themselves, or the likeliest ones where vLLM knows no better."""
    if not sampling.choices:
        return {} if sampling.top_logprobs is None else {"logprobs": sampling.top_logprobs}
    ids = [id for choice in sampling.choices for id in tokens_of(tokenizer, choice)]
    return {"logprob_token_ids": ids} if ids and hasattr(params, "logprob_token_ids") else {"logprobs": TOLD}


def _rank_for_vllm(adapters: Sequence[ExpertSpec]) -> int:
    """The smallest rank that vLLM's kernels offer and that holds every adapter."""
    ranks = [json.loads((Path(str(spec.adapter)) / "adapter_config.json").read_text(encoding="utf-8"))["r"] for spec in adapters]
    return next((rank for rank in (8, 16, 32, 64, 128, 256) if rank >= max(ranks)), max(ranks))
