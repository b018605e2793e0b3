"""RouterDC: questions with a score per model, as JSON, or RouterBench's wide table."""

from __future__ import annotations

import reprlib
from pathlib import Path

import pandas as pd

from data.converters.files import TABLES, files_in, objects, read_json, require, split_of
from data.converters.routerbench import wide_parts
from data.converters.rows import checked, frame, joined
from data.scores import ScoreTableError


def read_routerdc(path: Path) -> pd.DataFrame:
    """Read a data set of RouterDC, or a folder of them.

    Questions have no id there, so they are numbered within their file. Split and category come from the file's name:
    `gsm8k-train.json` holds the split train of gsm8k, and `mbpp.json` has no split. Clusters are left out.

    Args:
        path: A .json file, a list of `{"question": ..., "scores": {MODEL: score}}`; a .csv, .parquet or .jsonl file, which
            is a wide table of RouterBench; or a folder of them.

    Raises:
        ScoreTableError: What is wrong, in which file, row and column.

    Source:
        Chen et al. 2024, RouterDC, arXiv:2409.19886; github.com/shuhao02/RouterDC.
    """
    parts = []
    for file in files_in(path, [".json", *TABLES]):
        split = split_of(file.stem)[1]
        parts += [part.assign(split=split) for part in (_parts(file) if file.suffix == ".json" else wide_parts(file))]
    return joined(parts, path)


def _parts(file: Path) -> list[pd.DataFrame]:
    """The rows of a .json file, a part per model."""
    entries = objects(read_json(file), file)
    require((name for entry in entries for name in entry), ["question", "scores"], file)
    for row, entry in enumerate(entries, start=1):
        if not isinstance(entry.get("scores"), dict):
            raise ScoreTableError(f"{file}, row {row}, column scores: wanted a score per model, not {reprlib.repr(entry.get('scores'))}")
    models = dict.fromkeys(model for entry in entries for model in entry["scores"])
    if not models:
        raise ScoreTableError(f"{file} has no models: each scores is empty")
    parts = []
    for model in models:
        rows = [row for row, entry in enumerate(entries, start=1) if entry["scores"].get(model) is not None]
        columns = {
            "query_id": [f"{file.stem}-{row}" for row in rows],
            "query": [entries[row - 1].get("question") for row in rows],
            "expert": model,
            "score": [entries[row - 1]["scores"][model] for row in rows],
            "category": split_of(file.stem)[0] or None,
        }
        parts.append(checked(frame(columns, rows), file, {"query": "question", "score": f"scores.{model}"}))
    return parts
