"""Ask a live endpoint thousands of things at once, some of them bad, some given up, a slot killed amid them: nothing may be lost or kept.

Run: python -m benchmarks.soak [--requests 10000] [--concurrency 256] [--gateways 1 2] [--seed 0]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.load import LoadError, piece_of
from benchmarks.page import write_section
from serving.keys import Keys
from serving.routes.common import MAX_BODY_BYTES
from serving.store import Store

RESULTS = Path(__file__).parent / "results" / "soak.json"
EXPERTS = "abc"
KINDS = 16
"""Answers that an expert has; who gets another request's answer shows."""
WORDS = 6
BAD, LEAVING = 0.05, 0.05
"""Shares of requests that cannot be answered, and of those whose callers leave."""
HANG_S = 90.0
"""Seconds after which a request that has not ended counts as hung."""
CUT_S = 30.0
"""Seconds after a slot's death within which a stream that it was writing may break off."""
REST_S = 60.0
"""Seconds within which all must be at rest once nobody asks."""
WARM, LAST, EVERY = 1000, 5000, 500
"""Requests before growth is looked at, over which it is judged, and between two looks."""
GROWTH = 0.05
"""Share by which a process may grow over the last requests."""
HANDLES, TASKS = 16, 8
"""File handles of a process, and tasks of all, that there may be more of in the end than after the warm-up."""
ROLES = {"gateway": "ray::ServeReplica:", "control": "ray::Control", "slot": "ray::Slot"}
"""What processes are called, by what they are."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A request that will be made.

    Attributes:
        number: Its number.
        fate: `good`, `bad` or `leaving`.
        model: Who is asked.
        stream: Whether it asks for a stream.
        patience: From 0 to 1, how long its caller stays; of bad ones, what is wrong with them.
    """

    number: int
    fate: str
    model: str
    stream: bool
    patience: float

    @property
    def kind(self) -> int:
        """The kind of its question."""
        return self.number // 2 % KINDS

    @property
    def limited(self) -> bool:
        """Whether it is asked by a key that may ask little a minute."""
        return self.fate == "good" and self.number % 20 == 7

    @property
    def right(self) -> list[str]:
        """The words that its answer has."""
        return said("all" if self.model == "mix" else self.model, self.kind).split()

    @property
    def body(self) -> dict[str, Any]:
        """Its JSON."""
        text = f"question {self.number} {'for all' if self.model == 'mix' else 'for one'} of kind {self.kind}"
        return {"model": self.model, "messages": [{"role": "user", "content": text}], "stream": self.stream}


@dataclass(slots=True)
class Tally:
    """What became of the requests.

    Attributes:
        ends: How many ended in each way.
        kills: When slots were killed.
        problems: What must not be, each with its request.
        done: Requests that have ended.
    """

    ends: Counter[str] = field(default_factory=Counter)
    kills: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    done: int = 0

    def end(self, name: str, wrong: str | None = None) -> None:
        """Count an end, and what was wrong with it."""
        self.ends[name] += 1
        if wrong is not None:
            self.problems.append(wrong)


@dataclass(frozen=True, slots=True)
class Look:
    """The endpoint's processes at one moment.

    Attributes:
        done: Requests that had ended.
        bytes: Resident bytes of each process, by role and number.
        handles: Open file handles of each.
    """

    done: int
    bytes: dict[str, dict[int, int]]
    handles: dict[str, dict[int, int]]


def said(expert: str, kind: int) -> str:
    """The answer of an expert to a kind of question; `all` is what every one of them says.

    Example:
        >>> said("a", 3)
        'a3.0 a3.1 a3.2 a3.3 a3.4 a3.5'
    """
    return " ".join(f"{expert}{kind}.{word}" for word in range(WORDS))


def script(expert: str) -> list[dict[str, Any]]:
    """What an expert says, after a moment and with a moment after each word."""
    pauses = {"delay_s": 0.02, "pause_s": 0.01}
    asked = [("for all", "all", kind) for kind in range(KINDS)] + [("for one", expert, kind) for kind in range(KINDS)]
    return [{"match": f"{whom} of kind {kind}$", "say": said(who, kind), **pauses} for whom, who, kind in asked]


