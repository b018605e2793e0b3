"""What an evaluation run has found: questions, what every expert says alone, what every system makes of them, and the work."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd

from data.records import CounterpointError

VERSION = 1
TABLES = {"questions": "tasks.parquet", "cells": "cells.parquet", "outcomes": "outcomes.parquet", "train": "train.parquet"}
QUESTIONS = ["question_id", "benchmark", "category", "query", "answer", "grader"]
OUTCOMES = [
    "system", "question_id", "score", "text", "prediction", "calls", "prompt_tokens", "completion_tokens", "cost", "seconds", "degraded",
    "experts", "weights", "primary", "predicted", "support", "aggregator",
]  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class RunData:
    """An evaluation run, as its folder holds it and its report shows it.

    Attributes:
        name: The run's id.
        created: When it ended, in seconds since 1970.
        about: How it was made: config, command, versions, git state, seeds, benchmarks with their sources and weights.
        experts: The mixture's experts.
        questions: A row a question, in the run's order: `QUESTIONS`.
        cells: A score table of every expert alone, with `latency_s`.
        outcomes: A row a system and question: `OUTCOMES`. `experts`, `weights` and `support` are JSON lists, `predicted` is a JSON object
            of each expert's predicted probability of being right.
        work: `wall_s`, `loads`, `wakes`, `swap_s`, `busy_s`, `gpus`, `gpu_seconds`, `tokens_per_s`.
        train: A score table by which the baselines choose, or None: they choose on the run's own questions.
    """

    name: str
    created: float
    about: dict[str, Any]
    experts: tuple[str, ...]
    questions: pd.DataFrame
    cells: pd.DataFrame
    outcomes: pd.DataFrame
    work: dict[str, Any]
    train: pd.DataFrame | None = None

    def save(self, folder: Path) -> None:
        """Write the run's own files into a folder.

        Raises:
            CounterpointError: They cannot be written.
        """
        body = {
            "version": VERSION,
            "name": self.name,
            "created": self.created,
            "about": self.about,
            "experts": list(self.experts),
            "work": self.work,
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, file in TABLES.items():
                if (table := getattr(self, name)) is not None:
                    table.to_parquet(folder / file, index=False)
            (folder / "run.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise CounterpointError(f"the run cannot be written to {folder}: {error.strerror or error}") from error

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a run.

        Raises:
            CounterpointError: The folder holds none, or one that cannot be read; the text names the file.
        """
        path = folder / "run.json"
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            if body["version"] != VERSION:
                raise CounterpointError(f"{path} is of version {body['version']!r}, this program reads {VERSION}")
            tables: dict[str, pd.DataFrame | None] = {"train": None}
            for name, file in TABLES.items():
                path = folder / file
                if path.exists() or name != "train":
                    tables[name] = pd.read_parquet(path)
            made = (body["name"], body["created"], body["about"], tuple(body["experts"]))
            return cls(*made, tables["questions"], tables["cells"], tables["outcomes"], body["work"], tables["train"])  # type: ignore[arg-type]
        except (OSError, KeyError, TypeError, ValueError) as error:
            reason = f"{error.strerror}" if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
            raise CounterpointError(f"{folder} holds no evaluation run: {path.name}: {reason}") from error
