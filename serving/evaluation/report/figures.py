"""The figures of a report; each says in its caption what is to be seen."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from data.statistics import bootstrap
from router import metrics
from serving.evaluation.report.amounts import percent, score_of
from serving.evaluation.report.blocks import Block, Figure, unmeasured, visible
from serving.evaluation.report.board import Board
from serving.evaluation.report.contribution import usage
from serving.evaluation.report.drawing import BLUE, FAINT, GREEN, GREY, INK, ORANGE, PAPER, draw, settled
from serving.evaluation.report.honest import label
from serving.evaluation.report.parts import predictions

KNOWING = ("oracle", "category-oracle")
"""Baselines that know the truth, which nobody could run."""
ROWS = 24
"""Most categories that are drawn."""
BINS = 15
"""Bins of predicted probability, as many as the calibration error has."""
LENGTHS = 5
"""Groups of answers by length, of equal size."""


def figures(board: Board) -> list[Block]:
    """All figures that the run has the data for; what is missing is said."""
    return [front(board), heat_map(board), reliability(board), lengths(board), use(board)]


def front(board: Board) -> Block:
    """Score against what an answer costs."""
    hidden = (*KNOWING, f"expert:{board.best}")  # that expert is drawn as the best single one
    drawn = [system for system in board.systems if system.name not in hidden and not np.isnan(system.right).all()]
    if not drawn:
        return unmeasured("Score against calls or dollars", "the run has no results")
    # what is priced at nothing has no costs: it is drawn at 0 beside what has
    priced = any(system.costs is not None for system in drawn)
    x = np.array([float(np.nanmean(system.costs)) if system.costs is not None else 0.0 for system in drawn])
    x = x if priced else np.array([float(np.nanmean(system.calls)) for system in drawn])
    scores = [score_of(system.right, board.seed) for system in drawn]
    y = np.array([100 * one.mean for one in scores if one])
    best = metrics.pareto(x, y)
    own = {mixture.name for mixture in board.mixtures}
    names = [visible(_short(label(board, system).removeprefix("expert:"))) for system in drawn]

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.plot(x[best], y[best], color=BLUE, linewidth=1.2, zorder=1, label="front: no other is as cheap and as good, and better in one")
        for at, (system, score) in enumerate(zip(drawn, scores, strict=True)):
            colour = ORANGE if system.name in own else GREY if system.name.startswith("expert:") else INK
            error = [[y[at] - 100 * score.low], [100 * score.high - y[at]]] if score else None
            axes.errorbar(
                x[at], y[at], yerr=error, fmt="s" if system.name in own else "o", color=colour, ecolor=FAINT, markersize=5, zorder=2
            )
        if (oracle := board.baseline("oracle")) is not None:
            height = 100 * float(np.nanmean(oracle.right))
            axes.axhline(height, color=GREEN, linestyle=":", linewidth=1, label=f"oracle {height:.1f}")
        axes.set_xlabel("US dollars a question" if priced else "calls of experts a question")
        axes.set_ylabel("score, % (95% interval)")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=1, frameon=False)
        axes.margins(x=0.08)
        low, high = axes.get_xlim()
        axes.set_xlim(low, high + 0.42 * (high - low))  # room for names at the right
        places = y.copy()
        bottom, top = axes.get_ylim()
        for group in np.unique(np.round((x - low) / max(high - low, 1e-12), 1)):
            near = np.flatnonzero(np.round((x - low) / max(high - low, 1e-12), 1) == group)
            places[near] = settled(y[near].tolist(), (top - bottom) / 18)
        for at, system in enumerate(drawn):
            bold = "bold" if system.name in own else "normal"
            axes.annotate(
                names[at], (x[at], y[at]), (x[at] + 0.03 * (high - low), places[at]), fontsize=8,
                fontweight=bold, va="center", arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.6},
            )  # fmt: skip

    unit, unbeaten = "dollars" if priced else "calls", ", ".join(names[at] for at in best)
    caption = (
        f"Score against {unit} of a question. Upper left is better. Not beaten on both sides: {unbeaten}. Squares are systems of the "
        "mixture; one that lies below the line is beaten by something as cheap."
    )
    return Figure("front", draw(paint, (6.4, 4.6)), caption)


def heat_map(board: Board) -> Block:
    """Each expert's score by category, with numbers."""
    groups, what = (board.categories, "category") if any(board.categories) else (board.benchmarks, "benchmark")
    counts = Counter(name for name in groups if name)
    columns: list[tuple[str, np.ndarray]] = [(name, board.column(name)) for name in board.experts]
    columns += [(mixture.name, mixture.system.right) for mixture in board.mixtures]
    if not board.experts or not counts:
        return unmeasured("Experts by category", "no expert was asked alone")
    names = sorted(name for name, _ in counts.most_common(ROWS))
    cells = np.array([[_mean(right[groups == name]) for _, right in columns] for name in names])

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.pcolormesh(100 * cells, cmap="cividis", vmin=0, vmax=100, edgecolors=PAPER, linewidth=1)
        for row, column in np.ndindex(cells.shape):
            value = cells[row, column]
            words, colour = ("-", INK) if np.isnan(value) else (f"{100 * value:.0f}", "#ffffff" if value < 0.55 else "#000000")
            axes.text(column + 0.5, row + 0.5, words, ha="center", va="center", color=colour, fontsize=8)
        axes.set_xticks(np.arange(len(columns)) + 0.5, [visible(_short(name)) for name, _ in columns], rotation=35, ha="right")
        axes.set_yticks(np.arange(len(names)) + 0.5, [f"{visible(_short(name))} ({counts[name]})" for name in names])
        axes.invert_yaxis()
        axes.tick_params(length=0)
        axes.set_xlabel("expert, then the systems of the mixture")
        axes.set_ylabel(f"{what} (questions)")

    known = [(name, row[: len(board.experts)]) for name, row in zip(names, cells, strict=True) if _any(row, board)]
    best = {name: columns[int(np.nanargmax(row))][0] for name, row in known}
    winners = Counter(best.values())
    told = ", ".join(f"{name} in {count}" for name, count in winners.most_common())
    left = f" The {len(counts) - len(names)} smallest of {len(counts)} are not drawn." if len(counts) > len(names) else ""
    caption = f"Score by {what}, in percent; in brackets how many questions. Best expert: {told}.{left}"
    size = (min(2.6 + 0.62 * len(columns), 14.0), 1.7 + 0.3 * len(names))
    return Figure("categories", draw(paint, (max(size[0], 5.0), size[1])), caption)


