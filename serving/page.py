"""Start the chat page beside the endpoint."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from data.records import CounterpointError

PAGE = Path(__file__).parent.parent / "app" / "chat.py"


def start_page(address: str, model: str, port: int) -> subprocess.Popen[bytes]:
    """Start Streamlit on loopback, pointed at an endpoint.

    Args:
        address: The endpoint's address.
        model: The mixture's name.
        port: Port of the page.

    Raises:
        CounterpointError: Streamlit is not installed.
    """
    if find_spec("streamlit") is None:
        raise CounterpointError("the page needs Streamlit: install counterpoint-server[app]")
    settings = {
        "server.address": "127.0.0.1",
        "server.port": str(port),
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
    }
    flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
    variables = os.environ | {"COUNTERPOINT_URL": address, "COUNTERPOINT_MODEL": model}
    # a folder of its own: Streamlit puts the current one first on the import path, and a user's data/ there would hide ours
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "streamlit", "run", str(PAGE), *flags],
        env=variables,
        cwd=tempfile.mkdtemp(prefix="counterpoint-page-"),
        stdout=subprocess.DEVNULL,
    )
