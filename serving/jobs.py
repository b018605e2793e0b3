"""Batches behind the endpoint: jobs of many requests that survive a restart, can be cancelled, and load each model once."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from data.records import CounterpointError, Request, Usage
from serving.batch import URL, Line, finished, latest, read_batch, run_batch
from serving.database import StoreError
from serving.door import Door, most_of
from serving.forgetting import files_of, under_way
from serving.journal import JournalBusy, alone, read_rows
from serving.keys import Key
from serving.pipeline import Pipeline, RequestError
from serving.protocol import ChatRequest, with_defaults
from serving.store import Store
from serving.tables import Batch, Spend, StoredFile

WINDOW = "24h"
MOST_LINES = 50_000
"""Largest number of requests in a batch, as OpenAI's."""
NOTED = 20
"""Lines after which the counts that a caller sees are brought up to date."""


class Jobs:
    """The batches of all keys.

    Lines that are answered are in a journal on the disk, so a job goes on where it was cut off.

    Args:
        pipeline: The mixture, started.
        door: Who may ask what.
        store: Where batches and files are.
        folder: Where journals of running batches are.
    """

    def __init__(self, pipeline: Pipeline, door: Door, store: Store, folder: Path) -> None:
        self.pipeline, self.door, self.store, self.folder = pipeline, door, store, folder
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._stopping = False

    async def resume(self, keys: Callable[[], Sequence[Key]]) -> None:
        """Go on with what is under way and nobody is at: what was when the endpoint ended, or when its store was lost.

        Raises:
            StoreError: The store cannot be read.
        """
        at_work = await asyncio.to_thread(lambda: [(key, batch.id) for key in keys() for batch in under_way(self.store, key.id)])
        for key, id in at_work:
            self._begin(key, id)

    def has(self, key: Key, id: str) -> bool:
        """Whether this gateway is at a batch."""
        return (key.id, id) in self._tasks

    async def create(self, key: Key, input_file_id: str, endpoint: str, metadata: dict[str, str] | None) -> Batch:
        """Begin a batch.

        Raises:
            CounterpointError: There is no such file, it cannot be used, or the key's budget cannot hold what it can cost.
        """
        if endpoint != URL:
            raise RequestError(f"endpoint: a batch asks {URL}, not {endpoint[:80]!r}")
        content = await asyncio.to_thread(self.store.file_content, key.id, input_file_id)
        if content is None:
            raise RequestError(f"no file has the id {input_file_id[:80]!r}; upload it to /v1/files with the purpose batch")
        id = f"batch_{uuid.uuid4().hex}"
        source = await asyncio.to_thread(self._write, key, id, content)
        held = False
        try:
            lines = await asyncio.to_thread(self._lines, source)
            plan, most = await self._plan(key, lines)
            if key.budget_usd is not None:
                await asyncio.to_thread(self.store.hold, key.id, id, most.cost_usd)
                held = True
            now = int(time.time())
            counts = {"total": len(lines), "completed": 0, "failed": 0}
            noted = {**(metadata or {}), **plan}
            made = Batch(id, endpoint, input_file_id, WINDOW, "in_progress", now, in_progress_at=now, request_counts=counts, metadata=noted)
            await asyncio.to_thread(self.store.save_batch, key.id, made)
        except BaseException:
            source.unlink(missing_ok=True)
            if held:
                self.store.release(key.id, id)
            raise
        self._begin(key, id)
        return made

    def _lines(self, source: Path) -> list[Line]:
        """Read the lines of a batch.

        Raises:
            RequestError: There are none, or too many.
        """
        try:
            lines = read_batch(source)
        except CounterpointError as error:  # its words name a path of this machine
            raise RequestError("the file has no lines, or is no text in UTF-8: wanted one request a line") from error
        if len(lines) > MOST_LINES:
            raise RequestError(f"a batch holds at most {MOST_LINES} lines, not {len(lines)}")
        return lines

    async def cancel(self, key: Key, id: str) -> Batch | None:
        """End a batch early; what was answered stays. None where there is none of that id."""
        if (task := self._tasks.get((key.id, id))) is not None:
            task.cancel()
            await asyncio.wait({task})
        now = int(time.time())
        batch = await asyncio.to_thread(self.store.change_batch, key.id, id, running=True, status="cancelling", cancelling_at=now)
        if batch is not None and batch.status == "cancelling":  # nobody was at it
            await asyncio.wait({self._begin(key, id)})
        return await asyncio.to_thread(self.store.batch, key.id, id)

    async def stop(self) -> None:
        """Leave all batches for the next start."""
        self._stopping = True  # whoever is cancelled now has not been asked to end
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _write(self, key: Key, id: str, content: bytes) -> Path:
        """Put the lines beside the store, with the key's own options where they set none."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        source = self.folder / f"{id}.in.jsonl"
        source.write_bytes(b"\n".join(_with_defaults(line, key.defaults) for line in content.split(b"\n")) if key.defaults else content)
        return source

    def _request(self, key: Key, asked: ChatRequest, id: str) -> Request:
        """What a line asks, as its key may ask it.

        Raises:
            CounterpointError: It names a model or an expert that is not there for its key.
        """
        request, *_ = self.door.requests(key, asked, id, self.pipeline.name, list(self.pipeline.pool))
        return request

    async def _plan(self, key: Key, lines: Sequence[Line]) -> tuple[dict[str, str], Usage]:
        """What the batch will ask whom, how long that may take, and the most that it can use."""
        calls: Counter[str] = Counter()
        most = Usage()
        for number, line in enumerate(lines):
            if number % NOTED == 0:
                await asyncio.sleep(0)  # others want their answers meanwhile
            try:
                if line.asked is None:
                    continue
                request = self._request(key, line.asked, line.custom_id)
                route = self.pipeline.route(request)
                request = self.pipeline.limited(request, route)
            except CounterpointError:  # told in its own line
                continue
            calls.update(route.experts)
            most += most_of(request, route, self.pipeline.aggregator_of(request), self.pipeline.pool.specs)
        engines = {self.pipeline.pool.specs[name].engine_key for name in calls}
        seconds = await self.pipeline.pool.predicted_s(calls)
        told = {"counterpoint_calls": json.dumps(dict(calls)), "counterpoint_engines": str(len(engines))}
        return told | {"counterpoint_predicted_s": f"{seconds:.0f}"}, most

    def _begin(self, key: Key, id: str) -> asyncio.Task[None]:
        if (task := self._tasks.get((key.id, id))) is None:
            task = self._tasks[key.id, id] = asyncio.create_task(self._run(key, id))
            task.add_done_callback(lambda _: self._tasks.pop((key.id, id), None))
        return task

    async def _run(self, key: Key, id: str) -> None:
        """Answer what is left of a batch, and file the answers; of several gateways the first."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with alone(self.folder / f"{id}.lock"):  # whoever holds it finds the batch as the last left it
                await self._go_on(key, id)
        except JournalBusy:
            return
        except CounterpointError as error:  # a store that is away comes back, and the batch is gone on with
            logging.getLogger(__name__).warning("batch %s waits: %s", id, error)

    async def _go_on(self, key: Key, id: str) -> None:
        """Bring a batch to its end.

        Raises:
            StoreError: The store is away, and the batch is as it was.
        """
        source, output = self.folder / f"{id}.in.jsonl", self.folder / f"{id}.out.jsonl"
        noting: set[asyncio.Task[None]] = set()

        def note(counts: dict[str, int]) -> None:
            with suppress(StoreError):
                self.store.change_batch(key.id, id, request_counts=counts)

        def noted(done: int, total: int) -> None:
            if done % NOTED == 0 and not noting:
                noting.add(task := asyncio.create_task(asyncio.to_thread(note, {"total": total, "completed": done, "failed": 0})))
                task.add_done_callback(noting.discard)

        async def ended(status: str) -> None:
            await asyncio.gather(*noting)
            await finished(asyncio.to_thread(self._ended, key, id, status))

        batch = await asyncio.to_thread(self.store.batch, key.id, id)
        if batch is None or batch.status not in ("in_progress", "cancelling"):  # another gateway has ended it
            self._clear(id)
            return
        try:
            if batch.status == "cancelling" or not key.valid(time.time()):
                return await ended("cancelled")
            if not source.exists():
                content = await asyncio.to_thread(self.store.file_content, key.id, batch.input_file_id)
                await asyncio.to_thread(self._write, key, id, content or b"")
            await run_batch(self.pipeline, source, output, noted, request_of=partial(self._request, key))
            await ended("completed")
        except asyncio.CancelledError:
            if not self._stopping:  # asked for by its owner; else the endpoint ends, and the next one goes on
                await ended("cancelled")
            raise
        except StoreError:
            raise
        except Exception as error:  # a fault of ours or a full disk must not leave it running for ever
            logging.getLogger(__name__).warning("batch %s failed: %s", id, error)
            told = {"object": "list", "data": [{"code": "failed", "message": "it could not be gone on with; what was answered is filed"}]}
            await asyncio.to_thread(self.store.change_batch, key.id, id, errors=told)
            await ended("failed")

    def _ended(self, key: Key, id: str, status: str) -> None:
        """File what was answered, book what it took, and say that it has ended; who calls it holds the batch's lock."""
        output, now = self.folder / f"{id}.out.jsonl", int(time.time())
        try:
            rows = latest(read_rows(output)) if output.exists() and output.stat().st_size else []
        except CounterpointError:  # cut off in its first line
            rows = []
        parts: dict[str, list[dict[str, Any]]] = {"output": [], "error": []}
        for row in rows:
            parts["output" if (row.get("response") or {}).get("status_code") == 200 else "error"].append(row)
        batch = self.store.batch(key.id, id)
        if batch is not None and batch.status == "cancelling":  # asked for where nobody could reach whoever was at it
            status = "cancelled"
        changes: dict[str, Any] = {"status": status, f"{status}_at": now}
        for name, part in parts.items():
            if part:
                changes[f"{name}_file_id"] = self._file(key, f"{id}_{name}.jsonl", part).id
        total = (batch.request_counts or {}).get("total", len(rows)) if batch is not None else len(rows)
        counts = {"total": total, "completed": len(parts["output"]), "failed": len(parts["error"])}
        spent = [row["counterpoint"] for row in rows if "counterpoint" in row]
        usd, read, written = (sum(part[name] for part in spent) for name in ("cost_usd", "prompt_tokens", "completion_tokens"))
        used = Spend(usd, read, written, 1)
        self.store.end_batch(key.id, id, used, held=key.budget_usd is not None, request_counts=counts, **changes)
        self._clear(id)

    def _clear(self, id: str) -> None:
        """Delete what an ended batch has left beside the store; the lock too, which a batch that goes on must keep."""
        for path in files_of(self.folder, id):
            path.unlink(missing_ok=True)

    def _file(self, key: Key, name: str, rows: Sequence[dict[str, Any]]) -> StoredFile:
        content = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
        same = uuid.uuid5(uuid.NAMESPACE_OID, name)  # whoever is killed between the files and the end files them again
        return self.store.add_file(key.id, f"file-{same.hex}", name, "batch_output", content)


def _with_defaults(line: bytes, defaults: Mapping[str, Any]) -> bytes:
    """A line with options where it sets none; one that cannot be read stays, and is told so later."""
    try:
        row = json.loads(line)
        row["body"] = with_defaults(row["body"], defaults)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return line
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "replace")


def batch_json(batch: Batch) -> dict[str, Any]:
    """A batch in OpenAI's shape."""
    return {"object": "batch", **asdict(batch)}


def file_json(file: StoredFile) -> dict[str, Any]:
    """A file in OpenAI's shape."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created_at,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }
