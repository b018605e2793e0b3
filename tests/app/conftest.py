import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from streamlit.testing.v1 import AppTest

from serving.page import running_page
from tests.app.mixture import dashboards, endpoint, free_port

ROOT = Path(__file__).parents[2]

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the endpoint has its store."""
    return tmp_path_factory.mktemp("endpoint")


@pytest.fixture(scope="session")
def mixture(folder: Path) -> Iterator[str]:
    """The address of an endpoint with a store."""
    with endpoint(folder) as url:
        yield url


@pytest.fixture(scope="session")
def served(mixture: str) -> Iterator[str]:
    """The address of the page before it."""
    with page_of(mixture) as url:
        yield url


@contextmanager
def page_of(url: str) -> Iterator[str]:
    """Runs the page before an endpoint, and gives its address."""
    port = free_port()
    with running_page(url, "mix", port) as process, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for _ in range(600):
            assert process.poll() is None, "the page ended"
            try:
                if client.get("/_stcore/health").is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an endpoint with a router, runs and a store."""
    folder = tmp_path_factory.mktemp("whole")
    with endpoint(folder, **dashboards(folder)) as url:
        yield url


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, mixture: str) -> Iterator[Callable[..., AppTest]]:
    """Runs the pages without a browser: gives a session at an endpoint."""
    made: list[AppTest] = []

    def run(url: str = mixture) -> AppTest:
        monkeypatch.setenv("COUNTERPOINT_URL", url)
        monkeypatch.setenv("COUNTERPOINT_MODEL", "mix")
        made.append(AppTest.from_file(str(ROOT / "app" / "chat.py"), default_timeout=60))
        return made[-1].run()

    yield run
    for app in made:
        app.session_state["held"].close()


@pytest.fixture
def page(browser: Any, served: str) -> Iterator[Any]:
    """A browser session of its own at the page."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.goto(served)
    page.get_by_placeholder("Ask the mixture").wait_for()
    yield page
    context.close()