def reliability(board: Board) -> Block:
    """Predicted probabilities against how often they came true."""
    what = "Reliability of predicted probabilities"
    if not board.mixtures or not board.experts:
        return unmeasured(what, "that needs a system of the mixture, and experts that were asked alone")
    predicted, truth = predictions(board, board.mixtures[0])
    known = ~np.isnan(truth)
    if not known.any():
        return unmeasured(what, "the run holds no predicted probabilities of all experts")
    sure, right = predicted[known], truth[known]
    at = np.clip(np.ceil(sure * BINS) - 1, 0, BINS - 1).astype(int)
    bins = [bin for bin in range(BINS) if (at == bin).any()]
    heights = [bootstrap(right[at == bin], seed=board.seed) for bin in bins]
    middle = np.array([sure[at == bin].mean() for bin in bins])
    error = metrics.calibration_error(predicted, truth, BINS)

    def paint(figure: Any) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle="--", label="as often as predicted")
        y = np.array([100 * one.mean for one in heights])
        spread = [
            [one - 100 * i.low for one, i in zip(y, heights, strict=True)],
            [100 * i.high - one for one, i in zip(y, heights, strict=True)],
        ]
        above.errorbar(
            100 * middle, y, yerr=spread, fmt="o-", color=BLUE, ecolor=FAINT, markersize=4, linewidth=1, label="measured (95% interval)"
        )
        above.set_ylabel("score, %")
        above.legend(frameon=False, loc="upper left")
        below.bar([100 * (bin + 0.5) / BINS for bin in bins], [int((at == bin).sum()) for bin in bins], 90 / BINS, color=GREY)
        below.set_ylabel("answers")
        below.set_xlabel("predicted probability of being right, %")
        below.set_xlim(0, 100)

    caption = (
        f"Expected calibration error (ECE) {percent(error)}%, over {int(known.sum())} predictions for {known.shape[1]} experts in {BINS} "
        f"bins. Points below the dashed line: the router promised more than came; on average it predicted {percent(float(sure.mean()))}%, "
        f"and {percent(float(right.mean()))}% came."
    )
    return Figure("reliability", draw(paint, (5.6, 4.4)), caption)


