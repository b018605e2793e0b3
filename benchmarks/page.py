"""Write sections of docs/performance.md between their markers."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


def write_section(name: str, command: str, content: str) -> None:
    """Replace the section of a name: the command that printed it, and what it printed."""
    text = PAGE.read_text(encoding="utf-8")
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    PAGE.write_text(f"{before}{start}\n`{command}`\n\n{content}\n\n{end}{after}", encoding="utf-8")
