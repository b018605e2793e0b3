"""The manifest's Serve config on a Ray that runs here, as KubeRay would apply it, with a scripted mixture in place of the GPUs'."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml

from serving.config import ConfigError

ROOT = Path(__file__).parents[2]
SCRIPT = [{"match": "capital of France", "say": "Paris"}]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_ray_serve_runs_the_application_that_the_manifest_names(tmp_path: Path) -> None:
    pytest.importorskip("ray.serve")
    mixture, port = tmp_path / "mixture.yaml", free_port()
    experts = [
        {"name": "resident", "model": "-", "engine": "scripted", "options": {"script": SCRIPT}},
        {"name": "in-a-slot", "model": "-", "engine": "scripted", "options": {"script": SCRIPT, "slot": True}},
    ]
    serving = {"host": "0.0.0.0"}
    mixture.write_text(yaml.safe_dump({"version": 1, "name": "mix", "experts": experts, "serving": serving}))
    manifests = yaml.safe_load_all((ROOT / "deploy" / "kuberay-rayservice.yaml").read_text())
    config = yaml.safe_load(next(each for each in manifests if each["kind"] == "RayService")["spec"]["serveConfigV2"])
    config["http_options"] = {"host": "127.0.0.1", "port": port}
    config["applications"][0]["args"]["config"] = str(mixture)
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))

    env = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    log = (tmp_path / "log").open("w")
    command = [str(Path(sys.executable).parent / "serve"), "run", "serve.yaml", "--address", "local"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT, env=env, start_new_session=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_until_healthy(client, process, tmp_path / "log")
            assert {model["id"] for model in client.get("/v1/models").json()["data"]} == {"mix", "resident", "in-a-slot"}
            for model in ("mix", "in-a-slot"):
                body = {"model": model, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
                # the name that a request through a Kubernetes service comes for
                answer = client.post("/v1/chat/completions", json=body, headers={"host": "counterpoint-serve-svc"})
                assert answer.json()["choices"][0]["message"]["content"] == "Paris", answer.text
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()


def wait_until_healthy(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get("/healthz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    pytest.fail(f"serve run did not come up: {log.read_text()[-2000:]}")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({}, "wanted args with config"),
        ({"config": "mixture.yaml", "port": 8000}, "and nothing else"),
        ({"config": "/nowhere/mixture.yaml"}, "no config at /nowhere/mixture.yaml"),
    ],
)
def test_wrong_args_are_told_in_a_line(args: dict[str, object], message: str) -> None:
    pytest.importorskip("ray.serve")
    from serving.deploy import app

    with pytest.raises(ConfigError, match=message):
        app(args)
