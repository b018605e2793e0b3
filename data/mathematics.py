"""Answers in LaTeX: which part of a text is the answer, and whether two of them are the same."""

from __future__ import annotations

import atexit
import importlib.util
import json
import math
import re
import selectors
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

from data.records import CounterpointError

LONGEST = 400
"""An answer of more characters is compared by its letters only."""
SECONDS = 5.0
"""What one comparison may take; then the answer counts as wrong."""
_START = 60.0

_STATED = re.compile(r"\b(?:[Aa]nswer|ANSWER)(?:\s+is\b:?|:)[\s*_]{0,9}|####\s?")
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*(?=[{\d])")
_FORMULA = re.compile(  # a dollar before an amount opens none
    r"\$\$([^$]{1,400})\$\$|\\\[(.{1,400}?)\\\]|\\\((.{1,400}?)\\\)"
    r"|(?<!\\)\$(?!\d[\d,.]*\s+[A-Za-z]{2})((?:[^$\\]|\\.){1,400})\$",
    re.DOTALL,
)
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:/\d+)?")
_TRIMMED = re.compile(r"\\(?:left|right|displaystyle|[,;:! ])|[\s$]|(?<=\\)[dt](?=frac)|\.$")
_WORDS = re.compile(r"\\(?:text|textbf|mathrm|mbox|mathbf|textit)\s*\{([^{}]*)\}")
_UNIT = re.compile(r"^(\\?\$?-?[\d.,/]+)\s+(?!and\b|or\b|to\b)[A-Za-z][A-Za-z. ^/\d]{0,40}$")
_PERCENT = re.compile(r"\s*(?:\\?%|percent)$")


def read_math(text: str) -> str | None:
    r"""Read an answer in LaTeX: the last box, else what is stated, else the last formula, else the last number.

    Example:
        >>> read_math(r"So \boxed{\frac{1}{2}}."), read_math("The answer is $x = 5$."), read_math("#### 1,200")
        ('\\frac{1}{2}', 'x = 5', '1,200')
        >>> read_math("It is 3/4"), read_math("I do not know.")
        ('3/4', None)
    """
    text = text.rpartition("</think>")[2]
    if (boxed := _box(text)) is not None:
        return boxed or None
    stated = next(iter(deque(_STATED.finditer(text), maxlen=1)), None)
    rest = text[stated.end() :].lstrip().partition("\n\n")[0] if stated else text.strip()
    if formula := _formula(rest, first=bool(stated)):
        return formula
    line = rest.partition("\n")[0].strip(" *_`") if stated else rest
    line = re.split(r"(?<!\b[A-Z])[.!](?:\s|$)", line, maxsplit=1)[0].strip(" *_`") if stated else line.rstrip(".")
    if line and len(line) <= LONGEST and (stated or ("\n" not in line and (not line.count(" ") or re.search(r"[\\=^]", line)))):
        return line
    numbers = [found[0] for found in _NUMBER.finditer(text) if re.search(r"\d", found[0])]
    return numbers[-1] if numbers else None


def _box(text: str) -> str | None:
    """The content of the last box, with the braces in it; None where there is no whole box."""
    found = next(iter(deque(_BOXED.finditer(text), maxlen=1)), None)
    if found is None:
        return None
    at = found.end()
    if text[at] != "{":
        return text[at]
    depth = 0
    for place in range(at, len(text)):
        one = text[place]
        if one in "{}" and text[place - 1] != "\\":
            depth += 1 if one == "{" else -1
            if depth == 0:
                return text[at + 1 : place].strip()
    return None


def _formula(text: str, first: bool) -> str | None:
    """The first or the last part of a text between dollars or the like."""
    found = [next(part for part in one.groups() if part).strip() for one in _FORMULA.finditer(text)]
    found = [part for part in found if part]
    return found[0 if first else -1] if found else None


