"""What a run took: calls, tokens, dollars, time, and the machine's work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from serving.evaluation.report.amounts import NONE, number, usd
from serving.evaluation.report.blocks import Block, Section, Table, unmeasured
from serving.evaluation.report.board import Board

MEASURES: tuple[tuple[str, str, int], ...] = (
    ("wall_s", "wall time, s", 1),
    ("calls_made", "calls that were made (the others were kept from before)", 0),
    ("loads", "swaps: engines loaded", 0),
    ("wakes", "swaps: engines woken", 0),
    ("swap_s", "time of swaps, s", 1),
    ("busy_s", "time that slots were busy, s", 1),
    ("gpus", "GPUs of a slot", 0),
    ("gpu_seconds", "GPU-seconds", 1),
    ("tokens_per_s", "tokens per second of wall time", 1),
)


def work(board: Board) -> list[Block]:
    """What each system took over all questions, and what the run took of the machine."""
    return [Section("By system", tuple(_systems(board))), Section("The machine", tuple(_machine(board.data.work)))]


def _systems(board: Board) -> list[Block]:
    rows = []
    for name, table, calls in _tables(board):
        seconds = _numbers(table, "latency_s" if "latency_s" in table.columns else "seconds")
        told = [_numbers(table, column) for column in ("prompt_tokens", "completion_tokens", "cost")]
        tokens = [number(float(part.sum())) if part is not None else NONE for part in told[:2]]
        cost = usd(float(told[2].sum())) if told[2] is not None else NONE
        times = [number(float(of(seconds)), 2) if seconds is not None and len(seconds) else NONE for of in (np.mean, _p95)]
        rows.append((name, number(calls), *tokens, cost, *times))
    if not rows:
        return [unmeasured("Work by system", "the run holds no answers")]
    columns = ("system", "calls", "tokens read", "tokens written", "US dollars", "s an answer, mean", "95th percentile")
    caption = f"Over all {len(board.ids)} questions. The seconds of an answer hold its wait in queues that all systems of the run shared."
    return [Table(columns, tuple(rows), caption)]


def _p95(values: np.ndarray) -> float:
    return float(np.percentile(values, 95))


def _tables(board: Board) -> list[tuple[str, Any, float]]:
    cells, outcomes = board.data.cells, board.data.outcomes
    alone = [(f"expert:{name}", rows := cells[cells["expert"] == name], float(len(rows))) for name in board.experts]
    mixed = [(str(name), rows, float(rows["calls"].sum())) for name, rows in outcomes.groupby("system", sort=False)]
    return [*alone, *mixed]


def _numbers(table: Any, column: str) -> np.ndarray | None:
    if column not in table.columns:
        return None
    values = table[column].to_numpy(dtype=float, na_value=np.nan)
    known: np.ndarray = values[~np.isnan(values)]
    return known if len(known) else None


def _machine(told: dict[str, Any]) -> list[Block]:
    shown: Callable[[Any, int], str] = lambda value, digits: number(float(value), digits) if isinstance(value, int | float) else str(value)  # noqa: E731
    rows = tuple((words, shown(told[name], digits)) for name, words, digits in MEASURES if told.get(name) is not None)
    missing = [words for name, words, _ in MEASURES if told.get(name) is None]
    blocks: list[Block] = [Table(("measure", "is"), rows, "All of the run, every expert alone and every system together.")] if rows else []
    return [*blocks, *([unmeasured(", ".join(missing), "the run did not record it")] if missing else [])]
