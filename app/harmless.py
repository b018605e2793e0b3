"""Markdown that others wrote, made so that showing it loads nothing and breaks nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[^`]*$")
"""A line that begins a block of code."""

# bounded, each of them: a text that only begins such things must not take the square of its length
_INLINE = re.compile(r"(?<!`)(`+)(?!`)((?:(?!\n[ \t]*\n).){1,2000}?)(?<!`)\1(?!`)", re.DOTALL)
_DISPLAY = re.compile(r"\\\[((?:(?!\\\[).){1,2000}?)\\\]|\$\$(.{1,2000}?)\$\$", re.DOTALL)
_MATH = re.compile(r"\\\(((?:(?!\\\().){1,1000}?)\\\)|(?<![\\$\w])\$(?![\s$])([^$\n]{0,1000}?[^\s$\\])\$(?![\d$])")
_SIGNS = re.compile(r"([\\`*_{}\[\]()#+\-.!|~<>$:&=\"'^@/%,;?])")
_BREAK = "\u200b"


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a text.

    Attributes:
        text: What it says.
        code: Whether it is a block of code, to be shown to the letter.
    """

    text: str
    code: bool = False


def pieces(text: str) -> list[Piece]:
    r"""Cut a text into prose and blocks of code; a block that is not ended goes on to the end.

    Each piece is shown by an element of its own, so that what is taken for code is never read as Markdown.

    Example:
        >>> [(piece.code, piece.text) for piece in pieces("Run this:\n```sh\nls\n```\nDone.")]
        [(False, 'Run this:'), (True, 'ls'), (False, 'Done.')]
    """
    found: list[Piece] = []
    lines: list[str] = []
    fence = ""

    def close(code: bool) -> None:
        whole = "\n".join(lines)
        if code or whole.strip():
            found.append(Piece(whole, code))
        lines.clear()

    for line in text.splitlines():
        if fence:
            bare = line.strip()
            if len(line) - len(line.lstrip(" ")) <= 3 and bare and set(bare) == {fence[0]} and len(bare) >= len(fence):
                close(code=True)
                fence = ""
            else:
                lines.append(line)
        elif (began := FENCE.match(line)) is not None:
            close(code=False)
            fence = began[1]
        else:
            lines.append(line)
    close(code=bool(fence))
    return found


def harmless(text: str) -> str:
    r"""Make prose safe to render: no images, whose addresses could carry the conversation away, and formulas only where some are meant.

    `\(x\)` and `\[x\]` become the dollars that the page reads; dollars that are no formula stay dollars.

    Example:
        >>> harmless("It costs $5, or $6 with \\(x\\)."), "![" in harmless("![](http://x/?secret)")
        ('It costs \\$5, or \\$6 with $x$.', False)
    """
    parts: list[str] = []
    at = 0
    for code in _INLINE.finditer(text):
        parts += [_formulas(text[at : code.start()]), code[0]]
        at = code.end()
    parts.append(_formulas(text[at:]))
    return "".join(parts).replace("![", f"!{_BREAK}[")


def _formulas(prose: str) -> str:
    shown: list[str] = []
    at = 0
    for display in _DISPLAY.finditer(prose):
        shown += [_inline(prose[at : display.start()]), f"\n$$\n{(display[1] or display[2]).strip()}\n$$\n"]
        at = display.end()
    return "".join([*shown, _inline(prose[at:])])


def _inline(prose: str) -> str:
    shown: list[str] = []
    at = 0
    for formula in _MATH.finditer(prose):
        shown += [_dollars(prose[at : formula.start()]), f"${(formula[1] or formula[2]).strip()}$"]
        at = formula.end()
    return "".join([*shown, _dollars(prose[at:])])


def _dollars(prose: str) -> str:
    return re.sub(r"(?<!\\)\$", r"\\$", prose)


def plain(text: str) -> str:
    r"""Write a text so that Markdown shows it to the letter; for names, titles and words that are compared.

    Example:
        >>> plain("a*b* ![x](y)")
        'a\\*b\\* \\!\\[x\\]\\(y\\)'
    """
    return _SIGNS.sub(r"\\\1", text)


def label(text: str, most: int = 60) -> str:
    r"""Write a text as one short line for a button or a tab.

    Example:
        >>> label("What is the\ncapital?", most=9)
        'What is …'
    """
    line = " ".join(text.split())
    return plain(line if len(line) <= most else line[: most - 1].rstrip() + " …")
