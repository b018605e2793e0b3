"""What `data.sandbox` runs inside fresh namespaces: an empty root, no privileges, limits, and then the program.

Standard library only, and run by its path with `python -I`: nothing of Counterpoint is imported or visible here.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path

NOBODY = 65534
_READABLE = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC = 1, 2, 4, 32, 4096, 16384
_KEPT = ((1, 1), (2, 2), (4, 4), (8, 8), (1024, 1024), (2048, 2048), (4096, 1 << 21))
"""Flags of a mount as statvfs gives them and as mount takes them; within a user namespace none may be taken away."""
_NEWUSER, _DETACH = 0x10000000, 2

_PIVOT, _CAPSET = {"x86_64": (155, 126), "aarch64": (41, 91)}[os.uname().machine]
"""Numbers of the system calls pivot_root and capset, which the C library has no names for."""
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    sent = [one.encode() if isinstance(one, str) else one for one in arguments]
    if getattr(_libc, name)(*sent) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")


def _bind(source: Path, target: Path) -> None:
    """Make a file or folder visible, read-only; a link stays a link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
        return
    if source.is_dir():
        target.mkdir(exist_ok=True)
    else:
        target.touch()
    _call("mount", str(source), str(target), None, _BIND | _REC, None)
    if not source.is_char_device():
        kept = sum(flag for told, flag in _KEPT if os.statvfs(target).f_flag & told)
        _call("mount", None, str(target), None, _REMOUNT | _BIND | _RDONLY | kept, None)


def _enter(at: Path, scratch_mb: int) -> None:
    """Make a root of one small file system in memory, with an empty folder `/box/tmp` to write to, and leave the old one."""
    _call("mount", "tmpfs", str(at), "tmpfs", _NOSUID | _NODEV, f"size={scratch_mb}m,nr_inodes=2048,mode=755")
    box = at / "box"
    for path in dict.fromkeys([*_READABLE, sys.base_prefix]):
        if Path(path).exists() and not any(Path(path).is_relative_to(other) for other in _READABLE if other != path):
            _bind(Path(path), box / path.lstrip("/"))
    for path in _DEVICES:
        _bind(Path(path), box / path.lstrip("/"))
    (box / "tmp").mkdir()
    (box / "tmp").chmod(0o777)
    old = at / "old"
    old.mkdir()
    os.chdir(at)
    if _libc.syscall(_PIVOT, b".", b"old") != 0:
        raise OSError(ctypes.get_errno(), "pivot_root: " + os.strerror(ctypes.get_errno()))
    os.chdir("/")
    _call("umount2", "/old", _DETACH)
    os.rmdir("/old")


def _drop(root: bool) -> None:
    """Give all privileges away for good: the machine's root's, if that is who runs this, and those within the namespaces."""
    if root:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        _call("unshare", _NEWUSER)  # so that the count of processes is the box's own
    os.chroot("/box")  # from a root that is not the namespace's, no further user namespace can be made
    os.chdir("/tmp")
    for capability in range(64):
        _libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if _libc.syscall(_CAPSET, header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capset: " + os.strerror(ctypes.get_errno()))
    _call("prctl", 38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS


def _limit(limits: dict[str, int]) -> None:
    for what, most in (
        (resource.RLIMIT_CPU, limits["cpu_s"]),
        (resource.RLIMIT_AS, limits["memory_mb"] << 20),
        (resource.RLIMIT_FSIZE, limits["file_mb"] << 20),
        (resource.RLIMIT_NOFILE, limits["files"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, limits["processes"] + 1),  # and this one
    ):
        resource.setrlimit(what, (most, most))


def main() -> int:
    """Fence the program on standard input in, run it, and give its exit code (128 and more: the signal that ended it)."""
    limits: dict[str, int] = json.loads(sys.argv[1])
    program = sys.stdin.buffer.read()
    _enter(Path(sys.argv[2]), limits["scratch_mb"])
    signal.signal(signal.SIGALRM, lambda *_: os._exit(124))
    signal.alarm(limits["wall_s"] + 2)  # whoever started this may be gone
    _drop(sys.argv[3] == "root")
    Path("/tmp/program.py").write_bytes(program)
    _limit(limits)
    child = os.fork()
    if child == 0:
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.closerange(3, 256)
        os.execve(sys.executable, [sys.executable, "-I", "-S", "-B", "/tmp/program.py"], {})
    while True:
        ended, status = os.wait()  # strays come to this one, too
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as error:
        print(f"no fence: {error.strerror or error}", file=sys.stderr)  # noqa: T201
        sys.exit(125)
