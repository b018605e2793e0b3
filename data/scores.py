"""Score tables: one row per query and expert, the input of every router and every report."""

from __future__ import annotations

import csv
import json
import math
import sys
import warnings
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.records import CounterpointError
from data.versions import Format

REQUIRED = ("query_id", "query", "expert", "score")
TEXTS = ("query_id", "query", "expert", "split", "category", "keywords", "answer", "prediction", "response", "prompt", "logprobs")
AMOUNTS = ("prompt_tokens", "completion_tokens", "cost")
FORMATS = (".parquet", ".jsonl", ".csv")


class ScoreTableError(CounterpointError):
    """A score table that cannot be used; the text names file, row and column."""


TABLE: Format[pd.DataFrame] = Format("score table", ScoreTableError)
"""Versions of score tables and ratings. A parquet file has its version in its metadata, a text file in a column, both called
`counterpoint_version`; without one it is version 1, so a text of version 1 has none."""
VERSION = "counterpoint_version"


def read_scores(path: Path) -> pd.DataFrame:
    """Read and check a score table.

    Args:
        path: A `.parquet`, `.jsonl` or `.csv` file.

    Returns:
        A frame with at least the columns `query_id`, `query`, `expert` and `score` (0 to 1), a row per query and expert.

    Raises:
        ScoreTableError: What is wrong, in which file, row and column; rows count from 1, after the header.
    """
    if path.suffix not in FORMATS:
        raise ScoreTableError(f"{path} is no score table: wanted a file ending in {', '.join(FORMATS)}")
    if not path.is_file():
        raise ScoreTableError(f"no score table at {path}")
    return check_scores(TABLE.read(*read_version(path), path), str(path))


def read_ratings(path: Path) -> pd.DataFrame:
    """Read ratings of answers: `query`, `expert` and `score`; the same answer may be rated any number of times.

    Raises:
        ScoreTableError: What is wrong, in which file, row and column.
    """
    if path.suffix not in FORMATS or not path.is_file():
        raise ScoreTableError(f"no ratings at {path}: wanted a file ending in {', '.join(FORMATS)}")
    table = TABLE.read(*read_version(path), path)
    return check_scores(table.assign(query_id=[str(row) for row in range(1, len(table) + 1)]), str(path))


def read_version(path: Path) -> tuple[pd.DataFrame, object]:
    """Read a table as it stands, without its version, and the version.

    Raises:
        ScoreTableError: It cannot be read, or its rows are of several versions.
    """
    table = read_table(path)
    if path.suffix == ".parquet":
        import pyarrow.parquet

        told: list[object] = [(pyarrow.parquet.read_schema(path).metadata or {}).get(VERSION.encode(), b"1").decode("utf-8", "replace")]
    else:
        told = list(dict.fromkeys(map(str, table[VERSION]))) if VERSION in table.columns and len(table) else ["1"]
        table = table.drop(columns=VERSION, errors="ignore")
    if len(told) > 1:
        raise ScoreTableError(f"{path} has rows of several versions: {', '.join(map(str, told))}")
    text = str(told[0])
    return table, int(text) if text.isascii() and text.isdigit() else text


def read_table(path: Path, keep: Collection[str] | None = None, rows: int | None = None) -> pd.DataFrame:
    """Read a .parquet, .jsonl or .csv file as it stands: no text becomes a number or a date.

    Args:
        path: The file.
        keep: Columns to read of a .csv file, where it has them; None reads all.
        rows: Rows to read of a .csv file; None reads all.

    Raises:
        ScoreTableError: It cannot be read.
    """
    try:
        if path.suffix == ".csv":
            return _read_csv(path, keep, rows)
        return pd.read_parquet(path) if path.suffix == ".parquet" else _read_jsonl(path)
    except (ValueError, OSError, NotImplementedError, pd.errors.ParserWarning) as error:  # pyarrow does not implement some files
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ScoreTableError(f"{path} cannot be read as {path.suffix[1:]}: {reason}") from error


def _read_jsonl(path: Path) -> pd.DataFrame:
    """Read objects, one a line."""
    rows = []
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.rstrip("\n"))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"line {number}: wanted an object, not {line.strip()[:40]}")
            rows.append(row)
    return pd.DataFrame(rows, columns=list(dict.fromkeys(name for row in rows for name in row)), dtype=object)


