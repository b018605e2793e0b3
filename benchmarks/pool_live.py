"""Measure the live pool with real LLMs on vLLM's CPU build: loads against the optimum, vLLM alone, and the simulator's ranking.

Run: python -m benchmarks.pool_live offline|direct|ranking [--questions N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.equality import BASE, texts
from benchmarks.page import write_section
from data.records import Answer, Call, Message, Sampling
from data.skills import generate
from experts import ExpertSpec
from experts.models import cache_dir, installed
from experts.pool import ExpertPool, PoolSettings
from experts.rules import RULES
from experts.scheduler import Scheduler
from experts.simulator import simulate
from experts.traces import Trace
from serving.config import ASSETS

PAGE = "pool.md"
ADAPTERS = ("numbers", "words", "logic", "records")
SYSTEM = "Answer briefly."


def checkpoint(adapter: str) -> str:
    """Folder of the base with an adapter merged into it, made once in the cache."""
    folder = cache_dir() / f"merged-{adapter}"
    if not (folder / "config.json").is_file():
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from experts.models import resolve

        base: Any = AutoModelForCausalLM.from_pretrained(resolve(BASE), dtype="bfloat16")
        PeftModel.from_pretrained(base, str(ASSETS / "adapters" / adapter)).merge_and_unload().save_pretrained(folder.with_suffix(".part"))
        AutoTokenizer.from_pretrained(resolve(BASE)).save_pretrained(folder.with_suffix(".part"))
        folder.with_suffix(".part").rename(folder)
    return str(folder)


def five() -> list[ExpertSpec]:
    """Five separate checkpoints: the demo's adapters merged into the base, and Gemma where it is installed, else the base."""
    last = "packaged:gemma-3-270m" if installed("gemma-3-270m") else BASE
    models = {**{name: checkpoint(name) for name in ADAPTERS}, "other": last}
    return [
        ExpertSpec(name, model, "vllm", dtype="bfloat16", system=SYSTEM, max_tokens=24, max_model_len=512) for name, model in models.items()
    ]


