r"""A report as Markdown; what experts wrote cannot become a heading, a link, a picture or a cell of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence

from serving.evaluation.report.blocks import Block, Figure, Quote, Section, Table, Text, cell, visible

_SPECIAL = re.compile(r"([\\`*_\[\]|~$^])")


def as_markdown(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Write a report as Markdown; figures are named by their files.

    Args:
        title: Its heading.
        lead: What stands below the heading.
        sections: What it consists of.
    """
    return "\n\n".join([f"# {_line(title)}", _line(lead), *(_section(section, 2) for section in sections)]) + "\n"


def _section(section: Section, level: int) -> str:
    blocks = [_block(block, level) for block in section.blocks]
    return "\n\n".join([f"{'#' * level} {_line(section.title)}", *blocks])


def _block(block: Block, level: int) -> str:
    match block:
        case Section():
            return _section(block, min(level + 1, 6))
        case Table():
            return table_text(block)
        case Figure():
            return f"[Figure: {block.name}](figures/{block.name}.svg). {_line(block.caption)}"
        case Quote():
            lines = [_line(line) for line in visible(block.text).splitlines()] or [""]
            return f"**{_line(block.label)}**\n\n" + "\n".join(f"> {line}  " if line else ">" for line in lines)
        case Text():
            return f"**Note:** {_line(block.text)}" if block.warning else _line(block.text)


def table_text(table: Table) -> str:
    """A table as Markdown."""
    ruler = [":---" if at < table.left else "---:" for at in range(len(table.columns))]
    lines = [table.columns, *(tuple(cell(each).text for each in row) for row in table.rows)]
    head, *rows = (f"| {' | '.join(map(_line, line))} |" for line in lines)
    text = "\n".join([head, f"|{'|'.join(ruler)}|", *rows])
    return f"{text}\n\n{_line(table.caption)}" if table.caption else text


def _line(text: str) -> str:
    r"""A text on one line, with nothing that Markdown or HTML reads as more.

    Example:
        >>> _line("a|b <i>\n# c")
        'a\\|b &lt;i> # c'
    """
    text = " ".join(visible(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    text = _SPECIAL.sub(r"\\\1", text)
    return re.sub(r"^([#>+=-]|\d+(?=[.)]\s))", r"\\\1", text) if re.match(r"[#>+=-]\s|[#>=]|\d+[.)]\s", text) else text
