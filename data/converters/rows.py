"""Building the rows of a score table, and checking them by the rows and the column names of the file that they come from."""

from __future__ import annotations

import json
import math
import reprlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from data.scores import AMOUNTS, REQUIRED, ScoreTableError

_TRUTHS = {"True": 1.0, "False": 0.0}  # a column of bools, once it has been through CSV


def frame(columns: Mapping[str, Any], rows: list[int] | pd.Index[Any]) -> pd.DataFrame:
    """A table of Python objects, which no column type changes: ids of any length, texts that look like numbers."""
    return pd.DataFrame(columns, index=rows, dtype=object)


def as_text(cell: Any) -> str | None:
    """A cell as text, or None where there is none.

    Example:
        >>> [as_text(cell) for cell in (12345678901234567890, 7.0, " x", ["A", 1], None, float("nan"))]
        ['12345678901234567890', '7', ' x', '["A", 1]', None, None]
    """
    if isinstance(cell, str):
        return cell
    if cell is None or cell is pd.NA:
        return None
    if isinstance(cell, float):  # whole numbers become floats where their column has a gap
        return None if math.isnan(cell) else str(int(cell)) if cell.is_integer() else str(cell)
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, (list, dict)) else str(cell)


def checked(table: pd.DataFrame, source: Path, named: Mapping[str, str], once: bool = True) -> pd.DataFrame:
    """Check rows while it is known where they come from.

    Args:
        table: Rows with the columns of a score table, indexed by their row in the source.
        source: The file.
        named: What the source calls the columns that it calls otherwise.
        once: Refuse an expert that stands twice for a query.

    Returns:
        The rows, with numbers for scores.

    Raises:
        ScoreTableError: What is wrong, in which file, row and column.
    """
    for name in REQUIRED[:3]:
        for row, text in zip(table.index, table[name], strict=True):
            if not isinstance(text, str) or not text.strip():
                wrong = "empty" if isinstance(text, str) or as_text(text) is None else f"wanted a text, not {reprlib.repr(text)}"
                raise ScoreTableError(f"{source}, row {row}, column {named.get(name, name)}: {wrong}")
    numbers = {name: [_number(cell) for cell in table[name]] for name in ("score", *AMOUNTS) if name in table.columns}
    for name, cells in numbers.items():
        wanted, most = ("a number from 0 to 1", 1.0) if name == "score" else ("a number from 0", sys.float_info.max)
        for row, cell, number in zip(table.index, table[name], cells, strict=True):
            if not 0 <= number <= most and (name == "score" or as_text(cell) is not None):  # NaN is not between anything
                raise ScoreTableError(f"{source}, row {row}, column {named.get(name, name)}: wanted {wanted}, not {reprlib.repr(cell)}")
    changed = table.groupby("query_id", sort=False)["query"].transform("first") != table["query"]
    if changed.any():
        row = table.index[changed.to_numpy()][0]
        place = f"{source}, row {row}, column {named.get('query', 'query')}"
        raise ScoreTableError(f"{place}: another text than before for {table['query_id'][row]!r}")
    twice = table.duplicated(["query_id", "expert"])
    if once and twice.any():
        row = table.index[twice.to_numpy()][0]
        raise ScoreTableError(f"{source}, row {row}: {table['expert'][row]!r} stands twice for {table['query_id'][row]!r}")
    return table.assign(score=pd.Series(numbers["score"], index=table.index, dtype="float64"))


def _number(cell: Any) -> float:
    """A cell as a number, or NaN."""
    try:
        return float(_TRUTHS.get(cell, cell) if isinstance(cell, str) else cell)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def joined(parts: Sequence[pd.DataFrame], path: Path, unscored: str = "each score is missing") -> pd.DataFrame:
    """Put the rows of files together, without the optional columns that none of them fills.

    Raises:
        ScoreTableError: No row has a score.
    """
    table = pd.concat(parts, ignore_index=True)
    if table.empty:
        raise ScoreTableError(f"{path} has no scores: {unscored}")
    return table.drop(columns=[name for name in table.columns if name not in REQUIRED and table[name].isna().all()])
