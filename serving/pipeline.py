"""The life of a request: route, ask, aggregate. One pipeline serves the page, the client, the endpoint and batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import date
from itertools import count
from pathlib import Path
from typing import Self, TypedDict

import numpy as np

from aggregator import Aggregator, Choosing, Structured, make_aggregator
from aggregator.base import with_reserve
from aggregator.forms import same
from data import tracing
from data.records import Answer, CounterpointError, Message, Request, Route, Sampling, TokenLogprob, Trace
from experts.abilities import ABILITIES, abilities, needed
from experts.base import Overloaded
from experts.context import fits
from experts.pool import ExpertPool, PoolSettings
from experts.shared import SharedPool
from router import FixedK, Policy, Router, load_router
from router.budget import Limits, budget_tokens
from router.cards import Card, Situation
from router.policy import route_of
from router.preference import Preference
from serving.account import account, open_account
from serving.asking import Asking, Event
from serving.config import MixtureConfig, cards_of, expert_specs
from serving.figures import Figures
from serving.fitness import UNFIT, as_asked
from serving.patience import all_of

PAUSE = 20
"""Requests of a batch that are routed before others have their turn."""
TURNS = 32
"""Turns that are looked at to find where a conversation was routed; of a longer one, the latest."""


class RequestError(CounterpointError):
    """A request that cannot be answered as it stands."""


class AbilityError(RequestError):
    """A request that needs what no expert can."""


class ContextError(RequestError):
    """A request that no expert's context can hold."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a request.

    Attributes:
        answer: The mixture's answer; its usage sums all calls.
        trace: How it came about.
    """

    answer: Answer
    trace: Trace


Progress = Route | Event | Finished
"""What happens to a request, in order: its route, pieces of text, each expert's answer, drafts, the end."""


class _Manner(TypedDict):
    primary_first: bool
    tokens: tuple[int, int] | None


