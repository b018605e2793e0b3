"""Files and batches: many requests in one job that goes on without the client."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from counterpoint.asking import CHAT, Messages, chat_body
from counterpoint.errors import ConnectionFailedError, CounterpointError, ServerError, StillRunningError, error_from
from counterpoint.steps import Call, Flow, Pause, Read, asked
from counterpoint.types import Batch, Completion, File

if TYPE_CHECKING:
    from counterpoint.client import AsyncCounterpoint, Counterpoint

BatchRequest = Messages | Mapping[str, Any]
"""A question, a conversation, the arguments of `chat` as a mapping (with a `custom_id`, if one is wanted), or a line as OpenAI's."""

Source = str | os.PathLike[str] | Sequence[BatchRequest]
"""A file of lines by its path, or the requests themselves."""

Result = tuple[str, Completion | ServerError]
"""A request's `custom_id`, and its answer or why there is none."""

FIRST_LOOK_S, LONGEST_LOOK_S = 0.5, 10.0
"""Seconds between looks at a batch: the first, and the longest that they double to."""


def line_of(at: int, model: str, request: BatchRequest) -> dict[str, Any]:
    """Write a request as a line of OpenAI's batch format.

    Example:
        >>> line_of(0, "counterpoint", "Hi")["custom_id"]
        'request-0'
        >>> line_of(1, "counterpoint", {"custom_id": "mine", "messages": "Hi", "k": 1})["body"]["counterpoint"]
        {'k': 1}
        >>> line_of(2, "counterpoint", {"role": "user", "content": "Hi"})
        Traceback (most recent call last):
        ...
        ValueError: request 2 has neither messages nor a body, but role, content

    Raises:
        ValueError: It asks nothing.
    """
    line: dict[str, Any] = {"custom_id": f"request-{at}", "method": "POST", "url": CHAT}
    if not isinstance(request, Mapping):
        return line | {"body": chat_body(model, request, {})}
    if "body" in request:
        return line | dict(request)
    if "messages" not in request:
        raise ValueError(f"request {at} has neither messages nor a body, but {', '.join(map(str, request)) or 'nothing'}")
    settings = {name: value for name, value in request.items() if name not in ("custom_id", "messages", "model")}
    made = chat_body(request.get("model") or model, request["messages"], settings)
    return line | {"custom_id": request.get("custom_id") or line["custom_id"], "body": made}


def upload(source: str | os.PathLike[str] | bytes, name: str | None) -> Flow[File]:
    """Keep a file at the endpoint."""
    content = source
    if not isinstance(source, bytes):
        content = yield Read(Path(source))
        name = name or Path(source).name
    form = {"data": {"purpose": "batch"}, "files": {"file": (name or "batch.jsonl", content, "application/jsonl")}}
    return (yield from asked(Call("POST", "/v1/files", form), File.of))


def begin(model: str, source: Source, metadata: Mapping[str, str] | None) -> Flow[Batch]:
    """Upload requests, and begin a batch over them."""
    if isinstance(source, (str, os.PathLike)):
        made = yield from upload(source, None)
    else:
        lines = [json.dumps(line_of(at, model, request)) for at, request in enumerate(source)]
        made = yield from upload("\n".join(lines).encode(), None)
    body: dict[str, Any] = {"input_file_id": made.id, "endpoint": CHAT, "completion_window": "24h"}
    if metadata is not None:
        body["metadata"] = dict(metadata)
    return (yield from asked(Call("POST", "/v1/batches", {"json": body}), Batch.of))


def _path(kind: str, id: str, more: str = "") -> str:
    return f"/v1/{kind}/{quote(id, safe='')}{more}"


def file(id: str) -> Flow[File]:
    """Look at a file."""
    return asked(Call("GET", _path("files", id)), File.of)


def files(limit: int, after: str | None) -> Flow[tuple[File, ...]]:
    """List files."""
    return asked(_listed("files", limit, after), lambda body: tuple(File.of(each) for each in body["data"]))


