"""Batches behind the endpoint: jobs of many requests that survive a restart, can be cancelled, and load each model once."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.records import CounterpointError, Request, Usage
from serving.batch import URL, read_batch, run_batch
from serving.door import Door, most_of
from serving.journal import read_rows
from serving.keys import Key
from serving.pipeline import Pipeline, RequestError
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

    def resume(self, keys: Sequence[Key]) -> None:
        """Go on with what was under way when the endpoint ended."""
        for key in keys:
            for batch in self.store.batches(key.id, running=True):
                if batch.status == "cancelling":
                    self._ended(key, batch.id, "cancelled")
                else:
                    self._begin(key, batch.id)

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
        source = await asyncio.to_thread(self._write, id, content)
        lines = await asyncio.to_thread(read_batch, source)
        if len(lines) > MOST_LINES:
            raise RequestError(f"a batch holds at most {MOST_LINES} lines, not {len(lines)}")
        plan, most = self._plan(key, source)
        if key.budget_usd is not None:
            await asyncio.to_thread(self.store.hold, key.id, id, most.cost_usd)
        now = int(time.time())
        counts = {"total": len(lines), "completed": 0, "failed": 0}
        noted = {**(metadata or {}), **plan}
        made = Batch(id, endpoint, input_file_id, WINDOW, "in_progress", now, in_progress_at=now, request_counts=counts, metadata=noted)
        await asyncio.to_thread(self.store.save_batch, key.id, made)
        self._begin(key, id)
        return made

    async def cancel(self, key: Key, id: str) -> Batch | None:
        """End a batch early; what was answered stays. None where there is none of that id."""
        task = self._tasks.get((key.id, id))
        if task is not None and not task.done():
            await asyncio.to_thread(self.store.change_batch, key.id, id, status="cancelling", cancelling_at=int(time.time()))
            task.cancel()
            await asyncio.wait({task})
        return await asyncio.to_thread(self.store.batch, key.id, id)

    async def stop(self) -> None:
        """Leave all batches for the next start."""
        tasks = [task for task in self._tasks.values() if not task.done()]
        self._tasks.clear()  # whoever is cancelled now has not been asked to end
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _write(self, id: str, content: bytes) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        source = self.folder / f"{id}.in.jsonl"
        source.write_bytes(content)
        return source

    def _narrowed(self, key: Key, request: Request) -> Request:
        return self.door.narrowed(key, request, list(self.pipeline.pool))

    def _plan(self, key: Key, source: Path) -> tuple[dict[str, str], Usage]:
        """What the batch will ask whom, how long that may take, and the most that it can use."""
        calls: Counter[str] = Counter()
        most = Usage()
        names = list(self.pipeline.pool)
        for line in read_batch(source):
            try:
                if line.asked is None:
                    continue
                request = self._narrowed(key, line.asked.record(line.custom_id, self.pipeline.name, names))
                route = self.pipeline.route(request)
            except CounterpointError:  # told in its own line
                continue
            calls.update(route.experts)
            most += most_of(request, route, self.pipeline.aggregator_of(request), self.pipeline.pool.specs)
        engines: Counter[str] = Counter()
        for name, count in calls.items():
            engines[self.pipeline.pool.specs[name].engine_key] += count
        groups = self.pipeline.pool.scheduler.groups
        seconds = sum(
            groups[engine].load.value + count * groups[engine].service.value / groups[engine].lanes
            for engine, count in engines.items()
            if engine in groups
        )
        told = {"counterpoint_calls": json.dumps(dict(calls)), "counterpoint_engines": str(len(engines))}
        return told | {"counterpoint_predicted_s": f"{seconds / max(1, len(self.pipeline.pool.scheduler.slots)):.0f}"}, most

    def _begin(self, key: Key, id: str) -> None:
        self._tasks[key.id, id] = asyncio.create_task(self._run(key, id))

    async def _run(self, key: Key, id: str) -> None:
        """Answer what is left of a batch, and file the answers."""
        batch = await asyncio.to_thread(self.store.batch, key.id, id)
        assert batch is not None
        source, output = self.folder / f"{id}.in.jsonl", self.folder / f"{id}.out.jsonl"
        used = Usage()

        def took(usage: Usage) -> None:
            nonlocal used
            used += usage

        def noted(done: int, total: int) -> None:
            if done % NOTED == 0:
                self.store.change_batch(key.id, id, request_counts={"total": total, "completed": done, "failed": 0})

        try:
            if not source.exists():
                content = await asyncio.to_thread(self.store.file_content, key.id, batch.input_file_id)
                await asyncio.to_thread(self._write, id, content or b"")
            await run_batch(self.pipeline, source, output, noted, narrowed=lambda request: self._narrowed(key, request), took=took)
            self._ended(key, id, "completed", used)
        except asyncio.CancelledError:
            if (key.id, id) in self._tasks:  # asked for by its owner; else the endpoint ends, and the next one goes on
                self._ended(key, id, "cancelled", used)
            elif used.calls:
                self.store.settle(key.id, Spend(used.cost_usd, used.prompt_tokens, used.completion_tokens, 0), None)
            raise
        except Exception as error:  # a fault of ours or a full disk must not leave it running for ever
            text = " ".join(f"{error}".split()) or type(error).__name__
            self.store.change_batch(key.id, id, errors={"object": "list", "data": [{"code": "failed", "message": text}]})
            self._ended(key, id, "failed", used)

    def _ended(self, key: Key, id: str, status: str, used: Usage | None = None) -> None:
        """File what was answered, and say that it has ended."""
        output, now = self.folder / f"{id}.out.jsonl", int(time.time())
        rows = read_rows(output) if output.exists() and output.stat().st_size else []
        right = [row for row in rows if (row.get("response") or {}).get("status_code") == 200]
        wrong = [row for row in rows if row not in right]
        changes: dict[str, Any] = {"status": status, f"{status}_at": now}
        for name, part in (("output", right), ("error", wrong)):
            if part:
                changes[f"{name}_file_id"] = self._file(key, f"{id}_{name}.jsonl", part).id
        batch = self.store.batch(key.id, id)
        total = (batch.request_counts or {}).get("total", len(rows)) if batch is not None else len(rows)
        self.store.change_batch(key.id, id, request_counts={"total": total, "completed": len(right), "failed": len(wrong)}, **changes)
        spent = used or Usage()
        self.store.settle(
            key.id, Spend(spent.cost_usd, spent.prompt_tokens, spent.completion_tokens, 1), id if key.budget_usd is not None else None
        )
        for path in (output, self.folder / f"{id}.in.jsonl"):
            path.unlink(missing_ok=True)

    def _file(self, key: Key, name: str, rows: Sequence[dict[str, Any]]) -> StoredFile:
        content = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
        return self.store.add_file(key.id, f"file-{uuid.uuid4().hex}", name, "batch_output", content)


def batch_json(batch: Batch) -> dict[str, Any]:
    """A batch in OpenAI's shape."""
    from dataclasses import asdict

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