def plan(requests: int, seed: int) -> list[Planned]:
    """What will be asked: shares and models as they should be, in an order of chance.

    Example:
        >>> made = plan(200, seed=0)
        >>> sum(one.fate == "bad" for one in made), sum(one.fate == "leaving" for one in made), sum(one.stream for one in made)
        (10, 10, 100)
    """
    rng = random.Random(seed)
    bad, leaving = round(requests * BAD), round(requests * LEAVING)
    fates = ["bad"] * bad + ["leaving"] * leaving + ["good"] * (requests - bad - leaving)
    rng.shuffle(fates)
    models = [*EXPERTS, "mix"]
    return [Planned(at, fate, rng.choice(models), at % 2 == 1, rng.random()) for at, fate in enumerate(fates)]


class Endpoint:
    """A live endpoint of our own, and its processes.

    Args:
        folder: Where its files go.
        gateways: How many gateways it has.
    """

    def __init__(self, folder: Path, gateways: int) -> None:
        self.folder, self.gateways = folder, gateways
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        store = f"sqlite:///{folder / 'store.db'}"
        names = [{"name": name, "model": f"model-{name}", "engine": "scripted"} for name in EXPERTS]
        experts = [each | {"options": {"slot": True, "script": script(each["name"])}} for each in names]
        log = str(folder / "requests.jsonl")
        serving = {"port": self.port, "keys": True, "store": store, "gateways": gateways, "log": log, "drain_s": 5}
        mixture = {"version": 1, "name": "mix", "experts": experts, "pool": {"slots": 2, "max_wait_s": 30}, "serving": serving}
        (folder / "mixture.yaml").write_text(yaml.safe_dump(mixture), encoding="utf-8")
        with Store(store) as opened:
            keys = Keys(opened)
            self.admin, self.caller = keys.create("admin", admin=True)[1], keys.create("caller")[1]
            self.narrow = keys.create("narrow", denied_experts=["c"])[1]
            self.limited = keys.create("limited", requests_per_minute=30)[1]
            revoked, self.revoked = keys.create("revoked")
            keys.revoke(revoked.id)

    def start(self) -> None:
        """Start it, and wait until it is ready.

        Raises:
            RuntimeError: It ended, or is not ready after four minutes.
        """
        command = [sys.executable, "-m", "serving.cli", "serve", "-c", str(self.folder / "mixture.yaml")]
        with (self.folder / "log").open("w") as log:  # a session of its own: Ctrl-C is ours, and we end it
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=Path(__file__).parent.parent, start_new_session=True)
        deadline = time.monotonic() + 240
        while self.process.poll() is None and time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{self.port}/readyz").status_code == 200 and self._all_here():
                    return
            time.sleep(0.25)
        raise RuntimeError(f"the endpoint is not ready: {(self.folder / 'log').read_text()[-2000:]}")

    def _all_here(self) -> bool:
        return len(self.pids("gateway")) == self.gateways and len(self.pids("slot")) == 2

    def stop(self) -> None:
        """End it, and whatever of its processes outlives it."""
        left = {pid: _born(pid) for pid in family(self.process.pid)}
        self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        deadline = time.monotonic() + 20
        while (left := {pid: born for pid, born in left.items() if born and _born(pid) == born}) and time.monotonic() < deadline:
            time.sleep(0.25)
        for pid in left:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)

    def pids(self, role: str) -> list[int]:
        """Its processes of a role."""
        return [pid for pid, title in family(self.process.pid).items() if title.startswith(ROLES[role])]

    def look(self, done: int) -> Look:
        """Measure its processes."""
        bytes: dict[str, dict[int, int]] = {role: {} for role in ROLES}
        handles: dict[str, dict[int, int]] = {role: {} for role in ROLES}
        for pid, title in family(self.process.pid).items():
            role = next((role for role, begin in ROLES.items() if title.startswith(begin)), None)
            with suppress(OSError):
                if role is not None:
                    bytes[role][pid] = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
                    handles[role][pid] = len(os.listdir(f"/proc/{pid}/fd"))
        return Look(done, bytes, handles)

    def client(self) -> httpx.AsyncClient:
        """A caller with a connection of its own."""
        headers = {"authorization": f"Bearer {self.caller}"}
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=None, verify=False, trust_env=False)


