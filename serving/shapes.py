"""The shapes of what the endpoint answers: OpenAI's, and our own objects. They are for its OpenAPI document; nothing is made by them."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, get_type_hints

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict  # pydantic cannot read typing's own before Python 3.12

from serving import runs, tables

Closed = with_config(ConfigDict(extra="forbid"))
"""Nothing else is in it."""


def _object(name: str, record: type, kind: str, *without: str, **more: Any) -> Any:
    """The shape of a dataclass that goes out field by field, beside OpenAI's field `object`."""
    fields = {field: hint for field, hint in get_type_hints(record).items() if field not in without}
    made: Any = TypedDict(name, {"object": Literal[kind], **fields, **more})  # type: ignore[misc]
    made.__doc__ = (record.__doc__ or "").partition("\n")[0]
    return Closed(made)


@Closed
class ErrorBody(TypedDict):
    """What was wrong."""

    message: str
    type: str
    param: None
    code: str | None


@Closed
class Error(TypedDict):
    """An error, in OpenAI's form."""

    error: ErrorBody


@Closed
class Usage(TypedDict):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@Closed
class Called(TypedDict):
    """The function of a call, its arguments as JSON in a text."""

    name: str
    arguments: str


@Closed
class ToolCall(TypedDict):
    """A call of a tool; in a stream, with its number."""

    index: NotRequired[int]
    id: str
    type: Literal["function"]
    function: Called


@Closed
class Route(TypedDict):
    """Who is asked, and why."""

    experts: list[str]
    weights: list[float]
    primary: str
    scores: dict[str, float]
    reasons: NotRequired[list[str]]
    reserve: list[str]
    regret: float


@Closed
class ExpertAnswer(TypedDict):
    """What one expert said; a trace without texts has figures only."""

    expert: str
    text: NotRequired[str]
    usage: Usage
    latency_s: float
    error: NotRequired[str | None]
    tool_calls: NotRequired[list[ToolCall]]


@Closed
class Account(TypedDict):
    """How an answer came about."""

    route: Route
    answers: list[ExpertAnswer]
    aggregator: str
    support: list[tuple[str, float]]
    degraded: bool
    instead: list[tuple[str, str]]
    cost_usd: float
    calls: int
    cached: NotRequired[Literal[True]]


@Closed
class Accounts(TypedDict):
    """How each of several choices came about."""

    choices: list[Account]


@Closed
class Token(TypedDict):
    """A token and its log-probability."""

    token: str
    logprob: float
    bytes: list[int]


@Closed
class ChosenToken(Token):
    """A token of the answer, and the likeliest in its place."""

    top_logprobs: list[Token]


@Closed
class Logprobs(TypedDict):
    """The answer's tokens."""

    content: list[ChosenToken]
    refusal: None


@Closed
class TextLogprobs(TypedDict):
    """The answer's tokens, in the older form."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


@Closed
class AssistantMessage(TypedDict):
    """The assistant's turn."""

    role: Literal["assistant"]
    content: str | None
    tool_calls: NotRequired[list[ToolCall]]


@Closed
class Choice(TypedDict):
    """One answer."""

    index: int
    message: AssistantMessage
    finish_reason: str
    logprobs: Logprobs | None


@Closed
class TextChoice(TypedDict):
    """One answer to a prompt; in a stream, a piece of it."""

    index: int
    text: str
    finish_reason: str | None
    logprobs: TextLogprobs | None


@Closed
class Delta(TypedDict):
    """A piece of the assistant's turn."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCall]]


@Closed
class ChunkChoice(TypedDict):
    """A piece of one answer."""

    index: int
    delta: Delta
    finish_reason: str | None
    logprobs: Logprobs | None


class _Completion(TypedDict):
    id: str
    created: int
    model: str


@Closed
class ChatCompletion(_Completion):
    """Answers to a conversation."""

    object: Literal["chat.completion"]
    choices: list[Choice]
    usage: Usage
    counterpoint: NotRequired[Account | Accounts]


@Closed
class TextCompletion(_Completion):
    """Answers to prompts."""

    object: Literal["text_completion"]
    choices: list[TextChoice]
    usage: Usage
    counterpoint: NotRequired[Account | Accounts]


@Closed
class News(TypedDict, total=False):
    """What our field says while an answer comes; in the end, how it came about."""

    answer: ExpertAnswer
    draft: ExpertAnswer
    correction: Literal[True]
    route: Route
    answers: list[ExpertAnswer]
    aggregator: str
    support: list[tuple[str, float]]
    degraded: bool
    instead: list[tuple[str, str]]
    cost_usd: float
    calls: int
    cached: Literal[True]


@Closed
class ChatCompletionChunk(_Completion):
    """An event of a conversation's stream; the one that bears the usage has no choices."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChunkChoice]
    usage: NotRequired[Usage | None]
    counterpoint: NotRequired[News]


@Closed
class TextCompletionChunk(_Completion):
    """An event of a stream of prompts' answers; the one that bears the usage has no choices."""

    object: Literal["text_completion"]
    choices: list[TextChoice]
    usage: NotRequired[Usage | None]
    counterpoint: NotRequired[News]


