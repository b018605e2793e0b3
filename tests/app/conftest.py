from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.chromium import chromium, page_of, session
from tests.app.mixture import dashboards, endpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")  # while it is there its loop runs in this thread, and no test of another module could run one
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


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
    with session(browser, served) as page:
        page.get_by_placeholder("Ask the mixture").wait_for()
        yield page