def family(root: int) -> dict[int, str]:
    """The processes that come from one, with their titles."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found, new = {root}, {root}
    while new := {pid for pid, parent in parents.items() if parent in new and pid not in found}:
        found |= new
    titles: dict[int, str] = {}
    for pid in sorted(found):
        with suppress(OSError):
            titles[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return titles


def _born(pid: int) -> str:
    """When a process began, in ticks; empty where it has ended."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    return ""


async def ask(client: httpx.AsyncClient, one: Planned, endpoint: Endpoint, tally: Tally) -> None:
    """Make a request, and count its end."""
    try:
        async with asyncio.timeout(HANG_S):
            await {"good": _good, "bad": _bad, "leaving": _leave}[one.fate](client, one, endpoint, tally)
    except TimeoutError:
        tally.end("hung", f"{one} had not ended after {HANG_S:.0f} s")
    except (httpx.HTTPError, LoadError, ValueError, KeyError) as error:
        tally.end("broken", f"{one}: {type(error).__name__}: {error}"[:400])
    tally.done += 1


async def _good(client: httpx.AsyncClient, one: Planned, endpoint: Endpoint, tally: Tally) -> None:
    began = time.monotonic()
    headers = {"authorization": f"Bearer {endpoint.limited}"} if one.limited else {}
    async with client.stream("POST", "/v1/chat/completions", json=one.body, headers=headers) as answer:
        if answer.status_code != 200 or not one.stream:
            _whole(one, answer, await answer.aread(), tally)
            return
        words, error, done = "", None, False
        async for line in answer.aiter_lines():
            done |= line == "data: [DONE]"
            if line.startswith("data: {"):
                event = json.loads(line[6:])
                error = event.get("error", error)
                words += "" if "error" in event else piece_of(event)
    got = words.split()
    died = any(began < kill < time.monotonic() < kill + CUT_S for kill in tally.kills)
    if not done:
        tally.end("broken", f"{one}: the stream had no end after {words!r}")
    elif error is None:
        tally.end("answered", None if got == one.right else f"{one} got {words!r}")
    elif got and got == one.right[: len(got)] and died:
        tally.end("cut when the slot died")
    else:
        tally.end("broken", f"{one}: error in the stream after {words!r}: {error}")


def _whole(one: Planned, answer: httpx.Response, raw: bytes, tally: Tally) -> None:
    """Count an answer that came at once."""
    body = json.loads(raw)
    if answer.status_code == 429:
        late = answer.headers.get("retry-after", "")
        tally.end("told 429", None if late.isdigit() and int(late) >= 1 else f"{one}: 429 with Retry-After {late!r}")
    elif answer.status_code != 200:
        tally.end("broken", f"{one}: status {answer.status_code}: {raw[:200]!r}")
    else:
        text = body["choices"][0]["message"]["content"]
        tally.end("answered", None if text.split() == one.right else f"{one} got {text!r}")


