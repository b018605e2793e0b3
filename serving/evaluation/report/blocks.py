"""What a report consists of, whatever it is written as: sections of texts, tables, figures and quotations."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Tone = Literal["", "good", "bad", "quiet", "own"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it says.
        tone: How it is shown beside that: a gain, a loss, of little weight, or of the mixture itself.
    """

    text: str
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; a warning is one that must not be passed over."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first `left` columns are words and the others figures.

    Attributes:
        columns: Names of columns.
        rows: Cells, a text or a `Cell`.
        caption: What is to be seen in it.
        left: How many columns are words.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    caption: str = ""
    left: int = 1


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing.

    Attributes:
        name: Name of its file, without ending.
        svg: The drawing, an SVG file.
        caption: What is to be seen in it.
    """

    name: str
    svg: str
    caption: str


@dataclass(frozen=True, slots=True)
class Quote:
    """What somebody wrote, as it stands: a question, an answer."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: tuple[Block, ...]


Block = Text | Table | Figure | Quote | Section


def unmeasured(what: str, why: str) -> Text:
    """Say that something was not measured, and why."""
    return Text(f"{what}: not measured: {why}.")


def cell(value: str | Cell) -> Cell:
    """A text as a cell."""
    return value if isinstance(value, Cell) else Cell(value)


def shortened(text: str, most: int = 400) -> str:
    """The beginning of a text, and how much was left out.

    Example:
        >>> shortened("abcdef", 3)
        'abc ... (3 more characters)'
    """
    return text if len(text) <= most else f"{text[:most].rstrip()} ... ({len(text) - most} more characters)"


def visible(text: str) -> str:
    r"""A text without characters that no page can hold or that turn its direction; each is replaced by one that is seen.

    Example:
        >>> visible("a\x00b\nc\u202ed") == "a\ufffdb\nc\ufffdd"
        True
    """
    return "".join(one if one in "\n\t" or not _hidden(one) else "\ufffd" for one in text)


def _hidden(one: str) -> bool:
    return unicodedata.category(one) in ("Cc", "Cs", "Cn") or one in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def figures_in(blocks: Sequence[Block]) -> list[Figure]:
    """All figures, in their order."""
    found: list[Figure] = []
    for block in blocks:
        found += figures_in(block.blocks) if isinstance(block, Section) else [block] if isinstance(block, Figure) else []
    return found
