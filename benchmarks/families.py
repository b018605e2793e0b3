"""Write the table of experts against families of docs/performance.md, from the measured answers that ship.

Run by `make bench`, or alone: python -m benchmarks.families
"""

from __future__ import annotations

from benchmarks.page import write_section
from data.scores import experts_of, read_scores, rows_of
from data.skills import FAMILIES
from serving.demo import SCORES


def main() -> None:
    """Read the score table and write the section."""
    test = rows_of(read_scores(SCORES), ["test"])
    mean = test.groupby(["category", "expert"])["score"].mean()
    experts = experts_of(test)
    lines = ["| family | " + " | ".join(experts) + " |", "|---" * (len(experts) + 1) + "|"]
    lines += [f"| {family} | " + " | ".join(f"{100 * mean[family, expert]:.0f}" for expert in experts) + " |" for family in FAMILIES]
    n = test["query_id"].nunique() // len(FAMILIES)
    write_section("families", "python -m benchmarks.families", "\n".join(lines) + f"\n\n{n} test questions a family, accuracy in percent.")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
