"""A gateway's view of a pool that several gateways share."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from data.records import Answer, Call, Delta, Done
from experts.base import EngineDied, EngineError, Event, ExpertSpec
from experts.host import PoolState
from experts.outbox import Placed
from experts.pool import TRIES, ExpertPool, PoolSettings

LOOK_S = 0.5
"""Seconds between two looks at how the shared pool stands."""


class SharedPool:
    """Run experts for one of several gateways.

    Experts that need no slot run in this process. Calls of the others are placed by the shared pool, and their words come from the
    slot without passing through it.

    Args:
        specs: The experts, in the mixture's order.
        settings: How they share the machines.
        find: Gives the handle of the shared pool's actor (`PoolHost`); asked again when it has died and come back.
    """

    def __init__(self, specs: Sequence[ExpertSpec], settings: PoolSettings, find: Callable[[], Any]) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self.settings = settings
        self.local = ExpertPool([spec for spec in specs if not spec.needs_slot], settings)
        self.state = PoolState()
        self.host: Any = None
        self._find = find
        self._looking: asyncio.Task[None] | None = None
        self._away = True

    def __contains__(self, name: object) -> bool:
        return name in self.specs

    def __iter__(self) -> Iterator[str]:
        return iter(self.specs)

    async def start(self) -> None:
        """Start what runs here, and the shared pool unless another gateway has.

        Raises:
            EngineError: An engine cannot be loaded.
        """
        await self.local.start()
        await self._join()
        self._looking = asyncio.create_task(self._look())

    async def _join(self) -> None:
        self.host = self._find()
        try:
            await self.host.start.remote([spec for spec in self.specs.values() if spec.needs_slot], self.settings)
        except Exception as error:
            cause = getattr(error, "cause", None) or error
            raise EngineError(" ".join(str(cause).split())) from error
        self.state, self._away = await self.host.state.remote(), False

    async def _look(self) -> None:
        """Keep the state fresh; should the shared pool have died, join the one that comes in its place."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                if self._away:
                    await self._join()
                else:
                    self.state = await self.host.state.remote()
            except Exception:
                self._away = True

    async def warm(self) -> None:
        """Nothing: the shared pool has loaded an engine into each slot when it started."""

    async def stop(self) -> None:
        """Leave; the shared pool goes on for the others."""
        if self._looking is not None:
            self._looking.cancel()
        await self.local.stop()

    def _here(self, name: str) -> bool:
        if name in self.specs:
            return not self.specs[name].needs_slot
        return name in self.local.known

    @property
    def resident(self) -> frozenset[str]:
        """The experts that can answer without loading anything."""
        return self.local.resident | self.state.resident

    def refused(self, expert: str) -> float | None:
        """Seconds after which a call that is refused now would be accepted; None where one would be accepted now."""
        return self.local.refused(expert) if self._here(expert) else (self.state.refused or {}).get(expert)

    def is_broken(self, expert: str) -> bool:
        """Whether calls of an expert would fail at once."""
        return self.local.is_broken(expert) if self._here(expert) else self._away or expert in self.state.broken

    def waiting(self) -> Counter[str]:
        """Calls that wait for their start, by expert."""
        return Counter(self.state.waiting or {})

    def expect(self, expert: str, calls: int = 1) -> None:
        """Declare calls that others will cause later."""
        if expert in self.specs and not self._here(expert) and not self._away:
            self.host.expect.remote(expert, calls)

    async def predicted_s(self, calls: Mapping[str, int]) -> float:
        """Seconds that calls of experts, by name, would take."""
        seconds: float = await self.host.predicted_s.remote({name: count for name, count in calls.items() if not self._here(name)})
        return seconds

    async def prepare(self, specs: Sequence[ExpertSpec]) -> None:
        """Take in experts that are new."""
        await self.local.prepare([spec for spec in specs if not spec.needs_slot])
        await self.host.prepare.remote([spec for spec in specs if spec.needs_slot])
        self.specs |= {spec.name: spec for spec in specs if spec.name not in self.specs}

    def leave(self, names: Sequence[str]) -> None:
        """Take experts from those that can be chosen."""
        for name in names:
            self.specs.pop(name, None)
        self.local.leave([name for name in names if name in self.local])

    async def settle(self, specs: Sequence[ExpertSpec], slots: int) -> None:
        """Have the experts that are wanted, and no others."""
        await self.local.settle([spec for spec in specs if not spec.needs_slot], slots)
        await self.host.settle.remote([spec for spec in specs if spec.needs_slot], slots)
        self.specs = {spec.name: spec for spec in specs}

    async def answer(self, call: Call) -> Answer:
        """Ask one expert and wait for its answer; a failure is an answer with an error."""
        async with aclosing(self.stream(replace(call, stream=False))) as events:
            async for event in events:
                if isinstance(event, Done):
                    return event.answer
        raise AssertionError("a stream ends in Done")

    async def stream(self, call: Call) -> AsyncGenerator[Event]:
        """Ask one expert and yield what it writes, last a `Done`.

        Raises:
            EngineError: There is no such expert.
        """
        here = self._here(call.expert)
        async with aclosing(self.local.stream(call) if here else self._stream(call)) as events:
            async for event in events:
                yield event

    async def _stream(self, call: Call) -> AsyncGenerator[Event]:
        """Stream a call of an expert in a slot; one whose words were lost on the way is asked again, unless some have gone out."""
        text = ""
        for _ in range(TRIES):
            said = False
            async with aclosing(_Reading(self.host, call).events()) as events:
                async for event in events:
                    if isinstance(event, str):
                        text = event
                        break
                    if isinstance(event, Done):
                        yield event
                        return
                    said = True
                    yield event
            if said:
                text += "; the words that had gone out are not repeated"
                break
        yield Done(call.id, Answer.failed(call.expert, text, code="unavailable"))


