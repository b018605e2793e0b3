"""Write sections of a page of docs/ between their markers."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def write_section(name: str, command: str, content: str, page: str = "performance.md") -> None:
    """Replace the section of a name: the command that printed it, and what it printed."""
    path = DOCS / page
    text = path.read_text(encoding="utf-8")
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{start}\n`{command}`\n\n{content}\n\n{end}{after}", encoding="utf-8")
