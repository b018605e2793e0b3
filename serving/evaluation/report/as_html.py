"""A report as one page that needs nothing else: no network, no script; what experts wrote is text and nothing more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from serving.evaluation.report.blocks import Block, Cell, Figure, Quote, Section, Table, Text, cell, visible
from serving.evaluation.report.drawing import embedded

_STYLE = Path(__file__).with_name("report.css")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What a browser may load for the page: nothing."""


def as_html(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Write a report as a page.

    Args:
        title: Its heading.
        lead: What stands below the heading.
        sections: What it consists of.
    """
    links = "".join(f'<a href="#{_anchor(section.title)}">{_text(section.title)}</a>' for section in sections)
    body = "\n".join(_section(section, 2) for section in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{_text(title)}</title>\n<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n"
        f"<header><h1>{_text(title)}</h1>\n<p>{_text(lead)}</p>\n<nav>{links}</nav></header>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _section(section: Section, level: int) -> str:
    anchor = f' id="{_anchor(section.title)}"' if level == 2 else ""
    blocks = "\n".join(_block(block, level) for block in section.blocks)
    return f"<section{anchor}>\n<h{level}>{_text(section.title)}</h{level}>\n{blocks}\n</section>"


def _block(block: Block, level: int) -> str:
    match block:
        case Section():
            return _section(block, min(level + 1, 6))
        case Table():
            return _table(block)
        case Figure():
            drawing = embedded(block.svg, block.name).replace("<svg", f'<svg role="img" aria-label="{_text(block.caption)}"', 1)
            return f'<figure>\n<div class="wide" tabindex="0">{drawing}</div>\n<figcaption>{_text(block.caption)}</figcaption>\n</figure>'
        case Quote():
            return f'<div class="quote"><b>{_text(block.label)}</b><blockquote dir="auto">{_text(block.text)}</blockquote></div>'
        case Text():
            return f'<p class="warning">{_text(block.text)}</p>' if block.warning else f"<p>{_text(block.text)}</p>"


def _table(table: Table) -> str:
    def line(row: Sequence[str | Cell], tag: str) -> str:
        cells = []
        for at, each in enumerate(map(cell, row)):
            kind = " ".join(filter(None, ("words" if at < table.left else "figure", each.tone)))
            head = "th" if tag == "th" or at == 0 else "td"
            scope = ' scope="col"' if tag == "th" else ' scope="row"' if at == 0 else ""
            cells.append(f'<{head} class="{kind}"{scope}>{_text(each.text)}</{head}>')
        return f"<tr>{''.join(cells)}</tr>"

    head, body = line(table.columns, "th"), "\n".join(line(row, "td") for row in table.rows)
    caption = f"<p class='caption'>{_text(table.caption)}</p>" if table.caption else ""
    return f'<div class="wide" tabindex="0"><table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody></table></div>\n{caption}'


def _text(text: str) -> str:
    return escape(visible(text))


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
