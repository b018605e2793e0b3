"""What the client gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of an answer, summed over all experts."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0

    @classmethod
    def of(cls, body: Mapping[str, Any] | None) -> Usage:
        """Read the wire's form."""
        body = body or {}
        return cls(*(int(body.get(name, 0)) for name in ("prompt_tokens", "completion_tokens", "total_tokens")))


@dataclass(frozen=True, slots=True)
class Route:
    """Who was asked, and why.

    Attributes:
        experts: The chosen experts, best first.
        weights: Their weights, which sum to 1.
        primary: The expert whose answer stands where nothing else decides.
        scores: Predicted probability of a right answer, for every expert.
        reasons: Lines that say what spoke for the scores.
    """

    experts: tuple[str, ...]
    weights: tuple[float, ...]
    primary: str
    scores: Mapping[str, float]
    reasons: tuple[str, ...] = ()

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Route:
        """Read the wire's form."""
        return cls(tuple(body["experts"]), tuple(body["weights"]), body["primary"], body["scores"], tuple(body.get("reasons", ())))


@dataclass(frozen=True, slots=True)
class ExpertAnswer:
    """What one expert said.

    Attributes:
        expert: Its name.
        text: Its answer, empty where `error` is set.
        error: Why it could not answer, or None.
        latency_s: Seconds that it took.
    """

    expert: str
    text: str
    error: str | None = None
    latency_s: float = 0.0

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> ExpertAnswer:
        """Read the wire's form."""
        return cls(body["expert"], body["text"], body.get("error"), float(body.get("latency_s", 0.0)))


@dataclass(frozen=True, slots=True)
class Explanation:
    """How an answer came about.

    Attributes:
        route: Who was asked, and why.
        answers: What each said.
        aggregator: Kind of the aggregator.
        support: Each distinct answer and its weight, heaviest first.
        degraded: Whether an expert failed and the others answered without it.
        cost_usd: Price of all calls, in US dollars.
    """

    route: Route
    answers: tuple[ExpertAnswer, ...]
    aggregator: str
    support: tuple[tuple[str, float], ...] = ()
    degraded: bool = False
    cost_usd: float = 0.0

    @classmethod
    def of(cls, body: Mapping[str, Any] | None) -> Explanation | None:
        """Read the wire's form."""
        if not body or "aggregator" not in body:
            return None
        answers = tuple(ExpertAnswer.of(answer) for answer in body["answers"])
        support = tuple((str(text), float(weight)) for text, weight in body.get("support", ()))
        return cls(Route.of(body["route"]), answers, body["aggregator"], support, bool(body["degraded"]), float(body["cost_usd"]))


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer.

    Attributes:
        id: The endpoint's name for it.
        text: The answer.
        finish_reason: `stop` or `length`.
        usage: Tokens of all calls.
        explanation: How it came about, where it was asked for.
    """

    id: str
    text: str
    finish_reason: str
    usage: Usage = field(default_factory=Usage)
    explanation: Explanation | None = None

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Completion:
        """Read the wire's form."""
        choice = body["choices"][0]
        explanation = Explanation.of(body.get("counterpoint"))
        return cls(body["id"], choice["message"]["content"] or "", choice["finish_reason"], Usage.of(body.get("usage")), explanation)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a streamed answer: text, or news of how it comes about.

    Attributes:
        text: New characters of the answer, or empty.
        route: Who is asked; comes first, where explanations are asked for.
        answer: What one expert said, as soon as it has.
        explanation: The whole account, at the end.
        finish_reason: Set on the last piece of text.
        usage: Tokens of all calls, at the end.
    """

    text: str = ""
    route: Route | None = None
    answer: ExpertAnswer | None = None
    explanation: Explanation | None = None
    finish_reason: str | None = None
    usage: Usage | None = None

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Chunk:
        """Read the wire's form."""
        choice: Mapping[str, Any] = next(iter(body.get("choices") or ()), {})
        ours = body.get("counterpoint") or {}
        return cls(
            text=(choice.get("delta") or {}).get("content") or "",
            route=Route.of(ours["route"]) if "route" in ours and "aggregator" not in ours else None,
            answer=ExpertAnswer.of(ours["answer"]) if "answer" in ours else None,
            explanation=Explanation.of(ours),
            finish_reason=choice.get("finish_reason"),
            usage=Usage.of(body["usage"]) if body.get("usage") else None,
        )
