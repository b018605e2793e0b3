"""Make `.venv-conformance`, where other people's tools run: `.venv/bin/python scripts/conformance.py`.

Some of what they require does not fit beside our own packages, and those who use them have environments of their own, too. `--lock` chooses
versions anew, from TOOLS, and writes `locks/conformance.lock`. A second call finds that nothing changed and ends at once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv-conformance"
LOCK = ROOT / "locks" / "conformance.lock"
TOOLS = ("inspect-ai", "langchain-openai", "lm-eval[api]", "openai>=3,<4")
LEFT_OUT = ("rouge-score", "sqlitedict", "word2number")
"""Needs of lm-eval that have no wheels, and that no task here reaches; so nothing is built."""

HEADER = "# Other people's tools, for tests/conformance, in an environment of their own. Written by scripts/conformance.py --lock."


def uv(*arguments: str) -> None:
    """Run the uv that stands in this environment.

    Raises:
        SystemExit: It failed; its own words are on the screen.
    """
    done = subprocess.run([sys.executable, "-m", "uv", "--no-config", *arguments], cwd=ROOT)
    if done.returncode:
        sys.exit(f"conformance: uv {' '.join(arguments[:2])} failed; mend what it says, then run it again")


def lock() -> None:
    """Choose versions and write the lock file."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, out, excludes = Path(folder, "tools.in"), Path(folder, "tools.lock"), Path(folder, "excludes.txt")
        wanted.write_text("\n".join(TOOLS))
        excludes.write_text("\n".join(LEFT_OUT))
        look = ("--quiet", "--universal", "--python-version", "3.11", "--no-build", "--generate-hashes", "--no-header", "--no-annotate")
        uv("pip", "compile", *look, "--excludes", str(excludes), "-o", str(out), str(wanted))
        LOCK.write_text(f"{HEADER}\n{out.read_text()}", encoding="utf-8")


def install() -> None:
    """Make the environment equal to the lock file."""
    python = VENV / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.exists():
        uv("venv", "--quiet", "--clear", "--python", sys.executable, str(VENV))
    uv("pip", "sync", "--quiet", "--python", str(python), "--require-hashes", "--no-build", str(LOCK))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make .venv-conformance, where other people's tools run.")
    parser.add_argument("--lock", action="store_true", help="choose versions anew and write locks/conformance.lock first")
    if parser.parse_args().lock:
        lock()
    install()
