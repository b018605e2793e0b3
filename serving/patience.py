"""How long an answer is worked on: to its deadline, and no longer than somebody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from typing import TYPE_CHECKING, TypeVar

from data.records import CounterpointError

if TYPE_CHECKING:
    from starlette.requests import Request as HTTPRequest

T = TypeVar("T")


class DeadlineError(CounterpointError):
    """A request that was not answered in time."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"the request was not answered within {limit_s:g} s")


class LeftError(CounterpointError):
    """A request whose caller has left."""


async def while_wanted(http: HTTPRequest, work: Awaitable[T], limit_s: float) -> T:
    """Do what a request asks, unless its caller leaves or its time is up; then what is under way is cancelled.

    Args:
        http: The request, its body read.
        work: What it asks.
        limit_s: Seconds that it may take.

    Raises:
        DeadlineError: It took longer.
        LeftError: The caller has left.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(http))
    try:
        await asyncio.wait({working, leaving}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return await working
        raise LeftError("the caller has left") if leaving.done() else DeadlineError(limit_s)
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)  # which also looks at what they end in


async def all_of(works: Sequence[Awaitable[T]]) -> list[T]:
    """What several works come to; where one fails, nobody waits for the others, and they are cancelled."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _left(http: HTTPRequest) -> None:
    """Return when the caller has left."""
    while (await http.receive())["type"] != "http.disconnect":
        pass


async def in_time(source: AsyncIterator[T], limit_s: float) -> AsyncGenerator[T]:
    """Yield what comes from a source within a time.

    Raises:
        DeadlineError: It did not end before.
    """
    end = asyncio.get_running_loop().time() + limit_s
    while True:
        try:
            async with asyncio.timeout_at(end):  # only while we wait: time that the caller takes to read must not be cut off here
                each = await anext(source)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise DeadlineError(limit_s) from error
        yield each
