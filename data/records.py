"""The records that every part speaks: frozen, slotted, without I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

CONTEXT = 120
"""A last turn of fewer characters is routed together with the user's turns before it."""


class CounterpointError(Exception):
    """A mistake that a person can mend; its text is one line that says what was wanted and what came."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that an expert wants to be called by whoever asked.

    Attributes:
        id: Name of the call, which the turn with its result repeats.
        name: The function.
        arguments: Its arguments, as JSON text.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: `system`, `user`, `assistant`, or `tool` for what a called function gave.
        content: The turn's text.
        tool_calls: The functions that an assistant's turn wants to be called.
        tool_call_id: Of a tool's turn: the call that it answers.
    """

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Schema:
    """What an answer must be as JSON.

    Attributes:
        text: A JSON schema, as JSON text.
        name: What whoever asks calls it; None stands for any object, which servers have a word of their own for.
        description: What it is for, in words that a model may read.
        strict: Whether a server is asked to keep to it to the letter.
    """

    text: str
    name: str | None = None
    description: str | None = None
    strict: bool = False


ANY_OBJECT = Schema('{"type": "object"}')
"""Any JSON object."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of an answer, and how likely it was.

    Attributes:
        token: Its text.
        logprob: Its natural log-probability.
        top: The likeliest tokens in its place, each with its log-probability.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an expert draws its tokens.

    Attributes:
        max_tokens: Largest number of generated tokens; None is the expert's own limit.
        temperature: 0 is greedy.
        top_p: Probability mass that sampling keeps, in (0, 1].
        stop: Strings that end the answer; they are not part of it.
        seed: Seed of the draw, or None for the engine's own.
        choices: Words whose log-probability as the answer's first token is wanted, such as option letters.
        schema: The JSON that the answer must be, or None for any text.
        tools: Functions that may be called, each as the JSON text of its name, description and parameters.
        tool_choice: `auto`, `none`, `required`, or `function:NAME` for one that must be called.
        parallel_tool_calls: Whether one answer may want several calls.
        top_logprobs: How many of the likeliest tokens are told with each token of the answer, from 0; None tells no tokens.
        frequency_penalty: What a token loses for each time that it was written, from -2 to 2.
        presence_penalty: What a token loses once it was written, from -2 to 2.
    """

    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    choices: tuple[str, ...] = ()
    schema: Schema | None = None
    tools: tuple[str, ...] = ()
    tool_choice: str = "auto"
    parallel_tool_calls: bool = True
    top_logprobs: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer took.

    Attributes:
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
        cost_usd: Price in US dollars, 0 for experts without a price.
        calls: Calls of experts that this sums.

    Example:
        >>> Usage(10, 2, calls=1) + Usage(5, 1, calls=1)
        Usage(prompt_tokens=15, completion_tokens=3, cost_usd=0.0, calls=2)
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    calls: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cost_usd + other.cost_usd,
            self.calls + other.calls,
        )


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller asks of the mixture.

    Attributes:
        id: Name of the request, unique among those in flight.
        messages: The conversation, oldest first.
        sampling: Limits and randomness of each expert's answer.
        k: Number of experts wanted, or None for the policy's own.
        experts: The only experts allowed, or None for all.
        exclude: Experts not allowed.
        aggregator: Kind of aggregator wanted, or None for the mixture's own.
        budget_usd: Most that the experts' calls may cost together, in US dollars, or None.
        max_latency_s: Most seconds that a chosen expert may be known to take, or None.
        objective: Weights of `price`, `size`, `latency` and `age` against quality, instead of the policy's own.
        batch: Whether its calls yield to those that somebody waits for.
        reachable: The only experts that whoever asks may reach by any way, an aggregator's own calls among them; None is all.
        owner: Who asks, for what may be remembered of them and shown to nobody else; None is nobody in particular.
        primary_first: Whether the primary's words are streamed as they come, or None for the mixture's own way.
        stream: Whether somebody reads the words as they come; where nobody does, a call that broke off may be made again.
    """

    id: str
    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
    k: int | None = None
    experts: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    aggregator: str | None = None
    budget_usd: float | None = None
    max_latency_s: float | None = None
    objective: Mapping[str, float] | None = None
    batch: bool = False
    reachable: tuple[str, ...] | None = None
    owner: str | None = None
    primary_first: bool | None = None
    stream: bool = True

    @property
    def question(self) -> str:
        """What was asked: the text of the last user turn."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def asked(self) -> str:
        r"""What was asked, in context: short last turns carry the user turns before them.

        Earlier turns of the user are put in front, newest first, until there are `CONTEXT` characters. What experts said is
        left out: it tells more of them than of the question.

        Example:
            >>> turns = (Message("user", "Sort a list in Java."), Message("assistant", "..."), Message("user", "And in Python?"))
            >>> Request("r", turns).asked
            'Sort a list in Java.\n\nAnd in Python?'
        """
        text = ""
        for turn in reversed([m.content for m in self.messages if m.role == "user"]):
            if len(text) >= CONTEXT:
                break
            text = f"{turn}\n\n{text}" if text else turn
        return text

    @property
    def structured(self) -> bool:
        """Whether the answer is more than prose: JSON by a schema, or a turn among calls of tools."""
        how = self.sampling
        return how.schema is not None or bool(how.tools) or uses_tools(self.messages)


