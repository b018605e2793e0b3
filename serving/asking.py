"""The calls of one request: sent to the pool, told of, and summed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import count

from data.records import Answer, Call, Done, Message, Request, Route, Usage
from experts.pool import ExpertPool


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
class Draft:
    """How the answer stands, before it is final.

    Attributes:
        answer: The answer so far.
    """

    answer: Answer


Event = Written | Draft | Answer
"""What happens while a request is answered."""


class Asking:
    """What aggregators ask by: calls through the pool, for one request.

    Args:
        pool: The experts.
        request: What is asked.
        route: Routes a part of the request.
        numbers: Numbers the calls.

    Attributes:
        events: What happened, for whoever tells the caller.
        answers: All answers that were asked for by the aggregator.
        usage: Their sum.
        written: Experts whose words have gone out.
        instead: Experts that failed, each with the one that was asked in its place.
    """

    def __init__(self, pool: ExpertPool, request: Request, route: Callable[[str], Route], numbers: count[int]) -> None:
        self.pool, self.request, self._route, self._numbers = pool, request, route, numbers
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.answers: list[Answer] = []
        self.usage = Usage()
        self.written: list[str] = []
        self.instead: dict[str, str] = {}

    async def __call__(self, expert: str, messages: Sequence[Message], *, final: bool = False, **sampling: object) -> Answer:
        """Ask one expert for the aggregator."""
        answer = await self.call(expert, messages, final=final and not self.written, **sampling)  # the primary's words may have gone out
        self.answers.append(answer)
        self.usage += answer.usage
        return answer

    def route(self, text: str) -> Route:
        """Say whom the mixture would ask a part of the request."""
        return self._route(text)

    def draft(self, answer: Answer) -> None:
        """Tell how the answer stands."""
        self.events.put_nowait(Draft(answer))

    def told(self, answer: Answer) -> Answer:
        """Tell of an expert's answer."""
        self.events.put_nowait(answer)
        return answer

    async def call(self, expert: str, messages: Sequence[Message], *, final: bool = False, **sampling: object) -> Answer:
        """Ask one expert, its words streamed where they are the answer's."""
        if expert in self.request.denied:
            return Answer.failed(expert, f"whoever asks may not ask {expert!r}")
        how = replace(self.request.sampling, **sampling)  # type: ignore[arg-type]
        call = Call(f"{self.request.id}/{next(self._numbers)}", expert, tuple(messages), how, self.request.batch, final)
        if not final:
            return await self.pool.answer(call)
        async with aclosing(self.pool.stream(call)) as pieces:
            async for event in pieces:
                if isinstance(event, Done):
                    return event.answer
                self.written.append(expert)
                self.events.put_nowait(Written(expert, event.text))
        raise AssertionError("a stream ends in Done")
