"""The pool: calls queue per expert, the scheduler says what each slot does next, and this carries it out."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from data.records import Answer, Call, Delta, Done
from experts import make_engine
from experts.base import Engine, EngineDied, EngineError, Event, ExpertSpec, Overloaded
from experts.breaker import HOPELESS, Breaker
from experts.memory import asleep_bytes, engine_bytes
from experts.outbox import Placed
from experts.queues import Job
from experts.rules import RULES
from experts.scheduler import Expire, Prefetch, Refused, Retire, Scheduler, Start, Swap
from experts.slot import Brought, ray_answers, start_ray, start_slot
from experts.stats import PoolStats
from experts.traffic import Traffic
from experts.upkeep import look_after

TRIES = 3
"""How often a call is given to an engine that dies under it; the last time it runs alone, for it may be the cause."""
WATCH_S = 2.0
"""Seconds between two looks at whether Ray is there."""
GONE_S = 10.0
"""Seconds without an answer after which it counts as gone."""
STOPPED = "the pool was stopped"


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How local experts share the machine.

    Attributes:
        slots: Slots to begin with.
        max_slots: Slots to grow to while calls wait long; None is as many as to begin with.
        batch: Calls that an engine runs at once.
        max_wait_s: An accepted call starts within so many seconds; None accepts all.
        awake_bytes: Bytes of a slot for engines that are awake; None is one engine at a time.
        asleep_bytes: Bytes of host memory for engines that sleep in a slot; 0 ends engines instead.
        sleep_level: vLLM's level of sleep.
        prefetch: Whether the next engine's weights are read while the current one decodes.
        replicas: Slots that may hold the same engine at once.
        quantum: Length of a visit, in swap times, after which others that wait come first.
        rule: Name of the rule that chooses engines (`experts.rules.RULES`).
        placement: Whether engines are given slots of their own by what is asked, anew every minute; else any slot may hold any.
    """

    slots: int = 1
    max_slots: int | None = None
    batch: int = 64
    max_wait_s: float | None = None
    awake_bytes: int | None = None
    asleep_bytes: int = 0
    sleep_level: int = 1
    prefetch: bool = True
    replicas: int = 1
    quantum: float = 16.0
    rule: str = "counterpoint"
    placement: bool = False


@dataclass(slots=True, eq=False)
class _Waiting:
    """A call on its way, and where its events go."""

    call: Call
    engine: str
    job: Job
    events: asyncio.Queue[Event | Placed] = field(default_factory=asyncio.Queue)
    outside: bool = False
    """Whether its words are read at the slot by somebody else."""
    sent: str = ""
    """What its engine knows it by, for the callers' names may repeat."""
    tries: int = 0
    trial: bool = False
    said: bool = False
    gone: bool = False
    done: bool = False
    task: asyncio.Task[None] | None = None


@dataclass(slots=True, eq=False)
class _Place:
    """A slot as the pool sees it."""

    id: str
    actor: Any
    pid: int | None = None
    lost: bool = False
    running: int = 0
    busy_since: float = 0.0


