from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

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
