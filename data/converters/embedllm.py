"""EmbedLLM: one row per prompt and model, with a label of right or wrong."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from data.converters.files import files_in, read_table, split_of
from data.converters.rows import as_text, checked, frame, joined
from data.scores import ScoreTableError

_WANTED = ("prompt_id", "prompt", "model_name", "label")
_NAMED = {"query_id": "prompt_id", "query": "prompt", "expert": "model_name", "score": "label"}


def read_embedllm(path: Path) -> pd.DataFrame:
    """Read a file of EmbedLLM, or the train, val and test files of a folder.

    A prompt that stands there under several variants of a task has a label for each; its score is their mean, its category the
    first one's. The splits are those of the file names; val is our tune.

    Args:
        path: A .csv or .parquet file with the columns `prompt_id`, `prompt`, `model_name`, `label` (0 or 1) and, where given,
            `category`; or a folder, of which files without a split in the name (`question_order.csv`) are left out.
            Count on 1.2 GiB of memory for 400,000 rows, about as many as val and test have each; train has ten times as many.

    Raises:
        ScoreTableError: What is wrong, in which file, row and column.

    Source:
        Zhuang et al. 2024, EmbedLLM, arXiv:2410.02223; github.com/richardzhuang0412/EmbedLLM.
    """
    files = files_in(path, [".csv", ".parquet"])
    if path.is_dir() and not (files := [file for file in files if split_of(file.stem)[1]]):
        raise ScoreTableError(f"no file in {path} is called after train, val or test")
    return joined([_part(file) for file in files], path)


def _part(file: Path) -> pd.DataFrame:
    source = read_table(file, _WANTED, also=["category"])
    columns = {
        "query_id": [as_text(cell) for cell in source["prompt_id"]],
        "query": source["prompt"],
        "expert": source["model_name"],
        "score": source["label"],
        "split": split_of(file.stem)[1],
        "category": source["category"] if "category" in source.columns else None,
    }
    table = checked(frame(columns, source.index), file, _NAMED, once=False)
    again = table.duplicated(["query_id", "expert"])
    if again.any():
        table["score"] = table.groupby(["query_id", "expert"], sort=False)["score"].transform("mean")
        table = table[~again]
    return table
