"""RouterArena: prediction files of routers, both ways, and its cached answers of single models."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import pandas as pd

from data.converters.files import files_in, objects, read_json, read_lines, require
from data.converters.rows import as_text, checked, frame, joined
from data.scores import ScoreTableError

_NAMES = {  # in a prediction file the first, in the cached answers the last
    "query_id": ("global index", "global_index"),
    "query": ("prompt", "prompt_formatted", "question"),
    "expert": ("prediction", "llm_selected"),
}
_UNGRADED = "no entry is graded; run RouterArena's llm_evaluation/run.py on it first"


@dataclass(frozen=True, slots=True)
class Choice:
    """What a router chose for one query of RouterArena, and what came of it.

    Attributes:
        query_id: RouterArena's `global index`.
        query: The prompt, exactly as in RouterArena's data (`prompt_formatted`).
        expert: The model chosen, as RouterArena's `universal_model_names.py` and the router's config call it.
        response: What the model said; None leaves asking it to RouterArena, and an empty text is a failed call.
        prompt_tokens: Tokens that it read.
        completion_tokens: Tokens that it wrote.
        cost: Price in US dollars; None leaves it to RouterArena.
        score: Its grade, 0 to 1; None leaves grading to RouterArena, which keeps an entry that has both score and cost.
        for_optimality: Another model's answer to compare with, not the router's choice.
    """

    query_id: str
    query: str
    expert: str
    response: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    score: float | None = None
    for_optimality: bool = False


def write_routerarena(choices: Iterable[Choice], path: Path) -> None:
    """Write a router's choices as a prediction file, which RouterArena's evaluator takes.

    The evaluator wants `router_inference/predictions/ROUTER.json` with one choice for each query of a split (809 of sub_10,
    8400 of full), beside a config that lists the models.

    Args:
        choices: One per query, and any number for optimality.
        path: The .json file.

    Raises:
        ScoreTableError: There is no choice, a query has two, a field is not what it should be, or the path cannot be written.

    Source:
        Lu et al. 2025, RouterArena, arXiv:2510.00202; github.com/RouteWorks/RouterArena.
    """
    if path.suffix != ".json":
        raise ScoreTableError(f"cannot write {path}: RouterArena takes a file ending in .json")
    entries = []
    chosen: set[str] = set()
    for place, choice in enumerate(choices, start=1):
        _check(choice, place)
        if not choice.for_optimality and choice.query_id in chosen:
            raise ScoreTableError(f"choice {place}: query {choice.query_id!r} has a choice already; others are for_optimality")
        if not choice.for_optimality:
            chosen.add(choice.query_id)
        entries.append(_entry(choice))
    if not entries:
        raise ScoreTableError(f"cannot write {path}: there are no choices")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(json.dumps(entries, ensure_ascii=False, indent=2).encode("utf-8", "replace"))  # half an emoji is no UTF-8
    except OSError as error:
        raise ScoreTableError(f"cannot write {path}: {error.strerror or error}") from error


def _check(choice: Choice, place: int) -> None:
    """See that RouterArena can read a choice."""
    for name in ("query_id", "query", "expert"):
        text = getattr(choice, name)
        if not isinstance(text, str) or not text.strip():
            raise ScoreTableError(f"choice {place}, {name}: wanted a text, not {text!r}")
    if not isinstance(choice.response, str | None):
        raise ScoreTableError(f"choice {place}, response: wanted a text or None, not {choice.response!r}")
    for name in ("score", "cost", "prompt_tokens", "completion_tokens"):
        value = getattr(choice, name)
        if value is None and name in ("score", "cost"):
            continue
        wanted, most = ("a number from 0 to 1", 1.0) if name == "score" else ("a number from 0", sys.float_info.max)
        if not isinstance(value, Real) or not 0 <= float(value) <= most:  # NaN is not between anything
            raise ScoreTableError(f"choice {place}, {name}: wanted {wanted}, not {value!r}")


def _entry(choice: Choice) -> dict[str, object]:
    usage = {"input_tokens": int(choice.prompt_tokens), "output_tokens": int(choice.completion_tokens)}
    result = {
        "generated_answer": choice.response,
        "success": bool(choice.response and choice.response.strip()),
        "token_usage": usage | {"total_tokens": sum(usage.values())},
        "provider": "counterpoint",
        "error": None,
    }
    return {
        "global index": choice.query_id,
        "prompt": choice.query,
        "prediction": choice.expert,
        "generated_result": None if choice.response is None else result,
        "cost": None if choice.cost is None else float(choice.cost),  # a number of numpy's has no JSON
        "accuracy": None if choice.score is None else float(choice.score),
        "for_optimality": choice.for_optimality,
    }


def read_routerarena(path: Path) -> pd.DataFrame:
    """Read graded prediction files or cached answers of RouterArena, one or a folder of them.

    An entry that is not graded is no row. Entries for optimality are rows like others. Where a query and a model have several
    entries, the first counts, in the order of the files' names. The category is what stands before the number in the index.

    Args:
        path: A .json file, the predictions of a router (`router_inference/predictions`); a .jsonl file, the answers of one
            model (`cached_results`), which makes the fuller table; or a folder of them.

    Raises:
        ScoreTableError: What is wrong, in which file, row and column.

    Source:
        Lu et al. 2025, RouterArena, arXiv:2510.00202; github.com/RouteWorks/RouterArena.
    """
    table = joined([_part(file) for file in files_in(path, [".json", ".jsonl"])], path, _UNGRADED)
    return table[~table.duplicated(["query_id", "expert"])]


def _part(file: Path) -> pd.DataFrame:
    entries = read_lines(file) if file.suffix == ".jsonl" else objects(read_json(file), file)
    found = dict.fromkeys(name for entry in entries for name in entry)
    named = {name: next((other for other in others if other in found), others[0]) for name, others in _NAMES.items()}
    require(found, list(named.values()), file)
    named |= {"score": "accuracy"} if "accuracy" in found else {"score": "evaluation_result", "cost": "evaluation_result"}
    cells = {row: _cells(entry) for row, entry in enumerate(entries, start=1)}
    graded = {row: cell for row, cell in cells.items() if cell["score"] is not None}
    columns = next(iter(cells.values())).keys()
    table = frame({name: [cell[name] for cell in graded.values()] for name in columns}, list(graded))
    return checked(table, file, named, once=False)


def _cells(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The cells of a score table in one entry, None where it does not tell."""
    result = entry.get("generated_result", entry)  # a cached answer holds itself what a prediction has one level below
    result = result if isinstance(result, Mapping) else {"generated_answer": result}
    usage = _mapping(result.get("token_usage"))
    grade = _mapping(entry.get("evaluation_result"))
    cells = {name: next((entry[other] for other in others if entry.get(other) is not None), None) for name, others in _NAMES.items()}
    query_id = as_text(cells["query_id"])
    return cells | {
        "query_id": query_id,
        "category": (query_id or "").rpartition("_")[0] or None,
        "score": entry["accuracy"] if entry.get("accuracy") is not None else grade.get("score"),
        "answer": as_text(grade.get("ground_truth")),
        "response": as_text(result.get("generated_answer")),
        "prompt_tokens": usage.get("input_tokens"),
        "completion_tokens": usage.get("output_tokens"),
        "cost": entry["cost"] if entry.get("cost") is not None else grade.get("inference_cost"),
    }


def _mapping(cell: Any) -> Mapping[str, Any]:
    return cell if isinstance(cell, Mapping) else {}