def _read_csv(path: Path, keep: Collection[str] | None, rows: int | None) -> pd.DataFrame:
    """Read cells as text; only an empty one is missing, and "NA" is a text like others."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # a row with more cells than the header
        return pd.read_csv(
            path,
            dtype=object,
            keep_default_na=False,
            na_values=[""],
            index_col=False,
            encoding="utf-8-sig",
            usecols=None if keep is None else lambda name: name in keep,
            nrows=rows,
        )


def check_scores(table: pd.DataFrame, source: str = "the table") -> pd.DataFrame:
    """Check a score table and give it its types.

    Args:
        table: The rows.
        source: What to call it in errors.

    Returns:
        A copy: texts are text, amounts are numbers, and what is missing is NaN.

    Raises:
        ScoreTableError: A column is missing, a cell is empty, a score is no number from 0 to 1, the log-probabilities are no JSON
            object of numbers, or a row stands twice.

    Example:
        >>> row = {"query_id": "1", "query": "2 + 2?", "expert": "a", "score": 1}
        >>> check_scores(pd.DataFrame([row, row]))
        Traceback (most recent call last):
        ...
        data.scores.ScoreTableError: the table, row 2: expert 'a' stands twice for query '1'
    """
    columns = [str(name) for name in table.columns]
    if missing := [name for name in REQUIRED if name not in columns]:
        raise ScoreTableError(f"{source} has no column {missing[0]!r}; wanted {', '.join(REQUIRED)}, found {', '.join(columns) or 'none'}")
    if double := [name for name in columns if columns.count(name) > 1]:
        raise ScoreTableError(f"{source} has the column {double[0]!r} twice")
    if table.empty:
        raise ScoreTableError(f"{source} has no rows")
    table = _typed(table.reset_index(drop=True), source)
    for name in ("query_id", "query", "expert"):
        if empty := [row for row, text in enumerate(table[name], start=1) if not isinstance(text, str) or not text.strip()]:
            raise ScoreTableError(f"{source}, row {empty[0]}, column {name}: empty")
    for row, cell in enumerate(table["logprobs"] if "logprobs" in columns else (), start=1):
        try:
            read_logprobs(cell)
        except ScoreTableError as error:
            raise ScoreTableError(f"{source}, row {row}, column logprobs: {error}") from None
    twice = table.duplicated(["query_id", "expert"])
    if twice.any():
        row = int(twice.to_numpy().argmax())
        raise ScoreTableError(f"{source}, row {row + 1}: expert {table['expert'][row]!r} stands twice for query {table['query_id'][row]!r}")
    changed = table.groupby("query_id", sort=False)["query"].transform("first") != table["query"]
    if changed.any():
        row = int(changed.to_numpy().argmax())
        raise ScoreTableError(f"{source}, row {row + 1}, column query: another text than before for query {table['query_id'][row]!r}")
    return table


def _typed(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Give the known columns their types."""
    table = table.copy()
    for name in [name for name in TEXTS if name in table.columns]:
        table[name] = pd.Series([_text(cell) for cell in table[name].astype(object)], index=table.index, dtype=object)
    limits = {"score": ("a number from 0 to 1", 1.0)} | dict.fromkeys(AMOUNTS, ("a number from 0", sys.float_info.max))
    for name, (wanted, most) in limits.items():
        if name not in table.columns:
            continue
        cells = table[name].astype(object).tolist()
        numbers = [_number(cell) for cell in cells]
        for row, (cell, number) in enumerate(zip(cells, numbers, strict=True), start=1):
            if not 0 <= number <= most and (name == "score" or not _absent(cell)):  # NaN is not between anything
                raise ScoreTableError(f"{source}, row {row}, column {name}: wanted {wanted}, not {cell!r}")
        whole = name.endswith("tokens") and all(number.is_integer() for number in numbers)
        table[name] = pd.Series(numbers, index=table.index, dtype="int64" if whole else "float64")
    return table


def read_logprobs(cell: object) -> tuple[tuple[str, float], ...]:
    """Read a cell of the column `logprobs`: each choice with its log-probability; empty where the cell is.

    Raises:
        ScoreTableError: It is no JSON object of numbers up to 0.

    Example:
        >>> read_logprobs('{"A": -0.1, "B": -2.4}')
        (('A', -0.1), ('B', -2.4))
    """
    if _absent(cell) or cell == "":
        return ()
    try:
        told = json.loads(str(cell))
        read = tuple((name, float(value)) for name, value in told.items())
    except (ValueError, TypeError, AttributeError):
        read = (("", math.nan),)
    if not all(-math.inf < value <= 0 for _, value in read):
        raise ScoreTableError(f"wanted a JSON object of log-probabilities, not {str(cell)[:60]!r}")
    return read


def _absent(cell: object) -> bool:
    return cell is None or cell is pd.NA or (isinstance(cell, float) and math.isnan(cell))


