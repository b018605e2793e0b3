"""Long measurements as rows of a journal: done all at once, written as they come, gone on with after any stop."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from data.records import CounterpointError
from serving.journal import Journal


def mark_of(*parts: object) -> str:
    """What tells rows of other questions and settings apart."""
    return hashlib.sha256("\0".join(map(repr, parts)).encode()).hexdigest()[:16]


def known_rows(journal: Journal, second: str, marks: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of an earlier run of the same work.

    Raises:
        CounterpointError: Some are of other questions or settings under the same names.
    """
    rows = {(str(row.get("query_id")), str(row.get(second))): row for row in journal.rows}
    for key in rows.keys() & marks.keys():
        if rows[key].get("mark") != marks[key]:
            raise CounterpointError(
                f"{journal.path} holds {key[1]!r} on {key[0]!r} from another run, of another question, answers or settings: "
                "name another file, or delete this one"
            )
    return {key: rows[key] for key in marks if key in rows}


async def written(
    work: Sequence[Coroutine[None, None, tuple[str, dict[str, Any]]]],
    journal: Journal,
    second: str,
    rows: dict[tuple[str, str], dict[str, Any]],
    total: int,
    tick: Callable[[int], None],
) -> None:
    """Do all work at once, and write each row as it comes.

    Args:
        work: Each gives what went wrong, or a row.
        journal: Where rows go.
        second: What tells the rows of a question apart.
        rows: The rows that are there, and then all.
        total: Their number in the end.
        tick: Told of their number.

    Raises:
        CounterpointError: Some of it failed; the rest is kept.
    """
    failures: list[str] = []
    tasks = [asyncio.create_task(one) for one in work]
    tick(len(rows))
    try:
        for done in asyncio.as_completed(tasks):
            failure, row = await done
            if failure:
                failures.append(failure)
                continue
            journal.add(row)
            rows[str(row["query_id"]), str(row[second])] = row
            tick(len(rows))
    finally:
        for task in tasks:
            task.cancel()
    if failures:
        raise CounterpointError(
            f"{len(failures)} of {total} answers failed, first {failures[0]}; the others are kept in {journal.path}, run again to go on"
        )
