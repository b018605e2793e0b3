"""LLMRouterBench: one JSON file of records per dataset, split and model, read and written."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

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


def write_llmrouterbench(table: pd.DataFrame, folder: Path, stamp: str) -> list[Path]:
    """Write a score table as results of LLMRouterBench, which its routers are trained and measured on: a file a category, split and expert.

    Args:
        table: A checked score table; a category is a data set there, and a table without splits is `test`.
        folder: Where the data sets' folders go, such as `results/bench`.
        stamp: When the answers were made, as `YYYYMMDD_HHMMSS`; of several results of a model the latest counts there.

    Returns:
        The files.

    Raises:
        ScoreTableError: The time is written otherwise, or a file cannot be written.
    """
    if not _STAMP.fullmatch(stamp):
        raise ScoreTableError(f"wanted a time as YYYYMMDD_HHMMSS, not {stamp!r}")
    defaults = {"category": "questions", "split": "test", "answer": "", "prediction": "", "response": ""}
    defaults |= {"prompt_tokens": 0, "completion_tokens": 0, "cost": 0.0}  # type: ignore[dict-item]
    whole = table.assign(**{name: table[name].fillna(value) if name in table.columns else value for name, value in defaults.items()})
    places = whole.groupby(["category", "split"], sort=False)["query_id"].transform(lambda ids: pd.factorize(ids)[0] + 1)
    files = []
    for (dataset, split, model), rows in whole.assign(place=places).groupby(["category", "split", "expert"], sort=True):
        told = [_file_name(str(part)) for part in (dataset, split, model)]
        path = folder.joinpath(*told, f"{'-'.join(told)}-{stamp}.json")
        records = [_record(row) for row in rows.sort_values("place").to_dict("records")]
        head = {
            "performance": float(rows["score"].mean()),
            "time_taken": 0.0,
            "prompt_tokens": int(rows["prompt_tokens"].sum()),
            "completion_tokens": int(rows["completion_tokens"].sum()),
            "cost": float(rows["cost"].sum()),
            "counts": len(rows),
            "model_name": str(model),
            "dataset_name": str(dataset),
            "split": str(split),
            "demo": False,
            "extra_metrics": {},
            "data_fingerprint": "",
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(head | {"records": records}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise ScoreTableError(f"cannot write {path}: {error.strerror or error}") from error
        files.append(path)
    return files


def _record(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "index": int(row["place"]),
        "origin_query": row["query"],
        "prompt": row["query"],
        "prompt_tokens": int(row["prompt_tokens"]),
        "completion_tokens": int(row["completion_tokens"]),
        "cost": float(row["cost"]),
        "score": float(row["score"]),
        "prediction": row["prediction"],
        "ground_truth": row["answer"],
        "raw_output": row["response"],
        "extra_fields": {},
    }


def _file_name(part: str) -> str:
    """A name that is one part of a path, and no other's.

    Example:
        >>> _file_name("maker/model-7B"), _file_name("..")
        ('maker%2Fmodel-7B', '%2E.')
    """
    name = re.sub(r"[^\w .,()+-]", lambda found: quote(found[0], safe=""), part)
    return f"%2E{name[1:]}" if name.startswith(".") else name
