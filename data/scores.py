"""Score tables: one row per query and expert, the input of every router and every report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data.records import CounterpointError

REQUIRED = ("query_id", "query", "expert", "score")
OPTIONAL = ("split", "category", "answer", "prediction", "response", "prompt_tokens", "completion_tokens", "cost")
FORMATS = (".parquet", ".jsonl", ".csv")


class ScoreTableError(CounterpointError):
    """A score table that cannot be used; the text names file, row and column."""


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
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        elif path.suffix == ".jsonl":
            table = pd.read_json(path, lines=True, dtype={"query_id": str, "answer": object, "prediction": object}, convert_dates=False)
        else:
            table = pd.read_csv(path, dtype={"query_id": str, "query": str, "expert": str, "answer": str, "prediction": str})
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise ScoreTableError(f"{path} cannot be read as {path.suffix[1:]}: {str(error).splitlines()[0]}") from error
    return check_scores(table, str(path))


def check_scores(table: pd.DataFrame, source: str = "the table") -> pd.DataFrame:
    """Check a score table and give it its types.

    Args:
        table: The rows.
        source: What to call it in errors.

    Raises:
        ScoreTableError: A column is missing, a cell is empty, a score is no number from 0 to 1, or a row stands twice.

    Example:
        >>> row = {"query_id": "1", "query": "2 + 2?", "expert": "a", "score": 1}
        >>> check_scores(pd.DataFrame([row, row]))
        Traceback (most recent call last):
        ...
        data.scores.ScoreTableError: the table, row 2: expert 'a' stands twice for query '1'
    """
    if missing := [name for name in REQUIRED if name not in table.columns]:
        raise ScoreTableError(f"{source} has no column {missing[0]!r}; wanted {', '.join(REQUIRED)}, found {', '.join(map(str, table.columns))}")
    if table.empty:
        raise ScoreTableError(f"{source} has no rows")
    table = table.reset_index(drop=True)
    for name in ("query_id", "query", "expert"):
        empty = table[name].isna() | (table[name].astype(str).str.strip() == "")
        if empty.any():
            raise ScoreTableError(f"{source}, row {int(empty.idxmax()) + 1}, column {name}: empty")
        table[name] = table[name].astype(str)
    scores = pd.to_numeric(table["score"], errors="coerce")
    wrong = ~scores.between(0, 1)  # NaN is not between anything
    if wrong.any():
        row = int(wrong.idxmax())
        raise ScoreTableError(f"{source}, row {row + 1}, column score: wanted a number from 0 to 1, not {table['score'][row]!r}")
    table["score"] = scores.astype(float)
    twice = table.duplicated(["query_id", "expert"])
    if twice.any():
        row = int(twice.idxmax())
        raise ScoreTableError(f"{source}, row {row + 1}: expert {table['expert'][row]!r} stands twice for query {table['query_id'][row]!r}")
    changed = table.groupby("query_id", sort=False)["query"].transform("first") != table["query"]
    if changed.any():
        row = int(changed.idxmax())
        raise ScoreTableError(f"{source}, row {row + 1}, column query: another text than before for query {table['query_id'][row]!r}")
    return table


def write_scores(table: pd.DataFrame, path: Path) -> None:
    """Write a score table in the format of the path's ending.

    Raises:
        ScoreTableError: The ending is unknown or the path cannot be written.
    """
    if path.suffix not in FORMATS:
        raise ScoreTableError(f"cannot write {path}: wanted a file ending in {', '.join(FORMATS)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            table.to_parquet(path, index=False)
        elif path.suffix == ".jsonl":
            table.to_json(path, orient="records", lines=True, force_ascii=False)
        else:
            table.to_csv(path, index=False)
    except OSError as error:
        raise ScoreTableError(f"cannot write {path}: {error.strerror or error}") from error


def experts_of(table: pd.DataFrame) -> list[str]:
    """The experts of a table, in the order in which they first stand there."""
    return list(dict.fromkeys(table["expert"]))


def pivot(table: pd.DataFrame, experts: Sequence[str] | None = None) -> tuple[pd.DataFrame, np.ndarray]:
    """Turn a table into one row per query.

    Args:
        table: A checked score table.
        experts: Columns wanted, or None for all.

    Returns:
        The queries (`query_id`, `query` and, where given, `category` and `split`), in file order, and their scores, shape
        (n_queries, n_experts), NaN where a cell is missing.

    Raises:
        ScoreTableError: The table has no row of an expert.
    """
    names = list(experts) if experts is not None else experts_of(table)
    if absent := [name for name in names if name not in set(table["expert"])]:
        raise ScoreTableError(f"the score table has no expert {absent[0]!r}; it has {', '.join(experts_of(table))}")
    keep = [name for name in ("query_id", "query", "category", "split") if name in table.columns]
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
    if "test" not in wanted:
        picked = picked[~normalised(picked["query"]).isin(set(normalised(table.loc[table["split"] == "test", "query"])))]
    if picked.empty:
        raise ScoreTableError(f"no rows with split {' or '.join(wanted)}; there are {', '.join(map(str, table['split'].unique()))}")
    return picked.reset_index(drop=True)


def normalised(texts: pd.Series) -> pd.Series:
    """Texts without case and spacing, by which queries count as the same."""
    return texts.str.lower().str.split().str.join(" ")
