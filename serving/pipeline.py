"""The life of a request: route, ask, aggregate. One pipeline serves the page, the client, the endpoint and batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import date
from itertools import count
from pathlib import Path
from typing import Self

import numpy as np

from aggregator import Aggregator, make_aggregator
from data.records import Answer, Call, CounterpointError, Done, Message, Request, Route, Sampling, Trace, Usage
from experts.base import Overloaded
from experts.context import fits
from experts.pool import ExpertPool, PoolSettings
from router import FixedK, Policy, Router, load_router
from router.budget import Limits
from router.cards import Card, Situation
from router.policy import route_of
from router.preference import Preference
from serving.config import MixtureConfig, cards_of, expert_specs

TURNS = 32
"""Turns that are looked at to find where a conversation was routed; of a longer one, the latest."""


class RequestError(CounterpointError):
    """A request that cannot be answered as it stands."""


class ContextError(RequestError):
    """A request that no expert's context can hold."""


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
        cards: What policies know of the experts.
    """

    def __init__(
        self,
        pool: ExpertPool,
        router: Router | None,
        policy: Policy,
        aggregator: Aggregator,
        name: str = "counterpoint",
        cards: Mapping[str, Card] | None = None,
    ) -> None:
        self.pool = pool
        self.router = router
        self.policy = policy
        self.aggregator = aggregator
        self.name = name
        self.cards = dict(cards or {})
        self._numbers = count()

    @classmethod
    def of(cls, config: MixtureConfig, pool: PoolSettings | None = None) -> Self:
        """Make the pipeline that a config describes.

        Args:
            config: The mixture.
            pool: Other settings of the pool than the config's.

        Raises:
            CounterpointError: The router is absent or knows other experts.
        """
        experts = ExpertPool(expert_specs(config), pool or config.pool.build())
        return cls(experts, *cls._parts(config), config.name, cards_of(config, date.today()))

    @staticmethod
    def _parts(config: MixtureConfig) -> tuple[Router | None, Policy, Aggregator]:
        """The router, the policy and the aggregator of a config."""
        router = None if config.router is None else load_router(Path(config.router.path))
        names = [expert.name for expert in config.experts if expert.role == "routed"]
        if router is not None and (unknown := [name for name in names if name not in router.experts_]):
            raise RequestError(
                f"the router in {config.router.path if config.router else ''} was fitted without the expert {unknown[0]!r}; "
                "profile it and fit the router again, or take it out of the mixture"
            )
        policy = config.router.policy.build() if config.router else FixedK()
        settings = {} if config.aggregator.expert is None else {"expert": config.aggregator.expert}
        return router, policy, make_aggregator(config.aggregator.kind, **settings)

    async def reload(self, config: MixtureConfig) -> tuple[list[str], list[str]]:
        """Take over another config while running: experts and slots come and go, requests under way are answered.

        An expert whose settings have changed goes and comes again. The pool's other settings need a restart.

        Returns:
            The experts that came, and those that went.

        Raises:
            CounterpointError: The config cannot be used; all stays as it was.
        """
        parts = self._parts(config)
        wanted = {spec.name: spec for spec in expert_specs(config)}
        gone = [name for name, spec in self.pool.specs.items() if wanted.get(name) != spec]
        new = [spec for name, spec in wanted.items() if name in gone or name not in self.pool.specs]
        for spec in new:
            if spec.name not in gone:
                await self.pool.add_expert(spec)
        self.router, self.policy, self.aggregator = parts
        self.name, self.cards = config.name, cards_of(config, date.today())
        for name in gone:
            await self.pool.remove_expert(name)
        for spec in new:
            if spec.name in gone:
                await self.pool.add_expert(spec)
        self.pool.resize(config.pool.slots)
        return [spec.name for spec in new], gone

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
        if not request.question.strip():
            raise RequestError("the question is empty: wanted a user message with some text")
        return self._decide(request, self._last(request))

    def _decide(self, request: Request, last: Sequence[str]) -> Route:
        request = self._within_context(request)
        scores, reasons = self._scores(request.asked)
        return replace(self.policy.choose(request, scores, self._situation(request, last)), reasons=reasons)

    def _scores(self, text: str) -> tuple[dict[str, float], tuple[str, ...]]:
        """Every expert's score, and what speaks for them; experts that the router does not know count as average."""
        if self.router is None:
            return dict.fromkeys(self.pool, 1.0 / len(self.pool.specs)), ()
        known = dict(zip(self.router.experts_, self.router.scores([text])[0].tolist(), strict=True))
        average = sum(known.values()) / len(known)
        return {name: known.get(name, average) for name in self.pool}, self.router.reasons(text)

    def _within_context(self, request: Request) -> Request:
        """Take out the experts whose context cannot hold the prompt and the answer.

        Raises:
            ContextError: That leaves none.
        """
        small = [name for name, spec in self.pool.specs.items() if not fits(spec, request.messages, request.sampling)]
        if not small:
            return request
        cards = {name: self.cards.get(name, Card()) for name in self.pool}
        answering = [name for name, card in cards.items() if card.role != "constant" or card.matches(request.question)]
        allowed = [n for n in answering if (request.experts is None or n in request.experts) and n not in request.exclude]
        if allowed and all(name in small for name in allowed):
            largest = max(allowed, key=lambda name: self.pool.specs[name].max_model_len)
            held = self.pool.specs[largest].max_model_len
            raise ContextError(
                f"the prompt and its answer are too long for every expert that may answer: the context of {largest!r}, the largest, "
                f"holds {held} tokens; shorten the prompt or lower max_tokens"
            )
        return replace(request, exclude=tuple(dict.fromkeys((*request.exclude, *small))))

    def _situation(self, request: Request, last: Sequence[str]) -> Situation:
        """What the policy may know beside the scores: prices, the last turn's experts and, where it is wanted, who is loaded."""
        size = sum(len(message.content.encode("utf-8", "replace")) + 16 for message in request.messages) + 64
        cards = {}
        for name, spec in self.pool.specs.items():
            card = self.cards.get(name, Card())
            most = spec.cost_usd(size + len((spec.system or "").encode()), spec.limit(request.sampling)) if any(spec.price) else 0.0
            cards[name] = replace(card, usd=most) if most else card
        return Situation(cards, self.pool.resident if self._preference.resident_within else frozenset(), tuple(last))

    @property
    def _preference(self) -> Preference:
        return getattr(self.policy, "preference", Preference())

    def _last(self, request: Request) -> tuple[str, ...]:
        """Where the conversation's turn before this one was routed: found again from the conversation, so nothing is stored."""
        last: tuple[str, ...] = ()
        if self._preference.sticky:
            turns = [at for at, message in enumerate(request.messages) if message.role == "user" and message.content.strip()]
            for at in turns[:-1][-TURNS:]:
                with suppress(CounterpointError):  # what this turn allows may have left an earlier one nobody
                    last = self._decide(replace(request, messages=request.messages[: at + 1]), last).experts
        return last

    def refusal(self, route: Route) -> Answer | None:
        """What a request would be told at once because none of its experts could start in time; None where one can."""
        waits = [self.pool.refused(name) for name in route.experts]
        if not waits or any(wait is None for wait in waits):
            return None
        late = Overloaded(route.primary, min(wait for wait in waits if wait is not None))
        return Answer.failed(self.name, str(late), code="overloaded", retry_after_s=late.retry_after_s)

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
        instead: dict[str, str] = {}
        written: list[str] = []  # experts whose words have gone out
        alone = len(route.experts) == 1 and not route.reserve  # its words are the answer's

        async def ask(expert: str, messages: Sequence[Message], *, final: bool = False, **sampling: object) -> Answer:
            how = replace(request.sampling, **sampling)  # type: ignore[arg-type]
            call = Call(f"{request.id}/{next(self._numbers)}", expert, tuple(messages), how, request.batch)
            if not final:
                return await self.pool.answer(call)
            async with aclosing(self.pool.stream(call)) as pieces:
                async for event in pieces:
                    if isinstance(event, Done):
                        return event.answer
                    written.append(expert)
                    events.put_nowait(Written(expert, event.text))
            raise AssertionError("a stream ends in Done")

        async def ask_expert(expert: str, sample: int) -> Answer:
            another = _another_sample(request.sampling, sample) if sample else {}
            answer = await ask(expert, request.messages, final=alone, **another)
            events.put_nowait(answer)
            if answer.error_code == "unavailable" and not written and (other := self._next_best(request, route, [*instead.values()])):
                instead[expert] = other
                second = await ask(other, request.messages, final=alone, **another)
                if second.error is not None:
                    return answer
                events.put_nowait(second)
                return second
            return answer

        async def ask_all(experts: Sequence[str]) -> list[Answer]:
            samples = [experts[:at].count(expert) for at, expert in enumerate(experts)]
            return await asyncio.gather(*(ask_expert(*entry) for entry in zip(experts, samples, strict=True)))

        async def combine() -> tuple[Answer, Sequence[Answer], Usage]:
            writer = getattr(aggregator, "expert", None)
            if writer is not None:
                self.pool.expect(writer)
            try:
                answers = await ask_all(route.experts)
            finally:
                if writer is not None:
                    self.pool.expect(writer, -1)
            spent = Usage()

            async def ask_again(expert: str, messages: Sequence[Message], **sampling: object) -> Answer:
                nonlocal spent
                answer = await ask(expert, messages, final=True, **sampling)
                spent += answer.usage
                return answer

            final = await aggregator.aggregate(request, answers, route, ask_again)
            if route.reserve and not stands(final, route.agreement):
                answers = [*answers, *await ask_all(route.reserve)]
                final = await aggregator.aggregate(request, answers, with_reserve(route), ask_again)
            return final, answers, spent

        work = asyncio.create_task(combine())
        try:
            async for event in _until(work, events):
                yield event
            answer, answers, usage = await work
        finally:
            work.cancel()
        for part in answers:
            usage += part.usage
        at = len(route.experts)  # the reserve was asked after the others had answered
        latency = sum(max((part.latency_s for part in group), default=0.0) for group in (answers[:at], answers[at:]))
        asked = with_reserve(route) if len(answers) > at else route
        if answer.error is not None and all(part.error_code == answers[0].error_code for part in answers):
            waits = [part.retry_after_s for part in answers if part.retry_after_s is not None]
            answer = replace(answer, error_code=answers[0].error_code, retry_after_s=min(waits, default=None))
        trace = Trace(request.id, asked, tuple(answers), aggregator.kind, answer.support, usage, tuple(instead.items()))
        yield Finished(replace(answer, usage=usage, latency_s=max(latency, answer.latency_s)), trace)

    def _next_best(self, request: Request, route: Route, taken: Sequence[str]) -> str | None:
        """The best expert that was not asked and may be, to stand in for one that fails."""
        asked = {*route.experts, *route.reserve, *taken, *request.exclude}
        for name in sorted(route.scores, key=lambda name: -route.scores[name]):
            allowed = request.experts is None or name in request.experts
            if allowed and name not in asked and self.cards.get(name, Card()).role == "routed":
                return name
        return None

    def plan(self, requests: Sequence[Request], choose: Callable[[np.ndarray], Sequence[Sequence[int]]]) -> dict[str, Route]:
        """Route one owner's batch as a whole.

        Args:
            requests: The batch; those that set their experts, their number, a budget or an objective are routed alone.
            choose: A policy of `router/batch_policy.py`: scores of all requests, shape (n, n_experts), to the experts of each.

        Returns:
            The route of each request that was planned, by its id.

        Raises:
            RequestError: The plan leaves requests without an expert, or the policy has limits that it could not keep.
        """
        if getattr(self.policy, "limits", Limits()) != Limits() or self._preference.objective:
            raise RequestError(
                "a plan of the whole batch keeps no limits and no objective: take them out of the policy, or route line by line"
            )
        cards = {name: self.cards.get(name, Card()) for name in self.pool}
        names = [name for name, card in cards.items() if card.role == "routed"]
        shared = [name for name, card in cards.items() if card.role == "shared"]
        planned: list[tuple[Request, dict[str, float], tuple[str, ...]]] = []
        for request in requests:
            own = (request.k, request.experts, request.budget_usd, request.max_latency_s, request.objective)
            constant = any(card.matches(request.question) for card in cards.values())
            if own == (None,) * 5 and not request.exclude and request.question.strip() and not constant:
                with suppress(ContextError):
                    if not self._within_context(request).exclude:
                        planned.append((request, *self._scores(request.asked)))
        if not planned:
            return {}
        chosen = choose(np.array([[scores[name] for name in names] for _, scores, _ in planned]))
        if empty := [entry[0].id for entry, experts in zip(planned, chosen, strict=True) if not experts]:
            raise RequestError(f"the budget of calls leaves {len(empty)} requests unasked, {empty[0]} among them: give more calls")
        return {
            request.id: replace(route_of([*(names[at] for at in experts), *shared], scores), reasons=reasons)
            for (request, scores, reasons), experts in zip(planned, chosen, strict=True)
        }

    async def answer_all(
        self, requests: Sequence[Request], routes: Mapping[str, Route] | None = None
    ) -> AsyncGenerator[tuple[int, Answer, Trace | None]]:
        """Answer many requests, yielding each as it is done, by its place in the list.

        All are routed before any is asked, so the pool sees the whole work and loads each engine once.

        Args:
            requests: The requests.
            routes: Routes that are known already, by the request's id.
        """
        routed: list[tuple[int, Request, Route]] = []
        for index, request in enumerate(requests):
            try:
                request = replace(request, batch=True)
                routed.append((index, request, (routes or {}).get(request.id) or self.route(request)))
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


def stands(answer: Answer, agreement: float) -> bool:
    """Whether an answer is good enough not to ask the reserve: there is one, and enough weight stands behind it.

    Example:
        >>> stands(Answer("4", "a", support=(("4", 1.0), ("5", 1.0))), 0.6)
        False
    """
    total = sum(weight for _, weight in answer.support)
    return answer.error is None and (total <= 0 or answer.support[0][1] >= agreement * total)


def with_reserve(route: Route) -> Route:
    """The route of everybody, once the reserve was asked, too."""
    experts = (*route.experts, *route.reserve)
    total = sum(route.scores[name] for name in experts)
    weights = tuple(route.scores[name] / total if total > 0 else 1 / len(experts) for name in experts)
    return replace(route, experts=experts, weights=weights, reserve=())


def _another_sample(sampling: Sampling, sample: int) -> dict[str, object]:
    """Settings of an expert's second and later answers to one question, so that they can differ from the first."""
    return {"temperature": sampling.temperature or 0.7, "seed": ((sampling.seed or 0) + sample) % 2**63}


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
