import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data.converters import convert
from data.scores import ScoreTableError

Write = Callable[[str, Any], Path]
Refusal = Callable[[str, Path], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file below the test's folder: a text as it is, anything else as JSON."""

    def to(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), encoding="utf-8")
        return path

    return to


@pytest.fixture
def refusal(tmp_path: Path) -> Refusal:
    """The one line that a converter refuses a path with, without the test's folder."""

    def of(kind: str, path: Path) -> str:
        with pytest.raises(ScoreTableError) as caught:
            convert(kind, path)
        assert "\n" not in str(caught.value)
        return str(caught.value).replace(f"{tmp_path}/", "").replace(str(tmp_path), "the folder")

    return of


@pytest.fixture
def rows() -> Callable[[pd.DataFrame], list[dict[str, Any]]]:
    """The rows of a table without the cells that are missing."""
    return lambda table: [{name: cell for name, cell in row.items() if not pd.isna(cell)} for row in table.to_dict("records")]