def _text(cell: object) -> object:
    """A cell as text that every format can hold, or NaN."""
    return math.nan if _absent(cell) else str(cell).encode("utf-8", "replace").decode("utf-8")


def _number(cell: Any) -> float:
    """A cell as a number, or NaN."""
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def write_scores(table: pd.DataFrame, path: Path) -> None:
    """Write a score table in the format of the path's ending.

    Raises:
        ScoreTableError: The ending is unknown, a cell is not what its column holds, or the path cannot be written.
    """
    if path.suffix not in FORMATS:
        raise ScoreTableError(f"cannot write {path}: wanted a file ending in {', '.join(FORMATS)}")
    table = _typed(table, "the table")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            _write_parquet(table, path)
            return
        if TABLE.newest > 1:
            table = table.assign(**{VERSION: TABLE.newest})
        if path.suffix == ".jsonl":
            lines = ({name: None if _absent(cell) else cell for name, cell in row.items()} for row in table.to_dict("records"))
            path.write_text("".join(json.dumps(line, ensure_ascii=False, default=str) + "\n" for line in lines), encoding="utf-8")
        else:
            table.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC)  # a text may hold any line end
    except (OSError, ValueError, TypeError) as error:
        raise ScoreTableError(f"cannot write {path}: {getattr(error, 'strerror', None) or str(error).partition(chr(10))[0]}") from error


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    made = pyarrow.Table.from_pandas(table, preserve_index=False)
    pyarrow.parquet.write_table(made.replace_schema_metadata({**(made.schema.metadata or {}), VERSION: str(TABLE.newest)}), path)


def experts_of(table: pd.DataFrame) -> list[str]:
    """The experts of a table, in the order in which they first stand there."""
    return list(dict.fromkeys(table["expert"]))


def pivot(table: pd.DataFrame, experts: Sequence[str] | None = None) -> tuple[pd.DataFrame, np.ndarray]:
    """Turn a table into one row per query.

    Args:
        table: A checked score table.
        experts: Columns wanted, or None for all.

    Returns:
        The queries (`query_id`, `query` and, where given, `category`, `split` and `keywords`), in file order, and their scores, shape
        (n_queries, n_experts), NaN where a cell is missing.

    Raises:
        ScoreTableError: The table has no row of an expert.
    """
    names = list(experts) if experts is not None else experts_of(table)
    if absent := [name for name in names if name not in set(table["expert"])]:
        raise ScoreTableError(f"the score table has no expert {absent[0]!r}; it has {', '.join(experts_of(table))}")
    keep = [name for name in ("query_id", "query", "category", "split", "keywords") if name in table.columns]
    queries = table.drop_duplicates("query_id")[keep].reset_index(drop=True)
    wide = table.pivot(index="query_id", columns="expert", values="score").reindex(index=queries["query_id"], columns=names)
    return queries, wide.to_numpy(dtype=float)


def rows_of(table: pd.DataFrame, splits: Iterable[str] | None) -> pd.DataFrame:
    """Pick the rows of some splits; train and tune lose the queries whose text also stands in test.

    Raises:
        ScoreTableError: No row is left, or the table has no splits.
    """
    wanted = None if splits is None else list(splits)
    if wanted is None:
        return table
    if "split" not in table.columns:
        raise ScoreTableError(f"the score table has no column 'split', so {', '.join(wanted)} cannot be picked")
    picked = table[table["split"].isin(wanted)]
    if picked.empty:
        raise ScoreTableError(f"no rows with split {' or '.join(wanted)}; there are {', '.join(map(str, table['split'].unique()))}")
    if "test" not in wanted:
        picked = picked[~_leaked(table, picked)]
        if picked.empty:
            raise ScoreTableError(f"every query with split {' or '.join(wanted)} also stands in test")
    return picked.reset_index(drop=True)


def count_leaked(table: pd.DataFrame, splits: Iterable[str]) -> int:
    """Count the queries of some splits that `rows_of` drops, because their text also stands in test."""
    if "split" not in table.columns or "test" in splits:
        return 0
    picked = table[table["split"].isin(splits)]
    return int(picked.loc[_leaked(table, picked), "query_id"].nunique())


def _leaked(table: pd.DataFrame, picked: pd.DataFrame) -> pd.Series:
    return normalised(picked["query"]).isin(set(normalised(table.loc[table["split"] == "test", "query"])))


def normalised(texts: pd.Series) -> pd.Series:
    """Texts without case and spacing, by which queries count as the same."""
    return texts.str.lower().str.split().str.join(" ")
