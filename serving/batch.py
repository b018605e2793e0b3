"""Offline batches: OpenAI's batch JSONL in and out, grouped by expert, resumed after any stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from data.records import CounterpointError, Request
from serving.journal import Journal
from serving.pipeline import Pipeline, RequestError
from serving.protocol import ChatRequest, completion_json, error_json, parse_chat, parse_json, status_of

T = TypeVar("T")
URL = "/v1/chat/completions"
PAUSE = 20
"""Lines that are prepared before others have their turn."""


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What a batch came to.

    Attributes:
        total: Lines of the input.
        done: Lines answered, now or in an earlier run.
        failed: Lines whose answer is an error.
        resumed: Lines that an earlier run had answered.
    """

    total: int
    done: int
    failed: int
    resumed: int


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the input: its name, and what it asks or why it cannot."""

    custom_id: str
    asked: ChatRequest | None
    error: str = ""


def read_batch(path: Path) -> list[Line]:
    """Read the input; lines that cannot be used are kept with the reason.

    Raises:
        CounterpointError: The file is absent or has no lines.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: a question may hold U+2028
    except (OSError, UnicodeDecodeError) as error:
        raise CounterpointError(f"no batch at {path}: {getattr(error, 'strerror', None) or error}") from error
    rows = [_read_line(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise CounterpointError(f"{path} has no lines; wanted one request a line, as in OpenAI's batch format")
    seen: set[str] = set()
    unique = []
    for at, row in enumerate(rows, start=1):
        if row.custom_id in seen:
            row = Line(f"{row.custom_id}#{at}", None, f"line {at}: custom_id {row.custom_id!r} stands twice; the first was answered")
        seen.add(row.custom_id)
        unique.append(row)
    return unique


def _read_line(number: int, line: str) -> Line:
    name = f"line-{number}"
    try:
        row = parse_json(line)
    except ValueError as error:
        return Line(name, None, f"line {number} is no JSON: {error}")
    if not isinstance(row, dict):
        return Line(name, None, f"line {number}: wanted an object, not {type(row).__name__}")
    if not isinstance(row.get("custom_id"), str) or not row["custom_id"]:
        return Line(name, None, f"line {number} has no custom_id")
    name = row["custom_id"]
    if row.get("method", "POST") != "POST" or row.get("url", URL) != URL:
        return Line(name, None, f"line {number}: wanted POST {URL}, not {row.get('method')} {row.get('url')}")
    try:
        asked = parse_chat(row.get("body"))
    except RequestError as error:
        return Line(name, None, f"line {number}: {error}")
    if asked.stream or (asked.n or 1) > 1:
        return Line(name, None, f"line {number}: a batch does not stream, and gives one answer a line, not {asked.n or 1}")
    return Line(name, asked)


def _row(custom_id: str, status: int, body: dict[str, Any]) -> dict[str, Any]:
    response = {"status_code": status, "request_id": f"req-{custom_id}", "body": body}
    return {"id": f"batch_req_{custom_id}", "custom_id": custom_id, "response": response, "error": None}


def _broken(custom_id: str, message: str) -> dict[str, Any]:
    error = {"code": "invalid_request", "message": message}
    return {"id": f"batch_req_{custom_id}", "custom_id": custom_id, "response": None, "error": error}


async def run_batch(
    pipeline: Pipeline,
    source: Path,
    output: Path,
    on_line: Callable[[int, int], None],
    choose: Callable[[np.ndarray], Sequence[Sequence[int]]] | None = None,
    *,
    request_of: Callable[[ChatRequest, str], Request] | None = None,
) -> BatchReport:
    """Answer every line of a batch file once, across any number of runs.

    Each answer is on the disk before it counts; a run that was killed loses at most the answers under way.

    Args:
        pipeline: The mixture, started.
        source: The input, one request a line.
        output: The output; where it is there, its lines are not asked again, except those that failed with a 5xx.
        on_line: Called with the number of finished lines and their total.
        choose: A policy for the file as a whole (`router/batch_policy.py`); None routes every line alone.
        request_of: Makes a request of a body and an id, as its owner may ask it; None asks for nobody in particular.

    Raises:
        CounterpointError: The input cannot be read or the output not written.
    """
    lines = await asyncio.to_thread(read_batch, source)
    asking = request_of or (lambda asked, id: asked.record(id, pipeline.name, list(pipeline.pool)))
    with Journal(output) as journal:
        rows = latest(journal.rows)
        again = {str(row.get("custom_id")): row for row in rows if _may_heal(row)}  # each stays until its next row is there
        known = {str(row.get("custom_id")) for row in rows} - again.keys()
        failed = sum(_is_error(row) for row in rows if not _may_heal(row))
        resumed = sum(line.custom_id in known for line in lines)
        done = resumed
        on_line(done, len(lines))
        asked: list[tuple[Line, ChatRequest, Request]] = []
        whole: list[Request] = []
        for number, line in enumerate(lines):
            if number % PAUSE == 0:
                await asyncio.sleep(0)
            try:
                if line.asked is None:
                    raise RequestError(line.error)
                request = asking(line.asked, line.custom_id)
                whole.append(request)
                if line.custom_id not in known:
                    asked.append((line, line.asked, request))
            except CounterpointError as error:
                if line.custom_id in known:
                    continue
                journal.add(_after(again, _broken(line.custom_id, str(error))))
                done, failed = done + 1, failed + 1
                on_line(done, len(lines))
        # planned over the whole file, so that a run that goes on keeps to the plan of the first
        routes = pipeline.plan(whole, choose) if choose is not None else {}
        async with aclosing(pipeline.answer_all([request for _, _, request in asked], routes)) as answers:
            async for at, answer, trace in answers:
                line, body, _ = asked[at]
                if answer.error is not None or trace is None:
                    status, kind, code = status_of(answer)
                    if trace is None:  # nobody was asked
                        status, kind = 400, "invalid_request_error"
                    row = _row(line.custom_id, status, error_json(answer.error or "no answer", kind, code))
                else:
                    row = _row(line.custom_id, 200, completion_json(body, f"chatcmpl-{line.custom_id}", (answer, trace)))
                if trace is not None:
                    used = trace.usage
                    spent = {"prompt_tokens": used.prompt_tokens, "completion_tokens": used.completion_tokens, "cost_usd": used.cost_usd}
                    row["counterpoint"] = spent | {"calls": used.calls}
                await finished(asyncio.to_thread(journal.add, _after(again, row)))  # the disk must not hold up those who wait for an answer
                done, failed = done + 1, failed + _is_error(row)
                on_line(done, len(lines))
    if again:
        with Journal(output) as journal:
            newest = {id(row) for row in latest(journal.rows)}
            journal.drop(lambda row: id(row) not in newest)
    return BatchReport(len(lines), done, failed, resumed)


def latest(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last row of each line: of one that was asked again, the row before stands in the file until the run's end.

    Example:
        >>> latest([{"custom_id": "a", "n": 1}, {"custom_id": "b", "n": 1}, {"custom_id": "a", "n": 2}])
        [{'custom_id': 'a', 'n': 2}, {'custom_id': 'b', 'n': 1}]
    """
    return [*{str(row.get("custom_id")): row for row in rows}.values()]


def _after(earlier: Mapping[str, dict[str, Any]], row: dict[str, Any]) -> dict[str, Any]:
    """A row that tells, too, what the same line took when it failed before."""
    parts = [each["counterpoint"] for each in (earlier.get(row["custom_id"], {}), row) if "counterpoint" in each]
    return row | {"counterpoint": {name: sum(part[name] for part in parts) for name in parts[-1]}} if parts else row


async def finished(work: Awaitable[T]) -> T:
    """What some work comes to, which is brought to its end whatever happens meanwhile: what a thread has begun nobody can take back."""
    doing = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await doing
        raise


def _may_heal(row: dict[str, Any]) -> bool:
    """Whether a row is a failure that another run may not have: a dead engine, a network that was down."""
    response = row.get("response")
    return isinstance(response, dict) and int(response.get("status_code", 0)) >= 500


def _is_error(row: dict[str, Any]) -> bool:
    response = row.get("response")
    return row.get("error") is not None or not isinstance(response, dict) or response.get("status_code") != 200
