import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving import cli
from tests.serving.backends import BACKENDS, NAMED, NONE, new_schema, private_server, programs, schemas

SCRIPT = [
    {"match": "capital of France", "say": "Paris"},
    {"match": "break", "fail": "told to fail"},
    {"match": "please die", "die": True},
    {"match": "slow", "say": "late", "delay_s": 3},
]


@pytest.fixture
def mixture(tmp_path: Path) -> Callable[..., Path]:
    """Writes a mixture of three scripted experts; keyword arguments replace parts of it."""

    def write(**changes: Any) -> Path:
        experts = [{"name": name, "model": "-", "engine": "scripted", "options": {"script": SCRIPT}} for name in "abc"]
        experts[2] = {**experts[2], "options": {"script": [{"match": "capital", "say": "Rome"}]}}
        config = {"version": 1, "name": "mix", "experts": experts, "aggregator": {"kind": "vote"}} | changes
        path = tmp_path / "mixture.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path

    return write


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command and gives its exit code, output and errors."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["counterpoint", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """Gives the URL of a new, empty place on a PostgreSQL server each time it is called."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (the extra `postgres`)")
    if (server := os.environ.get(NAMED)) is not None:
        with schemas(server) as made:
            yield lambda: new_schema(server, made)
    elif (bin := programs()) is not None:
        with private_server(bin) as server:
            yield lambda: new_schema(server, [])  # it goes with the server
    else:
        pytest.skip(NONE)


@pytest.fixture(scope="module", params=BACKENDS)
def new_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """Gives the URL of a new store each time it is called; what asks for it runs on each back end."""
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path_factory.mktemp('store') / 'store.db'}"
    made: Callable[[], str] = request.getfixturevalue("postgres")
    return made


@pytest.fixture
def url(new_url: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new store, in `tmp_path` where it is a file; what lies beside one on a server goes to the user's data folder."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    return f"sqlite:///{tmp_path / 'store.db'}" if (made := new_url()).startswith("sqlite") else made
