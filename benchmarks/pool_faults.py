"""Kill what runs the calls, at seeded random moments, and count what becomes of the calls: slots, engines, and the dispatcher itself.

Run: python -m benchmarks.pool_faults [--calls 1000] [--kills 100] [--seed 0]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.page import write_section
from data.records import Call, Delta, Done, Message
from experts import ExpertSpec
from experts.pool import ExpertPool, PoolSettings

EXPERTS = "abcd"
KINDS = 16
"""Answers that an expert has; a call that got another call's answer shows."""
WORDS = 8
PAUSE_S = 0.05
END_S = 120.0
"""Seconds after which a call that has not ended counts as lost."""


@dataclass(slots=True)
class Tally:
    """What became of the calls.

    Attributes:
        calls: Calls accepted.
        answered: Calls that ended with their answer.
        own_errors: Calls that ended with an error of their own.
        lost: Calls that did not end.
        doubled: Calls that ended more than once, or wrote on after their end.
        wrong: Calls that ended with another answer than theirs.
        repeated: Words that a stream gave twice, or out of their order.
        deaths: Kills, by what was killed.
        recovery_s: For each death that the pool saw, the seconds until the engine answered again.
        resumed_s: For each death of the dispatcher, the seconds from the start of the next one to its first line.
        left: Processes that a killed dispatcher left behind.
    """

    calls: int = 0
    answered: int = 0
    own_errors: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    repeated: int = 0
    deaths: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    recovery_s: list[float] = field(default_factory=list)
    resumed_s: list[float] = field(default_factory=list)
    left: int = 0

    @property
    def kills(self) -> int:
        """Kills of any kind."""
        return self.deaths.total()


def script(expert: str) -> list[dict[str, Any]]:
    """What an expert says: eight words to each kind of question, with a pause after each; and what kills its engine."""
    answers = [{"match": f"kind {kind}$", "say": said(expert, kind), "pause_s": PAUSE_S} for kind in range(KINDS)]
    return [{"match": "^die$", "die": True}, *answers]


def said(expert: str, kind: int) -> str:
    """The answer of an expert to a kind of question."""
    return " ".join(f"{expert}{kind}.{word}" for word in range(WORDS))


def asked(number: int) -> tuple[str, str, int]:
    """The expert, the question and the kind of a call."""
    kind = number // len(EXPERTS) % KINDS
    return EXPERTS[number % len(EXPERTS)], f"question {number} of kind {kind}", kind


