"""Who may come in, with what, and what is kept of it: keys, limits, spend, traces, feedback."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from aggregator import Aggregator
from data.records import Answer, CounterpointError, Request, Route, Trace, Usage
from experts.base import ExpertSpec
from experts.chat import turn
from serving.cache import cached_json
from serving.config import ServingConfig
from serving.control import SharedBuckets
from serving.forgetting import expire_journals, journals_of
from serving.keys import LOCAL, Key, Keys
from serving.limits import Admission, Limiter
from serving.protocol import Asked, explain_json
from serving.store import Store, default_url
from serving.tables import StoredTrace

DAY_S = 86_400.0
LOST_DAYS = 7
"""Days after which what was set aside by a process that ended counts as spent; no batch lasts as long."""
ROUNDS = 3
"""Times that an aggregator which asks an LLM is taken to spend what the experts' own answers can take, when a request is let in."""


class Door:
    """What stands between the wire and the pipeline.

    Without keys everybody is one and the same nobody, and without a store nothing is kept.

    Args:
        config: Where the store is, whether keys are wanted, and what is kept of texts.
        buckets: Where requests and tokens are counted; None is this process.

    Raises:
        CounterpointError: The store cannot be opened.
    """

    def __init__(self, config: ServingConfig, buckets: SharedBuckets | None = None) -> None:
        self.config = config
        url = config.store or (default_url() if config.keys else None)
        self.store = None if url is None else Store(url)
        self.keys = None if self.store is None else Keys(self.store)
        self.limiter = None if self.store is None or not config.keys else Limiter(self.store, buckets)
        self._local: Key | None = None
        if self.store is not None:
            self.store.book_holds(time.time() - LOST_DAYS * DAY_S)

    def close(self) -> None:
        """Close the store."""
        if self.store is not None:
            self.store.close()

    async def key(self, header: str | None) -> Key:
        """Who asks, by the header `Authorization`.

        Raises:
            Unauthorised: Keys are wanted, and it holds none that opens anything.
        """
        if self.keys is None:
            return Key(LOCAL, "without a key")
        if self.config.keys:
            return self.keys.authorise(header) if self.keys.at_hand(header) else await asyncio.to_thread(self.keys.authorise, header)
        if self._local is None:
            self._local = await asyncio.to_thread(self.keys.local)
        return self._local

    def requests(self, key: Key, asked: Asked, id: str, mixture: str, experts: Sequence[str]) -> list[Request]:
        """What a body asks, as its key may ask it; of experts that the key may not reach it is told no name.

        Args:
            key: Who asks.
            asked: The body.
            id: The id of its answer.
            mixture: The mixture's name.
            experts: The mixture's experts.

        Raises:
            CounterpointError: It names a model or an expert that is not there for its key.
        """
        open_ = [name for name in experts if key.allows(name)]
        return [self.narrowed(key, request, experts) for request in asked.records(id, mixture, open_)]

    def narrowed(self, key: Key, request: Request, experts: Sequence[str]) -> Request:
        """A request as its key may ask it: of the experts that it may reach, in its owner's name.

        Raises:
            CounterpointError: It names an expert that its key may not ask, or leaves none.
        """
        owner = key.id if self.config.keys else None
        if named := [name for name in request.experts or () if name in experts and not key.allows(name)]:
            raise CounterpointError(f"this key may not ask {named[0]!r}")
        reachable = tuple(name for name in experts if key.allows(name))
        if not reachable:
            raise CounterpointError("this key may ask none of the mixture's experts")
        if len(reachable) == len(experts) and key.allowed_experts is None:
            return replace(request, owner=owner)
        exclude = tuple(dict.fromkeys((*request.exclude, *(name for name in experts if name not in reachable))))
        return replace(request, exclude=exclude, reachable=reachable, owner=owner)

    async def admit(
        self, key: Key, requests: Sequence[Request], routes: Sequence[Route], aggregator: Aggregator, specs: Mapping[str, ExpertSpec]
    ) -> Admission | None:
        """Let requests in together, and set aside the most that they can take; None where nothing is counted.

        Raises:
            LimitError: They would pass a limit of the key.
        """
        if self.limiter is None:
            return None
        most = sum((most_of(request, route, aggregator, specs) for request, route in zip(requests, routes, strict=True)), Usage())
        tokens = most.prompt_tokens + most.completion_tokens
        return await asyncio.to_thread(self.limiter.admit, key, tokens=tokens, usd=most.cost_usd)

    async def settle(self, admission: Admission | None, usage: Usage) -> None:
        """Replace what was set aside by what was taken."""
        if admission is not None:
            await asyncio.to_thread(admission.settle, usage)

    async def keep(self, key: Key, request: Request, answer: Answer, trace: Trace) -> None:
        """Keep how an answer came about, the texts only where the config says so."""
        if self.store is None:
            return
        body = explain_json(answer, trace) | cached_json(trace) | {"finish_reason": answer.finish_reason, "error": answer.error}
        if self.config.keep_text:
            body |= {"messages": [turn(message) for message in request.messages], "text": answer.text}
        else:
            body = without_text(body)
        try:
            await asyncio.to_thread(self.store.add_trace, key.id, request.id, body, text=self.config.keep_text)
        except CounterpointError as error:  # the answer is there, and is worth more than its trace
            logging.getLogger(__name__).warning("the trace of %s is not kept: %s", request.id, error)

    async def trace(self, key: Key, id: str) -> StoredTrace | None:
        """How one of a key's own answers came about; None where it has none of that id."""
        return None if self.store is None else await asyncio.to_thread(self.store.trace, key.id, id)

    async def feedback(self, key: Key, id: str, score: float, comment: str | None) -> bool:
        """Keep what somebody thinks of an answer of theirs, and say whether there is such an answer.

        Raises:
            StoreError: The score is not from 0 to 1.
        """
        if self.store is None or await self.trace(key, id) is None:
            return False
        await asyncio.to_thread(self.store.add_feedback, key.id, id, score, comment)
        return True

    async def tidy(self) -> None:
        """Delete what is older than the config keeps it."""
        if self.store is not None:
            before = time.time() - self.config.keep_days * DAY_S
            await asyncio.to_thread(self.store.expire, before)
            await asyncio.to_thread(expire_journals, self.store, journals_of(self.config.store), before)


