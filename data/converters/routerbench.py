"""RouterBench: one wide row per prompt, with a score, an answer and a cost for each model."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from data.converters.files import TABLES, files_in, read_table, require
from data.converters.rows import as_text, checked, frame, joined
from data.scores import ScoreTableError

_RESPONSE, _COST = "|model_response", "|total_cost"
_NAMED = {"query_id": "sample_id", "query": "prompt"}


def read_routerbench(path: Path) -> pd.DataFrame:
    """Read RouterBench's wide table, or a folder of such tables.

    A prompt and an answer are stored there as a Python list of turns; the turns become one text. Where a `sample_id` has
    several rows, the first counts, as in RouterBench's own evaluation.

    Args:
        path: A .parquet, .csv or .jsonl file with the columns `sample_id`, `prompt`, `eval_name` and, for each model, MODEL
            (the score), `MODEL|model_response` and `MODEL|total_cost` (US dollars); or a folder of them. The project
            publishes pickles, which are refused.

    Raises:
        ScoreTableError: What is wrong, in which file, row and column.

    Source:
        Hu et al. 2024, RouterBench, arXiv:2403.12031; github.com/withmartian/routerbench.
    """
    return joined([part for file in files_in(path, TABLES) for part in wide_parts(file)], path)


def wide_parts(path: Path) -> list[pd.DataFrame]:
    """The rows of one wide table, a part per model.

    Raises:
        ScoreTableError: What is wrong, in which file, row and column.
    """
    table = read_table(path, ["sample_id", "prompt", "eval_name"])
    about = [name.removesuffix(ending) for ending in (_RESPONSE, _COST) for name in map(str, table.columns) if name.endswith(ending)]
    if not about:
        raise ScoreTableError(f"{path} has no models: wanted, for each, the columns MODEL (its score), MODEL{_RESPONSE} and MODEL{_COST}")
    require(table.columns, list(dict.fromkeys(about)), path)
    ids = pd.Series([as_text(cell) for cell in table["sample_id"]], index=table.index, dtype=object)
    table, ids = table[~ids.duplicated()], ids[~ids.duplicated()]
    shared = {
        "query_id": ids,
        "query": [_unwrapped(cell) for cell in table["prompt"]],
        "category": table["eval_name"],
    }
    parts = []
    for model in [name for name in table.columns if name in about]:
        part = frame(shared | {"expert": model, "score": table[model]}, table.index)
        if model + _RESPONSE in table.columns:
            part["response"] = [_unwrapped(cell) for cell in table[model + _RESPONSE]]
        if model + _COST in table.columns:
            part["cost"] = table[model + _COST]
        parts.append(checked(part[part["score"].notna()], path, _NAMED | {"score": model, "cost": model + _COST}))
    return parts


def _unwrapped(cell: Any) -> str | None:
    r"""The text of a stored list of turns; other texts stay as they are.

    Example:
        >>> _unwrapped("['What is 2 + 2?']"), _unwrapped("['One\\n', 'Two']"), _unwrapped("[1, 2]")
        ('What is 2 + 2?', 'One\n\n\nTwo', '[1, 2]')
    """
    turns = cell.tolist() if hasattr(cell, "tolist") else cell  # parquet gives a list as an array
    if isinstance(cell, str) and cell.startswith("["):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", SyntaxWarning)  # a text that only looks like a list
                turns = ast.literal_eval(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return cell
    is_turns = isinstance(turns, list) and bool(turns) and all(isinstance(turn, str) for turn in turns)
    return "\n\n".join(turns) if is_turns else as_text(cell)