class Pipeline:
    """Answer requests by a mixture.

    Args:
        pool: The experts; started and stopped by `async with`.
        router: Predicts who is right, or None: all are equally likely.
        policy: Chooses by these predictions.
        aggregator: Combines, where a request asks for no other.
        name: The mixture's name.
        cards: What policies know of the experts.
        primary_first: Whether the primary's words are streamed as they come, and corrected where the combined answer differs.
        tokens: Limits of an expert's answer where the caller gives none: on the easiest questions, and on the hardest.
    """

    def __init__(
        self,
        pool: ExpertPool | SharedPool,
        router: Router | None,
        policy: Policy,
        aggregator: Aggregator,
        name: str = "counterpoint",
        cards: Mapping[str, Card] | None = None,
        *,
        primary_first: bool = False,
        tokens: tuple[int, int] | None = None,
    ) -> None:
        self.pool = pool
        self.router = router
        self.policy = policy
        self.aggregator = aggregator
        self.name = name
        self.cards = dict(cards or {})
        self.primary_first = primary_first
        self.tokens = tokens
        self.figures = Figures()
        self._numbers = count()

    @classmethod
    def of(cls, config: MixtureConfig, pool: PoolSettings | ExpertPool | SharedPool | None = None) -> Self:
        """Make the pipeline that a config describes.

        Args:
            config: The mixture.
            pool: A pool that is there already, or other settings than the config's for the one that is made.

        Raises:
            CounterpointError: The router is absent or knows other experts.
        """
        tracing.start(config.serving.otlp)  # before the pool: slots are told where spans go
        if pool is None or isinstance(pool, PoolSettings):
            pool = ExpertPool(expert_specs(config), pool or config.pool.build())
        return cls(pool, *cls._parts(config), config.name, cards_of(config, date.today()), **cls._manner(config))

    @staticmethod
    def _manner(config: MixtureConfig) -> _Manner:
        """How answers are given, beside what they are."""
        tokens = None if config.router is None else config.router.max_tokens
        return {"primary_first": config.aggregator.primary_first, "tokens": None if tokens is None else (tokens.easy, tokens.hard)}

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
        return router, policy, config.aggregator.build()

    async def begin_reload(self, config: MixtureConfig) -> tuple[list[str], list[str]]:
        """Take over another config while running: its experts come, and from now on requests go by it.

        Experts that it no longer has, or has with other settings, are chosen no more; `end_reload` lets them go.

        Returns:
            The experts that came or come, and those that went or go.

        Raises:
            CounterpointError: The config cannot be used; all stays as it was.
        """
        parts = self._parts(config)
        wanted = {spec.name: spec for spec in expert_specs(config)}
        gone = [name for name, spec in self.pool.specs.items() if wanted.get(name) != spec]
        new = [spec for name, spec in wanted.items() if name in gone or name not in self.pool.specs]
        await self.pool.prepare([spec for spec in new if spec.name not in gone])
        self.router, self.policy, self.aggregator = parts
        self.primary_first, self.tokens = self._manner(config).values()  # type: ignore[assignment]
        self.name, self.cards = config.name, cards_of(config, date.today())
        self.pool.leave(gone)
        return [spec.name for spec in new], gone

    async def end_reload(self, config: MixtureConfig) -> None:
        """Let go what the config does not have, once it has answered its calls; the pool's other settings need a restart."""
        await self.pool.settle(expert_specs(config), config.pool.slots)

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
        self.aggregator_of(request)  # one that is not there is told before anything else
        if not request.question.strip():
            raise RequestError("the question is empty: wanted a user message with some text")
        return self._decide(request, self._last(request))

    def _decide(self, request: Request, last: Sequence[str]) -> Route:
        request = self._within_context(self._within_abilities(request))
        scores, reasons = self._scores(request.asked)
        route = self.policy.choose(request, scores, self._situation(request, last))
        roles = {name: self.cards.get(name, Card()).role for name in route.scores}
        known = {name: score for name, score in route.scores.items() if roles[name] != "constant" or name in route.experts}
        return replace(route, scores=known, reasons=reasons)  # what says always the same writes and judges nothing

    def _scores(self, text: str) -> tuple[dict[str, float], tuple[str, ...]]:
        """Every expert's score, and what speaks for them; experts that the router does not know count as average."""
        if self.router is None:
            return dict.fromkeys(self.pool, 1.0 / len(self.pool.specs)), ()
        known = dict(zip(self.router.experts_, self.router.scores([text])[0].tolist(), strict=True))
        average = sum(known.values()) / len(known)
        return {name: known.get(name, average) for name in self.pool}, self.router.reasons(text)

    def _within_abilities(self, request: Request) -> Request:
        """A request without the experts that cannot do what it needs.

        Raises:
            AbilityError: Nobody that it allows can.
        """
        needs = needed(request.messages, request.sampling)
        lacks = {name: needs - abilities(spec) for name, spec in self.pool.specs.items()} if needs else {}
        if not any(lacks.values()):
            return request
        allowed = self._answering(request)
        if allowed and all(lacks[name] for name in allowed):
            missing = frozenset.intersection(*(lacks[name] for name in allowed)) or needs
            raise AbilityError(
                f"the request needs {' and '.join(name for name in ABILITIES if name in missing)}, which no expert that may answer can: "
                f"{', '.join(allowed)}; `can` of an expert's config says what it can"
            )
        return replace(request, exclude=tuple(dict.fromkeys((*request.exclude, *(name for name in lacks if lacks[name])))))

    def _within_context(self, request: Request) -> Request:
        """Take out the experts whose context cannot hold the prompt and the answer.

        Raises:
            ContextError: That leaves none.
        """
        small = [name for name, spec in self.pool.specs.items() if not fits(spec, request.messages, request.sampling)]
        if not small:
            return request
        allowed = self._answering(request)
        if allowed and all(name in small for name in allowed):
            largest = max(allowed, key=lambda name: self.pool.specs[name].max_model_len)
            held = self.pool.specs[largest].max_model_len
            raise ContextError(
                "the prompt is too long: with its answer it exceeds the available context size of every expert that may answer; "
                f"the context of {largest!r}, the largest, holds {held} tokens; shorten the prompt or lower max_tokens"
            )
        return replace(request, exclude=tuple(dict.fromkeys((*request.exclude, *small))))

    def _answering(self, request: Request) -> list[str]:
        """Experts that may answer a request: those that it allows, but for constants that it does not match."""
        cards = {name: self.cards.get(name, Card()) for name in self.pool}
        answering = [name for name, card in cards.items() if card.role != "constant" or card.matches(request.question)]
        return [n for n in answering if (request.experts is None or n in request.experts) and n not in request.exclude]

    def _situation(self, request: Request, last: Sequence[str]) -> Situation:
        """What the policy may know beside the scores: prices, the last turn's experts and, where it is wanted, who is loaded."""
        cards = {}
        for name, spec in self.pool.specs.items():
            card = self.cards.get(name, Card())
            cards[name] = replace(card, usd=spec.most(request.messages, request.sampling).cost_usd) if any(spec.price) else card
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
        aggregator = self.aggregator_of(request).suited(request, route)
        yield route
        asking = Asking(self.pool, request, lambda text: self._part(request, text), self._numbers, self.figures)
        began = time.monotonic()
        work = asyncio.create_task(self._combined(request, route, aggregator, asking))
        try:
            async for event in _until(work, asking.events):
                yield event
            answer, route, waves = await work
        finally:
            work.cancel()
        answers = [part for wave in waves for part in wave]
        if request.sampling.top_logprobs is not None and not answer.tokens:
            answer = replace(answer, tokens=_tokens_of(answer, [*answers, *asking.answers]))
        usage = sum((part.usage for part in answers), asking.usage)
        latency = sum(max((part.latency_s for part in wave), default=0.0) for wave in waves)
        if aggregator.asks:
            answers, latency = asking.answers, time.monotonic() - began
        if answer.error is not None and answers and all(part.error_code == answers[0].error_code for part in answers):
            waits = [part.retry_after_s for part in answers if part.retry_after_s is not None]
            answer = replace(answer, error_code=answers[0].error_code, retry_after_s=min(waits, default=None))
        if answer.error is not None:
            account().error = answer.error_code or "upstream_error"
        trace = Trace(request.id, route, tuple(answers), aggregator.kind, answer.support, usage, tuple(asking.instead.items()))
        yield Finished(replace(answer, usage=usage, latency_s=max(latency, answer.latency_s)), trace)

    def aggregator_of(self, request: Request) -> Aggregator:
        """The aggregator that a request asks for, else the mixture's own; JSON and calls of tools are never written anew.

        Raises:
            AggregatorError: There is none of that name, or it writes where that cannot be.
        """
        if request.structured and request.aggregator is None:
            return Structured()
        own = request.aggregator is None or self.aggregator.is_called(request.aggregator)
        made = self.aggregator if own else make_aggregator(str(request.aggregator))
        return Choosing(made) if request.structured else made

    def learn(self, request_id: str, score: float) -> bool:
        """Let the aggregator learn how good an answer was, and say whether it did.

        Args:
            request_id: The request.
            score: From 0 to 1.
        """
        return self.aggregator.learn(request_id, score)

    async def _combined(
        self, request: Request, route: Route, aggregator: Aggregator, asking: Asking
    ) -> tuple[Answer, Route, list[list[Answer]]]:
        """Ask and aggregate, and ask the reserve as long as the aggregator wants more; give the answers wave by wave."""
        if aggregator.asks:
            return await self._aggregated(aggregator, request, (), route, asking), route, []
        if aggregator.expert is not None:
            self.pool.expect(aggregator.expert)
        try:
            answers = await self._ask_all(request, route, route.experts, asking)
        finally:
            if aggregator.expert is not None:
                self.pool.expect(aggregator.expert, -1)
        waves = [answers]
        final = await self._aggregated(aggregator, request, answers, route, asking)
        while route.reserve and (wanted := aggregator.more(request, answers, route, final)) > 0:
            asking.draft(final)
            waves.append(await self._ask_all(request, route, route.reserve[:wanted], asking))
            answers, route = [*answers, *waves[-1]], with_reserve(route, wanted)
            final = await self._aggregated(aggregator, request, answers, route, asking)
        first = next((part for part in answers if part.expert == route.primary), None)
        if self._streams_primary(request) and first is not None and same(request.question, first.text, final.text):
            final = replace(final, text=first.text)  # its words have gone out
        return final, route, waves

    async def _aggregated(
        self, aggregator: Aggregator, request: Request, answers: Sequence[Answer], route: Route, asking: Asking
    ) -> Answer:
        with tracing.span("aggregate", kind=aggregator.kind, answers=len(answers)), self.figures.aggregating(aggregator.kind):
            return await aggregator.aggregate(request, answers, route, asking)

    def _streams_primary(self, request: Request) -> bool:
        wanted = self.primary_first if request.primary_first is None else request.primary_first
        return wanted and not request.structured  # half of an object cannot be taken back

    async def _ask_all(self, request: Request, route: Route, experts: Sequence[str], asking: Asking) -> list[Answer]:
        """Ask experts the question itself; the second and later calls of one expert are further samples."""
        alone = len(route.experts) == 1 and not route.reserve  # its words are the answer's
        limit = {"max_tokens": self.limited(request, route).sampling.max_tokens}

        async def one(expert: str, sample: int) -> Answer:
            final = alone or (expert == route.primary and not sample and self._streams_primary(request))
            how = limit | (_another_sample(request.sampling, sample) if sample else {})
            final = final and request.sampling.schema is None  # a text is checked before it goes out
            answer = asking.told(await as_asked(await asking.call(expert, request.messages, final=final, **how), request.sampling))
            if answer.error_code not in ("unavailable", UNFIT) or expert in asking.written:
                return answer
            if (other := self._next_best(request, route, answer, [*asking.instead.values()])) is None:
                return answer
            asking.instead[expert] = other
            second = await as_asked(await asking.call(other, request.messages, final=final, **how), request.sampling)
            return answer if second.error is not None else asking.told(second)

        samples = [experts[:at].count(expert) for at, expert in enumerate(experts)]
        return await all_of([one(*entry) for entry in zip(experts, samples, strict=True)])

    def limited(self, request: Request, route: Route) -> Request:
        """A request with the limit of an answer that its route sets where its caller sets none."""
        if self.tokens is None or request.sampling.max_tokens is not None:
            return request
        limit = budget_tokens(1.0 - max(route.scores.values(), default=0.0), *self.tokens)
        return replace(request, sampling=replace(request.sampling, max_tokens=limit))

    def _part(self, request: Request, text: str) -> Route:
        """Route a part of a request under the request's own limits."""
        return self._decide(replace(request, messages=(Message("user", text),)), ())

    def _next_best(self, request: Request, route: Route, failed: Answer, taken: Sequence[str]) -> str | None:
        """The best expert that was not asked and may be, to stand in for one that fails; of a budget it may take that one's share."""
        chosen = (*route.experts, *route.reserve)
        asked = {*chosen, *taken, *request.exclude}
        needs = needed(request.messages, request.sampling)
        limits: Limits = getattr(self.policy, "limits", Limits())
        spare = limits.tightened(request.budget_usd, None).usd - sum(self._most_usd(request, name) for name in chosen)
        left = self._most_usd(request, failed.expert) - failed.usage.cost_usd + spare / len(chosen)
        for name in sorted(route.scores, key=lambda name: -route.scores[name]):
            allowed = request.experts is None or name in request.experts
            able = name not in self.pool.specs or needs <= abilities(self.pool.specs[name])
            fit = allowed and able and name not in asked and self.cards.get(name, Card()).role == "routed"
            if fit and self._most_usd(request, name) <= left:
                return name
        return None

    def _most_usd(self, request: Request, expert: str) -> float:
        spec = self.pool.specs.get(expert)
        return 0.0 if spec is None else spec.most(request.messages, request.sampling).cost_usd

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
                with suppress(AbilityError, ContextError):
                    if not self._within_context(self._within_abilities(request)).exclude:
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
            if index % PAUSE == 0:
                await asyncio.sleep(0)
            try:
                request = replace(request, batch=True)
                routed.append((index, request, (routes or {}).get(request.id) or self.route(request)))
            except CounterpointError as error:
                yield index, Answer("", self.name, finish_reason="error", error=str(error)), None

        async def one(index: int, request: Request, route: Route) -> tuple[int, Answer, Trace | None]:
            try:
                open_account()  # its own: what is noted of it is not the upload's
                with tracing.span("request", root=True, request_id=request.id, batch=True, experts=route.experts, k=len(route.experts)):
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


def _tokens_of(answer: Answer, answers: Sequence[Answer]) -> tuple[TokenLogprob, ...]:
    """The tokens of an answer that is exactly what an expert said, its own expert's first; else none."""
    same = [part for part in answers if part.tokens and part.error is None and part.text == answer.text]
    return next((part.tokens for part in same if part.expert == answer.expert), same[0].tokens if same else ())


def _another_sample(sampling: Sampling, sample: int) -> dict[str, object]:
    """Settings of an expert's second and later answers to one question, so that they can differ from the first."""
    return {"temperature": sampling.temperature or 0.7, "seed": ((sampling.seed or 0) + sample) % 2**63}


async def _until(work: asyncio.Task[object], events: asyncio.Queue[Event]) -> AsyncIterator[Event]:
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