async def _bad(client: httpx.AsyncClient, one: Planned, endpoint: Endpoint, tally: Tally) -> None:
    body, chat = one.body, "/v1/chat/completions"
    image = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    wrongs: list[tuple[int, str, str, dict[str, Any]]] = [
        (400, "POST", chat, {"content": b'{"model": "a", "messages": [', "headers": {"content-type": "application/json"}}),
        (400, "POST", chat, {"content": b"{}", "headers": {"content-type": "text/plain"}}),
        (400, "POST", chat, {"json": body | {"messages": [{"role": "user", "content": "x" * MAX_BODY_BYTES}]}}),
        (400, "POST", chat, {"json": body | {"no_such_field": 1}}),
        (400, "POST", chat, {"json": body | {"messages": [{"role": "user", "content": image}]}}),
        (400, "POST", chat, {"json": body | {"max_tokens": -1}}),
        (401, "POST", chat, {"json": body, "headers": {"authorization": f"Bearer {endpoint.revoked}"}}),
        (401, "POST", chat, {"json": body, "headers": {"authorization": f"Bearer {endpoint.caller[:-1]}~"}}),
        (401, "POST", chat, {"json": body, "headers": {"authorization": ""}}),
        (404, "POST", chat, {"json": body | {"model": "nobody"}}),
        (404, "POST", chat, {"json": body | {"model": "c"}, "headers": {"authorization": f"Bearer {endpoint.narrow}"}}),
        (404, "POST", "/v1/nothing", {"json": body}),
        (404, "GET", f"/v1/traces/chatcmpl-{one.number}", {}),
        (405, "DELETE", chat, {}),
    ]
    wanted, method, path, more = wrongs[int(one.patience * len(wrongs))]
    answer = await client.request(method, path, **more)
    told = answer.status_code == wanted and bool(answer.json()["error"]["message"])
    tally.end(
        "refused as bad" if told else "broken", None if told else f"{one}: wanted {wanted}, not {answer.status_code}: {answer.text[:200]}"
    )


async def _leave(client: httpx.AsyncClient, one: Planned, endpoint: Endpoint, tally: Tally) -> None:
    """Hang up: in the middle of the words of a stream, or some time before an answer that comes at once."""
    if one.stream:
        words = 0
        async with client.stream("POST", "/v1/chat/completions", json=one.body) as answer:
            async for line in answer.aiter_lines():
                words += '"content"' in line
                if words > one.patience * WORDS:
                    break
        tally.end("left a stream")
        return
    try:
        async with asyncio.timeout(one.patience * 2):
            answer = await client.post("/v1/chat/completions", json=one.body)
    except TimeoutError:
        tally.end("left before an answer")
    else:
        _whole(one, answer, answer.content, tally)


@dataclass(frozen=True, slots=True)
class Rest:
    """What is left once nobody asks.

    Attributes:
        look: The processes.
        tasks: Asyncio tasks of gateways and pool.
        busy: What waits or runs still, by name.
    """

    look: Look
    tasks: int
    busy: dict[str, int]


async def rest(endpoint: Endpoint, done: int, fits: Callable[[Rest], bool] | None = None) -> Rest:
    """Wait until nothing waits or runs, and what there is fits, and tell what there is then, or at the latest after `REST_S`."""
    deadline = time.monotonic() + REST_S
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{endpoint.port}", headers={"authorization": f"Bearer {endpoint.admin}"}
    ) as admin:
        while True:
            await asyncio.sleep(3.0)
            pool = (await admin.get("/v1/pool", timeout=30)).json()
            figures = (await admin.get("/metrics", timeout=30)).text.splitlines()
            told = {
                line.split()[0]: float(line.split()[1])
                for line in figures
                if line.startswith(("counterpoint_tasks", "counterpoint_requests_running"))
            }
            busy = {f"{name} {what}": each[what] for name, each in pool["experts"].items() for what in ("waiting", "running")}
            busy |= {f"slot {slot['id']} running": slot["running"] for slot in pool["slots"]}
            busy |= {f"engine {each['engine']} {what}": each[what] for each in pool["engines"] for what in ("waiting", "expected")}
            busy |= {"requests": int(told["counterpoint_requests_running"]) - 1}  # the one that asks for the figures
            found = Rest(endpoint.look(done), int(told["counterpoint_tasks"]), {name: count for name, count in busy.items() if count})
            if time.monotonic() > deadline or (not found.busy and (fits is None or fits(found))):
                return found


