"""A running endpoint takes over another config."""

import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import yaml


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def mixture(path: Path, experts: list[str], **pool: object) -> None:
    script = [{"match": "slow", "say": "late", "delay_s": 1.5}, {"match": ".", "say": "hello"}]
    rows = [
        {"name": name, "model": name, "engine": "scripted", "options": {"slot": True, "script": script, "max_num_seqs": 1}}
        for name in experts
    ]
    path.write_text(yaml.safe_dump({"version": 1, "name": "m", "experts": rows, "aggregator": {"kind": "vote"}, "pool": pool}))


def ask(client: httpx.Client, model: str, text: str = "hi", **more: object) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    return client.post("/v1/chat/completions", json=body)


def models(client: httpx.Client) -> list[str]:
    return [row["id"] for row in client.get("/v1/models").json()["data"]]


@pytest.mark.slow
def test_sighup_brings_experts_and_takes_them_away_and_overload_is_429(tmp_path: Path) -> None:
    config, at = tmp_path / "m.yaml", port()
    mixture(config, ["a", "b"], max_wait_s=4.0)
    command = [sys.executable, "-m", "serving.cli", "serve", "-c", str(config), "--port", str(at)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{at}", timeout=60) as client:
            for _ in range(240):
                try:
                    if client.get("/healthz").status_code == 200:
                        break
                except httpx.HTTPError:
                    pass
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.25)
            while "listens at" not in (tmp_path / "log").read_text():
                time.sleep(0.1)
            assert models(client) == ["m", "a", "b"]
            assert ask(client, "a").json()["choices"][0]["message"]["content"] == "hello"

            mixture(config, ["a", "c"], max_wait_s=4.0)
            process.send_signal(signal.SIGHUP)
            for _ in range(80):
                if models(client) == ["m", "a", "c"]:
                    break
                time.sleep(0.25)
            assert models(client) == ["m", "a", "c"]
            assert ask(client, "c").status_code == 200
            assert ask(client, "b").status_code == 404

            config.write_text("version: 1\nexperts: [{name: a, modell: x}]\n")
            process.send_signal(signal.SIGHUP)
            time.sleep(1.5)
            assert models(client) == ["m", "a", "c"]
            assert "not reloaded" in (tmp_path / "log").read_text()

            metrics = client.get("/metrics")
            assert metrics.headers["content-type"].startswith("text/plain")
            assert re.search(r'counterpoint_answers_total\{expert="c"\} 1\.0', metrics.text)

            for _ in range(3):  # how long calls take is measured, not known
                assert ask(client, "a", "slow").status_code == 200
            with ThreadPoolExecutor(8) as threads:
                replies = list(threads.map(lambda _: ask(client, "a", "slow"), range(8)))
            refused = [reply for reply in replies if reply.status_code == 429]
            assert refused
            assert all(int(reply.headers["retry-after"]) >= 1 for reply in refused)
            assert all(reply.json()["error"]["code"] == "overloaded" for reply in refused)
            assert any(reply.status_code == 200 for reply in replies)
            assert {reply.status_code for reply in replies} <= {200, 429, 503}
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
