"""The report of an evaluation run, as a page and as Markdown, and the comparison of two runs."""

from __future__ import annotations

from pathlib import Path

from data.records import CounterpointError
from serving.evaluation.report.as_html import as_html
from serving.evaluation.report.as_markdown import as_markdown
from serving.evaluation.report.blocks import Section, figures_in
from serving.evaluation.report.board import Board
from serving.evaluation.report.comparison import write_comparison
from serving.evaluation.report.contribution import contribution
from serving.evaluation.report.figures import figures
from serving.evaluation.report.head import head
from serving.evaluation.report.honest import honest
from serving.evaluation.report.parts import parts
from serving.evaluation.report.work import work
from serving.evaluation.report.worst import worst
from serving.evaluation.rundata import RunData

LEAD = "Every figure comes from the run's own data. What was not measured says so, and why. Scores are in percent, differences in points."


def write_report(data: RunData, folder: Path) -> None:
    """Write a run's report: `report.html`, which needs nothing else, `report.md`, and its figures in `figures/`.

    Args:
        data: The run.
        folder: Where the report goes.

    Raises:
        CounterpointError: The run holds nothing that can be shown, or the report cannot be written.
    """
    board = Board.of(data)
    made = {
        "The run": head,
        "Systems": honest,
        "Parts of the mixture": parts,
        "Work": work,
        "Figures": figures,
        "Experts": contribution,
        "Ten worst questions": worst,
    }
    sections = [Section(title, tuple(of(board))) for title, of in made.items()]
    title = f"Evaluation run {data.name}"
    texts = {"report.html": as_html(title, LEAD, sections), "report.md": as_markdown(title, LEAD, sections)}
    texts |= {f"figures/{figure.name}.svg": figure.svg for figure in figures_in(sections)}
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise CounterpointError(f"the report cannot be written to {folder}: {error.strerror or error}") from error


__all__ = ["write_comparison", "write_report"]
