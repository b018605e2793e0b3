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

THEME = {  # texts, small grey ones too, reach a contrast of 4.5 on their grounds (WCAG AA)
    "theme.baseRadius": "small",
    "theme.light.primaryColor": "#1f5fbf",
    "theme.light.backgroundColor": "#ffffff",
    "theme.light.secondaryBackgroundColor": "#f3f4f7",
    "theme.light.textColor": "#101217",
    "theme.light.linkColor": "#1a56b0",
    "theme.light.grayTextColor": "#555b66",
    "theme.light.codeTextColor": "#0b5f4a",
    "theme.light.borderColor": "#c9ced8",
    "theme.dark.primaryColor": "#6ea0f5",
    "theme.dark.backgroundColor": "#14161a",
    "theme.dark.secondaryBackgroundColor": "#20242b",
    "theme.dark.textColor": "#f3f4f6",
    "theme.dark.linkColor": "#8ab4f8",
    "theme.dark.grayTextColor": "#a9b0bc",
    "theme.dark.codeTextColor": "#7fd1b0",
    "theme.dark.borderColor": "#454c59",
}
"""Colours of the page, light and dark; the reader's system chooses."""


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
        "client.showErrorDetails": "none",
        "runner.magicEnabled": "false",
        **THEME,
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
