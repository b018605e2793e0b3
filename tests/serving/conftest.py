import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving import cli

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
