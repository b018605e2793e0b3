"""Self-MoA: several samples of the one best expert, and one answer written from them, at once or window by window."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from aggregator.base import Aggregator, AggregatorError, Ask, chosen, degraded, fallen, none_usable, usable
from aggregator.quoting import GUARD, below, numbered
from data.records import Answer, Message, Request, Route, Usage

INSTRUCTION = (
    f"The user's last message was answered several times over; these attempts follow. {GUARD} Where they differ, find out which is "
    "right, and write one answer that keeps what is good in them, short and complete, in the form that the user asked for. Do not "
    "mention the attempts."
)


class SelfMoA(Aggregator):
    """Draw samples of one expert and let it write the answer from them.

    Given answers are taken for the samples. A sample that fails is left out; where the writing fails, the first one stands.

    Args:
        samples: Number of samples, at least 1.
        temperature: Their temperature, above 0 and at most 2; a request that samples by itself keeps its own for the first.
        expert: The expert, or None for the route's primary.

    Attributes:
        asks: It is given no answers, but asks.

    Raises:
        AggregatorError: There are no samples, or they would be all the same.

    Source:
        Li et al. 2025, Rethinking Mixture-of-Agents, arXiv:2502.00674 (Self-MoA; the prompt is ours).
    """

    kind: ClassVar[str] = "self"
    llm: bool = True
    asks: bool = True

    def __init__(self, samples: int = 6, temperature: float = 0.7, expert: str | None = None) -> None:
        if samples < 1:
            raise AggregatorError(f"samples must be at least 1, not {samples}")
        if not 0 < temperature <= 2:
            raise AggregatorError(f"temperature must be above 0, where samples differ, and at most 2, not {temperature}")
        self.samples, self.temperature, self.expert = samples, temperature, expert

    def messages(self, request: Request, samples: Sequence[Answer]) -> list[Message]:
        """Write the prompt: the conversation, with the samples quoted below it."""
        return below(request, f"{INSTRUCTION}\n{numbered(samples)}")

    async def draw(self, request: Request, expert: str, ask: Ask) -> list[Answer]:
        """Sample the expert, all samples at once; a single one is the answer."""
        only = self.samples == 1
        return await asyncio.gather(
            *(ask(expert, request.messages, final=only, **self._sampling(request, at)) for at in range(self.samples))
        )

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        """Write one answer from the samples; a single one is given as it is."""
        expert = self.expert or route.primary
        drawn = [] if answers else await self.draw(request, expert, ask)
        samples = list(answers) or drawn
        usage = sum((sample.usage for sample in drawn), Usage())
        good = usable(samples)
        if not good:
            return replace(none_usable(samples), usage=usage)
        if len(good) == 1:
            return replace(chosen(good[0], samples, [(good[0].text, 1.0)]), usage=usage)
        if drawn:
            ask.draft(good[0])
        best, calls = await self._written(request, good, route, expert, ask)
        usage = sum((call.usage for call in calls), usage)
        fell = degraded(samples) or len(usable(calls)) < len(calls)
        return Answer(best.text, best.expert, usage, best.finish_reason, best.latency_s, degraded=fell)

    async def _written(
        self, request: Request, good: Sequence[Answer], route: Route, expert: str, ask: Ask
    ) -> tuple[Answer, Sequence[Answer]]:
        """Write one answer from at least two; give it, and all calls that this took."""
        written = await ask(expert, self.messages(request, good), final=True)
        return (written if usable([written]) else fallen(good, route, Usage())), [written]

    def _sampling(self, request: Request, at: int) -> dict[str, object]:
        """What a sample's draw has of its own."""
        if at == 0 and request.sampling.temperature > 0:
            return {}
        return {"temperature": self.temperature, "seed": ((request.sampling.seed or 0) + at) % 2**63}


class SelfMoASeq(SelfMoA):
    """Draw samples of one expert and let it merge them window by window, so that any number fits its context.

    The first sample is the answer so far. Each window holds it in the reserved places, repeated so that the new samples do not
    outweigh it, and new samples in the others; what is written from the window is the answer so far. With n samples that is
    ceil((n - 1) / (window - reserved)) calls. A window whose writing fails leaves the answer as it was.

    Args:
        samples: Number of samples, at least 1.
        temperature: Their temperature, above 0 and at most 2; a request that samples by itself keeps its own for the first.
        expert: The expert, or None for the route's primary.
        window: Most answers that one prompt quotes.
        reserved: Places of these that hold the answer so far, at least 1 and fewer than the window's.

    Raises:
        AggregatorError: There are no samples, or they would be all the same, or a window has no place for one.

    Source:
        Li et al. 2025, Rethinking Mixture-of-Agents, arXiv:2502.00674 (Self-MoA-Seq; the prompt is ours).
    """

    kind: ClassVar[str] = "self-seq"

    def __init__(self, samples: int = 6, temperature: float = 0.7, expert: str | None = None, window: int = 6, reserved: int = 3) -> None:
        super().__init__(samples, temperature, expert)
        if not 1 <= reserved < window:
            raise AggregatorError(f"reserved must be at least 1 and less than window, which is {window}, not {reserved}")
        self.window, self.reserved = window, reserved

    async def _written(
        self, request: Request, good: Sequence[Answer], route: Route, expert: str, ask: Ask
    ) -> tuple[Answer, Sequence[Answer]]:
        """Merge one window after the other; only the last one's words are the answer's."""
        best, *unseen = good
        calls: list[Answer] = []
        while unseen:
            fresh, unseen = unseen[: self.window - self.reserved], unseen[self.window - self.reserved :]
            calls.append(await ask(expert, self.messages(request, [best] * self.reserved + fresh), final=not unseen))
            best = calls[-1] if usable(calls[-1:]) else best
            if unseen:
                ask.draft(best)
        return best, calls