def plain(text: str) -> str:
    r"""Write an answer without spacing, sizes and the marks of text.

    Example:
        >>> plain(r"\left( \text{B} \right)"), plain(r"\dfrac{1}{2}."), plain("12 apples")
        ('b', '\\frac{1}{2}', '12')
    """
    text = _WORDS.sub(r" \1 ", text.replace("\u2212", "-")).replace("\\$", "").replace("^\\circ", "").replace("^{\\circ}", "").strip()
    text = re.sub(r"^\$(?=\d)", "", text)
    if unit := _UNIT.match(text.rstrip(".")):
        text = unit[1]
    text = _TRIMMED.sub("", text).strip()
    return re.sub(r"^\(([a-zA-Z])\)$", r"\1", text).lower() if re.fullmatch(r"[\w()' -]*", text) else text


def same_math(got: str, want: str) -> bool:
    r"""Tell whether two answers in LaTeX say the same: by their letters, as numbers, else as expressions (math-verify).

    Args:
        got: What was read out of a text.
        want: The right answer.

    Raises:
        CounterpointError: math-verify is needed and not installed.

    Example:
        >>> same_math(r"\frac12", "0.5"), same_math("(1,2)", "(2,1)"), same_math(r"2\sqrt{3}", r"\sqrt{12}")
        (True, False, True)
    """
    left, right = plain(got), plain(want)
    if not left or not right:
        return False
    if left == right:
        return True
    if (one := _value(left)) is not None and (other := _value(right)) is not None:
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    if max(len(left), len(right)) > LONGEST or not (_hints(left) and _hints(right)):
        return False
    return _WORKER.ask(_latex(got), _latex(want))


def _hints(text: str) -> bool:
    """Whether there may be mathematics in a text: not mere words, nothing but ASCII."""
    return text.isascii() and not re.fullmatch(r"[a-z' -]{3,}", text)


def _latex(text: str) -> str:
    text = re.sub(r"(?<!\\)\$", "", text.replace("\u2212", "-")).strip().rstrip(".")
    text = unit[1] if (unit := _UNIT.match(text)) else text
    return re.sub(r"(?<!\\)%", r"\\%", re.sub(r"\bsqrt\(([^()]*)\)", r"\\sqrt{\1}", text.replace("\u03c0", r"\pi")))


def _value(text: str) -> float | None:
    if not re.search(r"\d", text) or not _NUMBER.fullmatch(text):
        return None
    top, _, bottom = text.replace(",", "").partition("/")
    try:
        return float(top) / float(bottom or 1)
    except (ValueError, ZeroDivisionError):
        return None


class _Worker:
    """One process that compares expressions; it is ended and begun anew when one of them takes too long."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def ask(self, got: str, want: str) -> bool:
        with self._lock:
            process = self._process or self._start()
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps([got, want]).encode() + b"\n")
                process.stdin.flush()
            except OSError:
                self.close()
                return False
            return self._heard(SECONDS) is True

    def _start(self) -> subprocess.Popen[bytes]:
        if missing := why_not():
            raise CounterpointError(missing)
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(Path(__file__).with_name("mathworker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        if self._heard(_START) != "ready":
            raise CounterpointError("math-verify does not start: try `python -c 'import math_verify'`")
        return self._process

    def _heard(self, seconds: float) -> object:
        """The next line, or None where none comes in time: then the process is gone."""
        assert self._process is not None
        assert self._process.stdout is not None
        until, line = time.monotonic() + seconds, b""
        with selectors.DefaultSelector() as ready:
            ready.register(self._process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n") and ready.select(max(0.0, until - time.monotonic())):
                chunk = self._process.stdout.read1(1 << 16)  # type: ignore[attr-defined]
                if not chunk:
                    break
                line += chunk
        if line.endswith(b"\n"):
            return json.loads(line)
        self.close()
        return None

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    try:
                        stream.close()
                    except OSError:
                        continue


def why_not() -> str | None:
    """Tell in one line what the grader `math` needs, or None where it is there."""
    missing = [name for name in ("math_verify", "latex2sympy2_extended", "antlr4") if importlib.util.find_spec(name) is None]
    return f"the grader math needs {missing[0]}: pip install 'counterpoint-server[benchmarks]'" if missing else None


_WORKER = _Worker()
atexit.register(_WORKER.close)
