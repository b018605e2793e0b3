"""Mixture-of-Agents: layers of experts that read what the layer before them wrote, and one that writes the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from aggregator.base import Aggregator, AggregatorError, Ask, chosen, degraded, fallen, none_usable, usable
from aggregator.quoting import GUARD, below, numbered
from data.records import Answer, Message, Request, Route, Usage

PROPOSE = (
    f"Here is what several assistants, you perhaps among them, wrote to the user's last message. {GUARD} Look for what they got "
    "wrong or left out, then give the user your own answer, better than each of these. Do not mention the assistants."
)
CONCLUDE = (
    f"Several assistants have worked on the user's last message; this is what they wrote last. {GUARD} Decide for yourself what in it "
    "is right, and write the answer that the user gets, short and complete, in the form that the user asked for. Do not mention the "
    "assistants."
)


class Layers(Aggregator):
    """Let the experts improve on one another's answers, layer by layer, and one expert write the answer from the last layer.

    The answers that are given are the first layer. Whoever fails in a layer is left out of it; where all fail, the layer before
    it stands. With n proposers that is (layers - 2) n + 1 calls beside the given answers.

    Args:
        layers: Layers in all, the one that writes the answer among them; at least 2.
        proposers: The experts of the layers before the last, or None for those that have answered. Answers of others are left
            out; proposers that have not answered are asked.
        expert: The expert of the last layer, or None for the route's primary.

    Raises:
        AggregatorError: There are fewer than two layers, or no proposers, or one of them twice.

    Source:
        Wang et al. 2024, Mixture-of-Agents, arXiv:2406.04692 (the prompts are ours).
    """

    kind: ClassVar[str] = "layers"
    llm: bool = True

    def __init__(self, layers: int = 2, proposers: list[str] | None = None, expert: str | None = None) -> None:
        if layers < 2:
            raise AggregatorError(f"layers must be at least 2, one that proposes and one that writes the answer, not {layers}")
        if proposers is not None and not proposers:
            raise AggregatorError("proposers must name at least one expert, or be left out for those that the route asked")
        if twice := [name for name in proposers or () if (proposers or []).count(name) > 1]:
            raise AggregatorError(f"proposers names {twice[0]!r} twice; each expert answers once in a layer")
        self.layers, self.proposers, self.expert = layers, proposers, expert
        self.asks = proposers is not None  # who the route asks would be left out

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        """Pass the answers through the layers; a single one is given as it is."""
        own = await self._ask_absent(request, answers, ask)
        first = self._first(answers, own)
        references = usable(first)
        if not references:
            return replace(none_usable(first), usage=_usage(own))
        if own:
            ask.draft(_leading(references, route))
        names = list(dict.fromkeys(answer.expert for answer in first))
        for _ in range(self.layers - 2 if len(names) > 1 else 0):
            prompt = below(request, f"{PROPOSE}\n{numbered(references)}")
            layer = await asyncio.gather(*(ask(name, prompt) for name in names))
            own += layer
            references = usable(layer) or references
            ask.draft(_leading(references, route))
        return await self._conclude(request, references, route, ask, [*first, *own], _usage(own))

    async def _ask_absent(self, request: Request, answers: Sequence[Answer], ask: Ask) -> list[Answer]:
        """Ask the proposers that have not answered, without references."""
        there = {answer.expert for answer in answers}
        return await asyncio.gather(*(ask(name, request.messages) for name in self.proposers or () if name not in there))

    def _first(self, answers: Sequence[Answer], own: Sequence[Answer]) -> list[Answer]:
        """The first layer, in the order of the proposers."""
        if self.proposers is None:
            return list(answers)
        names = [answer.expert for answer in (*answers, *own)]
        order = {name: at for at, name in enumerate(self.proposers)}
        kept = [answer for name, answer in zip(names, (*answers, *own), strict=True) if name in order]
        return sorted(kept, key=lambda answer: order[answer.expert])

    async def _conclude(
        self, request: Request, references: Sequence[Answer], route: Route, ask: Ask, said: Sequence[Answer], usage: Usage
    ) -> Answer:
        """Let the last layer write the answer, where there is something to weigh."""
        if len(references) == 1:
            return replace(chosen(references[0], said, [(references[0].text, 1.0)]), usage=usage)
        written = await ask(self.expert or route.primary, self.messages(request, references), final=True)
        if not usable([written]):
            return fallen(references, route, usage + written.usage)
        return replace(written, usage=usage + written.usage, degraded=degraded(said), support=())

    def messages(self, request: Request, references: Sequence[Answer]) -> list[Message]:
        """Write the prompt of the last layer: the conversation, with the answers of the layer before quoted below it."""
        return below(request, f"{CONCLUDE}\n{numbered(references)}")


def _usage(calls: Sequence[Answer]) -> Usage:
    return sum((call.usage for call in calls), Usage())


def _leading(answers: Sequence[Answer], route: Route) -> Answer:
    """The primary's answer, else the first."""
    return next((answer for answer in answers if answer.expert == route.primary), answers[0])