class _Reading:
    """One try of a call: what the shared pool says of it, and the words from the slot where it runs.

    Args:
        host: The shared pool's actor.
        call: The call.
    """

    def __init__(self, host: Any, call: Call) -> None:
        self.host = host
        self.call = call
        self._came: asyncio.Queue[Placed | Done | list[Event] | Exception] = asyncio.Queue()
        self._reader: asyncio.Task[None] | None = None

    async def events(self) -> AsyncGenerator[Event | str]:
        """Yield the words and the end; a text instead of an end says why there is none."""
        ticket = uuid.uuid4().hex
        told = self.host.place.options(num_returns="streaming").remote(self.call, ticket)
        telling = asyncio.create_task(self._pass_on(told))
        said, ended, over = False, False, False
        try:
            while True:
                came = await self._came.get()
                match came:
                    case Placed():
                        if said:
                            yield "the slot's process or its engine ended"
                            return
                        self._stop_reading()
                        words = came.slot.read.options(num_returns="streaming").remote(came.sent)
                        self._reader = asyncio.create_task(self._pass_on(words))
                    case Done():
                        ended = True
                        if came.answer.error is not None:
                            over = True
                            yield replace(came, call_id=self.call.id)
                            return
                    case list():
                        for event in came:
                            if isinstance(event, Delta) and not self.call.stream:
                                continue
                            said |= isinstance(event, Delta)
                            over |= isinstance(event, Done)
                            yield replace(event, call_id=self.call.id)
                        if over:
                            return
                    case Exception():
                        cause = getattr(came, "cause", None)  # Ray wraps what an actor raised
                        if isinstance(cause, EngineError) and not isinstance(cause, EngineDied):
                            over = True
                            raise cause
                        if ended or telling.done():
                            yield f"the shared pool cannot be reached, or lost the answer ({type(came).__name__})"
                            return
        finally:
            self._stop_reading()
            telling.cancel()
            if not over:
                self.host.abandon.remote(ticket)

    async def _pass_on(self, stream: Any) -> None:
        try:
            async for each in stream:
                self._came.put_nowait(await each)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # whoever wrote it has died
            self._came.put_nowait(error)

    def _stop_reading(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None
