"""The figure of a comparison: what accuracy costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.records import CounterpointError
from router import metrics
from serving.evaluation.routing import Measured


def write_figure(measured: Sequence[Measured], path: Path) -> list[Path]:
    """Draw accuracy against cost where the table has costs, else against the time of a decision; as PNG and as SVG.

    Points that no other one beats on both sides are joined: the Pareto front. Routers that could choose by cost, too, have the
    curve of their trade-off.

    Args:
        measured: The routers; baselines that know the truth are left out.
        path: Where the two files go; its ending does not matter.

    Returns:
        The files.

    Raises:
        CounterpointError: They cannot be written.
    """
    if not path.name:
        raise CounterpointError(f"the figure needs the name of a file, not {path}")
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    drawn = [each for each in measured if each.name not in ("oracle", "category-oracle")]
    by_cost = all(each.costs is not None for each in drawn)
    x = np.array([each.cost if by_cost else each.latency_ms for each in drawn])
    y = np.array([100 * each.accuracy.mean for each in drawn])
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    intervals = [each.accuracy for each in drawn]
    error = [
        [height - 100 * i.low for height, i in zip(y, intervals, strict=True)],
        [100 * i.high - height for height, i in zip(y, intervals, strict=True)],
    ]
    axes.errorbar(x, y, yerr=error, fmt="o", color="tab:blue", ecolor="lightgray", zorder=2)
    front = metrics.pareto(x, y)
    axes.plot(x[front], y[front], color="tab:blue", linewidth=1, zorder=1, label="not beaten on both sides")
    if by_cost:
        for each in drawn:
            if each.costs is not None and each.name not in ("random", "best-single"):
                cost, quality = metrics.cost_quality_curve(each.predicted, each.truth, each.costs)
                axes.plot(cost, 100 * quality, linewidth=0.7, alpha=0.5, label=f"{each.name}, choosing by cost too")
    for each, left, height in zip(drawn, x, y, strict=True):
        axes.annotate(each.name, (left, height), xytext=(5, 5), textcoords="offset points", fontsize=8)
    if not by_cost:
        axes.set_xscale("log")
    axes.set_xlabel("cost of a question" if by_cost else "milliseconds of a decision, one thread (median)")
    axes.set_ylabel("accuracy of the first choice, percent (95% interval)")
    axes.legend(fontsize=7)
    files = [path.with_suffix(".png"), path.with_suffix(".svg")]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(files[0], dpi=150)
        figure.savefig(files[1], metadata={"Date": None})
    except OSError as error:
        raise CounterpointError(f"cannot write the figure to {path.parent}: {error.strerror or error}") from error
    return files
