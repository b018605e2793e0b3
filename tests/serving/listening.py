"""The endpoint on a port of this machine, in a thread of its own: scripted experts, a store, runs and keys."""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from serving.config import MixtureConfig
from serving.gateway import Gateway
from serving.keys import Keys
from serving.listener import Listener
from serving.routes import make_app
from serving.runs import Summary, System, write_run
from serving.store import Store

SCRIPT = [
    {"match": "capital of France", "say": "Paris is the capital of France"},
    {"match": "slow", "say": "one two three four five six", "delay_s": 0.05},
    {"match": ".", "say": "unsure"},
]


@dataclass
class Listening:
    """An endpoint that listens.

    Attributes:
        port: Its port, on 127.0.0.1.
        key: An admin's key.
        loop: What it runs in.
        app: The application.
        faults: What it logged as an error, and what no task caught.
    """

    port: int
    key: str
    loop: asyncio.AbstractEventLoop
    app: Any
    faults: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    def tasks(self) -> int:
        """How many tasks run in it."""

        async def count() -> int:
            return len(asyncio.all_tasks()) - 1

        return asyncio.run_coroutine_threadsafe(count(), self.loop).result(10)


class _Faults(logging.Handler):
    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self.note = note

    def emit(self, record: logging.LogRecord) -> None:
        self.note(logging.Formatter().format(record))


@contextmanager
def listening(folder: Path, **serving: Any) -> Iterator[Listening]:
    """Serves until the block ends; keyword arguments are settings of `serving`."""
    url = f"sqlite:///{folder / 'store.db'}"
    with Store(url) as store:
        _, key = Keys(store).create("fuzz", admin=True)
    system = System("mixture", 0.5, 0.4, 0.6, 8, 120, 0.001)
    for id in ("first", "second"):
        rows = pd.DataFrame({"question_id": ["q0", "q1"], "mixture": np.array([1.0, 0.0])})
        write_run(folder / "runs", id, Summary(id, 100.0, ("skills",), 2, (system,)), rows, markdown="# Run", html="<h1>Run</h1>")
    experts = [{"name": name, "model": "-", "engine": "scripted", "options": {"script": SCRIPT}} for name in "ab"]
    settings = {"keys": True, "store": url, "runs": str(folder / "runs"), "log": None, "drain_s": 1} | serving
    mixture = {"version": 1, "name": "mix", "experts": experts, "aggregator": {"kind": "vote"}, "serving": settings}
    config = MixtureConfig.model_validate(mixture)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    ready, ended = threading.Event(), threading.Event()
    made: list[Listening] = []
    failed: list[BaseException] = []

    async def serve() -> None:
        gateway = Gateway(config)
        await gateway.start()
        app = make_app(gateway)
        loop = asyncio.get_running_loop()
        one = Listening(port, key, loop, app)
        loop.set_exception_handler(lambda _, about: one.faults.append(f"{about.get('message')}: {about.get('exception')!r}"))
        handler = _Faults(one.faults.append)
        logs = [logging.getLogger(name) for name in ("", "serving", "uvicorn.error", "asyncio")]
        listener = Listener(app, "127.0.0.1", port, drain_s=1)
        for log in logs:
            log.addHandler(handler)
        logs[2].setLevel(logging.ERROR)  # the listener keeps it silent
        try:
            await listener.start()
            made.append(one)
            ready.set()
            while not ended.is_set():
                await asyncio.sleep(0.05)
            await listener.stop()
        finally:
            for log in logs:
                log.removeHandler(handler)
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
        yield made[0]
    finally:
        ended.set()
        thread.join(30)
    assert not thread.is_alive(), "the endpoint did not end"
    if failed:
        raise failed[0]
