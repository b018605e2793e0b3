"""Measure how often the same question gets the same text: adapter against merged model, engine against engine, alone against batched.

Run by `make bench`, or alone: python -m benchmarks.equality
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.page import write_section
from data.records import Call, Done, Message, Sampling
from data.skills import generate
from experts import ExpertSpec, make_engine
from experts.models import resolve
from serving.config import ASSETS

BASE = "packaged:smollm2-135m-instruct"
ADAPTER = str(ASSETS / "adapters" / "words")
RESULTS = Path(__file__).parent / "results" / "equality.json"


def merged(folder: Path) -> Path:
    """Write the base with the adapter merged into its weights, in float32."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base: Any = AutoModelForCausalLM.from_pretrained(resolve(BASE), dtype=torch.float32)
    model: Any = PeftModel.from_pretrained(base, ADAPTER)
    model.merge_and_unload().save_pretrained(folder)
    AutoTokenizer.from_pretrained(resolve(BASE)).save_pretrained(folder)
    return folder


async def texts(spec: ExpertSpec, questions: Sequence[str], *, together: bool = False) -> list[str]:
    """Ask one expert all questions, one at a time or all at once."""
    engine = make_engine([spec])
    await engine.start()
    calls = [Call(str(at), spec.name, (Message("user", question),), Sampling(max_tokens=24)) for at, question in enumerate(questions)]
    said: dict[str, str] = {}
    try:
        for group in [calls] if together else [[call] for call in calls]:
            async for event in engine.generate(group):
                if isinstance(event, Done):
                    said[event.call_id] = event.answer.text
    finally:
        await engine.stop()
    return [said[call.id] for call in calls]


async def measure(n: int = 44) -> dict[str, float]:
    """The share of equal texts of each pair of ways to ask."""
    questions = [task.query for task in generate("test", -(-n // 11))][:n]
    system = "Answer briefly."
    with tempfile.TemporaryDirectory() as folder:
        whole = str(merged(Path(folder)))
        ways = {
            "adapter": await texts(ExpertSpec("e", BASE, "transformers", ADAPTER, system=system, dtype="float32"), questions),
            "merged": await texts(ExpertSpec("e", whole, "transformers", system=system, dtype="float32"), questions),
            "vllm": await texts(ExpertSpec("e", BASE, "vllm", ADAPTER, system=system, dtype="bfloat16"), questions),
            "vllm-batch": await texts(ExpertSpec("e", BASE, "vllm", ADAPTER, system=system, dtype="bfloat16"), questions, together=True),
        }
    pairs = {
        "transformers, float32, one at a time: adapter and merged model": ("adapter", "merged"),
        "transformers float32 and vLLM bfloat16, one at a time": ("adapter", "vllm"),
        "vLLM bfloat16: one at a time and all in one batch": ("vllm", "vllm-batch"),
    }
    return {name: sum(a == b for a, b in zip(ways[x], ways[y], strict=True)) / n for name, (x, y) in pairs.items()}


def main() -> None:
    """Measure, keep the results, and write the section."""
    warnings.filterwarnings("ignore")
    shares = asyncio.run(measure())
    RESULTS.write_text(json.dumps(shares, indent=1) + "\n", encoding="utf-8")
    lines = ["| the same question, asked both ways | equal texts |", "|---|---|"]
    lines += [f"| {name} | {share:.0%} |" for name, share in shares.items()]
    write_section("equality", "python -m benchmarks.equality", "\n".join(lines) + "\n\n44 test questions, temperature 0, adapter `words`.")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
