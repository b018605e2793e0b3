"""The calls of one request: sent to the pool, told of, and summed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import count

from data import tracing
from data.records import Answer, Call, Done, Message, Request, Route, Usage
from experts.abilities import LOGPROBS, abilities, needed
from experts.base import EngineError
from experts.pool import ExpertPool
from experts.shared import SharedPool
from serving.account import account
from serving.figures import Figures


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
        figures: Where what calls took is counted.

    Attributes:
        events: What happened, for whoever tells the caller.
        answers: All answers that were asked for by the aggregator.
        usage: Their sum.
        written: Experts whose words have gone out.
        instead: Experts that failed, each with the one that was asked in its place.
    """

    def __init__(
        self, pool: ExpertPool | SharedPool, request: Request, route: Callable[[str], Route], numbers: count[int], figures: Figures
    ) -> None:
        self.pool, self.request, self._route, self._numbers, self._figures = pool, request, route, numbers, figures
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.answers: list[Answer] = []
        self.usage = Usage()
        self.written: list[str] = []
        self.instead: dict[str, str] = {}

    async def __call__(self, expert: str, messages: Sequence[Message], *, final: bool = False, **sampling: object) -> Answer:
        """Ask one expert for the aggregator."""
        own = sampling if final else {"top_logprobs": None} | sampling  # tokens are told of what may become the answer
        answer = await self.call(expert, messages, final=final and not self.written, **own)  # the primary's words may have gone out
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
        if self.request.reachable is not None and expert not in self.request.reachable:
            return Answer.failed(expert, f"whoever asks may not ask {expert!r}")
        how = replace(self.request.sampling, **sampling)  # type: ignore[arg-type]
        if missing := needed(messages, how) - {LOGPROBS} - abilities(self.pool.specs[expert]):
            return Answer.failed(expert, f"the request needs {' and '.join(sorted(missing))}, which {expert!r} cannot")
        id = f"{self.request.id}/{next(self._numbers)}"
        with tracing.span(f"call {expert}", expert=expert, call_id=id) as span:
            began = time.monotonic()
            call = Call(id, expert, tuple(messages), how, self.request.batch, final and self.request.stream, traceparent=span.traceparent)
            try:
                answer = await self._streamed(call) if call.stream else await self.pool.answer(call)
            except EngineError as error:  # it has left the mixture since it was chosen
                answer = Answer.failed(expert, str(error), code="unavailable")
            self._note(answer, time.monotonic() - began, span)
            return answer

    def _note(self, answer: Answer, seconds: float, span: tracing.Span) -> None:
        """Count what a call took."""
        usage = answer.usage
        self._figures.called(answer.expert, usage)
        account().usage += usage
        waited = round(max(0.0, seconds - answer.latency_s), 6)  # what its engine did not take
        tokens = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
        span.set(waited_s=waited, finish_reason=answer.finish_reason, **tokens)
        if answer.error is not None:
            span.fail(answer.error_code or "failed")

    async def _streamed(self, call: Call) -> Answer:
        """Ask, and tell of the words as they come."""
        async with aclosing(self.pool.stream(call)) as pieces:
            async for event in pieces:
                if isinstance(event, Done):
                    return event.answer
                self.written.append(call.expert)
                self.events.put_nowait(Written(call.expert, event.text))
        raise AssertionError("a stream ends in Done")
