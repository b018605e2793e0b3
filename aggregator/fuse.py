"""Fusion: an LLM reads the experts' answers and writes one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from aggregator.base import Aggregator, Ask, chosen, degraded, fallen, none_usable, usable
from aggregator.quoting import GUARD, below, numbered
from data.records import Answer, Message, Request, Route

INSTRUCTION = (
    f"Several assistants answered the user's last message; their answers follow. {GUARD} Weigh them against each other and write "
    "the one best answer to the user, short and complete, in the form that the user asked for. Do not mention the assistants."
)


class Fuse(Aggregator):
    """Let one expert write the answer from the answers; where it fails, the primary's answer stands.

    Args:
        expert: The expert that writes, or None for the route's primary.

    Source:
        Wang et al. 2024, Mixture-of-Agents, arXiv:2406.04692 (the aggregator; the prompt is ours).
    """

    kind: ClassVar[str] = "fuse"
    llm: bool = True

    def __init__(self, expert: str | None = None) -> None:
        self.expert = expert

    def messages(self, request: Request, answers: Sequence[Answer]) -> list[Message]:
        """Write the prompt: the conversation, with the answers quoted below the last question."""
        return below(request, f"{INSTRUCTION}\n{numbered(answers)}")

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        """Ask for the fusion of at least two answers; a single one is given as it is."""
        good = usable(answers)
        if not good:
            return none_usable(answers)
        if len(good) == 1:
            return chosen(good[0], answers, [(good[0].text, 1.0)])
        fused = await ask(self.expert or route.primary, self.messages(request, good), final=True)
        if fused.error is not None or not fused.text.strip():
            return fallen(good, route, fused.usage)
        return Answer(fused.text, fused.expert, fused.usage, fused.finish_reason, fused.latency_s, degraded=degraded(answers))