def more_handles(before: Look, after: Look) -> dict[str, int]:
    """Most handles of a process of each role, less the most that one had before."""
    return {role: max(now.values(), default=0) - max(before.handles[role].values(), default=0) for role, now in after.handles.items()}


def growth(looks: Sequence[Look], requests: int) -> dict[str, float]:
    """How much each process grew over the last requests, by the slope of a line through its sizes, as a share of its size.

    The first `WARM` requests of a process are left out, also of one that took a dead one's place.

    Example:
        >>> looks = [Look(done, {"slot": {7: 100 + done // 1000}}, {}) for done in range(0, 10_001, 500)]
        >>> round(growth(looks, 10_000)["slot 7"], 3)
        0.047
    """
    found: dict[str, float] = {}
    for role in looks[0].bytes:
        for pid in looks[-1].bytes[role]:
            series = [(look.done, look.bytes[role][pid]) for look in looks if pid in look.bytes[role]]
            first = max(series[0][0] + WARM, requests - LAST)
            late = [(done, size) for done, size in series if done >= first]
            if len(late) > 2:
                line = statistics.linear_regression(*zip(*late, strict=True))
                at_first = line.intercept + line.slope * late[0][0]
                found[f"{role} {pid}"] = line.slope * (late[-1][0] - late[0][0]) / at_first
    return found