@Closed
class Model(TypedDict):
    """What can be asked."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: Literal["counterpoint"]


@Closed
class Models(TypedDict):
    """What can be asked: the mixture, then experts."""

    object: Literal["list"]
    data: list[Model]


@Closed
class RouteAnswer(Route):
    """Who would be asked, and why."""

    object: Literal["counterpoint.route"]
    model: str


@Closed
class TraceAnswer(TypedDict):
    """How an answer came about; without `keep_text`, figures and names only."""

    id: str
    object: Literal["counterpoint.trace"]
    created: int
    route: Route
    answers: list[ExpertAnswer]
    aggregator: str
    support: list[float | tuple[str, float]]
    degraded: bool
    instead: list[tuple[str, str]]
    cost_usd: float
    calls: int
    cached: NotRequired[Literal[True]]
    finish_reason: str
    error: str | None
    messages: NotRequired[list[dict[str, Any]]]
    text: NotRequired[str]


@Closed
class FeedbackTaken(TypedDict):
    """What became of feedback."""

    object: Literal["counterpoint.feedback"]
    id: str
    kept: bool
    learned: bool


@Closed
class File(TypedDict):
    """A file of a batch."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"]


class _Page(TypedDict):
    object: Literal["list"]
    has_more: bool


@Closed
class Files(_Page):
    """Files, newest first."""

    data: list[File]


@Closed
class Deleted(TypedDict):
    """What was deleted."""

    id: str
    object: str
    deleted: Literal[True]


Batch = _object("Batch", tables.Batch, "batch")


@Closed
class Batches(_Page):
    """Batches, newest first."""

    data: list[Batch]  # type: ignore[valid-type]


@Closed
class Heading(TypedDict):
    """A conversation in a list."""

    id: str
    object: Literal["counterpoint.conversation"]
    title: str
    created_at: float
    updated_at: float
    message_count: int


@Closed
class Said(TypedDict):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str
    trace_id: str | None


@Closed
class Conversation(Heading):
    """A conversation."""

    messages: list[Said]


@Closed
class Conversations(_Page):
    """Conversations without their messages, the one that changed last first."""

    data: list[Heading]


class Pool(TypedDict):
    """The pool's figures, and what it did lately; docs/serving.md says what they mean."""

    object: Literal["counterpoint.pool"]
    at: float
    slots: list[dict[str, Any]]
    tiers: dict[str, int]
    budgets: dict[str, int | None]
    cold: list[str]
    engines: list[dict[str, Any]]
    experts: dict[str, dict[str, Any]]
    broken: list[str]
    waits: dict[str, Any]
    wait_bounds_s: list[float]
    longest_wait_s: float
    counters: dict[str, float]
    max_wait_s: float | None
    recent: dict[str, Any]
    history: dict[str, Any]


class Routers(TypedDict):
    """The mixture's router; all but its experts are null where it has none."""

    object: Literal["counterpoint.routers"]
    router: dict[str, Any] | None
    experts: list[str]
    profile: dict[str, Any] | None
    map: dict[str, Any] | None
    tried: list[str]
    drift: dict[str, Any] | None
    feedback: dict[str, Any] | None
    note: NotRequired[str]


class Scored(TypedDict):
    """What one router makes of a text."""

    name: str
    kind: str
    baseline: bool
    scores: dict[str, float]
    reasons: list[str]


class Tried(TypedDict):
    """What each router makes of a text, and where it lies on the map."""

    object: Literal["counterpoint.routers.try"]
    routers: list[Scored]
    place: Any
    nearest: list[Any]
    note: NotRequired[str]


class RunHeading(TypedDict):
    """A run in a list; one that cannot be read has its error and no figures."""

    id: str
    object: Literal["counterpoint.run"]
    error: str | None
    version: NotRequired[int]
    name: NotRequired[str]
    created: NotRequired[float]
    benchmarks: NotRequired[list[str]]
    questions: NotRequired[int]
    systems: NotRequired[list[runs.System]]


@Closed
class Runs(_Page):
    """Runs, newest first."""

    data: list[RunHeading]


class Run(RunHeading):
    """What a run found."""

    categories: dict[str, Any] | None
    report: str | None
    links: dict[str, str]


@Closed
class ComparedSystem(TypedDict):
    """One system in both runs; it is a tie where the difference's 95% interval holds zero."""

    system: str
    questions: int
    a: float
    b: float
    difference: float
    low: float
    high: float
    tie: bool


@Closed
class Comparison(TypedDict):
    """Two runs, system by system."""

    object: Literal["counterpoint.comparison"]
    a: str
    b: str
    systems: list[ComparedSystem]


@Closed
class Health(TypedDict):
    """It is up."""

    status: Literal["ok"]


@Closed
class Ready(TypedDict):
    """Questions would be answered; not by experts that are broken."""

    status: Literal["ready"]
    broken: list[str]


@Closed
class NotReady(TypedDict):
    """No question would be answered."""

    status: str
    experts: list[str]