def deleted(id: str) -> Flow[bool]:
    """Delete a file."""
    return asked(Call("DELETE", _path("files", id)), lambda body: bool(body["deleted"]))


def one(id: str) -> Flow[Batch]:
    """Look at a batch."""
    return asked(Call("GET", _path("batches", id)), Batch.of)


def batches(limit: int, after: str | None) -> Flow[tuple[Batch, ...]]:
    """List batches."""
    return asked(_listed("batches", limit, after), lambda body: tuple(Batch.of(each) for each in body["data"]))


def cancelled(id: str) -> Flow[Batch]:
    """End a batch early."""
    return asked(Call("POST", _path("batches", id, "/cancel")), Batch.of)


def ended(id: str, timeout_s: float | None, clock: Callable[[], float] = time.monotonic) -> Flow[Batch]:
    """Look at a batch until it has ended.

    Raises:
        StillRunningError: It has not within that time.
    """
    end = None if timeout_s is None else clock() + timeout_s
    look_s = FIRST_LOOK_S
    while not (batch := (yield from one(id))).ended:
        left_s = look_s if end is None else end - clock()
        if left_s <= 0:
            raise StillRunningError(f"batch {id} has not ended within {timeout_s:g} s; it is {batch.status}", batch)
        yield Pause(min(look_s, left_s))
        look_s = min(2 * look_s, LONGEST_LOOK_S)
    return batch


def outputs(id: str) -> Flow[tuple[Batch, list[Call]]]:
    """Find the files of a batch's answers and errors.

    Raises:
        StillRunningError: It has not ended.
    """
    batch = yield from one(id)
    if not batch.ended:
        raise StillRunningError(f"batch {id} has not ended, it is {batch.status}; wait for it first", batch)
    return batch, [content(each) for each in (batch.output_file_id, batch.error_file_id) if each is not None]


def content(id: str) -> Call:
    """Fetch what a file holds."""
    return Call("GET", _path("files", id, "/content"), stream=True)


def _listed(kind: str, limit: int, after: str | None) -> Call:
    return Call("GET", f"/v1/{kind}", {"params": {"limit": limit} | ({} if after is None else {"after": after})})


def result_of(line: str) -> Result:
    """Read a line of a batch's answers or errors.

    Raises:
        ConnectionFailedError: It is none.
    """
    try:
        row = json.loads(line)
        response = row.get("response")
        if response is None:
            return row["custom_id"], error_from(400, row)
        if response["status_code"] != 200:
            return row["custom_id"], error_from(int(response["status_code"]), response["body"])
        return row["custom_id"], Completion.of(response["body"])
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ConnectionFailedError(f"the endpoint sent what is no line of a batch's results: {line[:80]!r}") from error


def whole(batch: Batch) -> None:
    """See that a batch has not failed as a whole.

    Raises:
        CounterpointError: It has.
    """
    if batch.status == "failed":
        raise CounterpointError(f"batch {batch.id} failed: {batch.error or 'the endpoint does not say why'}")


class Files:
    """The files at the endpoint that belong to the client's key."""

    def __init__(self, client: Counterpoint) -> None:
        self._client = client

    def create(self, source: str | os.PathLike[str] | bytes, name: str | None = None) -> File:
        """Upload a file of a batch's requests, by its path or as bytes."""
        return self._client.run(upload(source, name))

    def get(self, id: str) -> File:
        """Tell of a file."""
        return self._client.run(file(id))

    def list(self, limit: int = 100, after: str | None = None) -> tuple[File, ...]:
        """List files, those after the one of the id `after` where it is given."""
        return self._client.run(files(limit, after))

    def lines(self, id: str) -> Iterator[str]:
        """Yield the lines that a file holds, as they come."""
        return self._client.lines(content(id))

    def delete(self, id: str) -> None:
        """Delete a file."""
        self._client.run(deleted(id))


