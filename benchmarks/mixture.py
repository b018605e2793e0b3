"""Measure the mixture that ships on 440 test questions and write the table of docs/performance.md.

Run by `make bench`, or alone: python benchmarks/mixture.py
"""

from __future__ import annotations

import asyncio
import json
import platform
from pathlib import Path
from typing import Any

from benchmarks.page import write_section
from serving.demo import DISJOINT, run_demo
from serving.show import progress_bars

QUESTIONS = 440
RESULTS = Path(__file__).parent / "results" / "mixture.json"


def table(results: dict[str, Any]) -> str:
    """The systems as a Markdown table, the comparisons and the loads below it."""
    lines = ["| system | accuracy | 95% interval | calls | tokens |", "|---|---|---|---|---|"]
    for row in results["systems"]:
        accuracy = f"{100 * row['accuracy']:.1f} | {100 * row['low']:.1f} to {100 * row['high']:.1f}"
        lines.append(f"| {row['name']} | {accuracy} | {row['mean_calls']:.2f} | {row['tokens']:.0f} |")
    loads, n = results["loads"], results["n"]
    lines += ["", f"{n} test questions, accuracy in percent, tokens a question. {DISJOINT}", ""]
    lines += ["Paired differences, 95% intervals:", "", *(f"- {line}" for line in results["comparisons"]), ""]
    lines += [
        f"Model loads: {loads['grouped']} for {loads['distinct_engines']} engines and all {n} questions ({loads['grouped_s']} s).",
        f"The first {loads['arrival_n']} questions from empty slots: in order of arrival {loads['arrival']} loads",
        f"and {loads['arrival_s']} s, grouped {loads['grouped_subset']} loads and {loads['grouped_subset_s']} s.",
        f"Measured on {platform.machine()}, 2 cores, no GPU.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, keep the results, and write the section."""
    with progress_bars() as tick:
        report = asyncio.run(run_demo(QUESTIONS, arrival=12, tick=tick))
    results = report.json()
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_section("mixture", "python -m benchmarks.mixture", table(results))
    print(table(results))


if __name__ == "__main__":
    main()
