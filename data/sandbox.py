"""Running a program that nobody vouches for: without network, files or environment, and with limits on what it uses up.

Linux only. Each program gets fresh namespaces (user, network, processes, mounts, System V objects) by `unshare`, in which `data/fence.py`
builds a root that holds the read-only system libraries and Python, and one small empty folder in memory. docs/evaluation.md says what that
contains and what it does not.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from data.records import CounterpointError

_TAIL = 4096
"""Bytes of output that are kept; the rest is read and thrown away."""
_FAILED = 125


class SandboxError(CounterpointError):
    """Programs cannot be run apart from everything else here; the text says why."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use up.

    Attributes:
        wall_s: Seconds from start to end.
        cpu_s: Seconds of computing, for each of its processes.
        memory_mb: Address space of each of its processes.
        file_mb: Size of one file.
        scratch_mb: All files together; they lie in memory.
        files: Open files.
        processes: Processes and threads at once.
    """

    wall_s: int = 10
    cpu_s: int = 5
    memory_mb: int = 512
    file_mb: int = 4
    scratch_mb: int = 16
    files: int = 32
    processes: int = 8


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended.

    Attributes:
        passed: Whether it came to its end, without an error and within its limits.
        reason: Why not; empty where it passed.
        output: The last of what it wrote.
    """

    passed: bool
    reason: str
    output: str


def run(program: str, limits: Limits | None = None) -> Ended:
    """Run a Python program in a sandbox; it has the standard library only.

    Args:
        program: Its text.
        limits: What it may use up.

    Raises:
        SandboxError: There is no sandbox on this machine.
    """
    if reason := why_not():
        raise SandboxError(reason)
    return _run(program, limits or Limits())


@cache
def why_not() -> str | None:
    """Tell in one line why this machine has no sandbox, or None where it has one: a small program is run to find out."""
    if not sys.platform.startswith("linux"):
        return f"programs are run on Linux only, in namespaces of their own; this is {sys.platform}"
    if os.uname().machine not in ("x86_64", "aarch64"):
        return f"programs are run on x86_64 and aarch64 only; this is {os.uname().machine}"
    if shutil.which("unshare") is None:
        return "programs are run in namespaces of their own, and the command unshare (package util-linux) is not installed"
    ended = _run("print(6 * 7)", Limits())
    if ended.passed and ended.output.startswith("42"):
        return None
    return (
        "programs are run without network, and this machine allows no namespaces of one's own "
        f"({' '.join(ended.output.split())[-160:] or ended.reason}); allow unprivileged user namespaces, or run it where they are allowed"
    )


def _run(program: str, limits: Limits) -> Ended:
    end = secrets.token_hex(16)  # a program that leaves early, with exit code 0, has not passed
    whole = f"{program}\n\nimport sys as _sys\n_sys.stdout.flush()\n_sys.stdout.write('\\n{end}\\n')\n_sys.stdout.flush()\n"
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory(prefix="counterpoint-box-") as folder, tempfile.TemporaryFile() as source:
        source.write(whole.encode("utf-8", "replace"))
        source.seek(0)
        command = [
            *(shutil.which("unshare") or "unshare", *([] if root else ["--user", "--map-root-user"])),
            *("--net", "--pid", "--mount", "--ipc", "--uts", "--fork", "--kill-child"),
            *(_python(), "-I", "-S", "-B", str(Path(__file__).with_name("fence.py"))),
            *(json.dumps(asdict(limits)), folder, "root" if root else "user"),
        ]
        process = subprocess.Popen(
            command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={}, cwd="/", start_new_session=True
        )
        try:
            output, late = _read(process, limits.wall_s)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
    text = output.decode("utf-8", "replace")
    passed = not late and code == 0 and text.rstrip("\n").endswith(end)
    return Ended(passed, "" if passed else _reason(code, late, text, limits), text.replace(end, "").strip())


def _python() -> str:
    """The interpreter itself, not the link of a virtual environment, which is not visible inside."""
    return str(Path(sys.executable).resolve())


def _read(process: subprocess.Popen[bytes], wall_s: float) -> tuple[bytes, bool]:
    """Read until the end or the deadline: the last bytes, and whether it was the deadline."""
    until, tail = time.monotonic() + wall_s, b""
    assert process.stdout is not None
    with selectors.DefaultSelector() as ready, process.stdout:
        ready.register(process.stdout, selectors.EVENT_READ)
        while (left := until - time.monotonic()) > 0:
            if not ready.select(left):
                break
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                try:
                    process.wait(max(0.0, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    break
                return tail, False
            tail = (tail + chunk)[-_TAIL:]
    return tail, True


def _reason(code: int, late: bool, text: str, limits: Limits) -> str:
    if late:
        return f"not at its end after {limits.wall_s} s"
    if code == 128 + signal.SIGKILL or code == 128 + signal.SIGXCPU:
        return f"ended by the system, most likely for more than {limits.cpu_s} s of computing"
    if code == _FAILED:
        return "the sandbox could not be made"
    if code == 0:
        return "it left before its last line"
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:200] if lines else f"exit code {code}"
