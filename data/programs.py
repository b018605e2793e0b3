"""Programs in answers: which part of a text is one, and whether it passes the tests of its question."""

from __future__ import annotations

import json
import re
import textwrap

from data.records import CounterpointError
from data.sandbox import Ended, Limits, run

_FENCE = re.compile(r"^[ ]{0,3}```[ ]?(\w*)[^\n`]*\n", re.MULTILINE)


class ProgramError(CounterpointError):
    """A question whose tests cannot be read."""


def program_answer(before: str, entry: str, tests: str) -> str:
    """Write what the grader `code` needs as the answer of a task.

    Args:
        before: What stands before the program (imports, helpers, the head of the function).
        entry: Name of the function that the tests call.
        tests: Statements that fail where the program is wrong.

    Example:
        >>> program_answer("", "f", "assert f(1) == 2")
        '{"before": "", "entry": "f", "tests": "assert f(1) == 2"}'
    """
    return json.dumps({"before": before, "entry": entry, "tests": tests}, ensure_ascii=False)


def read_program(text: str, entry: str = "") -> str | None:
    r"""Read a program: the last fenced block that defines the function wanted, else the longest, else the whole text.

    Args:
        text: What an expert wrote.
        entry: Name of the function.

    Example:
        >>> print(read_program("Here it is:\n```python\ndef f(x):\n    return x + 1\n```\nDone."))
        def f(x):
            return x + 1
    """
    text = text.rpartition("</think>")[2]
    blocks, marks = [], list(_FENCE.finditer(text + "\n"))
    at = 0
    for mark in marks:
        if mark.start() < at:  # this one closed the block before
            continue
        end = next((later.start() for later in marks if later.start() >= mark.end() and not later[1]), len(text))
        blocks.append(text[mark.end() : end].rstrip())
        at = end + 1
    blocks = [block for block in blocks if block.strip()]
    if defining := [block for block in blocks if entry and re.search(rf"^\s*(?:async )?def {re.escape(entry)}\b", block, re.MULTILINE)]:
        return defining[-1]
    if blocks:
        return max(blocks, key=len)
    return text.strip("\n").rstrip() or None


def assemble(text: str, answer: str) -> str | None:
    """Put the program of a text and the tests of its question together, or None where there is no program.

    Raises:
        ProgramError: The answer is not what `program_answer` writes.
    """
    try:
        wanted = json.loads(answer)
        before, entry, tests = (str(wanted[name]) for name in ("before", "entry", "tests"))
    except (ValueError, KeyError, TypeError) as error:
        raise ProgramError(f"wanted an answer of the grader code (JSON with before, entry, tests), not {answer[:60]!r}") from error
    program = read_program(text, entry)
    if program is None:
        return None
    dedented = textwrap.dedent(program)
    if re.search(rf"^(?:async )?def {re.escape(entry)}\b", dedented, re.MULTILINE):
        head = f"{before.rstrip()}\n    pass\n" if before.rstrip().endswith(('"""', "'''")) else before
        return f"{head}\n\n{dedented}\n\n{tests}\n"
    body = program if program[:1] in " \t" else textwrap.indent(program, "    ")
    return f"{before.rstrip()}\n{body if before else program}\n\n{tests}\n"


def passes(text: str, answer: str, limits: Limits | None = None) -> Ended:
    """Run the program of a text with its question's tests, in a sandbox.

    Raises:
        ProgramError: The answer is not what `program_answer` writes.
        SandboxError: There is no sandbox on this machine.
    """
    whole = assemble(text, answer)
    return Ended(False, "no program", "") if whole is None else run(whole, limits)
