"""Write docs/cli.md from the command line itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TARGET = Path(__file__).parent.parent / "docs" / "cli.md"


def command_line() -> str:
    """The command line's documentation as Markdown."""
    command = [sys.executable, "-m", "typer", "serving.cli", "utils", "docs", "--name", "counterpoint", "--title", "Command line"]
    made = subprocess.run(command, capture_output=True, text=True, check=True, cwd=TARGET.parent.parent).stdout
    return "\n".join(line.rstrip() for line in made.strip().splitlines()) + "\n"


if __name__ == "__main__":
    TARGET.write_text(command_line(), encoding="utf-8")
