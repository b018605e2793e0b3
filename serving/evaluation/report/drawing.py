"""How figures of a report are drawn: as SVG whose text is text, in colours that a page can replace."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import Any

INK, FAINT, PAPER = "#1b1c1d", "#c9cacb", "#fefefd"
BLUE, ORANGE, GREY, GREEN = "#2a6fb1", "#c8601d", "#8a8b8c", "#2c8a57"
COLOURS = {INK: "ink", FAINT: "line", PAPER: "paper", BLUE: "blue", ORANGE: "orange", GREY: "quiet", GREEN: "green"}
"""Each colour, and what a page calls it; a page that is dark has others under the same names."""
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "counterpoint",
    "text.parse_math": False,  # names are text, also those with dollar signs
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "legend.facecolor": PAPER,
    "legend.edgecolor": FAINT,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(paint: Callable[[Any], None], size: tuple[float, float] = (6.2, 3.8)) -> str:
    """Draw a figure.

    Args:
        paint: Draws on the figure that it is given.
        size: Width and height in inches.

    Returns:
        An SVG file that refers to nothing outside itself.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a browser has more letters than matplotlib's font
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", "", file.getvalue(), flags=re.DOTALL)
    return svg.strip() + "\n"


def embedded(svg: str, name: str) -> str:
    """A drawing as a part of a page: in the page's colours, with ids of its own.

    Example:
        >>> embedded('<path id="a" style="fill: #1b1c1d"/><use xlink:href="#a"/>', "x")
        '<path id="x-a" style="fill: var(--ink)"/><use href="#x-a"/>'
    """
    svg = re.sub(
        r'width="([\d.]+)pt" height="[\d.]+pt"',
        lambda found: f'style="width: {1.65 * float(found[1]):.0f}px; min-width: {float(found[1]):.0f}px"',
        svg,
        count=1,
    )
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    for colour, role in COLOURS.items():
        svg = svg.replace(colour, f"var(--{role})")
    return re.sub(r'\s+xmlns(?::\w+)?="[^"]*"', "", svg)


def settled(places: list[float], apart: float) -> list[float]:
    """Move labels along one axis until none is nearer to the next than a distance, each as little as that takes.

    Example:
        >>> settled([1.0, 1.0, 5.0], 2.0)
        [0.0, 2.0, 5.0]
    """
    order = sorted(range(len(places)), key=lambda at: places[at])
    groups: list[tuple[list[int], float]] = []
    for at in order:
        group, centre = [at], places[at]
        while groups and centre - apart * (len(group) - 1) / 2 < groups[-1][1] + apart * (len(groups[-1][0]) - 1) / 2 + apart:
            before, middle = groups.pop()
            centre = (middle * len(before) + centre * len(group)) / (len(before) + len(group))
            group = before + group
        groups.append((group, centre))
    moved = [0.0] * len(places)
    for group, centre in groups:
        for step, at in enumerate(group):
            moved[at] = centre + apart * (step - (len(group) - 1) / 2)
    return moved