def uses_tools(messages: Sequence[Message]) -> bool:
    """Whether a conversation has turns that call tools, or give what they gave."""
    return any(message.tool_calls or message.tool_call_id is not None for message in messages)


def bytes_of(messages: Sequence[Message], sampling: Sampling) -> int:
    """Bytes of all that a model reads of a conversation, but for what a template puts around its turns.

    Example:
        >>> bytes_of([Message("user", "Hi")], Sampling())
        2
    """
    texts = [message.content for message in messages]
    texts += [part for message in messages for call in message.tool_calls for part in (call.name, call.arguments)]
    texts += [*sampling.tools, *([sampling.schema.text] if sampling.schema else [])]
    return sum(len(text.encode("utf-8", "replace")) for text in texts)


@dataclass(frozen=True, slots=True)
class Call:
    """One question to one expert.

    Attributes:
        id: Name of the call, unique among those in flight.
        expert: Name of the expert.
        messages: The conversation to continue.
        sampling: Limits and randomness.
        batch: Whether it yields to calls that somebody waits for.
        stream: Whether its words are wanted as they are written; engines may give the whole answer at once where they are not.
        traceparent: The span that it belongs to (`data/tracing.py`), or None where nobody follows it.
    """

    id: str
    expert: str
    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
    batch: bool = False
    stream: bool = True
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, from an expert or from the mixture.

    Attributes:
        text: The answer, empty where `error` is set.
        expert: Name of the expert, or of the mixture.
        usage: Tokens, price and calls.
        finish_reason: `stop`, `length`, `tool_calls` or `error`.
        latency_s: Seconds from asking to the last token.
        error: One line of what went wrong, or None.
        degraded: True where an expert failed and the others answered without it.
        support: Where several answers were weighed, each distinct one and its weight, heaviest first.
        parsed: What the answer comes to, where that was read out of it before: "" for nothing, None where nobody looked.
        error_code: What kind of error it was: `overloaded` (refused on arrival), `late` (not started in time), `unavailable`
            (the expert's engine fails), `unfit` (it is not what the schema or the tools ask for), or None for any other.
        retry_after_s: Where it was refused, the seconds after which it would be accepted.
        logprobs: Where the sampling named choices: the natural log-probability of each as the first token; one that the engine
            does not tell stands at the least that it told.
        tool_calls: The functions that the expert wants to be called.
        tokens: The text's tokens, where the sampling asked for their log-probabilities.
    """

    text: str
    expert: str
    usage: Usage = field(default_factory=Usage)
    finish_reason: str = "stop"
    latency_s: float = 0.0
    error: str | None = None
    degraded: bool = False
    support: tuple[tuple[str, float], ...] = ()
    parsed: str | None = None
    error_code: str | None = None
    retry_after_s: float | None = None
    logprobs: tuple[tuple[str, float], ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tokens: tuple[TokenLogprob, ...] = ()

    @classmethod
    def failed(cls, expert: str, error: str, latency_s: float = 0.0, code: str | None = None, retry_after_s: float | None = None) -> Answer:
        """The answer of an expert that could not answer."""
        return cls("", expert, Usage(calls=1), "error", latency_s, error, error_code=code, retry_after_s=retry_after_s)


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of text that an expert has just written.

    Attributes:
        call_id: The call that it belongs to.
        text: The new characters.
    """

    call_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a call.

    Attributes:
        call_id: The call that ends.
        answer: The whole answer.
    """

    call_id: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Route:
    """The router's decision.

    Attributes:
        experts: Chosen expert names, best first.
        weights: Weight of each chosen expert, same order; they sum to 1.
        primary: The expert whose answer stands where nothing else decides.
        scores: Predicted probability of a right answer, for every expert of the pool.
        reasons: Why, in words: the nearest questions or the skills that spoke for the choice.
        reserve: Who is asked next where the answers fail or disagree, in order.
        agreement: Share of the weight that the leading answer needs, or the reserve is asked.
        regret: Mean predicted probability that was given up for something else: a price, or an expert that is at hand.
    """

    experts: tuple[str, ...]
    weights: tuple[float, ...]
    primary: str
    scores: Mapping[str, float]
    reasons: tuple[str, ...] = ()
    reserve: tuple[str, ...] = ()
    agreement: float = 0.0
    regret: float = 0.0


@dataclass(frozen=True, slots=True)
class Trace:
    """How an answer came about.

    Attributes:
        request_id: The request.
        route: Which experts were asked, and why.
        answers: What each said, in the route's order.
        aggregator: Kind of the aggregator.
        support: Each distinct answer and the weight that the aggregator gave it, heaviest first.
        usage: Sum over all calls, the aggregator's among them.
        instead: Experts that failed, each with the one that was asked in its place.
    """

    request_id: str
    route: Route
    answers: tuple[Answer, ...]
    aggregator: str
    support: tuple[tuple[str, float], ...]
    usage: Usage
    instead: tuple[tuple[str, str], ...] = ()
