"""What this machine offers local experts."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def gpu_count() -> int:
    """Count the NVIDIA GPUs that the driver shows, without importing torch."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*"))) if Path("/proc/driver/nvidia/gpus").is_dir() else 0


def local_engine() -> str:
    """Name the engine that `engine: auto` means: vLLM where it is installed, else transformers."""
    return "vllm" if importlib.util.find_spec("vllm") is not None else "transformers"
