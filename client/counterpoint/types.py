"""What the client gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from counterpoint.structured import TokenLogprob, ToolCall


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
        reserve: Who is asked next where the answers fail or disagree, in order.
        regret: Mean predicted probability that was given up for a price, or for an expert that is at hand.
    """

    experts: tuple[str, ...]
    weights: tuple[float, ...]
    primary: str
    scores: Mapping[str, float]
    reasons: tuple[str, ...] = ()
    reserve: tuple[str, ...] = ()
    regret: float = 0.0

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Route:
        """Read the wire's form."""
        return cls(
            tuple(body["experts"]),
            tuple(body["weights"]),
            body["primary"],
            body["scores"],
            tuple(body.get("reasons", ())),
            tuple(body.get("reserve", ())),
            float(body.get("regret", 0.0)),
        )


@dataclass(frozen=True, slots=True)
class ExpertAnswer:
    """What one expert said.

    Attributes:
        expert: Its name.
        text: Its answer, empty where `error` is set or texts are not kept.
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
        return cls(body["expert"], body.get("text", ""), body.get("error"), float(body.get("latency_s", 0.0)))


@dataclass(frozen=True, slots=True)
class Explanation:
    """How an answer came about.

    Attributes:
        route: Who was asked, and why.
        answers: What each said.
        aggregator: Kind of the aggregator.
        support: Each distinct answer and its weight, heaviest first; the answers are empty where texts are not kept.
        degraded: Whether an expert failed and the others answered without it.
        cost_usd: Price of all calls, in US dollars.
        instead: Experts that failed, each with the one that was asked in its place.
        calls: Number of calls to experts.
    """

    route: Route
    answers: tuple[ExpertAnswer, ...]
    aggregator: str
    support: tuple[tuple[str, float], ...] = ()
    degraded: bool = False
    cost_usd: float = 0.0
    instead: tuple[tuple[str, str], ...] = ()
    calls: int = 0

    @classmethod
    def of(cls, body: Mapping[str, Any] | None) -> Explanation | None:
        """Read the wire's form."""
        if not body or "aggregator" not in body:
            return None
        answers = tuple(ExpertAnswer.of(answer) for answer in body["answers"])
        pairs = (pair if isinstance(pair, (list, tuple)) else ("", pair) for pair in body.get("support", ()))
        return cls(
            Route.of(body["route"]),
            answers,
            body["aggregator"],
            tuple((str(text), float(weight)) for text, weight in pairs),
            bool(body["degraded"]),
            float(body["cost_usd"]),
            tuple((str(failed), str(other)) for failed, other in body.get("instead", ())),
            int(body.get("calls", 0)),
        )


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer, or several where several were asked for.

    Attributes:
        id: The endpoint's name for it.
        text: The answer; the first of several.
        finish_reason: `stop`, `length` or `tool_calls`.
        usage: Tokens of all calls, for all answers.
        explanation: How it came about, where it was asked for.
        texts: All answers: one for each prompt, and `n` of each where `n` was given.
        explanations: How each of them came about, where it was asked for.
        tool_calls: The functions that the first answer wants to be called.
        logprobs: The tokens of the first answer, where they were asked for and its words are one expert's own.
    """

    id: str
    text: str
    finish_reason: str
    usage: Usage = field(default_factory=Usage)
    explanation: Explanation | None = None
    texts: tuple[str, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()

    @property
    def message(self) -> dict[str, Any]:
        """The first answer as a turn of the conversation, for what comes next."""
        calls = {"tool_calls": [call.body() for call in self.tool_calls]} if self.tool_calls else {}
        return {"role": "assistant", "content": self.text, **calls}

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Completion:
        """Read the wire's form, of a conversation or of prompts."""
        texts = tuple(str((choice["message"]["content"] if "message" in choice else choice["text"]) or "") for choice in body["choices"])
        ours = body.get("counterpoint") or {}
        accounts = tuple(account for each in ours.get("choices", [ours]) if (account := Explanation.of(each)) is not None)
        first, choice = accounts[0] if accounts else None, body["choices"][0]
        told = ToolCall.all(choice.get("message")), TokenLogprob.all(choice.get("logprobs"))
        return cls(body["id"], texts[0], choice["finish_reason"], Usage.of(body.get("usage")), first, texts, accounts, *told)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a streamed answer: text, or news of how it comes about.

    News come where explanations are asked for.

    Attributes:
        text: New characters of the answer, or empty.
        route: Who is asked; comes first.
        answer: What one expert said, as soon as it has.
        explanation: The whole account, at the end.
        finish_reason: Set on the last piece of text.
        usage: Tokens of all calls, at the end.
        draft: An answer that would have stood, had the mixture not gone on; another follows.
        correction: Whether the text takes back what was streamed before it, and is the answer instead.
        index: Which of several answers the text belongs to, from 0.
        tool_calls: Functions that are to be called.
        logprobs: The tokens of the whole answer, on its last piece, where they were asked for.
        id: The endpoint's name for the answer, on every piece.
    """

    text: str = ""
    route: Route | None = None
    answer: ExpertAnswer | None = None
    explanation: Explanation | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    draft: ExpertAnswer | None = None
    correction: bool = False
    index: int = 0
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    id: str = ""

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
            draft=ExpertAnswer.of(ours["draft"]) if "draft" in ours else None,
            correction=bool(ours.get("correction", False)),
            index=int(choice.get("index") or 0),
            tool_calls=ToolCall.all(choice.get("delta")),
            logprobs=TokenLogprob.all(choice.get("logprobs")),
            id=str(body.get("id") or ""),
        )


@dataclass(frozen=True, slots=True)
class Trace:
    """How an earlier answer came about, as the endpoint has kept it.

    Attributes:
        id: Id of the answer.
        created_at: When, in seconds since 1970.
        explanation: The account; without texts, unless the endpoint keeps them.
        finish_reason: `stop` or `length`.
        error: Why there was no answer, or None.
        messages: What was asked, where the endpoint keeps texts.
        text: The answer, where the endpoint keeps texts.
    """

    id: str
    created_at: int
    explanation: Explanation
    finish_reason: str
    error: str | None = None
    messages: tuple[Mapping[str, str], ...] | None = None
    text: str | None = None

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Trace:
        """Read the wire's form."""
        account = Explanation.of(body)
        if account is None:
            raise KeyError("aggregator")
        messages = None if body.get("messages") is None else tuple(body["messages"])
        return cls(body["id"], int(body["created"]), account, body["finish_reason"], body.get("error"), messages, body.get("text"))


