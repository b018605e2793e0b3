"""The pool: calls queue per expert, slots serve engine by engine, and what it took is counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

from data.records import Answer, Call, Delta, Done
from experts import make_engine
from experts.base import Engine, EngineDied, EngineError, Event, ExpertSpec
from experts.scheduler import Grouped, Scheduler
from experts.slot import start_ray, start_slot

TRIES = 2
"""How often a call is given to an engine that dies under it, before the caller hears of it."""
STOPPED = "the pool was stopped"


@dataclass(slots=True)
class PoolStats:
    """What the pool has done since it started.

    Attributes:
        loads: Engines loaded into slots.
        load_s: Seconds that loading took.
        calls: Calls finished.
        failed: Calls that ended in an error.
        wait_s: Seconds that calls waited before an engine took them, summed.
        max_wait_s: The longest of these waits.
        tokens: Generated tokens.
        served: Engines that served calls, in order of their visits.
    """

    loads: int = 0
    load_s: float = 0.0
    calls: int = 0
    failed: int = 0
    wait_s: float = 0.0
    max_wait_s: float = 0.0
    tokens: int = 0
    served: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Waiting:
    """A call on its way, and where its events go."""

    call: Call
    engine: str
    live: bool
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    since: float = field(default_factory=time.monotonic)
    wait_s: float = 0.0
    tries: int = 0
    said: bool = False
    gone: bool = False
    task: asyncio.Task[None] | None = None


@dataclass(slots=True, eq=False)
class _Place:
    """A slot as the pool sees it."""

    actor: Any
    loaded: str | None = None
    busy: int = 0
    served: int = 0
    loading: bool = False
    alone: bool = False
    error: str = ""


class ExpertPool:
    """Run experts for many callers.

    Experts of local engines share the slots; those of remote, replayed and scripted ones are always there and need none.

    Args:
        specs: The experts, in the mixture's order.
        slots: Number of slots.
        scheduler: Rule by which a slot chooses its next engine; None is `Grouped`.
    """

    def __init__(self, specs: Sequence[ExpertSpec], *, slots: int = 1, scheduler: Scheduler | None = None) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self.stats = PoolStats()
        self._scheduler = scheduler or Grouped()
        self._groups: dict[str, list[ExpertSpec]] = {}
        for spec in specs:
            self._groups.setdefault(spec.engine_key, []).append(spec)
        self._slotted = {key for key, group in self._groups.items() if group[0].needs_slot}
        self._slots = slots
        self._places: list[_Place] = []
        self._resident: dict[str, Engine] = {}
        self._queue: list[_Waiting] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn: asyncio.Handle | None = None
        self._stopped = False

    def __contains__(self, name: object) -> bool:
        return name in self.specs

    def __iter__(self) -> Iterator[str]:
        return iter(self.specs)

    @property
    def resident(self) -> frozenset[str]:
        """The experts that can answer without loading anything."""
        loaded = {place.loaded for place in self._places} | self._resident.keys()
        return frozenset(name for name, spec in self.specs.items() if spec.engine_key in loaded)

    async def __aenter__(self) -> ExpertPool:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the slots and the engines that need none; local engines are loaded when they are first asked.

        Raises:
            EngineError: An engine that needs no slot cannot start.
        """
        for key in self._groups.keys() - self._slotted:
            engine = make_engine(self._groups[key])
            await engine.start()
            self._resident[key] = engine
        if self._slotted:
            await asyncio.to_thread(start_ray)
            self._places = [_Place(start_slot(self._gpus())) for _ in range(self._slots)]

    async def warm(self) -> None:
        """Load an engine into each slot before anyone asks, those that most experts share first.

        Raises:
            EngineError: One cannot be loaded.
        """
        order = sorted(self._slotted, key=lambda key: -len(self._groups[key]))
        for place, engine in zip(self._places, order, strict=False):
            place.loaded, place.loading = engine, True
            self._spawn(self._serve(place, engine, [], load=True))
        await asyncio.gather(*self._tasks)
        if empty := [place for place in self._places[: len(order)] if place.loaded is None]:
            raise EngineError(empty[0].error or "a slot could not be loaded")

    def _gpus(self) -> int:
        return max(self._groups[key][0].gpus for key in self._slotted)

    async def stop(self) -> None:
        """End slots and engines; calls still waiting end in an error."""
        self._stopped = True
        for waiting in [*self._queue]:
            self._finish(waiting, Answer.failed(waiting.call.expert, STOPPED))
        self._queue.clear()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for engine in self._resident.values():
            await engine.stop()
        for place in self._places:
            import ray

            ray.kill(place.actor)
        self._places = []

    async def stream(self, call: Call, *, live: bool = True) -> AsyncGenerator[Event]:
        """Ask one expert and yield what it writes, last a `Done`.

        Args:
            call: What is asked.
            live: Whether words are passed on as they are written; a call whose words have gone out is not tried again.

        Abandoning the iterator takes the call out of the queue, or its engine's words to nobody.

        Raises:
            EngineError: There is no such expert.
        """
        waiting = self._submit(call, live)
        try:
            while True:
                event = await waiting.events.get()
                yield event
                if isinstance(event, Done):
                    return
        finally:
            waiting.gone = True
            if waiting.task is not None:
                waiting.task.cancel()
            if waiting in self._queue:
                self._queue.remove(waiting)

    async def answer(self, call: Call) -> Answer:
        """Ask one expert and wait for its answer; a failure is an answer with an error."""
        async with aclosing(self.stream(call, live=False)) as events:
            async for event in events:
                if isinstance(event, Done):
                    return event.answer
        raise AssertionError("a stream ends in Done")

    def _submit(self, call: Call, live: bool) -> _Waiting:
        spec = self.specs.get(call.expert)
        if spec is None:
            raise EngineError(f"no expert is called {call.expert!r}; the pool has {', '.join(self.specs)}")
        if self._stopped:
            raise EngineError(STOPPED)
        waiting = _Waiting(call, spec.engine_key, live)
        if spec.engine_key in self._resident:
            waiting.task = self._spawn(self._serve_resident(waiting))
        else:
            self._queue.append(waiting)
            self._plan()
        return waiting

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _plan(self) -> None:
        """Dispatch at the loop's next turn, so that calls submitted together are seen together."""
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._turn = None
        wanted = {waiting.engine for waiting in self._queue}
        # first the slots that hold what is wanted, then empty ones, then the one that has idled longest
        for place in sorted(self._places, key=lambda p: (p.loaded not in wanted, p.loaded is not None, p.served)):
            if place.loading or place.alone:
                continue
            elsewhere = frozenset(other.loaded for other in self._places if other is not place and other.loaded)
            visit = self._scheduler.next([waiting.engine for waiting in self._queue], place.loaded, elsewhere)
            if visit is None or (place.busy and visit.engine != place.loaded):
                continue
            mine = [waiting for waiting in self._queue if waiting.engine == visit.engine][: visit.calls]
            if any(waiting.tries for waiting in mine):  # one that an engine died under runs alone: it may be the cause
                if place.busy:
                    continue
                mine = [next(waiting for waiting in mine if waiting.tries)]
                place.alone = True
            for waiting in mine:
                self._queue.remove(waiting)
            place.busy += len(mine)
            place.loading = visit.engine != place.loaded
            place.loaded = visit.engine
            place.served = len(self.stats.served)
            self.stats.served.append(visit.engine)
            self._spawn(self._serve(place, visit.engine, mine, load=place.loading))

    async def _serve(self, place: _Place, engine: str, group: list[_Waiting], *, load: bool) -> None:
        open_calls, actor = {waiting.call.id: waiting for waiting in group}, place.actor
        try:
            if load:
                await self._load(place, engine)
            for waiting in group:
                waiting.wait_s = time.monotonic() - waiting.since
                self.stats.wait_s += waiting.wait_s
                self.stats.max_wait_s = max(self.stats.max_wait_s, waiting.wait_s)
            calls = [waiting.call for waiting in group if not waiting.gone]
            if calls:
                stream = place.actor.generate.options(num_returns="streaming").remote(calls)
                async for bundle in stream:
                    for event in await bundle:
                        if self._pass_on(open_calls[event.call_id], event):
                            place.busy -= 1
                            del open_calls[event.call_id]
            self._give_up([each for each in open_calls.values() if not each.gone], "the engine ended without an answer")
        except asyncio.CancelledError:
            self._give_up(open_calls.values(), STOPPED)
            raise
        except Exception as error:
            cause = getattr(error, "cause", None) or error  # Ray wraps what the slot raised
            if place.actor is actor:  # else another group has replaced it already
                place.loaded = None
            if isinstance(cause, EngineError) and not isinstance(cause, EngineDied):
                place.error = str(cause)
                self._give_up(open_calls.values(), str(cause))
            elif isinstance(cause, EngineDied):
                self._try_again(open_calls.values(), str(cause))
            else:
                if place.actor is actor:
                    await self._revive(place)
                self._try_again(open_calls.values(), f"the slot's process ended while it answered ({type(cause).__name__})")
        finally:
            place.loading = place.alone = False
            place.busy -= len(open_calls)
            self._plan()

    async def _load(self, place: _Place, engine: str) -> None:
        seconds = await place.actor.load.remote(self._groups[engine])
        self.stats.loads += 1
        self.stats.load_s += seconds
        place.loading = False
        self._plan()

    async def _revive(self, place: _Place) -> None:
        import ray

        with suppress(Exception):  # it may be gone already
            ray.kill(place.actor)
        with suppress(Exception):  # where Ray itself is gone, the next calls say so
            place.actor = start_slot(self._gpus())

    async def _serve_resident(self, waiting: _Waiting) -> None:
        engine = self._resident[waiting.engine]
        try:
            async for event in engine.generate([waiting.call]):
                self._pass_on(waiting, event)
        except asyncio.CancelledError:
            self._give_up([waiting], STOPPED)
            raise
        except Exception as error:
            waiting.tries += 1
            again = isinstance(error, EngineDied) and not waiting.said and waiting.tries < TRIES
            if isinstance(error, EngineDied) and not await self._restarted(engine):
                again = False
            if again:
                await self._serve_resident(waiting)
            else:
                text = str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
                self._give_up([waiting], " ".join(text.split()))

    async def _restarted(self, engine: Engine) -> bool:
        """Start an engine again; False where it cannot."""
        try:
            await engine.start()
        except EngineError:
            return False
        return True

    def _pass_on(self, waiting: _Waiting, event: Event) -> bool:
        """Hand an event to its caller; True where it was the call's last."""
        if isinstance(event, Delta):
            if waiting.live:
                waiting.said = True
                waiting.events.put_nowait(event)
            return False
        self._finish(waiting, event.answer)
        return True

    def _give_up(self, group: Iterable[_Waiting], error: str) -> None:
        for waiting in group:
            self._finish(waiting, Answer.failed(waiting.call.expert, error))

    def _try_again(self, group: Iterable[_Waiting], error: str) -> None:
        """Queue the calls of a dead slot once more, except those whose words have gone out or whose tries are spent."""
        for waiting in group:
            waiting.tries += 1
            if waiting.said or waiting.tries >= TRIES:
                self._finish(waiting, Answer.failed(waiting.call.expert, error))
            elif not waiting.gone:
                self._queue.append(waiting)

    def _finish(self, waiting: _Waiting, answer: Answer) -> None:
        self.stats.calls += 1
        self.stats.failed += answer.error is not None
        self.stats.tokens += answer.usage.completion_tokens
        waiting.events.put_nowait(Done(waiting.call.id, answer))
