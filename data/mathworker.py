"""What `data.mathematics` asks, in a process of its own: are two LaTeX expressions the same? A JSON pair a line in, a verdict a line out.

Run by its path: it imports nothing of Counterpoint. Text becomes an expression by a grammar (latex2sympy2_extended); nothing is evaluated
as Python.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
from typing import Any


def expressions(latex: str) -> Any:
    """Parse a text as LaTeX, and only as that: the other way of math-verify evaluates Python."""
    from math_verify import LatexExtractionConfig, parse

    return parse(f"${latex}$", extraction_config=[LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)


def same(got: str, want: str) -> bool:
    """Tell whether two texts are equal as expressions."""
    from math_verify import verify

    try:
        left, right = expressions(want), expressions(got)
        return bool(left and right) and bool(verify(left, right, allow_set_relation_comp=True, timeout_seconds=None))
    except Exception:  # whatever the parsers make of nonsense: it is not the answer
        return False


def main() -> None:
    """Answer until the input ends."""
    logging.disable()
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    same("1", "2")  # import everything
    print(json.dumps("ready"), flush=True)  # noqa: T201
    for line in sys.stdin:
        print(json.dumps(same(*json.loads(line))), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
