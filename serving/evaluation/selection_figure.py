"""The figure of a selection: what pools of each size reach."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.records import CounterpointError
from serving.evaluation.selection import Selection

WORDS = {
    "oracle": "a right member wherever there is one",
    "category": "best member of each category",
    "majority": "majority of the members",
}


def write_selection_figure(selection: Selection, path: Path) -> list[Path]:
    """Draw quality on held-out questions against the size of the pool; as PNG and as SVG.

    Args:
        selection: The selection.
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

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    sizes = np.array([len(pool.experts) for pool in selection.pools])
    for name in (name for name in WORDS if name in selection.pools[0].reached):
        found = [pool.reached[name] for pool in selection.pools]
        mean, low, high = (np.array([100 * getattr(one, end) for one in found]) for end in ("mean", "low", "high"))
        (line,) = axes.plot(sizes, mean, marker="o", markersize=4, label=WORDS[name])
        axes.fill_between(sizes, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.axvline(len(selection.chosen.experts), color="gray", linestyle=":", label=f"chosen: {', '.join(selection.chosen.experts)}"[:70])
    axes.set_xticks(sizes)
    axes.set_xlabel("experts in the pool")
    axes.set_ylabel(f"score on {selection.held_out} held-out questions, % (95% interval)")
    axes.legend(fontsize=7)
    files = [path.with_suffix(".png"), path.with_suffix(".svg")]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(files[0], dpi=150)
        figure.savefig(files[1], metadata={"Date": None})
    except OSError as error:
        raise CounterpointError(f"cannot write the figure to {path.parent}: {error.strerror or error}") from error
    return files
