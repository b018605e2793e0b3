"""Measure what the endpoint adds to a request, beside the LiteLLM proxy and vLLM's own server, all asked in turns.

Run by `make bench`, or alone: python -m benchmarks.overhead [remote|scripted|vllm ...] [--rounds 5] [--seconds 4] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import servers
from benchmarks.load import Measured
from benchmarks.page import write_section
from benchmarks.rounds import Aim, orders, ratio
from benchmarks.servers import Server
from data.skills import generate
from data.statistics import Interval, bootstrap

RESULTS = Path(__file__).parent / "results" / "overhead.json"
CLIENTS = (1, 16, 64)
WARM_S = 0.5
PER_S = Aim("requests/s", 1.5, at_least=True)
ADDED = Aim("added median latency", 2 / 3, at_least=False)
THROUGHPUT = Aim("tokens/s", 0.95, at_least=True)
FIRST = Aim("median time to the first token", 1.15, at_least=False)
VLLM_LOADS = {1: 16, 8: 64}
"""Requests of a round, by the number of clients."""


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to ask.

    Attributes:
        clients: How many ask at once.
        stream: Whether the answers are streams, whose latency is the time to the first token.
    """

    clients: int
    stream: bool

    def __str__(self) -> str:
        return f"{self.clients}, {'first token of a stream' if self.stream else 'whole answer'}"

    def latency_ms(self, measured: Measured) -> float:
        """The median latency of a round."""
        return 1e3 * (measured.first_s if self.stream else measured.median_s)


Rounds = dict[Mode, dict[str, list[Measured]]]
"""For each way to ask, what each contestant did, round by round."""


def in_turns(contestants: Sequence[Server], modes: Sequence[Mode], rounds: int, seconds: float, seed: int) -> Rounds:
    """Ask all contestants in each way, one after the other, in an order that changes from round to round."""
    for server in contestants:
        server.ask(16, seconds=2.0)
    found: Rounds = {mode: {server.name: [] for server in contestants} for mode in modes}
    for number, order in enumerate(orders(contestants, rounds, seed), start=1):
        for mode in modes:
            for server in order:
                measured = server.ask(mode.clients, seconds=seconds, warm_s=WARM_S, stream=mode.stream)
                found[mode][server.name].append(measured)
                print(f"round {number}, {mode}: {server.name} {measured.per_s:.0f}/s, {mode.latency_ms(measured):.2f} ms", flush=True)
    return found


