"""An endpoint with scripted experts on a port of this machine, in a thread of its own."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from router.stack import StackRouter
from serving.config import MixtureConfig
from serving.gateway import Gateway
from serving.listener import Listener
from serving.routes import make_app
from serving.runs import Summary, System, write_run

NASTY = (
    "<script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\"> ![leak](http://127.0.0.1:9/leak.png) "
    "!\\[x](y) ![r][1]\n\n[1]: http://127.0.0.1:9/leak2.png\n\n<!--\n```\n-->\n![late](http://127.0.0.1:9/leak3.png)\n```\n\n"
    "[go](javascript:document.title='hacked') $\\includegraphics{http://127.0.0.1:9/leak4.png}$ \\(x^2\\) costs $5 and $6\n\n"
    "| a | b |\n|---|\n\n```html\n<script>document.title='hacked'</script> ![code](x)\n```\n:red[**unclosed $$ \\frac{"
)
LONG = " ".join(f"word{number}" for number in range(400))


def script(capital: str) -> list[dict[str, Any]]:
    return [
        {"match": "^capital", "say": f"The capital is {capital}."},
        {"match": "nasty", "say": NASTY},
        {"match": "formula", "say": "So \\(a^2+b^2=c^2\\).\n\n```python\nprint('vec![1]')\n```\n\nDone."},
        {"match": "slow", "say": LONG, "pause_s": 0.05},
        {"match": ".", "say": f"An answer of {capital}."},
    ]


def experts() -> list[dict[str, Any]]:
    fails = {"match": "all die", "fail": "told to fail"}
    breaks = {"match": "breaks", "fail": "the engine of rumour died"}
    rules = {"atlas": script("Paris"), "globe": script("Paris"), "rumour": [breaks, *script("Rome")]}
    return [{"name": name, "model": "-", "engine": "scripted", "options": {"script": [fails, *rules[name]]}} for name in rules]


QUESTIONS = [f"What is {n} plus {n + 3}?" for n in range(20)] + [f"Spell the word number {n}." for n in range(20)]


def dashboards(folder: Path) -> dict[str, Any]:
    """Makes a router and two runs, and gives the arguments of `endpoint` that serve them."""
    rows = [
        {"query_id": str(at), "query": text, "expert": name, "score": float((at < 20) == (name == "atlas")), "category": kind}
        for at, text in enumerate(QUESTIONS)
        for name in ("atlas", "globe", "rumour")
        for kind in ["sums" if at < 20 else "words"]
    ]
    StackRouter(members=("category", "knn")).fit(pd.DataFrame(rows)).save(folder / "router")
    for id, right in (("first", [1.0, 0.0, 1.0, 1.0]), ("second", [0.0, 0.0, 1.0, 0.0])):
        table = pd.DataFrame({"question_id": [f"q{at}" for at in range(4)], "category": ["sums", "words"] * 2, "mixture": right})
        system = System("mixture", sum(right) / 4, 0.1, 0.9, 8, 120, 0.001)
        report = "# Report\n\n<script>document.title='hacked'</script> ![x](http://127.0.0.1:9/leak.png)\n"
        write_run(folder / "runs", id, Summary(id, 100.0, ("skills",), 4, (system,)), table, markdown=report, html="<h1>Run</h1>")
    dear = [each | {"price": {"input": 1, "output": 10}} if each["name"] == "atlas" else each for each in experts()]
    return {"changes": {"router": {"path": str(folder / "router")}, "experts": dear}, "runs": str(folder / "runs")}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def endpoint(
    folder: Path, port: int | None = None, store: bool = True, changes: dict[str, Any] | None = None, **more: Any
) -> Iterator[str]:
    """Serves until the block ends, and gives its address; keyword arguments are settings of `serving`."""
    settings = {"log": None, "drain_s": 1} | ({"store": f"sqlite:///{folder / 'store.db'}"} if store else {}) | more
    mixture = {"version": 1, "name": "mix", "experts": experts(), "aggregator": {"kind": "vote"}, "serving": settings} | (changes or {})
    config, port = MixtureConfig.model_validate(mixture), port or free_port()
    ready, ended = threading.Event(), threading.Event()
    failed: list[BaseException] = []

    async def serve() -> None:
        gateway = Gateway(config)
        await gateway.start()
        listener = Listener(make_app(gateway), "127.0.0.1", port, drain_s=1)
        try:
            await listener.start()
            ready.set()
            while not ended.is_set():
                await asyncio.sleep(0.05)
            await listener.stop()
        finally:
            await gateway.stop()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        assert ready.wait(60), "the endpoint did not start"
        if failed:
            raise failed[0]
        yield f"http://127.0.0.1:{port}"
    finally:
        ended.set()
        thread.join(30)
    if failed:
        raise failed[0]
