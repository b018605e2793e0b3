"""Several gateways on one port, live: they share the pool, limits, figures and the config, and none is missed when it dies."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serving.keys import Keys
from serving.store import Store

pytestmark = pytest.mark.slow
SCRIPT = [
    {"match": "slow", "say": "late it is", "delay_s": 3.0},
    {"match": "France", "say": "Paris"},
    {"match": ".", "say": "unsure"},
]


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Endpoint:
    """A running endpoint of two gateways."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, port()
        self.url = f"sqlite:///{folder / 'store.db'}"
        self.write(["a", "b"])
        with Store(self.url) as store:
            keys = Keys(store)
            self.admin = keys.create("admin", admin=True)[1]
            self.few = keys.create("few", requests_per_minute=10)[1]
        command = [sys.executable, "-m", "serving.cli", "serve", "-c", str(folder / "m.yaml")]
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        for _ in range(600):
            assert self.process.poll() is None, self.log
            if "listens at" in self.log:
                return
            time.sleep(0.25)
        raise AssertionError(self.log)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def write(self, names: list[str]) -> None:
        experts = [
            {"name": name, "model": name, "engine": "scripted", "options": {"slot": name != "b", "script": SCRIPT}} for name in names
        ]
        serving = {"port": self.port, "keys": True, "store": self.url, "gateways": 2, "drain_s": 20}
        mixture = {"version": 1, "name": "mix", "experts": experts, "aggregator": {"kind": "bandit"}, "serving": serving}
        (self.folder / "m.yaml").write_text(yaml.safe_dump(mixture))

    def ask(self, model: str, text: str = "France?", secret: str | None = None) -> httpx.Response:
        """Ask by a connection of its own, so that any gateway may answer."""
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        return self.call("POST", "/v1/chat/completions", secret, json=body)

    def call(self, method: str, path: str, secret: str | None = None, **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {secret or self.admin}"}
        return httpx.request(method, f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=60, **more)

    def gateways(self) -> set[int]:
        """The processes that listen on the port."""
        found = subprocess.run(["ss", "-ltnpH", f"sport = :{self.port}"], capture_output=True, text=True, check=True).stdout
        return {int(part.split("pid=")[1].split(",")[0]) for part in found.splitlines() if "pid=" in part}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    made = Endpoint(tmp_path_factory.mktemp("gateways"))
    yield made
    if made.process.poll() is None:
        made.process.send_signal(signal.SIGTERM)
        made.process.wait(90)


def test_two_gateways_answer_alike_and_their_figures_add_up(endpoint: Endpoint) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = [*threads.map(lambda at: endpoint.ask("ab"[at % 2]), range(40))]
    assert [answer.status_code for answer in answers] == [200] * 40
    assert {answer.json()["choices"][0]["message"]["content"] for answer in answers} == {"Paris"}
    figures = endpoint.call("GET", "/metrics").text
    answered = [line for line in figures.splitlines() if line.startswith("counterpoint_answers_total")]
    assert {line.split()[0].split('"')[1]: float(line.split()[1]) for line in answered} == {"a": 20.0, "b": 20.0}
    time.sleep(2.5)  # each gateway tells the others so often what it did without a slot, as for b
    for _ in range(6):
        experts = endpoint.call("GET", "/v1/pool").json()["experts"]
        assert {name: figures["answered"] for name, figures in experts.items()} == {"a": 20, "b": 20}


def test_a_keys_rate_holds_over_all_gateways(endpoint: Endpoint) -> None:
    with ThreadPoolExecutor(8) as threads:
        codes = [answer.status_code for answer in threads.map(lambda _: endpoint.ask("b", secret=endpoint.few), range(30))]
    assert set(codes) == {200, 429}
    assert 10 <= codes.count(200) <= 11  # the bucket fills meanwhile


def test_feedback_reaches_the_gateway_that_answered(endpoint: Endpoint) -> None:
    for _ in range(6):
        id = endpoint.ask("mix").json()["id"]
        told = endpoint.call("POST", "/v1/feedback", json={"id": id, "score": 1.0})
        assert (told.status_code, told.json()["learned"]) == (200, True)


def test_a_batch_can_be_cancelled_through_any_gateway(endpoint: Endpoint) -> None:
    body = {"model": "a", "messages": [{"role": "user", "content": "slow"}]}
    lines = [{"custom_id": str(at), "method": "POST", "url": "/v1/chat/completions", "body": body} for at in range(400)]
    content = "\n".join(json.dumps(line) for line in lines).encode()
    for _ in range(3):
        file = endpoint.call("POST", "/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", content)}).json()["id"]
        wanted = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        made = endpoint.call("POST", "/v1/batches", json=wanted)
        assert made.status_code == 200, made.text
        ended = endpoint.call("POST", f"/v1/batches/{made.json()['id']}/cancel").json()
        assert ended["status"] == "cancelled"


def test_a_config_is_taken_over_by_all_gateways_and_no_request_is_dropped(endpoint: Endpoint) -> None:
    codes: list[int] = []

    def ask(at: int) -> None:
        codes.append(endpoint.ask("a" if at % 2 else "mix").status_code)

    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(ask, at) for at in range(150)]
        time.sleep(0.3)
        endpoint.write(["a", "b", "c"])
        endpoint.process.send_signal(signal.SIGHUP)
        for one in asked:
            one.result()
    assert set(codes) == {200}
    for _ in range(120):
        if "reloaded: c came" in endpoint.log:
            break
        time.sleep(0.25)
    assert {endpoint.ask("c").status_code for _ in range(8)} == {200}


def test_a_gateway_that_is_killed_is_replaced_and_the_pool_goes_on(endpoint: Endpoint) -> None:
    first = endpoint.gateways()
    assert len(first) == 2
    os.kill(min(first), signal.SIGKILL)
    time.sleep(0.5)
    assert {endpoint.ask("a").status_code for _ in range(10)} == {200}  # the other one answers
    for _ in range(120):
        if len(endpoint.gateways()) == 2:
            break
        time.sleep(0.5)
    assert len(endpoint.gateways() - first) == 1
    assert {endpoint.ask("c").status_code for _ in range(10)} == {200}  # the new one goes by the config that was loaded last


def test_what_is_under_way_when_the_endpoint_is_told_to_end_is_answered(endpoint: Endpoint) -> None:
    with ThreadPoolExecutor(4) as threads:
        slow = [threads.submit(endpoint.ask, name, "slow") for name in ("a", "b", "a", "b")]
        time.sleep(1.0)
        endpoint.process.send_signal(signal.SIGTERM)
        assert [one.result().status_code for one in slow] == [200] * 4
    assert endpoint.process.wait(90) == 0
