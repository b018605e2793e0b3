"""Chromium, and the page in it."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from serving.page import running_page
from tests.app.mixture import free_port

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


@contextmanager
def chromium() -> Iterator[Any]:
    """Runs the system's Chromium."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def page_and_process(url: str, model: str = "mix") -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Runs the page before an endpoint, and gives its address and its process."""
    port = free_port()
    with running_page(url, model, port) as process, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for _ in range(600):
            assert process.poll() is None, "the page ended"
            try:
                if client.get("/_stcore/health").is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", process


@contextmanager
def page_of(url: str, model: str = "mix") -> Iterator[str]:
    """Runs the page before an endpoint, and gives its address."""
    with page_and_process(url, model) as (address, _):
        yield address


@contextmanager
def session(browser: Any, address: str, **settings: Any) -> Iterator[Any]:
    """Opens the page in a browser session of its own; keyword arguments are settings of Playwright's context."""
    context = browser.new_context(**{"viewport": DESKTOP} | settings)
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.goto(address)
    yield page
    context.close()


def send(page: Any, question: str) -> None:
    """Sends a question."""
    box = page.get_by_placeholder("Ask the mixture")
    box.fill(question)
    box.press("Enter")


def ask(page: Any, question: str, answers: int = 1) -> None:
    """Sends a question, and waits until so many answers stand there."""
    send(page, question)
    page.get_by_role("button", name="Copy").nth(answers - 1).wait_for()