def lengths(board: Board) -> Block:
    """Score against how long answers are."""
    lines: list[tuple[str, str, np.ndarray, np.ndarray]] = []
    own = board.mixtures[0] if board.mixtures else None
    if own is not None:
        size = np.array([len(own.text(at)) for at in range(len(board.ids))], dtype=float)
        known = ~np.isnan(own.system.right)
        lines.append((own.name, ORANGE, size[known], own.system.right[known]))
    alone = [
        (len(text), score)
        for name in board.experts
        for text, score in zip(board.responses(name), board.column(name), strict=True)
        if text is not None and not np.isnan(score)
    ]
    if alone:
        lines.append(("experts alone", GREY, *np.array(alone, dtype=float).T))
    if not lines:
        return unmeasured("Score against the length of answers", "the run holds no answers")

    groups = [(name, colour, _by_length(size, right, board.seed)) for name, colour, size, right in lines]

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        for name, colour, found in groups:
            x, y = np.array([one[0] for one in found]), np.array([100 * one[1].mean for one in found])
            spread = [[100 * (i.mean - i.low) for _, i in found], [100 * (i.high - i.mean) for _, i in found]]
            axes.errorbar(x, y, yerr=spread, fmt="o-", color=colour, ecolor=FAINT, markersize=4, linewidth=1, label=visible(name))
        axes.set_xscale("symlog", linthresh=10)
        ticks = [tick for tick in (0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000) if _within(tick, groups)]
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("length of the answer, characters (mean of the group)")
        axes.set_ylabel("score, % (95% interval)")
        axes.legend(frameon=False)

    told = "; ".join(f"{name}: {_correlation(size, right)}" for name, _, size, right in lines)
    caption = (
        f"Answers in up to {LENGTHS} groups of equal size, by length. Correlation of length and score: {told}. Whether the "
        "aggregator takes long answers for right ones is said above, in the section on its parts."
    )
    return Figure("lengths", draw(paint, (5.6, 3.6)), caption)


def use(board: Board) -> Block:
    """How often each expert is asked, asked first, and wins."""
    if not board.mixtures:
        return unmeasured("Use of experts", "the run has no system of the mixture")
    mixture = board.mixtures[0]
    used, n = usage(board, mixture), max(int((~np.isnan(mixture.system.right)).sum()), 1)
    names = list(used)

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        heights = np.arange(len(names))
        for at, (words, colour) in enumerate((("asked", GREY), ("asked first", BLUE), ("its words are the answer", ORANGE))):
            shares = [100 * (used[name][at] or 0) / n for name in names]
            axes.barh(heights + 0.27 * (at - 1), shares, 0.25, color=colour, label=words)
        axes.set_yticks(heights, [visible(_short(name)) for name in names])
        axes.invert_yaxis()
        axes.set_xlabel("share of questions, %")
        axes.set_ylabel("expert")
        axes.set_xlim(0, 100)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2 if len(names) < 8 else -0.1), ncols=3, frameon=False)

    idle = [name for name in names if not used[name][0]]
    most = max(names, key=lambda name: used[name][1])
    caption = (
        f"{mixture.name} asked {most} first most often, on {percent(used[most][1] / n)}% of {n} questions. "
        f"{'Never asked: ' + ', '.join(idle) + '.' if idle else 'Every expert was asked at least once.'}"
    )
    if unknown := [name for name in names if used[name][2] is None]:
        caption += f" Whether its words are the answer is not known of {', '.join(unknown)}, whose answers were not recorded."
    return Figure("use", draw(paint, (5.6, 1.4 + 0.42 * len(names))), caption)


def _by_length(size: np.ndarray, right: np.ndarray, seed: int) -> list[tuple[float, Any]]:
    """Mean length and score of groups of equal size; answers of the same length stay together."""
    edges = np.unique(np.quantile(size, np.linspace(0, 1, LENGTHS + 1)[1:-1]))
    at = np.searchsorted(edges, size, side="left")
    return [(float(size[at == one].mean()), bootstrap(right[at == one], seed=seed)) for one in np.unique(at)]


def _within(tick: int, groups: list[tuple[str, str, list[tuple[float, Any]]]]) -> bool:
    places = [place for _, _, found in groups for place, _ in found]
    return min(places) / 4 <= tick <= max(places) * 1.5


def _correlation(size: np.ndarray, right: np.ndarray) -> str:
    if len(size) < 2 or size.std() == 0 or right.std() == 0:
        return "none, one of both never differs"
    return f"{np.corrcoef(size, right)[0, 1]:+.2f}"


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _any(row: np.ndarray, board: Board) -> bool:
    return not bool(np.isnan(row[: len(board.experts)]).all())


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:26]}..."
