"""Write docs/cli.md from the command line itself, and docs/openapi.json from the endpoint's routes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs" / "cli.md"
OPENAPI = ROOT / "docs" / "openapi.json"


def command_line() -> str:
    """The command line's documentation as Markdown."""
    command = [sys.executable, "-m", "typer", "serving.cli", "utils", "docs", "--name", "counterpoint", "--title", "Command line"]
    made = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return "\n".join(line.rstrip() for line in made.strip().splitlines()) + "\n"


def openapi() -> str:
    """The endpoint's OpenAPI document, as it is where keys are wanted."""
    from serving.openapi import document
    from serving.routes import ROUTERS

    return json.dumps(document(route for router in ROUTERS for route in router.routes), indent=2) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    TARGET.write_text(command_line(), encoding="utf-8")
    OPENAPI.write_text(openapi(), encoding="utf-8")