async def churn(tally: Tally, rng: random.Random, *, calls: int, kills: int, gap_s: float) -> None:
    """Ask a pool of two slots, every second call streamed, while the processes of slots and the engines in them are killed.

    Args:
        tally: Where to count.
        rng: Source of the moments.
        calls: Number of calls.
        kills: Number of kills, half of them of slots.
        gap_s: Mean seconds between two kills.
    """
    specs = [ExpertSpec(name, f"model-{name}", "scripted", options={"slot": True, "script": script(name)}) for name in EXPERTS]
    span = kills * gap_s
    arrivals = sorted(rng.uniform(0, span) for _ in range(calls))
    moments = sorted(rng.uniform(0, span) for _ in range(kills))
    targets = rng.sample(["slot", "engine"] * (kills // 2 + 1), kills)
    killed: set[int] = set()
    async with ExpertPool(specs, PoolSettings(slots=2, batch=16)) as pool:
        await pool.warm()
        began = time.monotonic()
        asking = [asyncio.create_task(_ask(pool, tally, number, began + at)) for number, at in enumerate(arrivals)]
        for moment, target in zip(moments, targets, strict=True):
            await asyncio.sleep(max(0.0, began + moment - time.monotonic()))
            await _kill(pool, rng, target, killed)
            tally.deaths[target] += 1
        _, pending = await asyncio.wait(asking, timeout=END_S)
        tally.lost += len(pending)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for task in set(asking) - pending:
            while not (events := task.result()).empty():
                tally.doubled += isinstance(events.get_nowait(), Done)
        tally.recovery_s += pool.stats.recovery_s


async def _ask(pool: ExpertPool, tally: Tally, number: int, at: float) -> asyncio.Queue[Any]:
    """Ask one call and count its end; its queue is handed on, for nothing may come after the end."""
    await asyncio.sleep(max(0.0, at - time.monotonic()))
    expert, question, kind = asked(number)
    streamed = kind % 2 == 1
    tally.calls += 1
    events = pool._submit(Call(f"call-{number}", expert, (Message("user", question),), stream=streamed)).events
    words: list[str] = []
    while isinstance(event := await events.get(), Delta):
        words += event.text.split()
    right = said(expert, kind).split()
    tally.repeated += sum(word != wanted for word, wanted in zip(words, right, strict=False)) + max(0, len(words) - len(right))
    if event.answer.error is not None:
        tally.own_errors += 1
        tally.errors[event.answer.error] += 1
    else:
        tally.answered += 1
        tally.wrong += event.answer.text.split() != right or (streamed and words != right)
    return events


async def _kill(pool: ExpertPool, rng: random.Random, target: str, killed: set[int]) -> None:
    """Kill the process of a slot, or an engine in one; where there is none just now, as soon as there is."""
    while True:
        here = [place for place in pool._places.values() if place.pid is not None and place.pid not in killed]
        if target == "slot" and here:
            pid = rng.choice(here).pid or 0
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
            return
        awake = [(place, stay) for place in here for stay in pool.scheduler.slots[place.id].awake.values() if not stay.loading]
        if target == "engine" and awake:
            place, stay = rng.choice(awake)
            deadly = Call("deadly", stay.group.engine.split(":")[1].removeprefix("model-"), (Message("user", "die"),))
            with suppress(Exception):  # its end, which is what we want
                async for bundle in place.actor.generate.options(num_returns="streaming").remote(stay.group.engine, [deadly]):
                    await bundle
            return
        await asyncio.sleep(0.01)


def dispatch(tally: Tally, rng: random.Random, *, calls: int, kills: int, folder: Path) -> str:
    """Answer a batch of the same calls in a process that is killed again and again, each time started anew, and look at its lines.

    Args:
        tally: Where to count.
        rng: Source of the moments.
        calls: Number of lines.
        kills: Number of kills.
        folder: Where input, output and config go.

    Returns:
        The mark that all of its processes bear in their environment.
    """
    source, output, config = folder / "in.jsonl", folder / "out.jsonl", folder / "mixture.yaml"
    bodies = [
        {"model": "mix", "messages": [{"role": "user", "content": question}], "counterpoint": {"experts": [expert]}}
        for expert, question, _ in map(asked, range(calls))
    ]
    lines = [
        {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body} for number, body in enumerate(bodies)
    ]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = {name: {"slot": True, "script": script(name)} for name in EXPERTS}
    experts = [{"name": name, "model": f"model-{name}", "engine": "scripted", "options": options[name]} for name in EXPERTS]
    config.write_text(yaml.safe_dump({"version": 1, "name": "mix", "experts": experts, "pool": {"slots": 2, "batch": 4}}))
    mark = f"POOL_FAULTS={uuid.uuid4()}"
    environment = os.environ | {"POOL_FAULTS": mark.partition("=")[2]}
    command = [sys.executable, "-m", "serving.cli", "batch", "-c", str(config), "-i", str(source), "-o", str(output)]
    for at in range(kills + 1):
        before, began = _lines(output), time.monotonic()
        process = subprocess.Popen(
            command, cwd=Path(__file__).parent.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        )
        early = at < kills and at % 4 == 3  # this one is killed while it starts, others soon after their first line
        end = began + (rng.uniform(1, 5) if early else END_S)
        while process.poll() is None and _lines(output) == before and time.monotonic() < end:
            time.sleep(0.02)
        if at and _lines(output) > before:
            tally.resumed_s.append(time.monotonic() - began)
        if at < kills:
            time.sleep(0 if early else rng.uniform(0, 3))
            tally.deaths["dispatcher"] += process.poll() is None
            process.kill()
        process.wait(END_S + calls)
    _count(tally, calls, output)
    return mark


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def left_behind(mark: str, within_s: float = 90.0) -> int:
    """Processes with a mark that have not ended within so many seconds; Ray's agents look for their parent now and then."""
    deadline = time.monotonic() + within_s
    while (left := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


def _marked(mark: str) -> int:
    """Processes whose environment bears a mark."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            found += mark.encode() in path.read_bytes().split(b"\0")
    return found


def _count(tally: Tally, calls: int, output: Path) -> None:
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    seen = Counter(row["custom_id"] for row in rows)
    tally.calls += calls
    tally.lost += sum(str(number) not in seen for number in range(calls))
    tally.doubled += sum(times - 1 for times in seen.values())
    for row in rows:
        if row["error"] is not None or row["response"]["status_code"] != 200:
            tally.own_errors += 1
            tally.errors[str(row["error"] or row["response"]["body"]["error"]["message"])] += 1
        else:
            expert, _, kind = asked(int(row["custom_id"]))
            tally.answered += 1
            tally.wrong += row["response"]["body"]["choices"][0]["message"]["content"] != said(expert, kind)


def section(live: Tally, batch: Tally, seed: int, seconds: float) -> str:
    """The results in Markdown."""
    kills = live.deaths + batch.deaths
    lines = [
        f"Seed {seed}: {kills.total()} kills ({', '.join(f'{name} {count}' for name, count in kills.items())}) in {seconds:.0f} s.",
        "",
        "| | calls | answered | own errors | lost | ended twice | wrong | words repeated |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, tally in (("live, half of them streamed", live), ("batch, run again after each kill", batch)):
        figures = (tally.calls, tally.answered, tally.own_errors, tally.lost, tally.doubled, tally.wrong, tally.repeated)
        lines.append(f"| {name} | {' | '.join(f'{figure:,}' for figure in figures)} |")
    lines.append("")
    for name, times in (
        ("From a death in the pool to the engine's next answer", live.recovery_s),
        ("From the dispatcher's new start to its first line", batch.resumed_s),
    ):
        if times:
            lines.append(f"{name}: median {statistics.median(times):.2f} s, at most {max(times):.2f} s ({len(times)} times).")
    lines.append(f"Processes that killed dispatchers left behind: {batch.left}.")
    if errors := live.errors + batch.errors:
        lines += ["", *(f"- {count} x {error}" for error, count in errors.most_common())]
    return "\n".join(lines)


def main() -> int:
    """Kill, count and print; 1 where a call was lost, doubled or mixed up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--gap", type=float, default=2.0, help="mean seconds between two kills in the pool")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    rng, began = random.Random(options.seed), time.monotonic()
    live, batch = Tally(), Tally()
    of_dispatcher = options.kills // 10
    asyncio.run(churn(live, rng, calls=options.calls, kills=options.kills - of_dispatcher, gap_s=options.gap))
    import ray

    ray.shutdown()
    with tempfile.TemporaryDirectory() as folder:
        mark = dispatch(batch, rng, calls=options.calls, kills=of_dispatcher, folder=Path(folder))
    batch.left = left_behind(mark)
    text = section(live, batch, options.seed, time.monotonic() - began)
    print(text)
    write_section("faults", "python -m benchmarks.pool_faults", text, page="pool.md")
    return int(any((tally.lost, tally.doubled, tally.wrong, tally.repeated, tally.left) != (0,) * 5 for tally in (live, batch)))


if __name__ == "__main__":
    sys.exit(main())
