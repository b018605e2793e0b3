"""The table of all systems, the honest baselines among them, over all questions and by benchmark."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from data.statistics import Interval
from serving.evaluation.report.amounts import gap_cell, gap_of, number, percent, score_of, spread, usd
from serving.evaluation.report.blocks import Block, Cell, Section, Table, Text, unmeasured
from serving.evaluation.report.board import Board
from serving.evaluation.report.weighted import suite_mean
from serving.evaluation.systems import System

Measure = Callable[[np.ndarray], Interval | None]


def honest(board: Board) -> list[Block]:
    """Every system over all questions, then by benchmark, then their weighted mean."""
    return [
        *_notes(board),
        _whole(board),
        *_by_benchmark(board),
        *_suite(board),
    ]


def references(board: Board) -> list[tuple[str, System]]:
    """What systems are compared with, where it was measured: the best single expert, and that sampled as often."""
    best = board.baseline("best-single")
    return [pair for pair in (("- best single", best), ("- best single sampled", board.sampled)) if pair[1] is not None]  # type: ignore[misc]


def label(board: Board, system: System) -> str:
    """A system's name, with the expert's where that is not in it."""
    return f"{system.name} ({board.best})" if system.name == "best-single" else system.name


def _named(board: Board, system: System, name: str) -> Cell:
    return Cell(name, "own" if any(system is mixture.system for mixture in board.mixtures) else "")


def _notes(board: Board) -> list[Block]:
    notes: list[Block] = []
    if board.best is None:
        notes.append(unmeasured("Baselines and single experts", "no expert was asked alone"))
    else:
        by = (
            "in train"
            if board.data.train is not None and set(board.experts) <= set(board.data.train["expert"])
            else "on these very questions"
        )
        notes.append(
            Text(
                "random is the mean over the experts. best-single is the expert that is best on these very questions, which is the "
                f"hardest form of that baseline. category-oracle knows each question's category and takes the expert that was best "
                f"on it {by}. oracle takes an expert that is right wherever there is one: no choice among these experts can score more."
            )
        )
    if left := [name for name in board.data.experts if name not in board.experts]:
        notes.append(unmeasured(f"Alone: {', '.join(left)}", "the run holds no answers of theirs"))
    if gone := int(np.isnan(board.truth).sum()):
        notes.append(
            Text(f"{gone} of {board.truth.size} answers of single experts are missing; the baselines count them as wrong.", warning=True)
        )
    if board.sampled is None:
        notes.append(unmeasured("The best single expert sampled as often as the mixture calls", "the run holds no such samples"))
    if all(system.costs is None for system in board.systems):
        notes.append(unmeasured("Dollars", "no answer of the run has a price"))
    return notes


def _whole(board: Board) -> Table:
    against = references(board)
    columns = ("system", "score, %", "95% interval", "calls", "tokens", "US dollars", *(name for name, _ in against))
    rows: list[tuple[str | Cell, ...]] = []
    for system in board.systems:
        interval, n = score_of(system.right, board.seed), int((~np.isnan(system.right)).sum())
        name = label(board, system) + ("" if n == len(board.ids) else f", on {n} questions")
        means = [float(np.nanmean(part)) if n else float("nan") for part in (system.calls, system.tokens)]
        cost = None if system.costs is None or not n else float(np.nanmean(system.costs))
        gaps = [
            gap_cell(gap_of(system.right, other.right, board.seed)) if other is not system else Cell("itself", "quiet")
            for _, other in against
        ]
        score = percent(interval.mean) if interval else "-"
        rows.append((_named(board, system, name), score, spread(interval), number(means[0], 2), number(means[1]), usd(cost), *gaps))
    caption = (
        f"Mean over {len(board.ids)} questions; calls, tokens and dollars of one question. Intervals and differences in points, paired by "
        f"question: 95%, percentile bootstrap, seed {board.seed}. A difference whose interval holds zero is a tie."
    )
    return Table(columns, tuple(rows), caption)


def _by_benchmark(board: Board) -> list[Block]:
    names = list(dict.fromkeys(board.benchmarks))
    if len(names) < 2:
        return []
    sections: list[Block] = []
    for name in names:
        here = board.benchmarks == name

        def measure(values: np.ndarray, here: np.ndarray = here) -> Interval | None:
            return score_of(values[here], board.seed)

        sections.append(Section(f"{name}: {int(here.sum())} questions", (_scores(board, measure, ""),)))
    return [Section("By benchmark", tuple(sections))]


def _suite(board: Board) -> list[Block]:
    weights = {str(name): float(weight) for name, weight in (board.data.about.get("weights") or {}).items()}
    names = set(board.benchmarks)
    if not weights:
        return [unmeasured("The weighted mean over benchmarks", "the run has no weights")] if len(names) > 1 else []
    if len(names) < 2:
        return []
    if missing := sorted(names - set(weights)):
        return [unmeasured("The weighted mean over benchmarks", f"there is no weight for {', '.join(missing)}")]
    told = ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
    caption = f"The mean of the benchmarks' means, weighted: {told}. Each benchmark is resampled by itself."
    table = _scores(board, lambda values: suite_mean(values, board.benchmarks, weights, board.seed), caption)
    return [Section("Weighted mean over benchmarks", (table,))]


def _scores(board: Board, measure: Measure, caption: str) -> Table:
    against = references(board)
    rows: list[tuple[str | Cell, ...]] = []
    for system in board.systems:
        interval = measure(system.right)
        gaps = [gap_cell(measure(system.right - other.right)) if other is not system else Cell("itself", "quiet") for _, other in against]
        rows.append((_named(board, system, label(board, system)), percent(interval.mean) if interval else "-", spread(interval), *gaps))
    return Table(("system", "score, %", "95% interval", *(name for name, _ in against)), tuple(rows), caption)
