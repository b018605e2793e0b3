"""OpenAI's wire: requests in, completions and chunks out. Pydantic ends here."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data.records import Answer, Message, Request, Route, Sampling, TokenLogprob, Trace, Usage
from serving.pipeline import RequestError
from serving.structured import (
    CalledTool,
    Likeliest,
    Neutral,
    Penalty,
    ResponseFormat,
    ToolChoice,
    Tools,
    Wire,
    calls_json,
    check_tools,
    logprobs_json,
    tools_settings,
)

Limit = Annotated[int, Field(ge=1, lt=2**31)]
StopString = Annotated[str, Field(min_length=1)]


class TextPart(Wire):
    """A piece of a message's content."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One turn."""

    model_config = ConfigDict(extra="ignore")  # clients send back what we sent, with fields of other servers

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    tool_calls: list[CalledTool] | None = None
    tool_call_id: str | None = None
    audio: None = None
    function_call: None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise ValueError("tool_call_id and the role tool come together")
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"tool_calls are of the role assistant, not {self.role}")
        if self.content is None and not self.tool_calls:
            raise ValueError("content: wanted a text, or parts of type text")
        return self

    def record(self) -> Message:
        """The turn as a record."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or ())
        calls = tuple(call.record() for call in self.tool_calls or ())
        return Message("system" if self.role == "developer" else self.role, text, calls, self.tool_call_id)


class Options(Wire):
    """Our own options, under `counterpoint` in the body."""

    k: Annotated[int, Field(ge=1, le=32)] | None = None
    experts: list[str] | None = None
    exclude: list[str] = Field(default=[])
    aggregator: str | None = None
    budget_usd: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    max_latency_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    objective: dict[Literal["price", "size", "latency", "age"], Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None = None
    primary_first: bool | None = None
    timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    explain: bool = False


class StreamOptions(Wire):
    """What a stream carries besides text."""

    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


MOST_CHOICES = 16
"""Largest `n`."""


class _Asked(Neutral, ABC):
    """What both kinds of completions are asked with."""

    model: str
    max_tokens: Limit | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    frequency_penalty: Penalty = 0.0
    presence_penalty: Penalty = 0.0
    user: str | None = None
    counterpoint: Options = Options()

    @property
    def limit(self) -> int | None:
        """Largest number of generated tokens."""
        return self.max_tokens

    @abstractmethod
    def extras(self) -> dict[str, Any]:
        """What else the sampling says: tools, a schema, log-probabilities."""

    @abstractmethod
    def conversations(self) -> list[tuple[Message, ...]]:
        """What is asked: one conversation, or one for each prompt."""

    def records(self, id: str, mixture: str, experts: list[str]) -> list[Request]:
        """One request for each choice that is wanted; the second and later ones of a conversation are further samples.

        Raises:
            RequestError: No such model.
        """
        count = self.n or 1
        made: list[Request] = []
        for messages in self.conversations():
            first = replace(self.record(id, mixture, experts), messages=messages)
            for sample in range(count):
                seed = first.sampling.seed if not sample else ((first.sampling.seed or 0) + sample) % 2**63
                made.append(replace(first, id=f"{id}-{len(made)}" if made else id, sampling=replace(first.sampling, seed=seed)))
        return made

    def record(self, id: str, mixture: str, experts: list[str]) -> Request:
        """The request as a record; `model` names the mixture, or one expert to be asked alone.

        Raises:
            RequestError: No such model.
        """
        options = self.counterpoint
        allowed = None if options.experts is None else tuple(options.experts)
        k = options.k
        if self.model in experts:
            allowed, k = (self.model,), 1
        elif self.model != mixture:
            raise RequestError(f"no model is called {self.model!r}; there are {', '.join([mixture, *experts])}")
        stop = () if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        sampling = Sampling(
            max_tokens=self.limit,
            temperature=self.temperature or 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            stop=stop,
            seed=self.seed,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            **self.extras(),
        )
        return Request(
            id,
            self.conversations()[0],
            sampling,
            k,
            allowed,
            tuple(options.exclude),
            options.aggregator,
            options.budget_usd,
            options.max_latency_s,
            None if options.objective is None else {str(term): weight for term, weight in options.objective.items()},
            primary_first=options.primary_first,
            stream=self.stream,
        )


class ChatRequest(_Asked):
    """The body of `/v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Limit | None = None
    metadata: dict[str, str] | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool = False
    top_logprobs: Likeliest | None = None
    modalities: list[Literal["text"]] | None = None
    verbosity: Literal["medium"] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_tools(self.tools, self.tool_choice)
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs: needs logprobs, true")
        called = {call.id for message in self.messages for call in message.tool_calls or ()}
        if unknown := [m.tool_call_id for m in self.messages if m.tool_call_id is not None and m.tool_call_id not in called]:
            raise ValueError(f"messages: the turn of a tool answers {unknown[0]!r}, and no assistant's turn calls that")
        return self

    def extras(self) -> dict[str, Any]:
        """Tools, a schema, log-probabilities."""
        schema = None if self.response_format is None else self.response_format.record()
        likeliest = {"top_logprobs": self.top_logprobs or 0} if self.logprobs else {}
        return {"schema": schema, **likeliest, **tools_settings(self.tools, self.tool_choice, self.parallel_tool_calls)}

    @property
    def limit(self) -> int | None:
        """Largest number of generated tokens."""
        return self.max_completion_tokens or self.max_tokens

    def conversations(self) -> list[tuple[Message, ...]]:
        """The conversation."""
        return [tuple(message.record() for message in self.messages)]


class CompletionRequest(_Asked):
    """The body of `/v1/completions`: prompts, each answered as the user's only turn."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=64)]
    logprobs: Likeliest | None = None
    echo: Literal[False] | None = None
    suffix: Literal[""] | None = None
    best_of: Literal[1] | None = None

    def extras(self) -> dict[str, Any]:
        """Log-probabilities."""
        return {} if self.logprobs is None else {"top_logprobs": self.logprobs}

    def conversations(self) -> list[tuple[Message, ...]]:
        """One for each prompt."""
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        return [(Message("user", prompt),) for prompt in prompts]


class FeedbackBody(Wire):
    """The body of `/v1/feedback`."""

    id: Annotated[str, Field(min_length=1, max_length=200)]
    """Id of the completion."""
    score: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    comment: Annotated[str, Field(max_length=10_000)] | None = None


class BatchBody(Wire):
    """The body of `/v1/batches`."""

    input_file_id: Annotated[str, Field(min_length=1, max_length=200)]
    endpoint: str
    completion_window: Literal["24h"] = "24h"
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None


Asked = ChatRequest | CompletionRequest
Body = TypeVar("Body", bound=BaseModel)


def parse_json(raw: str | bytes) -> Any:
    """Read JSON that anyone may have sent.

    Raises:
        ValueError: It is none, nests too deep, or holds text that is no Unicode.
    """
    try:
        value = json.loads(raw)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it nests too deep") from error
    return value


def parse_chat(body: object) -> ChatRequest:
    """Read the body of a chat request.

    Raises:
        RequestError: It does not fit.
    """
    return parse(ChatRequest, body)


def parse(kind: type[Body], body: object) -> Body:
    """Read a body.

    Raises:
        RequestError: It does not fit; one line that names the field, what was wanted and what came.
    """
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or ("" if first["type"] == "value_error" else "body")
        came = "" if first["type"] in ("missing", "extra_forbidden", "value_error") else f", not {str(first['input'])[:80]!r}"
        reason = "not supported" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise RequestError(f"{place}: {reason}{came}" if place else reason) from error


def with_defaults(body: object, defaults: Mapping[str, Any]) -> object:
    """A body with a key's own options where it sets none.

    Example:
        >>> with_defaults({"model": "m", "counterpoint": {"k": 1}}, {"k": 3, "explain": True})
        {'model': 'm', 'counterpoint': {'k': 1, 'explain': True}}
    """
    own = (body.get("counterpoint") or {}) if isinstance(body, dict) else None
    if not defaults or not isinstance(body, dict) or not isinstance(own, dict):
        return body
    return body | {"counterpoint": {**defaults, **{name: value for name, value in own.items() if value is not None}}}


def usage_json(usage: Usage) -> dict[str, int]:
    """Usage in OpenAI's shape."""
    total = usage.prompt_tokens + usage.completion_tokens
    return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens, "total_tokens": total}


def route_json(route: Route) -> dict[str, Any]:
    """A route in our field."""
    return {
        "experts": list(route.experts),
        "weights": [round(weight, 4) for weight in route.weights],
        "primary": route.primary,
        "scores": {name: round(score, 4) for name, score in route.scores.items()},
        "reasons": list(route.reasons),
        "reserve": list(route.reserve),
        "regret": round(route.regret, 4),
    }


def answer_json(answer: Answer) -> dict[str, Any]:
    """An expert's answer in our field."""
    return {
        "expert": answer.expert,
        "text": answer.text,
        "usage": usage_json(answer.usage),
        "latency_s": round(answer.latency_s, 3),
        "error": answer.error,
        **({"tool_calls": calls_json(answer)} if answer.tool_calls else {}),
    }


def explain_json(answer: Answer, trace: Trace) -> dict[str, Any]:
    """How an answer came about, in our field."""
    return {
        "route": route_json(trace.route),
        "answers": [answer_json(part) for part in trace.answers],
        "aggregator": trace.aggregator,
        "support": [[text, round(weight, 4)] for text, weight in trace.support],
        "degraded": answer.degraded,
        "instead": [list(pair) for pair in trace.instead],
        "cost_usd": round(trace.usage.cost_usd, 8),
        "calls": trace.usage.calls,
    }


def message_json(answer: Answer) -> dict[str, Any]:
    """An answer as the assistant's turn."""
    if not answer.tool_calls:
        return {"role": "assistant", "content": answer.text}
    return {"role": "assistant", "content": answer.text or None, "tool_calls": calls_json(answer)}


def completion_json(asked: Asked, id: str, *pairs: tuple[Answer, Trace]) -> dict[str, Any]:
    """Whole answers in OpenAI's shape, one choice each."""
    chat = isinstance(asked, ChatRequest)
    choices = [
        {
            "index": at,
            **({"message": message_json(answer)} if chat else {"text": answer.text}),
            "finish_reason": answer.finish_reason,
            "logprobs": logprobs_json(answer.tokens, chat=chat),
        }
        for at, (answer, _) in enumerate(pairs)
    ]
    body: dict[str, Any] = {
        "id": id,
        "object": "chat.completion" if chat else "text_completion",
        "created": int(time.time()),
        "model": asked.model,
        "choices": choices,
        "usage": usage_json(sum((answer.usage for answer, _ in pairs), Usage())),
    }
    if asked.counterpoint.explain:
        accounts = [explain_json(answer, trace) for answer, trace in pairs]
        body["counterpoint"] = accounts[0] if len(accounts) == 1 else {"choices": accounts}
    return body


def chunk_json(
    asked: Asked,
    id: str,
    delta: dict[str, Any] | None = None,
    finish: str | None = None,
    index: int = 0,
    *,
    created: int,
    tokens: tuple[TokenLogprob, ...] = (),
    **ours: Any,
) -> dict[str, Any]:
    """A piece of a streamed answer in OpenAI's shape, its usage still to come where it is wanted; `ours` travels in our field."""
    chat = isinstance(asked, ChatRequest)
    piece = {"delta": delta or {}} if chat else {"text": (delta or {}).get("content", "")}
    told = {"finish_reason": finish, "logprobs": logprobs_json(tokens, chat=chat)}
    choices = [] if delta is None and finish is None else [{"index": index, **piece, **told}]
    body: dict[str, Any] = {
        "id": id,
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": created,
        "model": asked.model,
        "choices": choices,
    }
    wanted = asked.stream_options is not None and asked.stream_options.include_usage
    return body | ({"usage": None} if wanted else {}) | ({"counterpoint": ours} if ours else {})


def error_json(message: str, kind: str = "invalid_request_error", code: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's shape."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def status_of(answer: Answer) -> tuple[int, str, str | None]:
    """The HTTP status, type and code of the error that an answer bears.

    Example:
        >>> status_of(Answer.failed("a", "too much to do", code="overloaded"))
        (429, 'overloaded_error', 'overloaded')
    """
    if answer.error_code == "overloaded":
        return 429, "overloaded_error", "overloaded"
    if answer.error_code == "deadline_exceeded":
        return 504, "timeout_error", "deadline_exceeded"
    if answer.error_code in ("late", "unavailable"):
        return 503, "service_unavailable_error", answer.error_code
    if "context of" in (answer.error or "") and "holds" in (answer.error or ""):
        return 400, "invalid_request_error", "context_length_exceeded"
    return 502, "upstream_error", answer.error_code
