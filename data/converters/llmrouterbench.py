"""LLMRouterBench: one JSON file of records per dataset, split and model."""

from __future__ import annotations

import re
import reprlib
from pathlib import Path
from typing import Any

import pandas as pd

from data.converters.files import files_in, objects, read_json, require
from data.converters.rows import as_text, checked, frame, joined
from data.scores import ScoreTableError

_HEAD = ("dataset_name", "split", "model_name", "records")
_COLUMNS = ("index", "prompt", "score")
_STAMP = re.compile(r"(\d{8}_\d{6})$")


def read_llmrouterbench(path: Path) -> pd.DataFrame:
    """Read one result file of LLMRouterBench, or all below a folder.

    The query is the prompt as the model got it, options and all, as the routers there are trained on it. A record without a
    score (`null`) is no row. Of several runs of a model on a dataset the latest counts, and a demo never does. Where the same
    record has another prompt in another model's file, it is another query, and its id ends in #2, #3 and so on.

    Args:
        path: A file, or a folder such as `results/bench` or one dataset in it, laid out as
            `DATASET/SPLIT/MODEL/DATASET-SPLIT-MODEL-YYYYMMDD_HHMMSS.json`.

    Raises:
        ScoreTableError: What is wrong, in which file, row (of `records`) and column.

    Source:
        Li et al. 2026, LLMRouterBench, arXiv:2601.07206; github.com/ynulihao/LLMRouterBench.
    """
    files = sorted(path.rglob("*.json"), key=_age, reverse=True) if path.is_dir() else files_in(path, [".json"])
    if not files:
        raise ScoreTableError(f"no file below {path} ends in .json; wanted the results of LLMRouterBench")
    parts: dict[tuple[str, str, str], pd.DataFrame] = {}
    for file in files:
        head = read_json(file)
        if not isinstance(head, dict):
            raise ScoreTableError(f"{file}: wanted an object with {', '.join(_HEAD)}, not a list or a value")
        require(head, _HEAD, file)
        if unnamed := [name for name in _HEAD[:3] if not isinstance(head[name], str)]:
            raise ScoreTableError(f"{file}: wanted a text for {unnamed[0]}, not {reprlib.repr(head[unnamed[0]])}")
        run = (head["dataset_name"], head["split"], head["model_name"])
        if not head.get("demo") and run not in parts:
            parts[run] = _part(objects(head["records"], file), file, *run)
    if not parts:
        raise ScoreTableError(f"{path} holds only demo runs; wanted whole ones")
    return _told_apart(joined([parts[run] for run in sorted(parts)], path))


def _age(file: Path) -> tuple[str, str]:
    """Sorts runs by the time in their name; one without a time is older than all others."""
    stamp = _STAMP.search(file.stem)
    return (stamp[1] if stamp else "", str(file))


def _part(records: list[dict[str, Any]], file: Path, dataset: str, split: str, model: str) -> pd.DataFrame:
    require((name for record in records for name in record), _COLUMNS, file)
    rows = [row for row, record in enumerate(records, start=1) if record.get("score") is not None]
    scored = [records[row - 1] for row in rows]
    indices = [as_text(record.get("index")) for record in scored]
    columns = {name: [record.get(name) for record in scored] for name in ("score", "prompt_tokens", "completion_tokens", "cost")}
    texts = {
        "query_id": [index and f"{dataset}/{split}/{index}" for index in indices],
        "query": [record.get("prompt") or record.get("origin_query") for record in scored],
        "answer": [as_text(record.get("ground_truth")) for record in scored],
        "prediction": [as_text(record.get("prediction")) for record in scored],
        "response": [as_text(record.get("raw_output")) for record in scored],
    }
    table = frame(texts | columns | {"expert": model, "split": split, "category": dataset}, rows)
    return checked(table, file, {"query_id": "index", "query": "prompt"})


def _told_apart(table: pd.DataFrame) -> pd.DataFrame:
    """Give the other texts of a query ids of their own."""
    texts = table[["query_id", "query"]].drop_duplicates()
    later = texts.groupby("query_id", sort=False).cumcount()
    if not later.any():
        return table
    numbers = dict(zip(zip(texts["query_id"], texts["query"], strict=True), later + 1, strict=True))
    found = [(name, numbers[name, text]) for name, text in zip(table["query_id"], table["query"], strict=True)]
    return table.assign(query_id=[name if number == 1 else f"{name}#{number}" for name, number in found])