def most_of(request: Request, route: Route, aggregator: Aggregator, specs: Mapping[str, ExpertSpec]) -> Usage:
    """The most that a request can take, as far as that can be known before it is answered.

    Of an expert that fails, another may take the place; whoever answers what does not fit a schema or the tools is paid all the same.
    What an aggregator will ask is not known: one that asks an LLM is taken to spend `ROUNDS` times what the experts' own answers can,
    and what it spends beyond that is counted when it has.

    Example:
        >>> specs = {"a": ExpertSpec("a", "m", "openai", price=(1.0, 2.0), max_tokens=100)}
        >>> from aggregator import Vote
        >>> from data.records import Message
        >>> most_of(Request("r", (Message("user", "Hi"),)), Route(("a",), (1.0,), "a", {"a": 1.0}), Vote(), specs)
        Usage(prompt_tokens=82, completion_tokens=100, cost_usd=0.000282, calls=1)
    """
    chosen = (*route.experts, *route.reserve)
    most = {name: spec.most(request.messages, request.sampling) for name, spec in specs.items()}
    others = [name for name in most if name not in (*chosen, *request.exclude) and (request.experts is None or name in request.experts)]
    other = _larger([most[name] for name in others])
    total = Usage()
    for name in chosen:
        total += replace(most[name] + other, calls=1) if request.structured else _larger([most[name], other])
    return sum((total for _ in range(ROUNDS + 1 if aggregator.llm else 1)), Usage())


def _larger(usages: Sequence[Usage]) -> Usage:
    """The most of each that one call can take, whoever answers it."""
    return Usage(
        max((usage.prompt_tokens for usage in usages), default=0),
        max((usage.completion_tokens for usage in usages), default=0),
        max((usage.cost_usd for usage in usages), default=0.0),
        calls=1,
    )


def without_text(body: dict[str, Any]) -> dict[str, Any]:
    """An account without what was asked and answered: figures and names only."""
    texts = ("text", "error", "tool_calls")
    answers = [{name: value for name, value in answer.items() if name not in texts} for answer in body["answers"]]
    route = {name: value for name, value in body["route"].items() if name != "reasons"}  # they may quote training questions
    failed = {"error": None if body["error"] is None else "failed"}  # a server's own words may quote the prompt
    return body | failed | {"answers": answers, "route": route, "support": [weight for _, weight in body["support"]]}