async def soak(
    endpoint: Endpoint, *, requests: int, concurrency: int, seed: int, step: Callable[[int], None] = lambda done: None
) -> dict[str, Any]:
    """Ask, kill a slot in the middle, and give what became of it all.

    Args:
        endpoint: A live endpoint.
        requests: How many.
        concurrency: How many at once.
        seed: Seed of what is asked.
        step: Told how many have ended, each time that one has.
    """
    tally, todo, began = Tally(), plan(requests, seed), time.monotonic()
    looks, every = [endpoint.look(0)], max(1, min(EVERY, requests // 20))

    async def work(ones: Iterator[Planned]) -> None:
        async with endpoint.client() as client:
            for one in ones:
                await ask(client, one, endpoint, tally)
                step(tally.done)
                if tally.done % every == 0:
                    looks.append(endpoint.look(tally.done))
                if tally.done >= requests // 2 and not tally.kills:
                    victim = random.Random(seed).choice(endpoint.pids("slot"))
                    tally.kills.append(time.monotonic())
                    os.kill(victim, signal.SIGKILL)

    async def run(part: Sequence[Planned]) -> None:
        ones = iter(part)
        await asyncio.gather(*(work(ones) for _ in range(min(concurrency, len(part)))))

    warm = min(WARM, requests // 5)
    await run(todo[:warm])
    before = await rest(endpoint, tally.done)
    await run(todo[warm:])
    asked_s = time.monotonic() - began

    def fits(now: Rest) -> bool:
        return max(more_handles(before.look, now.look).values()) <= HANDLES and now.tasks <= before.tasks + TASKS

    after = await rest(endpoint, tally.done, fits)
    problems = [*tally.problems]
    problems += [f"still busy: {name} {count}" for name, count in (before.busy | after.busy).items()]
    problems += [f"{role}: {more} more handles" for role, more in more_handles(before.look, after.look).items() if more > HANDLES]
    problems += [f"{after.tasks} tasks, {before.tasks} after the warm-up"] if after.tasks > before.tasks + TASKS else []
    grown = growth(looks, requests) if requests >= WARM + LAST else {}
    problems += [f"{name} grew by {share:.1%}" for name, share in grown.items() if share > GROWTH]
    problems += [] if tally.ends["answered"] else ["nothing was answered"]
    return {
        "gateways": endpoint.gateways,
        "requests": requests,
        "concurrency": concurrency,
        "seed": seed,
        "seconds": round(asked_s, 1),
        "ends": dict(tally.ends.most_common()),
        "killed": len(tally.kills),
        "megabytes": [
            {"done": look.done} | {role: [round(size / 1e6, 1) for size in sizes.values()] for role, sizes in look.bytes.items()}
            for look in looks
        ],
        "growth": {name: round(share, 4) for name, share in grown.items()},
        "handles": {
            name: {role: [*each.values()] for role, each in one.look.handles.items()}
            for name, one in (("before", before), ("after", after))
        },
        "tasks": {"before": before.tasks, "after": after.tasks},
        "problems": problems,
    }


@contextmanager
def live(gateways: int) -> Iterator[Endpoint]:
    """An endpoint of our own, ended afterwards."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        endpoint = Endpoint(Path(folder), gateways)
        try:
            endpoint.start()
            yield endpoint
        finally:
            endpoint.stop()


def section(results: Sequence[dict[str, Any]]) -> str:
    """The results in Markdown."""
    lines = ["| | " + " | ".join(_gateways(each) for each in results) + " |", "|---|" + "---|" * len(results)]
    ends = list(dict.fromkeys(name for each in results for name in each["ends"]))
    rows: list[tuple[str, list[str]]] = [(name, [f"{each['ends'].get(name, 0):,}" for each in results]) for name in ends]
    rows.append(("seconds", [f"{each['seconds']:.0f}" for each in results]))
    rows.append(("file handles of a gateway, after the warm-up and in the end", [_pair(each, "gateway") for each in results]))
    rows.append(("of a slot", [_pair(each, "slot") for each in results]))
    rows.append(("tasks, after the warm-up and in the end", [f"{each['tasks']['before']}, {each['tasks']['after']}" for each in results]))
    worst = [f"{max(each['growth'].values()):+.1%}" if each["growth"] else "not judged" for each in results]
    rows.append((f"most that a process grew over the last {LAST:,} requests", worst))
    lines += [f"| {name} | {' | '.join(values)} |" for name, values in rows]
    for each in results:
        roles = [role for role in ROLES if any(row[role] for row in each["megabytes"])]
        lines += ["", f"Resident megabytes of each process, {_gateways(each)}:", ""]
        lines += [
            "| requests | " + " | ".join({"control": "pool"}.get(role, f"{role}s") for role in roles) + " |",
            "|---|" + "---|" * len(roles),
        ]
        lines += [
            f"| {row['done']:,} | " + " | ".join(", ".join(f"{size:.0f}" for size in row[role]) for role in roles) + " |"
            for row in each["megabytes"]
        ]
    return "\n".join(lines)


def _gateways(result: dict[str, Any]) -> str:
    return f"{result['gateways']} gateway{'s' if result['gateways'] > 1 else ''}"


def _pair(result: dict[str, Any], role: str) -> str:
    return ", ".join(str(max(result["handles"][when][role])) for when in ("before", "after"))


def main() -> int:
    """Run all, print and keep the results."""
    from rich.progress import Progress

    parser = argparse.ArgumentParser(
        description="Ask a live endpoint thousands of things at once, and look for what is lost or kept too long."
    )
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--gateways", type=int, nargs="+", default=[2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="where results are kept; docs/serving.md is written from the default one"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: the endpoint is ended, too
    kept: dict[str, Any] = json.loads(options.output.read_text()) if options.output.exists() else {}
    for gateways in options.gateways:
        with live(gateways) as endpoint, Progress() as bars:
            bar = bars.add_task(f"{gateways} gateway(s)", total=options.requests)
            made = soak(
                endpoint,
                requests=options.requests,
                concurrency=options.concurrency,
                seed=options.seed,
                step=lambda done, bars=bars, bar=bar: bars.update(bar, completed=done),  # type: ignore[misc]
            )
            kept[str(gateways)] = asyncio.run(made)
        options.output.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    results = [kept[name] for name in sorted(kept, key=int)]
    text = section(results)
    print(text)
    if options.output == RESULTS:
        write_section("soak", "python -m benchmarks.soak --gateways 1 2", text, page="serving.md")
    wrong = [f"{_gateways(kept[str(gateways)])}: {problem}" for gateways in options.gateways for problem in kept[str(gateways)]["problems"]]
    print("\n".join(wrong[:40]), file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