class ExpertPool:
    """Run experts for many callers.

    Experts of local engines share the slots; those of remote, replayed and scripted ones are always there and need none.

    Args:
        specs: The experts, in the mixture's order.
        settings: How they share the machine.
    """

    def __init__(self, specs: Sequence[ExpertSpec], settings: PoolSettings | None = None) -> None:
        self.specs: dict[str, ExpertSpec] = {}
        self._leaving: dict[str, ExpertSpec] = {}
        self.settings = settings or PoolSettings()
        self.stats = PoolStats()
        self.traffic = Traffic()
        self._asked: defaultdict[object, list[str]] = defaultdict(list)  # engines of each request since the last dispatch
        rule = RULES[self.settings.rule]()
        self.scheduler = Scheduler(
            rule,
            max_wait_s=self.settings.max_wait_s,
            replicas=self.settings.replicas,
            quantum=self.settings.quantum,
            prefetch=self.settings.prefetch,
        )
        self._groups: dict[str, list[ExpertSpec]] = {}
        self._places: dict[str, _Place] = {}
        self._resident: dict[str, Engine] = {}
        self._breakers: defaultdict[str, Breaker] = defaultdict(Breaker)
        self._last_error: dict[str, str] = {}
        self._waiting: dict[object, _Waiting] = {}
        self._tickets: dict[str, _Waiting] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn: asyncio.Handle | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._numbers = count()
        self._stopped = False
        self._broken: str | None = None
        self._ray_gone = False  # then to ask it anything would wait for a minute, or start another
        self._upkeep: asyncio.Task[None] | None = None
        for spec in specs:
            self._know(spec)

    def _know(self, spec: ExpertSpec) -> None:
        self.specs[spec.name] = spec
        group = self._groups.setdefault(spec.engine_key, [])
        group.append(spec)
        if spec.needs_slot and spec.engine_key not in self.scheduler.groups:
            guess = min(5.0, (self.settings.max_wait_s or 20.0) / 4)  # what was never measured is tried, not refused
            self.scheduler.add_engine(
                spec.engine_key,
                lanes=int(spec.options.get("max_num_seqs") or self.settings.batch),
                bytes=self._bytes(group),
                asleep_bytes=self._bytes(group, asleep=True),
                service_s=guess,
                load_s=guess,
                wake_s=guess,
            )

    def _bytes(self, group: list[ExpertSpec], *, asleep: bool = False) -> float:
        """What an engine counts against its slot: bytes where a budget is set, else the whole slot."""
        if self.settings.awake_bytes is None and not asleep:
            return 1.0
        if not self.settings.asleep_bytes and asleep:
            return 0.0
        size = asleep_bytes(group, self.settings.sleep_level) if asleep else engine_bytes(group)
        if size is None:
            raise EngineError(
                f"the bytes of {group[0].name!r} are not known, and the slots have a budget: "
                "give its size_b, and kv_cache_gb in its options"
            )
        if self.settings.awake_bytes is not None and size > self.settings.awake_bytes:
            raise EngineError(f"{group[0].name!r} needs {size / 1e9:.1f} GB, and a slot has {self.settings.awake_bytes / 1e9:.1f}")
        return float(size)

    def __contains__(self, name: object) -> bool:
        return name in self.specs

    def __iter__(self) -> Iterator[str]:
        return iter(self.specs)

    @property
    def resident(self) -> frozenset[str]:
        """The experts that can answer without loading anything."""
        loaded = {key for key, group in self.scheduler.groups.items() if group.stays} | self._resident.keys()
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
        for key in self._groups.keys() - self.scheduler.groups.keys():
            await self._start_resident(key)
        if self.scheduler.groups:
            start_ray()  # not in a thread: Ray's processes end with the thread that started them
            for _ in range(self.settings.slots):
                self.add_slot()
            self._upkeep = asyncio.create_task(look_after(self))
            self._spawn(self._watch())

    async def _start_resident(self, key: str) -> None:
        engine = make_engine(self._groups[key])
        await engine.start()
        self._resident[key] = engine

    async def warm(self) -> None:
        """Load an engine into each slot before anyone asks, those that most experts share first.

        Raises:
            EngineError: One cannot be loaded.
        """
        order = sorted(self.scheduler.groups, key=lambda key: -len(self._groups[key]))
        swaps = [self.scheduler.preload(slot, engine, time.monotonic()) for slot, engine in zip(self._places, order, strict=False)]
        await asyncio.gather(*(self._spawn(self._bring(swap)) for swap in swaps))
        if failed := [swap.engine for swap in swaps if swap.engine in self._last_error]:
            raise EngineError(self._last_error[failed[0]])

    # slots and experts come and go

    def add_slot(self) -> str:
        """Start one more slot and give its name; a cluster that can grow makes room for it."""
        id = f"slot-{next(self._numbers)}"
        settings = self.settings
        gpus = max(self._groups[key][0].gpus for key in self.scheduler.groups)
        self._places[id] = _Place(id, start_slot(gpus, settings.awake_bytes, settings.sleep_level))
        self._spawn(self._settle(self._places[id]))
        self.scheduler.add_slot(id, budget=float(settings.awake_bytes or 1), asleep_budget=float(settings.asleep_bytes))
        self._plan()
        return id

    async def _settle(self, place: _Place) -> None:
        """Take note of a slot's process, once there is room for it, and of its end."""
        try:
            place.pid = await place.actor.pid.remote()
            await place.actor.live.remote()
        except Exception as error:
            if place.id in self._places and self.scheduler.slots[place.id].awake:  # one that never held anything waits to be asked
                self._lose(place, self._death(error))
                self._plan()

    @property
    def homeless(self) -> list[str]:
        """Slots whose process has not started, because it is on its way or because no machine has room for it."""
        return [place.id for place in self._places.values() if place.pid is None]

    async def _watch(self) -> None:
        """End the calls when Ray itself is gone, which the slots' handles never tell."""
        heard: float | None = None  # an address that never answered tells nothing
        while self._broken is None:
            now = time.monotonic()
            if await ray_answers():
                heard = now
            elif heard is not None and now - heard > GONE_S:
                self._ray_gone = True
                self._end_all(f"Ray is gone: it has not answered for {now - heard:.0f} s, so no slot can be reached or started")
            await asyncio.sleep(WATCH_S)

    def remove_slot(self, id: str) -> None:
        """Let a slot end what it runs, then end it.

        Raises:
            EngineError: There is no such slot.
        """
        if id not in self._places:
            raise EngineError(f"no slot is called {id!r}; there are {', '.join(self._places)}")
        self.scheduler.drain_slot(id)
        self._plan()

    def resize(self, slots: int) -> None:
        """Start slots, or let the latest ones go when they have ended what they run."""
        staying = [id for id, slot in self.scheduler.slots.items() if not slot.leaving]
        self.settings = replace(self.settings, slots=slots)
        for _ in range(slots - len(staying) if self._places else 0):
            self.add_slot()
        for id in staying[slots:]:
            self.remove_slot(str(id))

    @property
    def known(self) -> Mapping[str, ExpertSpec]:
        """The experts that take calls: those that can be chosen, and those that are leaving."""
        return self._leaving | self.specs

    async def prepare(self, specs: Sequence[ExpertSpec]) -> None:
        """Take in experts while running; those whose names are known stay as they are.

        Raises:
            EngineError: An engine cannot start.
        """
        for spec in specs:
            if spec.name in self.known:
                continue
            shared = spec.engine_key in self._groups
            self._know(spec)
            if not spec.needs_slot and not shared:
                await self._start_resident(spec.engine_key)
            elif spec.needs_slot and not self._places:
                start_ray()  # not in a thread: Ray's processes end with the thread that started them
                for _ in range(self.settings.slots):
                    self.add_slot()
            elif spec.needs_slot and shared:
                await self._reload(spec.engine_key)

    def leave(self, names: Sequence[str]) -> None:
        """Take experts from those that can be chosen; calls of them that others have decided on still come through."""
        self._leaving |= {name: self.specs.pop(name) for name in names if name in self.specs}

    async def settle(self, specs: Sequence[ExpertSpec], slots: int) -> None:
        """Have the experts that are wanted, and no others: what leaves answers the calls that it has, and ends.

        Args:
            specs: The experts that are wanted; one whose settings have changed goes and comes again.
            slots: The number of slots that is wanted.
        """
        wanted = {spec.name: spec for spec in specs}
        self.leave([name for name, spec in self.specs.items() if wanted.get(name) != spec])
        for name in [*self._leaving]:
            await self._let_go(name)
        await self.prepare(specs)
        self.resize(slots)

    async def _let_go(self, name: str) -> None:
        """Answer the calls that an expert has, then end its engine, unless others share it."""
        while any(waiting.call.expert == name for waiting in self._waiting.values()):
            await asyncio.sleep(0.05)
        key = self._leaving.pop(name).engine_key
        self._groups[key] = [other for other in self._groups[key] if other.name != name]
        if self._groups[key]:
            return
        del self._groups[key]
        if key in self._resident:
            await self._resident.pop(key).stop()
        elif key in self.scheduler.groups:
            self.scheduler.remove_engine(key)
            self._plan()

    async def _reload(self, key: str) -> None:
        """Have an engine start again with its new adapters, once what it runs has ended."""
        self.scheduler.retire(key)
        self._plan()

    async def stop(self) -> None:
        """End slots and engines; calls still waiting end in an error."""
        self._stopped = True
        if self._upkeep is not None:
            self._upkeep.cancel()
        if self._alarm is not None:
            self._alarm.cancel()
        for waiting in [*self._waiting.values()]:
            self._finish(waiting, Answer.failed(waiting.call.expert, STOPPED))
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for engine in self._resident.values():
            await engine.stop()
        for id in [*self._places]:
            self._end_slot(id)

    # calls

    async def stream(self, call: Call) -> AsyncGenerator[Event]:
        """Ask one expert and yield what it writes, last a `Done`; a call whose words have gone out is not tried again.

        Abandoning the iterator takes the call out of the queue, or out of its engine.

        Raises:
            EngineError: There is no such expert.
        """
        async with aclosing(self._events(self._submit(call))) as events:
            async for event in events:
                assert not isinstance(event, Placed)
                yield event

    async def placed(self, call: Call, ticket: str) -> AsyncGenerator[Placed | Done]:
        """Ask an expert that takes a slot, and yield where the call has started, each time that it does, last a `Done` without words.

        The words wait at the slot, for `Slot.read`.

        Args:
            call: The call.
            ticket: What `abandon` knows it by.

        Raises:
            EngineError: There is no such expert.
        """
        self._tickets[ticket] = waiting = self._submit(call, outside=True)
        try:
            async with aclosing(self._events(waiting)) as events:
                async for event in events:
                    assert not isinstance(event, Delta)
                    yield event
        finally:
            del self._tickets[ticket]

    def abandon(self, ticket: str) -> None:
        """Take a call that was placed for somebody else out of the queue, or out of its engine."""
        if (waiting := self._tickets.get(ticket)) is not None:
            self._abandon(waiting)
            waiting.events.put_nowait(Done(waiting.call.id, Answer.failed(waiting.call.expert, "the caller has gone")))

    async def _events(self, waiting: _Waiting) -> AsyncGenerator[Event | Placed]:
        try:
            while True:
                event = await waiting.events.get()
                yield event
                if isinstance(event, Done):
                    return
        finally:
            self._abandon(waiting)

    async def answer(self, call: Call) -> Answer:
        """Ask one expert and wait for its answer; a failure is an answer with an error."""
        async with aclosing(self.stream(replace(call, stream=False))) as events:
            async for event in events:
                if isinstance(event, Done):
                    return event.answer
        raise AssertionError("a stream ends in Done")

    def waiting(self) -> Counter[str]:
        """Calls that wait for their start, by expert."""
        return Counter(
            each.call.expert for each in self._waiting.values() if each.job.started is None and each.engine not in self._resident
        )

    def refused(self, expert: str) -> float | None:
        """Seconds after which a call that is refused now would be accepted; None where one would be accepted now."""
        key = self._spec(expert).engine_key
        if key not in self.scheduler.groups:
            return None
        refused = self.scheduler.would_refuse(key, time.monotonic())
        return None if refused is None else refused.retry_after_s

    def is_broken(self, expert: str) -> bool:
        """Whether calls of an expert would fail at once: its engine has failed too often lately, or the pool has stopped or broken."""
        key = self._spec(expert).engine_key
        return self._stopped or self._breakers[key].open or (self._broken is not None and key not in self._resident)

    async def predicted_s(self, calls: Mapping[str, int]) -> float:
        """Seconds that calls of experts, by name, would take by what was measured, each engine loaded once."""
        engines: Counter[str] = Counter()
        for name, number in calls.items():
            engines[self._spec(name).engine_key] += number
        groups = {key: group for key, group in self.scheduler.groups.items() if key in engines}
        seconds = sum(group.load.value + engines[key] * group.service.value / group.lanes for key, group in groups.items())
        return seconds / max(1, len(self.scheduler.slots))

    def expect(self, expert: str, calls: int = 1) -> None:
        """Declare calls that others will cause later, such as an aggregator's (negative: they came, or will not)."""
        if expert in self.specs:
            self.scheduler.expect(self.specs[expert].engine_key, calls)

    def _spec(self, name: str) -> ExpertSpec:
        if name not in self.known:
            raise EngineError(f"no expert is called {name!r}; the pool has {', '.join(self.specs)}")
        return self.known[name]

    def _submit(self, call: Call, *, outside: bool = False) -> _Waiting:
        key = self._spec(call.expert).engine_key
        if self._stopped:
            raise EngineError(STOPPED)
        now = time.monotonic()
        waiting = _Waiting(
            call, key, Job(next(self._numbers), key, now, batch=call.batch, query=call.id.partition("/")[0]), outside=outside
        )
        self._waiting[waiting.job.id] = waiting
        rest = self._breakers[key].wait_s(now)
        waiting.trial = self._breakers[key].trial and not rest
        if self._broken is not None and key not in self._resident:
            self._finish(waiting, Answer.failed(call.expert, self._broken, code="unavailable"))
        elif rest:
            text = f"{call.expert!r} fails ({self._last_error.get(key, 'no reason known')}) and is tried again in {rest:.0f} s"
            self._finish(waiting, Answer.failed(call.expert, text, code="unavailable", retry_after_s=rest))
        elif key in self._resident:
            waiting.task = self._spawn(self._serve_resident(waiting))
        elif isinstance(refused := self.scheduler.arrive(waiting.job, now), Refused):
            error = Overloaded(call.expert, refused.retry_after_s)
            self._finish(waiting, Answer.failed(call.expert, str(error), code="overloaded", retry_after_s=error.retry_after_s))
        else:
            self._asked[waiting.job.query].append(key)
            self._plan()
        return waiting

    def _abandon(self, waiting: _Waiting) -> None:
        waiting.gone = True
        if waiting.task is not None:
            waiting.task.cancel()
        if waiting.done:
            return
        if waiting.job.started is None:
            self.scheduler.cancel(waiting.job)
            self._forget(waiting)
        elif (place := self._places.get(str(waiting.job.slot))) is not None:
            place.actor.abandon.remote(waiting.engine, waiting.sent)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _plan(self) -> None:
        """Dispatch at the loop's next turn, so that calls submitted together are seen together."""
        if self._turn is None and not self._stopped and self._broken is None:
            self._turn = asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Do what the scheduler says; should that fail, a fault of ours, every call ends and none hangs."""
        self._turn = None
        try:
            self._carry_out(time.monotonic())
        except Exception as error:
            self._end_all(f"the scheduler failed: {type(error).__name__}: {error}")
            raise

    def _carry_out(self, now: float) -> None:
        starts: defaultdict[tuple[str, str], list[_Waiting]] = defaultdict(list)
        for engines in self._asked.values():
            self.traffic.seen(engines, now)
        self._asked.clear()
        for action in self.scheduler.decide(now):
            match action:
                case Start(job, slot):
                    waiting = self._waiting[job.id]
                    if not waiting.tries:
                        self.stats.started(waiting.call.expert, now - job.arrived)
                    starts[str(slot), job.engine].append(waiting)
                case Swap():
                    self._spawn(self._bring(action))
                case Prefetch(slot, engine):
                    self._places[str(slot)].actor.prefetch.remote(self._groups[engine])
                case Expire(job):
                    waiting = self._waiting[job.id]
                    error = f"{waiting.call.expert!r} could not start in {self.settings.max_wait_s:.0f} s, as had been promised"
                    self.stats.late += 1
                    self._finish(waiting, Answer.failed(waiting.call.expert, error, code="late"))
                case Retire(slot):
                    self._end_slot(str(slot))
        for (slot, engine), group in starts.items():
            place = self._places[slot]
            if not place.running:
                place.busy_since = now
            place.running += len(group)
            self._spawn(self._serve(place, engine, group))
        alarm = self.scheduler.wake_at()
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = None if alarm == float("inf") else asyncio.get_running_loop().call_later(max(0.0, alarm - now) + 0.001, self._plan)

    async def _bring(self, swap: Swap) -> None:
        place, specs = self._places.get(str(swap.slot)), self._groups.get(swap.engine)
        if place is None or specs is None:  # lost, or removed, before this began
            self.scheduler.failed(swap.slot, swap.engine)
            return
        try:
            brought: Brought = await place.actor.bring.remote(swap.engine, specs, swap.sleep, swap.stop)
        except Exception as error:
            cause = getattr(error, "cause", None) or error  # Ray wraps what the slot raised
            if isinstance(cause, EngineError):
                text = " ".join(str(cause).split())
                self._note_failure(swap.engine, text)
                self.scheduler.failed(place.id, swap.engine)
                self._give_up_on(swap.engine, text)
            else:
                self._lose(place, self._death(cause))
        else:
            if not place.lost:
                if not self._breakers[swap.engine].open:
                    self._last_error.pop(swap.engine, None)
                self.stats.brought(swap.engine, brought)
                for name in brought.stopped:
                    self.scheduler.failed(place.id, name)
                self.scheduler.loaded(place.id, time.monotonic(), seconds=brought.seconds, woken=brought.woken)
        self._plan()

    def _note_failure(self, engine: str, error: str) -> None:
        """Take note that an engine could not be brought or has died, once for each time, however many calls it had."""
        self._last_error[engine] = error
        self._breakers[engine].failed(time.monotonic())

    def _give_up_on(self, engine: str, error: str) -> None:
        """End the calls that wait for an engine that cannot be brought, unless it is awake in another slot."""
        group = self.scheduler.groups.get(engine)
        if group is None or group.stays:
            return
        for job in [*group]:
            self.scheduler.cancel(job)
            waiting = self._waiting[job.id]
            self._finish(waiting, Answer.failed(waiting.call.expert, error, code="unavailable"))

    async def _serve(self, place: _Place, engine: str, group: list[_Waiting]) -> None:
        """Stream the answers of calls that start together."""
        stay = group[0].job.stay
        assert stay is not None
        for waiting in group:
            waiting.sent = f"{waiting.job.id}.{waiting.tries}"
        left = {waiting.sent: waiting for waiting in group}
        calls = [replace(waiting.call, id=waiting.sent) for waiting in group]
        try:
            outside = [waiting for waiting in group if waiting.outside]
            stream = place.actor.generate.options(num_returns="streaming").remote(engine, calls, [each.sent for each in outside])
            for waiting in outside:
                waiting.events.put_nowait(Placed(waiting.call.id, place.actor, waiting.sent))
            for waiting in group:
                if waiting.gone:  # before its engine had it
                    place.actor.abandon.remote(engine, waiting.sent)
            async for bundle in stream:
                for event in await bundle:
                    waiting = left[event.call_id]
                    if self._pass_on(waiting, event):
                        del left[event.call_id]
                        now, job = time.monotonic(), waiting.job
                        self.traffic.served(engine, now - (job.started or now), stay.group.lanes, now)
                        self.scheduler.finished(job, now, measured=not waiting.gone)
                        place.running -= 1
                        if not place.running:
                            self.stats.busy_s += now - place.busy_since
                        if not waiting.gone:
                            self._breakers[engine].worked()
                        self._plan()
            if left:
                raise EngineDied(f"the engine of {group[0].call.expert!r} ended without an answer")
        except asyncio.CancelledError:
            raise
        except Exception as error:
            cause = getattr(error, "cause", None) or error
            text = " ".join(str(cause).split()) if isinstance(cause, EngineError) else self._death(cause)
            if not isinstance(cause, EngineError):
                self._lose(place, text)
            elif stay.slot.awake.get(engine) is stay:  # the first of those that ran in it to hear of its end
                self.stats.died(engine)
                self._note_failure(engine, text)
                self.scheduler.failed(place.id, engine)
            place.running -= len(left)
            self._try_again([*left.values()], text)
            if self._breakers[engine].failures >= HOPELESS:
                self._give_up_on(engine, text)
            self._plan()

    def _death(self, cause: object) -> str:
        return f"the slot's process ended ({type(cause).__name__})"

    def _lose(self, place: _Place, error: str) -> None:
        """Forget a slot whose process is gone, and start another in its place, unless it was to leave."""
        if place.lost or place.id not in self._places:
            return
        place.lost = True
        slot = self.scheduler.slots[place.id]
        for engine, stay in slot.awake.items():
            if stay.running or stay.loading:
                self.stats.died(engine)
                self._note_failure(engine, error)
        loading = slot.loading
        self._end_slot(place.id)
        if loading is not None and self._breakers[loading].open:  # else the slot that comes in its place brings it
            self._give_up_on(loading, error)
        if slot.leaving or self._stopped or self._broken is not None:
            return
        try:
            self.add_slot()
        except Exception as error:  # Ray itself may be gone
            if not self._places:
                self._end_all(f"no slot can be started any more: {type(error).__name__}: {error}")

    def _end_all(self, error: str) -> None:
        """End every call of an engine that needs a slot, and take no more; experts that need none go on."""
        self._broken = " ".join(error.split())
        for waiting in [each for each in self._waiting.values() if each.engine in self.scheduler.groups]:
            self.scheduler.cancel(waiting.job)
            self._finish(waiting, Answer.failed(waiting.call.expert, self._broken, code="unavailable"))

    def _end_slot(self, id: str) -> None:
        import ray

        place = self._places.pop(id)
        self.scheduler.remove_slot(id)
        if not self._ray_gone:
            with suppress(Exception):  # it may be gone already
                ray.kill(place.actor)

    async def _serve_resident(self, waiting: _Waiting) -> None:
        """Stream the answer of an expert that needs no slot."""
        engine = self._resident[waiting.engine]
        self.stats.started(waiting.call.expert, 0.0)
        while True:
            try:
                async for event in engine.generate([waiting.call]):
                    self._pass_on(waiting, event)
                self._breakers[waiting.engine].worked()
                self._finish(waiting, Answer.failed(waiting.call.expert, "the engine gave no answer", code="unavailable"))  # if it did not
                return
            except asyncio.CancelledError:
                self._finish(waiting, Answer.failed(waiting.call.expert, STOPPED))
                raise
            except Exception as error:
                text = " ".join((str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}").split())
                waiting.tries += 1
                died = isinstance(error, EngineDied)
                if not died or waiting.said or waiting.tries >= TRIES or not await _restarted(engine):
                    if died:
                        self._note_failure(waiting.engine, text)
                    self._finish(waiting, Answer.failed(waiting.call.expert, text, code="unavailable"))
                    return

    def _pass_on(self, waiting: _Waiting, event: Event) -> bool:
        """Hand an event to its caller; True where it was the call's last."""
        if isinstance(event, Delta):
            if waiting.call.stream:
                waiting.said = True
                waiting.events.put_nowait(replace(event, call_id=waiting.call.id))
            return False
        self._finish(waiting, event.answer)
        return True

    def _try_again(self, group: Sequence[_Waiting], error: str) -> None:
        """Queue the calls of a dead engine once more, except those whose words have gone out or whose tries are spent."""
        for waiting in reversed(group):  # each comes before those that are there
            waiting.tries += 1
            if waiting.gone or waiting.done:
                self._forget(waiting)
            elif waiting.said or waiting.tries >= TRIES or waiting.engine not in self.scheduler.groups:
                said = "; the words that had gone out are not repeated" if waiting.said else ""
                self._finish(waiting, Answer.failed(waiting.call.expert, error + said, code="unavailable"))
            else:
                self.stats.retried += 1
                waiting.job.alone = waiting.tries == TRIES - 1
                self.scheduler.again(waiting.job)

    def _finish(self, waiting: _Waiting, answer: Answer) -> None:
        if waiting.done:
            return
        waiting.done = True
        self._forget(waiting)
        if not waiting.gone:
            self.stats.ended(waiting.engine, answer)
        waiting.events.put_nowait(Done(waiting.call.id, answer))

    def _forget(self, waiting: _Waiting) -> None:
        self._waiting.pop(waiting.job.id, None)
        if waiting.trial:
            self._breakers[waiting.engine].withdrawn()


async def _restarted(engine: Engine) -> bool:
    """Start an engine again; False where it cannot."""
    try:
        await engine.start()
    except Exception:
        return False
    return True