def number(interval: Interval) -> str:
    """A mean and its interval, with digits that fit its size."""
    digits = 0 if interval.mean >= 100 else 1 if interval.mean >= 10 else 2
    return f"{interval.mean:.{digits}f} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def table(found: Rounds) -> list[str]:
    """The figures of all contestants, and ours against LiteLLM's where that took part."""
    names = list(next(iter(found.values())))
    direct, *others = names
    rows = [f"| clients, latency of | figure | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for mode, each in found.items():
        latencies = {name: [mode.latency_ms(one) for one in each[name]] for name in names}
        added = {name: np.subtract(latencies[name], latencies[direct]) for name in others}
        rows += [
            f"| {mode} | requests/s | {' | '.join(number(bootstrap(np.array([one.per_s for one in each[name]]))) for name in names)} |",
            f"| | median, ms | {' | '.join(number(bootstrap(np.array(latencies[name]))) for name in names)} |",
            f"| | added, ms | - | {' | '.join(number(bootstrap(added[name])) for name in others)} |",
        ]
    if "LiteLLM" not in names:
        return rows
    rows += ["", "| clients, latency of | Counterpoint / LiteLLM | ratio | aim | |", "|---|---|---|---|---|"]
    for mode, each in found.items():
        base, ours, theirs = (each[name] for name in (direct, "Counterpoint", "LiteLLM"))
        speed = ratio([one.per_s for one in ours], [one.per_s for one in theirs])
        ms = [np.array([mode.latency_ms(one) for one in some]) for some in (base, ours, theirs)]
        more = ratio((ms[1] - ms[0]).tolist(), (ms[2] - ms[0]).tolist())
        rows += [f"| {mode} | {aim.what} | {number(of)} | {aim} | {aim.verdict(of)} |" for aim, of in ((PER_S, speed), (ADDED, more))]
    return rows


def remote(rounds: int, seconds: float, seed: int) -> tuple[Rounds, list[str]]:
    """A server that answers at once: asked directly, through us, through LiteLLM."""
    with ExitStack() as stack:
        up = stack.enter_context(servers.upstream())
        ours = stack.enter_context(servers.counterpoint({"name": "far", "model": "instant", "engine": "openai", "api_base": up.url}))
        theirs = stack.enter_context(servers.litellm({"model": "openai/instant", "api_base": up.url, "api_key": "none"}))
        found = in_turns([up, ours, theirs], [Mode(c, s) for s in (False, True) for c in CLIENTS], rounds, seconds, seed)
    return found, table(found)


def scripted(rounds: int, seconds: float, seed: int) -> tuple[Rounds, list[str]]:
    """Answers that our scripted engine makes inside the gateway, so that no expert is waited for; LiteLLM has no such thing."""
    script = {"script": [{"match": "capital", "say": "Paris"}]}
    with ExitStack() as stack:
        up = stack.enter_context(servers.upstream())
        ours = stack.enter_context(servers.counterpoint({"name": "near", "model": "-", "engine": "scripted", "options": script}))
        found = in_turns([up, ours], [Mode(c, s) for s in (False, True) for c in CLIENTS], rounds, seconds, seed)
    return found, table(found)


def vllm(rounds: int, seconds: float, seed: int) -> tuple[Rounds, list[str]]:
    """SmolLM2 on vLLM: by its own server, and by our endpoint with one vLLM expert; streamed, the same prompts for all."""
    from benchmarks.equality import BASE
    from experts import ExpertSpec
    from experts.models import resolve
    from experts.vllm_settings import prepare_environment, settings_of

    prepare_environment(gpus=0)  # for all: what our engine would set is inherited by vLLM's own server as well
    questions = [task.query for task in generate("test", 6)][:64]
    settings = settings_of([ExpertSpec("e", BASE, "vllm")], resolve(BASE))
    expert: dict[str, Any] = {"name": "e", "model": BASE, "engine": "vllm"}
    found: Rounds = {Mode(clients, True): {} for clients in VLLM_LOADS}
    with ExitStack() as stack:
        theirs = stack.enter_context(servers.vllm("mix", settings))
        ours = [
            stack.enter_context(servers.counterpoint(expert | {"options": {"process": True}})),
            stack.enter_context(servers.counterpoint(expert, "Counterpoint, engine in the slot's process")),
        ]
        for server in (*ours, theirs):
            server.ask(8, stream=True, questions=questions, max_tokens=48)
        for at, order in enumerate(orders([*ours, theirs], rounds, seed), start=1):
            for mode, each in found.items():
                for server in order:
                    some = questions[: VLLM_LOADS[mode.clients]]
                    measured = server.ask(mode.clients, stream=True, questions=some, max_tokens=48)
                    each.setdefault(server.name, []).append(measured)
                    print(f"round {at}, {mode}: {server.name} {measured.tokens_per_s:.0f} tokens/s, {mode.latency_ms(measured):.0f} ms")
    rows = ["| clients | server | figure | | to vLLM's own server | aim | |", "|---|---|---|---|---|---|---|"]
    equal: list[str] = []
    for mode, each in found.items():
        tokens = {name: np.array([one.tokens_per_s for one in some]) for name, some in each.items()}
        first = {name: np.array([mode.latency_ms(one) for one in some]) for name, some in each.items()}
        for aim, unit, of in ((THROUGHPUT, "", tokens), (FIRST, ", ms", first)):
            rows.append(f"| {mode.clients} | {theirs.name} | {aim.what}{unit} | {number(bootstrap(of[theirs.name]))} | | | |")
            for name in (server.name for server in ours):
                share = ratio([*of[name]], [*of[theirs.name]])
                verdict = f"{number(share)} | {aim} | {aim.verdict(share)}"
                rows.append(f"| {mode.clients} | {name} | {aim.what}{unit} | {number(bootstrap(of[name]))} | {verdict} |")
        said = {name: Counter(some[0].texts) for name, some in each.items()}
        alike = [(said[theirs.name] & said[server.name]).total() / said[theirs.name].total() for server in ours]
        equal.append(f"{' and '.join(f'{100 * share:.0f}%' for share in alike)} with {mode.clients}")
    threads = os.environ["OMP_NUM_THREADS"]
    rows += ["", f"Texts equal to those of vLLM's own server, clients: {', '.join(equal)}."]
    rows += [f"All run vLLM with the same settings and OMP_NUM_THREADS={threads}."]
    return found, rows


TABLES = {"remote": remote, "scripted": scripted, "vllm": vllm}


def kept(found: Rounds) -> dict[str, Any]:
    """The figures of all rounds, as JSON."""
    return {
        str(mode): {
            name: [
                {"answers": len(one.latencies), "per_s": one.per_s, "median_s": one.median_s, "first_s": one.first_s}
                | {"tokens_per_s": one.tokens_per_s}
                for one in some
            ]
            for name, some in each.items()
        }
        for mode, each in found.items()
    }


def main() -> None:
    """Measure, keep the results, and write the sections."""
    parser = argparse.ArgumentParser(description="Measure what the endpoint adds to a request.")
    parser.add_argument("tables", nargs="*", default=[], help=f"which of {', '.join(TABLES)}; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each contestant and way to ask in a round")
    parser.add_argument("--seed", type=int, default=0, help="of the order in which they are asked")
    parser.add_argument("--print", action="store_true", help="print only: keep no results and write no page")
    asked = parser.parse_args()
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    for name in asked.tables or TABLES:
        print(f"{name}: {asked.rounds} rounds, seed {asked.seed}", flush=True)
        load, cores = os.getloadavg()[0], os.cpu_count()
        found, rows = TABLES[name](asked.rounds, asked.seconds, asked.seed)
        rows += ["", f"{asked.rounds} rounds, seed {asked.seed}, {cores} cores, load average before the start {load:.1f}."]
        print("\n".join(rows), flush=True)
        if asked.print:
            continue
        results[name] = {"seed": asked.seed, "machine": platform.machine(), "cores": cores, "load": load, "rounds": kept(found)}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        write_section(f"overhead-{name}", f"python -m benchmarks.overhead {name} --rounds {asked.rounds}", "\n".join(rows))


if __name__ == "__main__":
    main()
