"""Measure vLLM on this processor in bfloat16 and in float32, in turn: tokens read and written per second.

Run alone, while nothing else runs: python -m benchmarks.number_types
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.page import write_section
from data.records import Call, Done, Message, Sampling, Usage
from experts import ExpertSpec, make_engine
from experts.base import Engine

BASE = "packaged:smollm2-135m-instruct"
KINDS = ("bfloat16", "float32")
WORDS = " ".join(f"word{at}" for at in range(60))
TASKS = {  # how many questions at once, what they say, tokens that each may write
    "tokens/s written, 1 at a time": (1, "Tell me of a dog and the sea.", 32),
    "tokens/s written, 8 at once": (8, "Tell me of a dog and the sea.", 32),
    "tokens/s read, 4 at once": (4, WORDS, 1),
}


async def asked(engine: Engine, count: int, text: str, tokens: int) -> tuple[Usage, float]:
    """Ask some questions at once, and give what they took and the seconds."""
    began = time.perf_counter()
    calls = [Call(f"{began}-{at}", "e", (Message("user", f"{at}: {text}"),), Sampling(max_tokens=tokens)) for at in range(count)]
    usages = [event.answer.usage async for event in engine.generate(calls) if isinstance(event, Done)]
    return sum(usages, Usage()), time.perf_counter() - began


async def measure(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Tokens per second of each task and number type, a figure a round; an engine is made anew for each."""
    rates: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in KINDS} for name in TASKS}
    for turn in range(rounds):
        for kind in KINDS if turn % 2 else KINDS[::-1]:
            engine = make_engine([ExpertSpec("e", BASE, "vllm", dtype=kind)])
            await engine.start()
            try:
                await asked(engine, 1, "Hi", 2)
                for name, (count, text, tokens) in TASKS.items():
                    usage, seconds = await asked(engine, count, text, tokens)
                    rates[name][kind].append((usage.completion_tokens if tokens > 1 else usage.prompt_tokens) / seconds)
                    print(f"round {turn + 1}, {kind}: {name} {rates[name][kind][-1]:.1f}", file=sys.stderr, flush=True)
            finally:
                await engine.stop()
    return rates


def table(rates: dict[str, dict[str, list[float]]]) -> str:
    """The figures: medians, with the least and the most of all rounds."""

    def cell(figures: Sequence[float]) -> str:
        return f"{np.median(figures):.1f} ({min(figures):.1f} to {max(figures):.1f})"

    lines = [f"| | {' | '.join(KINDS)} | |", "|---|---|---|---|"]
    for name, of in rates.items():
        times = np.median(of["float32"]) / np.median(of["bfloat16"])
        lines.append(f"| {name} | {' | '.join(cell(of[kind]) for kind in KINDS)} | float32 {times:.1f} times |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="engines of each number type")
    chosen = parser.parse_args()
    import torch

    made = table(asyncio.run(measure(chosen.rounds)))
    able = torch.cpu.get_capabilities()
    kind = "AVX-512" if able.get("avx512_f") else "AVX2"
    told = f"SmolLM2-135M, one thread, medians of {chosen.rounds} rounds with the least and the most. {able.get('cpu_name')}, {kind}."
    write_section("number-types", f"python -m benchmarks.number_types --rounds {chosen.rounds}", f"{made}\n\n{told}")
    print(made)