@dataclass(frozen=True, slots=True)
class Feedback:
    """What became of feedback.

    Attributes:
        id: Id of the answer.
        kept: Whether it was written down beside the answer's trace.
        learned: Whether the aggregator learned from it.
    """

    id: str
    kept: bool
    learned: bool

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Feedback:
        """Read the wire's form."""
        return cls(body["id"], bool(body["kept"]), bool(body["learned"]))


@dataclass(frozen=True, slots=True)
class File:
    """A file at the endpoint.

    Attributes:
        id: The endpoint's name for it.
        filename: Its own name.
        size: Its bytes.
        purpose: `batch`, or `batch_output` where a batch wrote it.
        created_at: When, in seconds since 1970.
    """

    id: str
    filename: str
    size: int
    purpose: str
    created_at: int

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> File:
        """Read the wire's form."""
        return cls(body["id"], body["filename"], int(body["bytes"]), body["purpose"], int(body["created_at"]))


BatchStatus = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]


@dataclass(frozen=True, slots=True)
class Batch:
    """A job of many requests, and how it stands.

    Attributes:
        id: The endpoint's name for it.
        status: As OpenAI's.
        created_at: When, in seconds since 1970.
        total: Its requests.
        completed: Those that have been answered.
        failed: Those whose answer is an error; counted when it has ended.
        input_file_id: The file of its requests.
        output_file_id: The file of its answers, when it has ended and there are some.
        error_file_id: The file of its errors, when it has ended and there are some.
        metadata: What its owner and the endpoint wrote on it.
        error: Why it failed as a whole, or None.
    """

    id: str
    status: BatchStatus
    created_at: int
    total: int
    completed: int
    failed: int
    input_file_id: str
    output_file_id: str | None = None
    error_file_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.status in ("completed", "failed", "cancelled", "expired")

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Batch:
        """Read the wire's form."""
        counts = body.get("request_counts") or {}
        errors = (body.get("errors") or {}).get("data") or ()
        return cls(
            body["id"],
            body["status"],
            int(body["created_at"]),
            int(counts.get("total", 0)),
            int(counts.get("completed", 0)),
            int(counts.get("failed", 0)),
            body["input_file_id"],
            body.get("output_file_id"),
            body.get("error_file_id"),
            body.get("metadata") or {},
            "; ".join(str(error.get("message")) for error in errors) or None,
        )
