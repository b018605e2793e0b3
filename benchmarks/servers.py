"""Servers of chat completions as processes of their own: up when they have answered, ended afterwards."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.load import Measured

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
LITELLM = ROOT / ".venv-litellm"
LITELLM_PACKAGES = ("litellm[proxy]==1.106.2", "opentelemetry-sdk", "opentelemetry-exporter-otlp", "httptools")
"""The proxy, and what makes it faster: without OpenTelemetry it tries in vain to import it at every request."""
START_S = 240.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers.

    Attributes:
        name: What tables call it.
        url: Its URL up to `/v1`.
        model: The model to ask for.
    """

    name: str
    url: str
    model: str

    def ask(
        self,
        concurrency: int,
        *,
        seconds: float | None = None,
        warm_s: float = 0.0,
        stream: bool = False,
        questions: Sequence[str] = (),
        max_tokens: int = 16,
    ) -> Measured:
        """Have `benchmarks.load` ask it, in a process of its own.

        Raises:
            RuntimeError: An answer was none.
        """
        command = [sys.executable, "-m", "benchmarks.load", self.url, "--model", self.model, "--concurrency", str(concurrency)]
        command += ["--max-tokens", str(max_tokens), "--warm-s", str(warm_s)]
        command += [] if seconds is None else ["--seconds", str(seconds)]
        command += ["--stream"] if stream else []
        command += ["--questions", "--keep"] if questions else []
        with tempfile.TemporaryFile("w+") as out:  # a long line can be cut in a pipe where Python's output is unbuffered
            done = subprocess.run(command, input=json.dumps([*questions]), text=True, stdout=out, stderr=subprocess.PIPE, cwd=ROOT)
            if done.returncode:
                raise RuntimeError(f"{self.name}, {concurrency} clients: {done.stderr.strip()}")
            out.seek(0)
            return Measured(**json.load(out))


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(name: str, command: Sequence[str | Path], port: int, model: str, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Start a server, wait until it has answered once, and end it afterwards.

    Raises:
        RuntimeError: It has ended, or does not answer.
    """
    server = Server(name, f"http://127.0.0.1:{port}/v1", model)
    whole = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"} | dict(env or {})
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([*map(str, command)], stdout=log, stderr=log, cwd=ROOT, env=whole, start_new_session=True)
        try:
            end = time.monotonic() + START_S
            while not _answers(server):
                if process.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    raise RuntimeError(f"{name} does not answer:\n{log.read()[-2000:]}")
                time.sleep(0.5)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _answers(server: Server) -> bool:
    body = {"model": server.model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    request = urllib.request.Request(f"{server.url}/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@contextmanager
def upstream() -> Iterator[Server]:
    """The server that answers at once."""
    port = free_port()
    with running("asked directly", [sys.executable, "-m", "benchmarks.upstream", "--port", str(port)], port, "instant") as server:
        yield server


@contextmanager
def counterpoint(expert: Mapping[str, Any], name: str = "Counterpoint") -> Iterator[Server]:
    """Our endpoint with one expert, without a router and without keys, its log thrown away."""
    port = free_port()
    config = {"version": 1, "name": "mix", "experts": [dict(expert)], "aggregator": {"kind": "best"}, "serving": {"port": port}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mix.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        with running(name, [BIN / "counterpoint", "serve", "-c", path], port, "mix") as server:
            yield server


@contextmanager
def litellm(params: Mapping[str, Any]) -> Iterator[Server]:
    """The LiteLLM proxy with one model, as its documentation runs it in production: one worker, no log of requests, no telemetry."""
    install_litellm()
    port = free_port()
    env = {
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # as we: no key on loopback
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "litellm.yaml"
        path.write_text(yaml.safe_dump({"model_list": [{"model_name": "mix", "litellm_params": dict(params)}]}), encoding="utf-8")
        command: list[str | Path] = [LITELLM / "bin" / "litellm", "--config", path, "--host", "127.0.0.1", "--port", str(port)]
        command += ["--telemetry", "False", "--keepalive_timeout", "75"]  # else uvicorn may drop a connection while the proxy is busy
        with running("LiteLLM", command, port, "mix", env) as server:
            yield server


def install_litellm() -> None:
    """Install the proxy into an environment of its own, where it is not there yet: it wants other versions than ours."""
    if (LITELLM / "bin" / "litellm").is_file():
        return
    subprocess.run([BIN / "uv", "venv", "--quiet", "--python", sys.executable, LITELLM], check=True)
    install: list[str | Path] = [BIN / "uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", LITELLM / "bin" / "python"]
    subprocess.run([*install, *LITELLM_PACKAGES], check=True)


@contextmanager
def vllm(model: str, settings: Mapping[str, Any]) -> Iterator[Server]:
    """The server that vLLM brings along, with the settings that our engine gives to vLLM.

    Args:
        model: The model's name.
        settings: Arguments of vLLM's EngineArgs.
    """
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)]
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        command += [] if value is None or value is False else [flag] if value is True else [flag, str(value)]
    with running("vLLM's own server", [*command, "--served-model-name", model], port, model) as server:
        yield server