class Batches:
    """The batches of the client's key."""

    def __init__(self, client: Counterpoint) -> None:
        self._client = client

    def create(self, source: Source, metadata: Mapping[str, str] | None = None) -> Batch:
        """Upload requests and begin a batch over them.

        Args:
            source: The path of a file in OpenAI's batch format, or requests: questions, conversations, mappings of the arguments of
                `chat`, or lines as the file would hold them. Without a `custom_id` they are called `request-0`, `request-1` and so on.
            metadata: What to write on it; the endpoint adds whom it will ask how often, and how long that may take.

        Raises:
            CounterpointError: The file cannot be read, or the endpoint refuses it.
            ValueError: A request asks nothing.
        """
        return self._client.run(begin(self._client.model, source, metadata))

    def get(self, id: str) -> Batch:
        """Tell how a batch stands."""
        return self._client.run(one(id))

    def list(self, limit: int = 100, after: str | None = None) -> tuple[Batch, ...]:
        """List batches, newest first, those after the one of the id `after` where it is given."""
        return self._client.run(batches(limit, after))

    def cancel(self, id: str) -> Batch:
        """End a batch early; what was answered stays."""
        return self._client.run(cancelled(id))

    def wait(self, id: str, timeout_s: float | None = None) -> Batch:
        """Wait until a batch has ended, well or not.

        Raises:
            StillRunningError: It has not within that time; the batch goes on.
        """
        return self._client.run(ended(id, timeout_s))

    def results(self, id: str) -> Iterator[Result]:
        """Yield each request's `custom_id` with its answer, or with the error that it got instead; answers come first.

        Raises:
            StillRunningError: The batch has not ended.
            CounterpointError: It failed as a whole; raised after what was answered.
        """
        batch, calls = self._client.run(outputs(id))
        for call in calls:
            for line in self._client.lines(call):
                yield result_of(line)
        whole(batch)


class AsyncFiles:
    """The files at the endpoint that belong to the client's key; the methods are those of `Files`."""

    def __init__(self, client: AsyncCounterpoint) -> None:
        self._client = client

    async def create(self, source: str | os.PathLike[str] | bytes, name: str | None = None) -> File:
        """Upload a file of a batch's requests, by its path or as bytes."""
        return await self._client.run(upload(source, name))

    async def get(self, id: str) -> File:
        """Tell of a file."""
        return await self._client.run(file(id))

    async def list(self, limit: int = 100, after: str | None = None) -> tuple[File, ...]:
        """List files."""
        return await self._client.run(files(limit, after))

    def lines(self, id: str) -> AsyncIterator[str]:
        """Yield the lines that a file holds, as they come."""
        return self._client.lines(content(id))

    async def delete(self, id: str) -> None:
        """Delete a file."""
        await self._client.run(deleted(id))


class AsyncBatches:
    """The batches of the client's key; the methods are those of `Batches`."""

    def __init__(self, client: AsyncCounterpoint) -> None:
        self._client = client

    async def create(self, source: Source, metadata: Mapping[str, str] | None = None) -> Batch:
        """Upload requests and begin a batch over them."""
        return await self._client.run(begin(self._client.model, source, metadata))

    async def get(self, id: str) -> Batch:
        """Tell how a batch stands."""
        return await self._client.run(one(id))

    async def list(self, limit: int = 100, after: str | None = None) -> tuple[Batch, ...]:
        """List batches, newest first."""
        return await self._client.run(batches(limit, after))

    async def cancel(self, id: str) -> Batch:
        """End a batch early; what was answered stays."""
        return await self._client.run(cancelled(id))

    async def wait(self, id: str, timeout_s: float | None = None) -> Batch:
        """Wait until a batch has ended, well or not."""
        return await self._client.run(ended(id, timeout_s))

    async def results(self, id: str) -> AsyncIterator[Result]:
        """Yield each request's `custom_id` with its answer or error."""
        batch, calls = await self._client.run(outputs(id))
        for call in calls:
            async with aclosing(self._client.lines(call)) as lines:
                async for line in lines:
                    yield result_of(line)
        whole(batch)
