"""Answers as server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from data.records import Answer, Request, Route, Usage
from serving.asking import Draft, Written
from serving.cache import cached_json
from serving.keys import Key
from serving.limits import Admission
from serving.patience import DeadlineError, in_time
from serving.pipeline import Finished
from serving.protocol import Asked, answer_json, chunk_json, error_json, explain_json, route_json, status_of, usage_json
from serving.recall import Recall
from serving.structured import calls_json

if TYPE_CHECKING:
    from serving.gateway import Gateway

T = TypeVar("T")


class Stream(StreamingResponse):
    """Server-sent events, and what was set aside given back where the caller had left before the first.

    What fails before its first word is told by the status, as where nothing is streamed.

    Args:
        lines: The events; an answer that failed, where it comes first, in their place.
        admission: What was set aside, settled by whoever writes the lines; None where nothing is counted.
        refuse: Makes the response of an answer that failed.
    """

    def __init__(
        self, lines: AsyncGenerator[str | Answer], admission: Admission | None, refuse: Callable[[Answer], Response] | None = None
    ) -> None:
        super().__init__((), media_type="text/event-stream")
        self.lines, self.admission, self.refuse = lines, admission, refuse

    async def stream_response(self, send: Send) -> None:
        """Write the events, or what is told in their place."""
        async with aclosing(self.lines) as lines:
            first = await anext(lines, "")
            plain = self.refuse(first) if isinstance(first, Answer) and self.refuse is not None else None
            response = plain or self
            await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
            if plain is not None:
                await send({"type": "http.response.body", "body": plain.body})
            elif isinstance(first, str):
                await send({"type": "http.response.body", "body": first.encode(), "more_body": True})
            async for line in lines:  # to the end, where what was set aside is settled
                if plain is None and isinstance(line, str):
                    await send({"type": "http.response.body", "body": line.encode(), "more_body": True})
            if plain is None:
                await send({"type": "http.response.body", "body": b""})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self.admission is not None:
                self.admission.release()


async def lines_of(
    gateway: Gateway,
    key: Key,
    asked: Asked,
    id: str,
    entries: Sequence[tuple[Request, Route]],
    admission: Admission | None,
    recall: Recall | None = None,
) -> AsyncGenerator[str | Answer]:
    """Write answers as server-sent events: news in our field where asked for, then the text; choices as they come.

    A single answer that fails before anything of it was written is given as it is, and no event of it.
    """
    usage, created = Usage(), int(time.time())
    failed = begun = False
    choices = [_choice(gateway, key, asked, id, created, at, *entry, recall) for at, entry in enumerate(entries)]
    try:
        with admission or nullcontext():
            async with aclosing(merged(choices)) as lines, aclosing(in_time(lines, gateway.limit_s(asked))) as timely:
                async for line in timely:
                    if isinstance(line, Answer):
                        usage += line.usage
                        failed |= line.error is not None
                        if line.error is not None:
                            yield line if not begun and len(entries) == 1 else _error_line(line)
                    else:
                        begun = True
                        yield line
            await gateway.door.settle(admission, usage)
    except DeadlineError as error:
        failed = True
        late = Answer.failed(asked.model, str(error), code="deadline_exceeded")
        yield _error_line(late) if begun else late
    if not failed and asked.stream_options is not None and asked.stream_options.include_usage:
        yield f"data: {json.dumps(chunk_json(asked, id, created=created) | {'usage': usage_json(usage)})}\n\n"
    yield "data: [DONE]\n\n"


async def _choice(
    gateway: Gateway, key: Key, asked: Asked, id: str, created: int, index: int, request: Request, route: Route, recall: Recall | None
) -> AsyncGenerator[str | Answer]:
    """The lines of one choice, and in the end its answer."""
    explain = asked.counterpoint.explain
    written, begun = "", False

    def line(delta: dict[str, Any] | None = None, finish: str | None = None, **ours: Any) -> str:
        nonlocal begun
        if delta is not None and not begun:  # with the first word, and not before it: tools time the first chunk
            begun, delta = True, {"role": "assistant", "content": "", **delta}
        return f"data: {json.dumps(chunk_json(asked, id, delta, finish, index, created=created, **ours))}\n\n"

    if explain:
        yield line({}, route=route_json(route))
    async with aclosing((recall or gateway.pipeline).progress(request, route)) as progress:
        async for event in progress:
            if isinstance(event, Written):
                written += event.text
                yield line({"content": event.text})
            elif isinstance(event, Answer) and explain:
                yield line(answer=answer_json(event))
            elif isinstance(event, Draft) and explain:
                yield line(draft=answer_json(event.answer))
            elif isinstance(event, Finished):
                answer, trace = event.answer, event.trace
                await gateway.door.keep(key, request, answer, trace)
                if answer.error is None:
                    taken_back = written.strip() and not answer.text.startswith(written.strip())
                    corrected: dict[str, Any] = {"correction": True} if explain and taken_back else {}
                    for piece in rest_of(written, answer.text):
                        yield line({"content": piece}, **corrected)
                    for call in calls_json(answer, indexed=True):
                        yield line({"tool_calls": [call]})
                    account = explain_json(answer, trace) | cached_json(trace) if explain else {}
                    yield line({}, answer.finish_reason, tokens=answer.tokens, **account)
                yield answer


def _error_line(answer: Answer) -> str:
    """The event of an answer that failed."""
    _, kind, code = status_of(answer)
    return f"data: {json.dumps(error_json(answer.error or '', kind, code))}\n\n"


async def merged(sources: Sequence[AsyncGenerator[T]]) -> AsyncGenerator[T]:
    """Yield what several generators give, as it comes; closing it closes them."""
    if len(sources) == 1:
        async with aclosing(sources[0]) as source:
            async for each in source:
                yield each
        return
    came: asyncio.Queue[tuple[T] | None] = asyncio.Queue()

    async def drain(source: AsyncGenerator[T]) -> None:
        try:
            async with aclosing(source):
                async for each in source:
                    came.put_nowait((each,))
        finally:
            came.put_nowait(None)

    tasks = [asyncio.create_task(drain(source)) for source in sources]
    try:
        left = len(tasks)
        while left:
            if (one := await came.get()) is None:
                left -= 1
            else:
                yield one[0]
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def rest_of(written: str, text: str) -> list[str]:
    """What of the answer has not been streamed yet, in pieces of a few words.

    Example:
        >>> rest_of("", "a b"), rest_of("a b ", "a b")
        (['a ', 'b'], [])
    """
    if written.strip() == text.strip() or (written.strip() and text.startswith(written.strip())):
        text = text[len(written.strip()) :]
    elif written.strip():  # what was streamed did not stand: the answer follows on a line of its own
        text = f"\n\n{text}"
    words = text.split(" ")
    return [word + (" " if at < len(words) - 1 else "") for at, word in enumerate(words) if word or at < len(words) - 1]
