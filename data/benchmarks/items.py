"""Rows to questions: the fields of a benchmark out of its source's columns."""

from __future__ import annotations

import random
from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

from data.benchmarks.rows import BenchmarkError
from data.benchmarks.specs import Item, Spec


def item_of(spec: Spec, place: str, config: str, row: Mapping[str, Any], seed: int) -> Item:
    """Make a question out of a row.

    Args:
        spec: The benchmark.
        place: Where the row stands, for errors.
        config: Its configuration.
        row: Its cells.
        seed: Of the order of the options, where the source has the right one first.

    Raises:
        BenchmarkError: A column is missing or its cell is not what it should be; the text names file, line and column.
    """
    if missing := [name for name in spec.columns if name not in row]:
        raise BenchmarkError(f"{place}, column {missing[0]}: missing; wanted {', '.join(spec.columns)}, found {', '.join(map(str, row))}")
    fields = {name: _field(spec, name, place, row) for name in spec.fields}
    for name in ("question", "answer"):
        if not str(fields[name]).strip():
            raise BenchmarkError(f"{place}, column {_columns(spec, name)}: empty")
    options, answer = tuple(fields.get("options", ())), str(fields["answer"]).strip()
    if options and (len(answer) != 1 or answer not in ascii_uppercase[: len(options)]):
        last = ascii_uppercase[len(options) - 1]
        raise BenchmarkError(f"{place}, column {_columns(spec, 'answer')}: wanted a letter from A to {last}, not {answer[:40]!r}")
    question = str(fields["question"])
    if spec.shuffled:
        order = list(range(len(options)))
        random.Random(f"{seed}/{question}").shuffle(order)
        answer = ascii_uppercase[order.index(ascii_uppercase.index(answer))]
        options = tuple(options[at] for at in order)
    category = str(fields.get("category") or "") or (config if len(spec.configs) > 1 else "")
    question = question if spec.prompt == "complete" else question.strip()
    return Item(str(fields.get("id") or ""), question, answer, options, category, str(fields.get("worked") or ""))


def _columns(spec: Spec, name: str) -> str:
    source = spec.fields[name]
    return source if isinstance(source, str) else " and ".join(source.columns)


def _field(spec: Spec, name: str, place: str, row: Mapping[str, Any]) -> Any:
    source = spec.fields[name]
    if isinstance(source, str):
        cell = row.get(source)
        return "" if cell is None else cell
    try:
        return source.make(*(row[column] for column in source.columns)) if all(column in row for column in source.columns) else ""
    except (ValueError, TypeError, KeyError) as error:
        cell = str(row[source.columns[0]])[:40] if source.columns else ""
        raise BenchmarkError(f"{place}, column {' and '.join(source.columns)}: {error}; found {cell!r}") from error
