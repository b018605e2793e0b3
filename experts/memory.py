"""How many bytes an engine takes, known before it starts."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from experts.base import EngineError, ExpertSpec
from experts.models import resolve

_BYTES_PER_PARAMETER = {"float32": 4.0, "awq": 0.6, "gptq": 0.6, "fp8": 1.05, "bitsandbytes": 0.6}
"""Of the weights by number type or quantisation; 4-bit ones have scales and some whole layers besides. Others have 2."""
_OVERHEAD = int(1.5e9)
"""Bytes that a GPU engine takes beside weights and cache: the CUDA context, activations, graphs."""
RESIDUE = int(1.5e9)
"""Bytes of each GPU that a sleeping vLLM engine keeps, its CUDA context and graphs: assumed, not measured by us."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the bytes of an engine that is awake are made of, on all its devices together.

    Attributes:
        weights: The model; None where neither files nor a number of parameters tell.
        adapters: The adapters on it.
        cache: The KV cache; None where vLLM takes what the GPU has left.
        overhead: What a GPU engine takes besides.
    """

    weights: int | None
    adapters: int = 0
    cache: int | None = 0
    overhead: int = 0

    @property
    def total(self) -> int | None:
        """All of it; None where a part is not known."""
        return None if self.weights is None or self.cache is None else self.weights + self.adapters + self.cache + self.overhead


def weight_files(spec: ExpertSpec) -> list[Path]:
    """The files of a model's weights, where all of them are here already; a second copy in another layout is left out."""
    if spec.engine not in ("vllm", "transformers"):
        return []
    try:
        folder = resolve(spec.model, spec.revision, fetch=False)
    except EngineError:
        return []
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return sorted(folder.glob("*.safetensors"))
    files = [folder / name for name in sorted({*json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})]
    return files if all(file.is_file() for file in files) else []


def number_type(spec: ExpertSpec) -> str:
    """What an expert's engine computes with: what the spec says, else the engine's own choice.

    On processors that do not multiply bfloat16, vLLM is several times as fast in float32 (docs/performance.md).

    Example:
        >>> number_type(ExpertSpec("a", "m", "vllm", gpus=1)), number_type(ExpertSpec("a", "m", "transformers"))
        ('bfloat16', 'float32')
    """
    if spec.dtype is not None:
        return spec.dtype
    if spec.engine == "transformers":
        return "float32"
    return "bfloat16" if spec.gpus or spec.quantization or _multiplies_bfloat16() else "float32"


@cache
def _multiplies_bfloat16() -> bool:
    """Whether this processor's libraries have more than a reference path for bfloat16: on x86 from AVX-512 on."""
    import torch

    able = torch.cpu.get_capabilities()
    return able.get("architecture") != "x86_64" or bool(able.get("avx512_f"))


def weight_bytes(spec: ExpertSpec) -> int | None:
    """Bytes that a model's weights take: by its files where they are here, else by its parameters; None where neither is known.

    Example:
        >>> weight_bytes(ExpertSpec("a", "owner/none", "vllm", gpus=1, size_b=8.03))
        16060000000
    """
    if files := weight_files(spec):
        stored = sum(file.stat().st_size for file in files)
        kind = _stored_as(files[0].parent / "config.json")
        return stored if kind is None or spec.quantization else round(stored * _per_parameter(number_type(spec)) / _per_parameter(kind))
    if not spec.size_b:
        return None
    return round(spec.size_b * 1e9 * _per_parameter(spec.quantization or number_type(spec)))


def _per_parameter(kind: str) -> float:
    return _BYTES_PER_PARAMETER.get(kind, 2.0)


def _stored_as(config: Path) -> str | None:
    """The number type of a checkpoint's files, by its config; None where it does not tell."""
    try:
        told = json.loads(config.read_text(encoding="utf-8"))
        kind = told.get("dtype") or told.get("torch_dtype")
    except (OSError, ValueError, AttributeError):  # whoever loads the model says what is wrong with it
        return None
    return kind if kind in ("float32", "bfloat16", "float16") else None


def engine_parts(specs: Sequence[ExpertSpec]) -> Parts:
    """What the engine of some experts takes while awake: weights, adapters, the cache on each device and, on GPUs, vLLM's other needs.

    Args:
        specs: The experts that share the engine.
    """
    if any("memory_bytes" in spec.options for spec in specs):
        return Parts(sum(int(spec.options.get("memory_bytes", 0)) for spec in specs))
    base = next((spec for spec in specs if spec.adapter is None), specs[0])
    cache = cache_bytes(base)
    return Parts(
        weights=weight_bytes(base),
        adapters=sum(f.stat().st_size for spec in specs if spec.adapter for f in Path(spec.adapter).glob("*.safetensors")),
        cache=None if cache is None else max(1, base.gpus) * cache,
        overhead=base.gpus * _OVERHEAD,
    )


def engine_bytes(specs: Sequence[ExpertSpec]) -> int | None:
    """Bytes that the engine of some experts takes while awake, on all its devices; None where that cannot be known.

    Args:
        specs: The experts that share the engine.

    Example:
        >>> engine_bytes([ExpertSpec("a", "owner/none", "vllm", gpus=1, size_b=8.03, options={"kv_cache_gb": 4})])
        21854967296
    """
    return engine_parts(specs).total


def asleep_bytes(specs: Sequence[ExpertSpec], level: int = 1) -> int | None:
    """Bytes of host memory that an engine takes while it sleeps: its weights at level 1, about none at level 2.

    Args:
        specs: The experts that share the engine.
        level: vLLM's level of sleep.

    Example:
        >>> asleep_bytes([ExpertSpec("a", "owner/none", "vllm", gpus=1, size_b=8.03)])
        16060000000
    """
    parts = engine_parts(specs)
    return 0 if level == 2 else None if parts.weights is None else parts.weights + parts.adapters


def cache_bytes(spec: ExpertSpec) -> int | None:
    """Bytes of the KV cache on one device; None where vLLM takes what the GPU has left."""
    if spec.engine != "vllm":
        return 0
    from experts.vllm_settings import Options

    return Options.of(spec).cache_bytes


def read_ahead(specs: Sequence[ExpertSpec]) -> int:
    """Read an engine's weights once, so that its start finds them in the page cache; give the bytes read."""
    read = 0
    for file in weight_files(next((spec for spec in specs if spec.adapter is None), specs[0])):
        with file.open("rb", buffering=0) as stream:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while part := stream.read(16 << 20):
                read += len(part)
    return read
