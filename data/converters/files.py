"""Reading the files of other projects: no file at all, the wrong one or half of one is told in one line."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from data.scores import ScoreTableError
from data.scores import read_table as read_as_it_stands

TABLES = (".parquet", ".csv", ".jsonl")
_PICKLES = (".pkl", ".pickle")
_SPLIT = re.compile(r"(?:^|[-_])(train|val|test)(?=[-_]|$)")


def files_in(path: Path, endings: Sequence[str]) -> list[Path]:
    """The files of a format: the path itself, or those right inside the folder, by name.

    Raises:
        ScoreTableError: There is nothing, something else, or a pickle, which is never read.
    """
    if path.is_dir():
        inside = sorted(path.iterdir())
        if files := [file for file in inside if file.suffix in endings and file.is_file()]:
            return files
        _refuse_pickles(inside, endings)
        raise ScoreTableError(f"no file in {path} ends in {' or '.join(endings)}")
    if not path.exists():
        raise ScoreTableError(f"nothing at {path}: wanted a file ending in {' or '.join(endings)}, or a folder of them")
    _refuse_pickles([path], endings)
    if path.suffix not in endings:
        raise ScoreTableError(f"{path} is not of this format: wanted a file ending in {' or '.join(endings)}, or a folder of them")
    return [path]


def _refuse_pickles(paths: Sequence[Path], endings: Sequence[str]) -> None:
    if pickles := [path for path in paths if path.suffix in _PICKLES]:
        name, table = pickles[0].name, pickles[0].with_suffix(".parquet").name
        command = f"python -c \"import pandas; pandas.read_pickle('{name}').to_parquet('{table}')\""
        way_out = f"; on a machine where you trust the file, run {command}" if ".parquet" in endings else ""
        raise ScoreTableError(f"{pickles[0]} is a pickle, and reading one runs any program in it; wanted {' or '.join(endings)}{way_out}")


def read_table(path: Path, wanted: Sequence[str], also: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a .parquet, .csv or .jsonl file as it stands, numbering its rows from 1.

    Args:
        path: The file.
        wanted: The columns that it must have.
        also: Others to read of a .csv file; None reads all.

    Raises:
        ScoreTableError: The file is empty or damaged, or a column is missing.
    """
    if path.suffix == ".csv" and also is not None:  # what is missing is told beside all that is there
        require(read_as_it_stands(path, rows=0).columns, wanted, path)
    table = read_as_it_stands(path, None if also is None else {*wanted, *also})
    require(table.columns, wanted, path)
    if table.empty:
        raise ScoreTableError(f"{path} has no rows")
    table.index = pd.RangeIndex(1, len(table) + 1)
    return table


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read objects, one a line.

    Raises:
        ScoreTableError: The file or a line is not what it should be.
    """
    rows = []
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    rows.append(_loaded(line.rstrip("\n"), f"line {number}: "))
    except (ValueError, OSError, RecursionError) as error:
        raise _unreadable(path, error) from error
    return objects(rows, path)


def read_json(path: Path) -> Any:
    """Read a .json file.

    Raises:
        ScoreTableError: The file is empty or damaged.
    """
    try:
        return _loaded(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError, RecursionError) as error:
        raise _unreadable(path, error) from error


def _loaded(text: str, place: str = "") -> Any:
    if not text.strip():
        raise ValueError("it is empty")
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{place}{error}") from error


def _unreadable(path: Path, error: BaseException) -> ScoreTableError:
    reason = str(error).partition("\n")[0] or type(error).__name__
    return ScoreTableError(f"{path} cannot be read as {path.suffix[1:]}: {reason}")


def objects(rows: Any, source: Path) -> list[dict[str, Any]]:
    """See that something is a list of objects, and not an empty one.

    Raises:
        ScoreTableError: It is not.
    """
    if not isinstance(rows, list):
        raise ScoreTableError(f"{source}: wanted a list of objects, not {reprlib.repr(rows)}")
    if not rows:
        raise ScoreTableError(f"{source} has no rows")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ScoreTableError(f"{source}, row {number}: wanted an object, not {reprlib.repr(row)}")
    return rows


def require(columns: Iterable[object], wanted: Sequence[str], source: Path) -> None:
    """See that a file has its columns.

    Raises:
        ScoreTableError: One is missing.
    """
    found = list(dict.fromkeys(map(str, columns)))
    if missing := [name for name in wanted if name not in found]:
        raise ScoreTableError(f"{source} has no column {missing[0]!r}; wanted {', '.join(wanted)}, found {', '.join(found) or 'none'}")


def split_of(name: str) -> tuple[str, str | None]:
    """What a file is called beside its split, and the split in our words.

    Example:
        >>> split_of("gsm8k-train"), split_of("val"), split_of("mbpp")
        (('gsm8k', 'train'), ('', 'tune'), ('mbpp', None))
    """
    found = _SPLIT.search(name)
    if found is None:
        return name, None
    return (name[: found.start()] + name[found.end() :]).strip("-_"), {"val": "tune"}.get(found[1], found[1])
