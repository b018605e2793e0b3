"""Start the chat page beside the endpoint."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from data.records import CounterpointError

PAGE = Path(__file__).parent.parent / "app" / "chat.py"


def check_streamlit() -> None:
    """See that the page can start.

    Raises:
        CounterpointError: Streamlit is not installed.
    """
    if find_spec("streamlit") is None:
        raise CounterpointError("the page needs Streamlit: install counterpoint-server[app]")


@contextmanager
def running_page(address: str, model: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run Streamlit on loopback, pointed at an endpoint, and end it in the end.

    Args:
        address: The endpoint's address.
        model: The mixture's name.
        port: Port of the page.
    """
    settings = {
        "server.address": "127.0.0.1",
        "server.port": str(port),
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
    }
    flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
    command = [sys.executable, "-P", "-m", "streamlit", "run", str(PAGE), *flags]
    variables = os.environ | {"COUNTERPOINT_URL": address, "COUNTERPOINT_MODEL": model}
    # a folder of its own: Streamlit puts the current one first on the import path, and a user's data/ there would hide ours
    with tempfile.TemporaryDirectory(prefix="counterpoint-page-") as folder:
        page = subprocess.Popen(command, env=variables, cwd=folder, stdout=subprocess.DEVNULL)
        try:
            yield page
        finally:
            page.terminate()
            try:
                page.wait(10)
            except subprocess.TimeoutExpired:
                page.kill()
                page.wait()
