"""The figure of a comparison of policies: how long calls wait, and how often slots swap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.records import CounterpointError


def write_pool_figure(policies: Sequence[Mapping[str, Any]], path: Path) -> list[Path]:
    """Draw the waits and the swaps of policies as bars; as PNG and as SVG.

    Args:
        policies: A row of figures for each, as `counterpoint simulate --json` prints them; those without figures are left out.
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

    drawn = [row for row in policies if row["wait_mean_s"] is not None]
    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasSVG(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    heights = np.arange(len(drawn))
    for shift, (name, label) in enumerate((("wait_mean_s", "mean"), ("wait_p95_s", "95th percentile"))):
        left.barh(heights + 0.4 * shift - 0.2, [row[name] for row in drawn], 0.4, label=label)
    left.set_yticks(heights, [row["name"] for row in drawn])
    left.invert_yaxis()
    left.set_xscale("symlog", linthresh=1.0)
    left.set_xlabel("seconds until a call starts")
    left.legend(fontsize=7)
    right.barh(heights, [row["swaps"] for row in drawn], 0.6, color="tab:gray")
    right.set_xlabel("swaps")
    files = [path.with_suffix(".png"), path.with_suffix(".svg")]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(files[0], dpi=150)
        figure.savefig(files[1], metadata={"Date": None})
    except OSError as error:
        raise CounterpointError(f"cannot write the figure to {path.parent}: {error.strerror or error}") from error
    return files
