"""One HTTP request's way through the cache: look first, wait for who asks the same, else ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from data.records import Answer, Request, Route, Trace
from serving.cache import Address, Cache, Flight, cached_json, is_whole, recalled
from serving.pipeline import Finished, Pipeline, Progress


class Recall:
    """Answer by the cache or by the pipeline; without a cache it is the pipeline.

    Args:
        cache: What was answered before, or None.
        pipeline: Who answers what was not.
        key_id: Whose requests they are.
        requests: All requests of one HTTP request, not routed yet; what is found of them now is theirs, whatever the cache lets go.
        control: The header Cache-Control: with `no-cache` nothing is looked for, with `no-store` nothing is kept.
    """

    def __init__(self, cache: Cache | None, pipeline: Pipeline, key_id: str, requests: Sequence[Request], control: str = "") -> None:
        self._cache, self._pipeline = cache, pipeline
        said = {word.strip().lower() for word in control.split(",")}
        self._looks, self._keeps = "no-cache" not in said, "no-store" not in said
        self._addresses: dict[str, Address] = {}
        self._found: dict[str, Finished] = {}
        self._asked = len(requests)
        self._hits = 0
        self._generation = 0 if cache is None else cache.generation
        for request in requests if cache is not None else ():
            assert cache is not None
            if (address := cache.address(key_id, request)) is not None:
                self._addresses[request.id] = address
                if self._looks and (found := cache.find(address)) is not None:
                    self._found[request.id] = found

    def has(self, request: Request) -> bool:
        """Whether a request's answer was there when it came."""
        return request.id in self._found

    @property
    def headers(self) -> dict[str, str]:
        """Whether all answers came from the cache, as far as is known now; nothing where there is none."""
        if self._cache is None:
            return {}
        return {"x-counterpoint-cache": "hit" if max(self._hits, len(self._found)) == self._asked else "miss"}

    async def answer(self, request: Request, route: Route) -> tuple[Answer, Trace]:
        """Answer one of the requests."""
        async with aclosing(self.progress(request, route)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    return event.answer, event.trace
        raise AssertionError("progress ends in Finished")

    async def progress(self, request: Request, route: Route) -> AsyncGenerator[Progress]:
        """Answer one of the requests and tell what happens on the way, as the pipeline does."""
        cache, address = self._cache, self._addresses.get(request.id)
        if cache is None or address is None:
            events = self._pipeline.progress(request, route)
        else:
            if (finished := self._found.get(request.id) or await self._from_others(cache, address)) is not None:
                cache.hits += 1
                self._hits += 1
                again = recalled(finished, request.id)
                yield route
                for part in again.trace.answers:
                    yield part
                yield again
                return
            cache.misses += self._looks
            events = self._asking(cache, address, request, route)
        async with aclosing(events):
            async for event in events:
                yield event

    async def _from_others(self, cache: Cache, address: Address) -> Finished | None:
        """The answer of somebody who is asking the same just now; None where nobody is, or theirs fails."""
        flight = cache.flights.get(address.digest) if self._looks else None
        if flight is None:
            return None
        await asyncio.wait({flight})  # how either of us ends is not the other's affair
        return None if flight.cancelled() or flight.exception() is not None else flight.result()

    async def _asking(self, cache: Cache, address: Address, request: Request, route: Route) -> AsyncGenerator[Progress]:
        """Ask, in a task of its own, so that who waits for it does not wait for how fast it is read here."""
        events: asyncio.Queue[Progress | None] = asyncio.Queue()

        async def fly() -> Finished | None:
            async with aclosing(self._pipeline.progress(request, route)) as progress:
                async for event in progress:
                    if isinstance(event, Finished) and self._keeps:
                        cache.keep(address, event, self._generation)
                    events.put_nowait(event)
                    if isinstance(event, Finished):
                        return event if is_whole(event) else None
            raise AssertionError("progress ends in Finished")

        def landed(ended: Flight) -> None:
            events.put_nowait(None)
            if cache.flights.get(address.digest) is ended:
                del cache.flights[address.digest]
            if not ended.cancelled():
                ended.exception()  # seen, also where nobody reads on

        flight = asyncio.create_task(fly())
        flight.add_done_callback(landed)
        if self._looks and self._keeps and self._generation == cache.generation:
            cache.flights.setdefault(address.digest, flight)
        try:
            while (event := await events.get()) is not None:
                yield event
            await flight
        finally:
            flight.cancel()


def parted(entries: Sequence[tuple[Request, Route]]) -> tuple[list[Request], list[Route]]:
    """Requests and their routes, each for themselves."""
    return [request for request, _ in entries], [route for _, route in entries]


def with_cached(body: dict[str, Any], traces: Sequence[Trace]) -> dict[str, Any]:
    """A completion as JSON that tells in our field, where it has one, which of its answers were recalled."""
    if "counterpoint" not in body:
        return body
    if len(traces) == 1:
        return body | {"counterpoint": body["counterpoint"] | cached_json(traces[0])}
    accounts = zip(body["counterpoint"]["choices"], traces, strict=True)
    return body | {"counterpoint": {"choices": [account | cached_json(trace) for account, trace in accounts]}}
