"""How many bytes an engine takes, known before it starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from experts.base import EngineError, ExpertSpec
from experts.models import resolve

_BYTES_PER_PARAMETER = {"float32": 4.0, "awq": 0.6, "gptq": 0.6, "fp8": 1.05, "bitsandbytes": 0.6}
"""Of the weights by number type or quantisation; 4-bit ones have scales and some whole layers besides. Others have 2."""
_OVERHEAD = int(1.5e9)
"""Bytes that a GPU engine takes beside weights and cache: the CUDA context, activations, graphs."""


def weight_bytes(spec: ExpertSpec) -> int | None:
    """Bytes of a model's weights: of its files where they are here, else by its number of parameters; None where neither is known.

    Example:
        >>> weight_bytes(ExpertSpec("a", "owner/none", "vllm", size_b=8.03))
        16060000000
    """
    if files := _files(spec):
        return sum(file.stat().st_size for file in files)
    if not spec.size_b:
        return None
    return int(spec.size_b * 1e9 * _BYTES_PER_PARAMETER.get(spec.quantization or spec.dtype or "", 2.0))


def engine_bytes(specs: Sequence[ExpertSpec]) -> int | None:
    """Bytes that the engine of some experts takes while awake, on all its devices; None where that cannot be known.

    Weights, adapters, the cache of `kv_cache_gb` on each device and, on GPUs, what vLLM needs besides.

    Args:
        specs: The experts that share the engine.
    """
    if any("memory_bytes" in spec.options for spec in specs):
        return sum(int(spec.options.get("memory_bytes", 0)) for spec in specs)
    base = next((spec for spec in specs if spec.adapter is None), specs[0])
    weights, cache = weight_bytes(base), cache_bytes(base)
    if weights is None or cache is None:
        return None
    adapters = sum(f.stat().st_size for spec in specs if spec.adapter for f in Path(spec.adapter).glob("*.safetensors"))
    return weights + adapters + max(1, base.gpus) * (cache + (_OVERHEAD if base.gpus else 0))


def cache_bytes(spec: ExpertSpec) -> int | None:
    """Bytes of the KV cache on one device; None where vLLM takes what the GPU has left."""
    if spec.engine != "vllm":
        return 0
    from experts.vllm_settings import Options

    return Options.of(spec).cache_bytes


def read_ahead(specs: Sequence[ExpertSpec]) -> int:
    """Read an engine's weights once, so that its start finds them in the page cache; give the bytes read."""
    read = 0
    for file in _files(next((spec for spec in specs if spec.adapter is None), specs[0])):
        with file.open("rb", buffering=0) as stream:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while part := stream.read(16 << 20):
                read += len(part)
    return read


def _files(spec: ExpertSpec) -> list[Path]:
    """The files of a model's weights, where they are here already."""
    if spec.engine not in ("vllm", "transformers"):
        return []
    try:
        return sorted(resolve(spec.model, spec.revision, fetch=False).glob("*.safetensors"))
    except EngineError:
        return []
