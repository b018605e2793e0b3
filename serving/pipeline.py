"""The life of a request: route, ask, aggregate. One pipeline serves the page, the client, the endpoint and batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Self

from aggregator import Aggregator, make_aggregator
from data.records import Answer, Call, CounterpointError, Done, Message, Request, Route, Sampling, Trace, Usage
from experts.pool import ExpertPool
from experts.scheduler import Scheduler
from router import FixedK, Policy, Router, load_router
from serving.config import MixtureConfig, expert_specs


class RequestError(CounterpointError):
    """A request that cannot be answered as it stands."""


@dataclass(frozen=True, slots=True)
class Written:
    """A piece of the answer itself, as its expert has just written it.

    Attributes:
        expert: Who writes.
        text: The new characters.
    """

    expert: str
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a request.

    Attributes:
        answer: The mixture's answer; its usage sums all calls.
        trace: How it came about.
    """

    answer: Answer
    trace: Trace


Progress = Route | Written | Answer | Finished
"""What happens to a request, in order: its route, pieces of text, each expert's answer, the end."""


class Pipeline:
    """Answer requests by a mixture.

    Args:
        pool: The experts; started and stopped by `async with`.
        router: Predicts who is right, or None: all are equally likely.
        policy: Chooses by these predictions.
        aggregator: Combines, where a request asks for no other.
        name: The mixture's name.
    """

    def __init__(self, pool: ExpertPool, router: Router | None, policy: Policy, aggregator: Aggregator, name: str = "counterpoint") -> None:
        self.pool = pool
        self.router = router
        self.policy = policy
        self.aggregator = aggregator
        self.name = name
        self._numbers = count()

    @classmethod
    def of(cls, config: MixtureConfig, scheduler: Scheduler | None = None) -> Self:
        """Make the pipeline that a config describes.

        Raises:
            CounterpointError: The router is absent or knows other experts.
        """
        router = None if config.router is None else load_router(Path(config.router.path))
        names = [expert.name for expert in config.experts]
        if router is not None and (unknown := [name for name in names if name not in router.experts_]):
            raise RequestError(
                f"the router in {config.router.path if config.router else ''} was fitted without the expert {unknown[0]!r}; "
                "profile it and fit the router again, or take it out of the mixture"
            )
        policy = config.router.policy.build() if config.router else FixedK()
        settings = {} if config.aggregator.expert is None else {"expert": config.aggregator.expert}
        pool = ExpertPool(expert_specs(config), slots=config.pool.slots, scheduler=scheduler)
        return cls(pool, router, policy, make_aggregator(config.aggregator.kind, **settings), config.name)

    async def __aenter__(self) -> Self:
        await self.pool.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pool.stop()

    def route(self, request: Request) -> Route:
        """Decide who is asked, from the request alone.

        Raises:
            RequestError: The request asks nothing.
            RouterError: It allows no expert, or names one that is not there.
            AggregatorError: It names an aggregator that is not there.
        """
        if request.aggregator is not None:
            make_aggregator(request.aggregator)
        text = request.question
        if not text.strip():
            raise RequestError("the question is empty: wanted a user message with some text")
        names = list(self.pool)
        if self.router is None:
            return self.policy.choose(request, dict.fromkeys(names, 1.0 / len(names)))
        by_name = dict(zip(self.router.experts_, self.router.scores([text])[0].tolist(), strict=True))
        route = self.policy.choose(request, {name: by_name[name] for name in names})
        return replace(route, reasons=self.router.reasons(text))

    async def answer(self, request: Request, route: Route | None = None) -> tuple[Answer, Trace]:
        """Answer one request.

        Args:
            request: What is asked.
            route: Its route, where it is already known.

        Returns:
            The answer, with an error where no expert could, and how it came about.
        """
        async with aclosing(self.progress(request, route)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    return event.answer, event.trace
        raise AssertionError("progress ends in Finished")

    async def progress(self, request: Request, route: Route | None = None) -> AsyncGenerator[Progress]:
        """Answer one request and tell what happens on the way."""
        route = route or self.route(request)
        own = request.aggregator in (None, self.aggregator.kind)
        aggregator = self.aggregator if own else make_aggregator(str(request.aggregator))
        yield route
        events: asyncio.Queue[Written | Answer] = asyncio.Queue()
        alone = len(route.experts) == 1  # its words are the answer's

        async def ask(expert: str, messages: Sequence[Message], *, final: bool = False, **sampling: object) -> Answer:
            how = replace(request.sampling, **sampling)  # type: ignore[arg-type]
            call = Call(f"{request.id}/{next(self._numbers)}", expert, tuple(messages), how)
            if not final:
                return await self.pool.answer(call)
            async with aclosing(self.pool.stream(call)) as pieces:
                async for event in pieces:
                    if isinstance(event, Done):
                        return event.answer
                    events.put_nowait(Written(expert, event.text))
            raise AssertionError("a stream ends in Done")

        async def ask_expert(expert: str) -> Answer:
            answer = await ask(expert, request.messages, final=alone)
            events.put_nowait(answer)
            return answer

        async def combine() -> tuple[Answer, Sequence[Answer], Usage]:
            answers = await asyncio.gather(*(ask_expert(expert) for expert in route.experts))
            spent = Usage()

            async def ask_again(expert: str, messages: Sequence[Message], **sampling: object) -> Answer:
                nonlocal spent
                answer = await ask(expert, messages, final=True, **sampling)
                spent += answer.usage
                return answer

            return await aggregator.aggregate(request, answers, route, ask_again), answers, spent

        work = asyncio.create_task(combine())
        try:
            async for event in _until(work, events):
                yield event
            answer, answers, usage = await work
        finally:
            work.cancel()
        for part in answers:
            usage += part.usage
        latency = max((part.latency_s for part in answers), default=0.0)
        trace = Trace(request.id, route, tuple(answers), aggregator.kind, answer.support, usage)
        yield Finished(replace(answer, usage=usage, latency_s=max(latency, answer.latency_s)), trace)

    async def answer_all(self, requests: Sequence[Request]) -> AsyncGenerator[tuple[int, Answer, Trace | None]]:
        """Answer many requests, yielding each as it is done, by its place in the list.

        All are routed before any is asked, so the pool sees the whole work and loads each engine once.
        """
        routed: list[tuple[int, Request, Route]] = []
        for index, request in enumerate(requests):
            try:
                routed.append((index, request, self.route(request)))
            except CounterpointError as error:
                yield index, Answer("", self.name, finish_reason="error", error=str(error)), None

        async def one(index: int, request: Request, route: Route) -> tuple[int, Answer, Trace | None]:
            try:
                return (index, *await self.answer(request, route))
            except Exception as error:  # a fault in one request must not end the others
                return index, Answer.failed(self.name, " ".join(f"{type(error).__name__}: {error}".split())), None

        tasks = [asyncio.create_task(one(*entry)) for entry in routed]
        try:
            for done in asyncio.as_completed(tasks):
                yield await done
        finally:
            for task in tasks:
                task.cancel()


async def _until(work: asyncio.Task[object], events: asyncio.Queue[Written | Answer]) -> AsyncIterator[Written | Answer]:
    """Yield what comes while a task runs, and what is left when it ends."""
    while not work.done() or not events.empty():
        getter = asyncio.ensure_future(events.get())
        try:
            await asyncio.wait({getter, work}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not getter.done():
                getter.cancel()
        if getter.done() and not getter.cancelled():
            yield getter.result()


def one_question(text: str, id: str = "q", **options: object) -> Request:
    """Make a request of one user turn.

    Example:
        >>> one_question("What is 2 + 2?", k=1).question
        'What is 2 + 2?'
    """
    return replace(Request(id, (Message("user", text),), Sampling()), **options)  # type: ignore[arg-type]
