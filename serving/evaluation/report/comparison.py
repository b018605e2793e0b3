"""Two evaluation runs beside each other, system by system, on the questions that both asked in the same words."""

from __future__ import annotations

from typing import Any

import pandas as pd

from serving.evaluation.report.amounts import gap_cell, percent
from serving.evaluation.report.as_markdown import as_markdown
from serving.evaluation.report.blocks import Block, Section, Table, Text
from serving.evaluation.report.board import Board
from serving.evaluation.rundata import RunData
from serving.runs import Compared, RunError, compare_scores


def write_comparison(a: RunData, b: RunData) -> tuple[str, dict[str, Any]]:
    """Compare two runs by a paired bootstrap, over all common questions and by benchmark.

    Returns:
        The comparison as Markdown, and as JSON: `a`, `b`, `questions`, `changed` (questions of the same id in other words, which are left
        out), `only_a` and `only_b` (further questions of each), `systems`, and `benchmarks` with the systems of each.

    Raises:
        CounterpointError: A run cannot be read, or they have no system or question in common.
    """
    tables = [_scores(Board.of(data)) for data in (a, b)]
    words = [data.questions.assign(question_id=data.questions["question_id"].astype(str)).set_index("question_id") for data in (a, b)]
    both = words[0].index.intersection(words[1].index, sort=False)
    columns = ["query", "answer"]
    equal = (words[0].loc[both, columns].fillna("") == words[1].loc[both, columns].fillna("")).all(axis=1)
    common = both[equal.to_numpy(dtype=bool)]
    if common.empty:
        raise RunError(f"the runs {a.name} and {b.name} have no question in common")
    first, second = (table.loc[common] for table in tables)
    found = compare_scores(first, second)
    groups = words[0].loc[common, "benchmark"].astype(str)
    parts = {str(name): compare_scores(first.loc[ids], second.loc[ids]) for name, ids in groups.groupby(groups, sort=False).groups.items()}
    body = {
        "a": a.name,
        "b": b.name,
        "questions": len(common),
        "changed": len(both) - len(common),
        "only_a": len(words[0]) - len(both),
        "only_b": len(words[1]) - len(both),
        "systems": [one.json() for one in found],
        "benchmarks": {name: [one.json() for one in each] for name, each in parts.items()},
    }
    return _text(a, b, body, found, parts), body


def _scores(board: Board) -> pd.DataFrame:
    return pd.DataFrame({system.name: system.right for system in board.systems}, index=pd.Index(board.ids, name="question_id"))


def _text(a: RunData, b: RunData, body: dict[str, Any], found: list[Compared], parts: dict[str, list[Compared]]) -> str:
    lead = f"{body['questions']} questions that both runs asked in the same words."
    if body["changed"]:
        lead += f" {body['changed']} of the same id were asked in other words, or have another answer, and are left out."
    lead += f" Asked by one only: {body['only_a']} and {body['only_b']}."
    caption = "Differences in points, paired by question, with 95% bootstrap intervals; one whose interval holds zero is a tie."
    sections = [Section("All common questions", (_table(a.name, b.name, found, caption),))]
    if len(parts) > 1:
        sections.append(Section("By benchmark", tuple(_part(a.name, b.name, name, each) for name, each in parts.items())))
    return as_markdown(f"{a.name} and {b.name}", lead, sections)


def _part(a: str, b: str, name: str, found: list[Compared]) -> Block:
    return Section(name, (_table(a, b, found, ""),)) if found else Text(f"{name}: no system of both runs has scores there.")


def _table(a: str, b: str, found: list[Compared], caption: str) -> Table:
    rows = tuple((one.system, str(one.questions), percent(one.a), percent(one.b), gap_cell(one.difference)) for one in found)
    return Table(("system", "questions", f"{a}, %", f"{b}, %", f"{a} - {b}"), rows, caption)
