import os
import socket
from pathlib import Path

import pytest

from data import sandbox
from data.programs import assemble, passes, program_answer, read_program
from data.records import CounterpointError
from data.sandbox import Limits, SandboxError, run, why_not

boxed = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
QUICK = Limits(wall_s=4, cpu_s=1)


@boxed
def test_a_program_that_comes_to_its_end_passes() -> None:
    ended = run("print(6 * 7)")
    assert (ended.passed, ended.reason, ended.output) == (True, "", "42")


@boxed
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("assert 1 + 1 == 3, 'no'", "AssertionError: no"),
        ("def f(:", "SyntaxError"),
        ("import sys; sys.exit(0)", "it left before its last line"),
        ("import os; os._exit(0)", "it left before its last line"),
        ("import os; os.kill(os.getpid(), 11)", "exit code 139"),
        ("import numpy", "ModuleNotFoundError"),
    ],
)
def test_a_program_that_fails_does_not_pass(program: str, reason: str) -> None:
    ended = run(program)
    assert not ended.passed
    assert reason in ended.reason


@boxed
def test_a_program_reaches_no_network_not_even_this_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "1.1.1.1"):
            ended = run(f"import socket; socket.create_connection(({host!r}, {port}), timeout=2)")
            assert "Network is unreachable" in ended.reason


@boxed
def test_a_program_sees_no_files_processes_or_variables_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERPOINT_SECRET", "hush")
    (tmp_path / "secret").write_text("hush")
    for path in ("/etc/passwd", str(tmp_path / "secret"), str(Path(sandbox.__file__)), "/proc/self/environ"):
        assert "FileNotFoundError" in run(f"open({path!r}).read()").reason
    ended = run("import os; print(sorted(os.environ), os.listdir('/tmp'), os.path.exists('/proc'), os.path.exists('/sys'))")
    assert ended.output == "['LC_CTYPE'] ['program.py'] False False"
    assert "ProcessLookupError" in run(f"import os; os.kill({os.getpid()}, 0)").reason


@boxed
@pytest.mark.parametrize("path", ["/usr/lib/x", "/bin/x", "/dev/x/y"])
def test_a_program_writes_nothing_that_stays(path: str) -> None:
    assert "Error" in run(f"open({path!r}, 'w')").reason
    assert run("open('/tmp/of-a-boxed-program', 'w').write('1')").passed
    assert not Path("/tmp/of-a-boxed-program").exists()
    assert "FileNotFoundError" in run("open('/tmp/of-a-boxed-program')").reason


@boxed
def test_a_program_that_loops_or_sleeps_is_ended() -> None:
    assert "1 s of computing" in run("while True: pass", QUICK).reason
    assert run("import time; time.sleep(60)", Limits(wall_s=1)).reason == "not at its end after 1 s"
    assert not run("import os\nwhile True: os.write(1, b'x' * 65536)", QUICK).passed


@boxed
def test_a_program_that_eats_memory_gets_no_more() -> None:
    assert run("x = []\nwhile True: x.append(bytearray(1 << 24))", Limits(wall_s=30, cpu_s=20)).reason == "MemoryError"


@boxed
@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("open('/tmp/big', 'wb').write(b'x' * (5 << 20))", "File too large"),
        ("for at in range(40): open(f'/tmp/{at}', 'wb').write(b'x' * (1 << 20))", "No space left"),
        ("for at in range(9000): open(f'/tmp/{at}', 'w').close()", "No space left"),
        ("kept = [open('/dev/null') for at in range(99)]", "Too many open files"),
    ],
)
def test_a_program_that_writes_too_much_is_stopped(program: str, error: str) -> None:
    assert error in run(program).reason


@boxed
def test_a_program_that_forks_without_end_runs_out_and_leaves_nobody_behind() -> None:
    program = "import os, time\nwhile True:\n    if os.fork() == 0:\n        time.sleep(1000.25)"
    assert "Resource temporarily unavailable" in run(program).reason
    lines = [Path(f"/proc/{pid}/cmdline") for pid in os.listdir("/proc") if pid.isdigit()]
    assert not any(b"/tmp/program.py" in line.read_bytes() for line in lines if line.exists())


@boxed
def test_a_program_gets_no_privileges_back() -> None:
    program = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
flags = {"user": 0x10000000, "network": 0x40000000, "mounts": 0x00020000}
assert all(libc.unshare(flag) == -1 for flag in flags.values())
assert libc.mount(b"t", b"/tmp", b"tmpfs", 0, None) == -1
assert libc.chroot(b"/tmp") == -1
assert libc.setuid(0) == -1 or os.listdir("/tmp") == ["program.py"]
"""
    assert run(program).passed


def test_without_namespaces_nothing_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho unshare failed: Operation not permitted >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    why_not.cache_clear()
    try:
        with pytest.raises(SandboxError, match=r"allows no namespaces of one's own \(unshare failed: Operation not permitted\); allow"):
            run("print(1)")
        monkeypatch.setenv("PATH", "")
        why_not.cache_clear()
        with pytest.raises(SandboxError, match=r"unshare \(package util-linux\) is not installed"):
            run("print(1)")
    finally:
        monkeypatch.undo()
        why_not.cache_clear()


HEAD = 'from typing import List\n\n\ndef add(a: int, b: int) -> int:\n    """Add two numbers."""\n'
ADD = program_answer(HEAD, "add", "def check(f):\n    assert f(2, 3) == 5\n\ncheck(add)")


@boxed
@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("```python\ndef add(a, b):\n    return a + b\n```", True),
        ("Here it is:\n\n```python\ndef add(a: List[int], b):\n    return a + b\n```\nIt adds.", True),
        ("    return a + b", True),
        ("return a + b", True),
        ("def add(a, b):\n    return a + b", True),
        ("```python\nprint('no')\n```\nand\n```python\ndef add(a, b):\n    return a + b\n```", True),
        ("```python\ndef add(a, b):\n    return a + b", True),
        ("```python\ndef add(a, b):\n    return a - b\n```", False),
        ("```python\ndef plus(a, b):\n    return a + b\n```", False),
        ("I cannot.", False),
        ("", False),
        ("```python\nimport sys\nsys.exit(0)\n```", False),
    ],
)
def test_a_program_is_right_where_it_passes_the_tests_of_its_question(text: str, right: bool) -> None:
    assert passes(text, ADD).passed is right


def test_an_answer_without_tests_is_named() -> None:
    with pytest.raises(CounterpointError, match=r"wanted an answer of the grader code \(JSON with before, entry, tests\), not '42'"):
        assemble("def f(): pass", "42")


def test_the_block_with_the_function_is_read() -> None:
    text = "```\nsome output that is longer than the program\n```\n```python\ndef f():\n    pass\n```"
    assert read_program(text, "f") == "def f():\n    pass"
    assert read_program("<think>```python\nx\n```</think>\n", "f") is None