def calls_of(experts: Sequence[str], n: int) -> list[Call]:
    """Mixed questions, each for one expert, in an order that a seed shuffles."""
    questions = [task.query for task in generate("test", -(-n // 11))][:n]
    chosen = np.random.default_rng(0).permutation(np.arange(n) % len(experts))
    return [
        Call(str(at), experts[expert], (Message("user", question),), Sampling(), batch=True)
        for at, (question, expert) in enumerate(zip(questions, chosen, strict=True))
    ]


async def run(specs: Sequence[ExpertSpec], calls: Sequence[Call], rule: str = "counterpoint") -> dict[str, float]:
    """Answer calls that are all there at once, and tell what it took."""
    async with ExpertPool(specs, PoolSettings(rule=rule)) as pool:
        began = time.monotonic()
        answers: list[Answer] = await asyncio.gather(*(pool.answer(call) for call in calls))
        wall = time.monotonic() - began
        assert not (failed := [answer.error for answer in answers if answer.error]), failed[:3]
        stats = pool.stats
        return {"calls": len(calls), "loads": stats.loads, "wall_s": wall, "load_s": stats.load_s, "busy_s": stats.busy_s}


def offline(questions: int, subset: int) -> None:
    """All questions grouped; a part of them in order of arrival, and grouped again."""
    specs = five()
    calls = calls_of([spec.name for spec in specs], questions)
    whole = asyncio.run(run(specs, calls))
    arrival = asyncio.run(run(specs, calls[:subset], "fifo"))
    grouped = asyncio.run(run(specs, calls[:subset]))
    best = len({call.expert for call in calls})
    share = whole["busy_s"] / (whole["wall_s"] - whole["load_s"])
    estimate = arrival["wall_s"] / subset * questions
    rows = [
        "| run | calls | loads | optimum | wall s | loading s | engines busy s |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {name} | {r['calls']} | {r['loads']} | {best if name != 'in order of arrival' else '-'} | {r['wall_s']:.0f} "
            f"| {r['load_s']:.0f} | {r['busy_s']:.0f} |"
            for name, r in (("grouped", whole), ("in order of arrival", arrival), ("the same calls, grouped", grouped))
        ),
        "",
        f"Engines were busy for {100 * share:.1f}% of the time that loads left. In order of arrival the first {subset} calls took "
        f"{arrival['wall_s'] / grouped['wall_s']:.1f} times as long as grouped; at that pace all {questions} would take {estimate:.0f} s, "
        f"{estimate / whole['wall_s']:.1f} times the grouped run (extrapolated, not run).",
    ]
    write_section("offline", f"python -m benchmarks.pool_live offline --questions {questions}", "\n".join(rows), PAGE)


DIRECT = """
import json, os, sys, time
os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1",
               "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"}
from vllm import LLM, SamplingParams
job = json.load(sys.stdin)
llm = LLM(job["model"], dtype="bfloat16", max_model_len=512, enforce_eager=True, distributed_executor_backend="uni",
          kv_cache_memory_bytes=256 << 20, max_num_seqs=job["batch"], disable_log_stats=True)
tokenizer = llm.get_tokenizer()
ids = [tokenizer.apply_chat_template(m, add_generation_prompt=True, tokenize=True, return_dict=False) for m in job["messages"]]
params = SamplingParams(max_tokens=64, temperature=0.0)
llm.generate([{"prompt_token_ids": ids[0]}], params, use_tqdm=False)
seconds = []
for _ in range(job["rounds"]):
    began = time.monotonic()
    outputs = llm.generate([{"prompt_token_ids": i} for i in ids], params, use_tqdm=False)
    seconds.append(time.monotonic() - began)
tokens = sum(len(o.outputs[0].token_ids) for o in outputs)
json.dump({"seconds": seconds, "tokens": tokens, "texts": [o.outputs[0].text.strip() for o in outputs], "ids": ids}, open(job["out"], "w"))
"""


def equal(some: Sequence[str], others: Sequence[str]) -> float:
    """Share of equal texts."""
    return float(np.mean([a == b for a, b in zip(some, others, strict=True)]))


def direct(prompts: int, rounds: int = 3) -> None:
    """The same prompts through `vllm.LLM.generate` and through the pool, in turns."""
    import tempfile

    from experts.chat import prompt_ids
    from experts.models import resolve

    spec = ExpertSpec("e", BASE, "vllm", dtype="bfloat16", system=SYSTEM, max_tokens=64, max_model_len=512, options={"max_num_seqs": 64})
    questions = [task.query for task in generate("test", -(-prompts // 11))][:prompts]
    messages = [[{"role": "system", "content": SYSTEM}, {"role": "user", "content": q}] for q in questions]
    calls = [Call(str(at), "e", (Message("user", q),), Sampling(max_tokens=64)) for at, q in enumerate(questions)]

    async def through() -> tuple[list[float], list[str], int]:
        async with ExpertPool([spec]) as pool:
            await pool.answer(replace(calls[0], id="warm"))
            seconds = []
            for number in range(rounds):
                began = time.monotonic()
                answers = await asyncio.gather(*(pool.answer(replace(call, id=f"{number}/{call.id}")) for call in calls))
                seconds.append(time.monotonic() - began)
            return seconds, [answer.text for answer in answers], sum(answer.usage.completion_tokens for answer in answers)

    theirs: list[float] = []
    ours: list[float] = []
    for _ in range(2):  # in turns, so that neither has the quieter half of the time
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "direct.json"
            job = {"model": str(resolve(BASE)), "messages": messages, "batch": 64, "rounds": rounds, "out": str(out)}
            subprocess.run([sys.executable, "-c", DIRECT], input=json.dumps(job), text=True, check=True, capture_output=True)
            alone = json.loads(out.read_text())
        theirs += alone["seconds"]
        seconds, said, tokens = asyncio.run(through())
        ours += seconds
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(resolve(BASE))
    same_prompts = [prompt_ids(spec, tokenizer, call.messages, 64) for call in calls] == alone["ids"]
    few = 24
    exact = replace(spec, dtype="float32", max_tokens=24)
    one_by_one = asyncio.run(texts(exact, questions[:few]))
    pooled = asyncio.run(one_at_a_time(exact, questions[:few]))
    throughput = (tokens / np.median(ours)) / (alone["tokens"] / np.median(theirs))
    rows = [
        "| run | seconds, each round | tokens | tokens/s at the median |",
        "|---|---|---|---|",
        f"| `vllm.LLM.generate` | {' '.join(f'{s:.1f}' for s in theirs)} | {alone['tokens']} | {alone['tokens'] / np.median(theirs):.0f} |",
        f"| the pool | {' '.join(f'{s:.1f}' for s in ours)} | {tokens} | {tokens / np.median(ours):.0f} |",
        "",
        f"Throughput through the pool: {100 * throughput:.1f}% of vLLM's own, "
        f"{prompts} prompts, 64 at once. Prompt tokens are {'equal' if same_prompts else 'NOT equal'}. In bfloat16 batches "
        f"{100 * equal(said, alone['texts']):.1f}% of the texts are equal; in float32, one call at a time, "
        f"{100 * equal(one_by_one, pooled):.1f}% of {few}.",
    ]
    write_section("direct", f"python -m benchmarks.pool_live direct --questions {prompts}", "\n".join(rows), PAGE)


async def one_at_a_time(spec: ExpertSpec, questions: Sequence[str]) -> list[str]:
    """Ask one expert through the pool, one call after the other."""
    async with ExpertPool([spec]) as pool:
        sampling = Sampling(max_tokens=24)
        return [(await pool.answer(Call(str(at), spec.name, (Message("user", q),), sampling))).text for at, q in enumerate(questions)]


def ranking(calls: int, batch: int = 4) -> None:
    """The same arrivals live on two vLLM engines in one slot, and simulated with the costs that were measured live."""
    specs = [replace(spec, options={"max_num_seqs": batch}) for spec in five()[:2]]
    work = [replace(call, batch=False, sampling=Sampling(max_tokens=24)) for call in calls_of([spec.name for spec in specs], calls)]
    arrivals = np.cumsum(np.random.default_rng(1).exponential(0.45, calls))

    async def live(rule: str) -> tuple[np.ndarray, int, list[float], float]:
        async with ExpertPool(specs, PoolSettings(rule=rule)) as pool:
            for spec in specs:  # both engines' libraries are imported before anything counts
                await pool.answer(replace(work[0], id=f"warm-{spec.name}", expert=spec.name))
            loads, load_s, began = pool.stats.loads, pool.stats.load_s, time.monotonic()

            async def one(at: int) -> tuple[float, float]:
                await asyncio.sleep(max(0.0, arrivals[at] - (time.monotonic() - began)))
                asked = time.monotonic()
                answer = await pool.answer(work[at])
                assert answer.error is None, answer.error
                return time.monotonic() - asked, answer.latency_s

            pairs = await asyncio.gather(*(one(at) for at in range(calls)))
            swaps = pool.stats.loads - loads
            waits = np.array([whole - served for whole, served in pairs])
            return waits, swaps, [served for _, served in pairs], (pool.stats.load_s - load_s) / max(1, swaps)

    rules = [name for name in RULES if name != "lru"]
    found = {rule: asyncio.run(live(rule)) for rule in rules}
    swap_s = float(np.mean([each[3] for each in found.values()]))
    rows = ["| rule | live: mean wait s | p95 | swaps | simulated: mean wait s | p95 | swaps |", "|---|---|---|---|---|---|---|"]
    means: dict[str, tuple[float, float]] = {}
    for rule in rules:
        waits, swaps, *_ = found[rule]
        scheduler = Scheduler(RULES[rule]())
        scheduler.add_slot("slot")
        for number in range(len(specs)):
            scheduler.add_engine(str(number), lanes=batch, load_s=swap_s)
        experts = np.array([[spec.name for spec in specs].index(call.expert) for call in work])
        trace = Trace(arrivals, np.array(found["counterpoint"][2]), experts)
        again = simulate(trace, scheduler, swap_s)
        means[rule] = float(waits.mean()), float(np.nanmean(again.waits))
        rows.append(
            f"| {rule} | {waits.mean():.1f} | {np.percentile(waits, 95):.1f} | {swaps} | {np.nanmean(again.waits):.1f} "
            f"| {np.nanpercentile(again.waits, 95):.1f} | {again.swaps} |"
        )
    order = [sorted(rules, key=lambda rule: means[rule][side]) for side in (0, 1)]
    verdict = "the same" if order[0] == order[1] else "NOT the same"
    rows += [
        "",
        f"By mean wait, best first: live {', '.join(order[0])}; simulated {', '.join(order[1])}: {verdict}. A swap took {swap_s:.1f} s.",
    ]
    write_section("ranking", f"python -m benchmarks.pool_live ranking --questions {calls}", "\n".join(rows), PAGE)


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("offline", "direct", "ranking"))
    parser.add_argument("--questions", type=int)
    parser.add_argument("--subset", type=int, default=40, help="Calls in order of arrival.")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    match given.what:
        case "offline":
            offline(given.questions or 500, given.subset)
        case "direct":
            direct(given.questions or 200)
        case "ranking":
            ranking(given.questions or 120)


if __name__ == "__main__":
    main()
