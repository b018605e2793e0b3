"""Tools, schemas and log-probabilities on OpenAI's wire."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from data.records import ANY_OBJECT, Answer, CounterpointError, Schema, TokenLogprob, ToolCall
from serving.schema import MAX_BYTES, checker

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Likeliest = Annotated[int, Field(ge=0, le=20)]
MOST_TOOLS = 128
"""Tools that a request may bring, as at OpenAI's."""

NULLABLE = {"audio", "function_call", "functions", "prediction", "reasoning_effort", "web_search_options"}
"""OpenAI's fields that are not supported, which clients send as null."""


class Wire(BaseModel):
    """What is read from the wire: fields that are not known are refused, those that are null are as if they were not there."""

    model_config = ConfigDict(extra="forbid", strict=True)  # "1" is no number, as at OpenAI's

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, body: Any) -> Any:
        known = {field.alias or name for name, field in cls.model_fields.items()} | NULLABLE
        return {name: value for name, value in body.items() if value is not None or name not in known} if isinstance(body, dict) else body


def _is_schema(value: dict[str, Any] | None) -> dict[str, Any] | None:
    if value is not None:
        try:
            checker(json.dumps(value))
        except CounterpointError as error:
            raise ValueError(str(error)) from error
        except RecursionError as error:
            raise ValueError("the schema nests too deep") from error
    return value


class Function(Wire):
    """A function that may be called."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Wire):
    """A tool that may be called."""

    type: Literal["function"]
    function: Function


class Named(Wire):
    """The name of a function."""

    name: Name


class NamedTool(Wire):
    """A tool that must be called."""

    type: Literal["function"]
    function: Named


Tools = Annotated[list[Tool], Field(max_length=MOST_TOOLS)]
ToolChoice = Literal["none", "auto", "required"] | NamedTool


class CalledFunction(BaseModel):
    """A function that an earlier turn called."""

    model_config = ConfigDict(extra="ignore")

    name: str
    arguments: str


class CalledTool(BaseModel):
    """A call of an earlier turn."""

    model_config = ConfigDict(extra="ignore")

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction

    def record(self) -> ToolCall:
        """The call as a record."""
        return ToolCall(self.id, self.function.name, self.function.arguments)


class AnyText(Wire):
    """An answer that may be any text."""

    type: Literal["text"]

    def record(self) -> Schema | None:
        """No schema."""
        return None


class AnyObject(Wire):
    """An answer that must be a JSON object."""

    type: Literal["json_object"]

    def record(self) -> Schema | None:
        """The schema of any object."""
        return ANY_OBJECT


class NamedSchema(Wire):
    """A schema and its name."""

    name: Name
    description: str | None = None
    schema_: dict[str, Any] = Field(default={}, alias="schema")
    strict: bool | None = None

    _schema = field_validator("schema_")(_is_schema)


class BySchema(Wire):
    """An answer that must be JSON by a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema

    def record(self) -> Schema | None:
        """The schema."""
        about = self.json_schema
        return Schema(json.dumps(about.schema_), about.name, about.description, bool(about.strict))


ResponseFormat = Annotated[AnyText | AnyObject | BySchema, Field(discriminator="type")]


class Neutral(Wire):
    """Fields that clients send and that change nothing at these values; any other is refused."""

    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    repetition_penalty: Annotated[float, Field(ge=1, le=1)] | None = None
    ignore_eos: Literal[False] | None = None


def tools_settings(tools: list[Tool] | None, choice: ToolChoice | None, parallel: bool | None) -> dict[str, Any]:
    """The sampling's settings of tools."""
    if not tools:
        return {}
    made = choice if isinstance(choice, str) else "auto" if choice is None else f"function:{choice.function.name}"
    texts = tuple(json.dumps(tool.function.model_dump(exclude_none=True)) for tool in tools)
    return {"tools": texts, "tool_choice": made, "parallel_tool_calls": parallel is not False}


def check_tools(tools: list[Tool] | None, choice: ToolChoice | None) -> None:
    """Check that what must be called is there, and that what arguments are held to can be checked.

    Raises:
        ValueError: It is not, or cannot.
    """
    held = [tool.function for tool in tools or () if tool.function.strict and tool.function.parameters is not None]
    if sum(len(json.dumps(function.parameters)) for function in held) > MAX_BYTES:
        raise ValueError(f"tools: the parameters of strict functions are longer than {MAX_BYTES} bytes together")
    for function in held:
        try:
            _is_schema(function.parameters)
        except ValueError as error:
            raise ValueError(f"tools: the parameters of {function.name!r}: {error}") from error
    names = [tool.function.name for tool in tools or ()]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"tools: two are called {twice[0]!r}")
    if choice == "required" and not names:
        raise ValueError("tool_choice: required needs tools")
    if isinstance(choice, NamedTool) and choice.function.name not in names:
        raise ValueError(f"tool_choice: no tool is called {choice.function.name!r}; there are {', '.join(names) or 'none'}")


def calls_json(answer: Answer, *, indexed: bool = False) -> list[dict[str, Any]]:
    """An answer's calls of tools in OpenAI's shape, numbered where they are pieces of a stream."""
    return [
        ({"index": at} if indexed else {})
        | {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for at, call in enumerate(answer.tool_calls)
    ]


def logprobs_json(tokens: tuple[TokenLogprob, ...], *, chat: bool) -> dict[str, Any] | None:
    """The tokens of an answer in OpenAI's shape, or in the older one of prompts; None where none are told.

    Example:
        >>> logprobs_json((TokenLogprob("4", -0.1, (("4", -0.1),)),), chat=False)
        {'tokens': ['4'], 'token_logprobs': [-0.1], 'top_logprobs': [{'4': -0.1}], 'text_offset': [0]}
    """
    if not tokens:
        return None
    if chat:
        content = [_token(one.token, one.logprob) | {"top_logprobs": [_token(*pair) for pair in one.top]} for one in tokens]
        return {"content": content, "refusal": None}
    written = "".join(one.token for one in tokens)
    offsets, at = [], len(written.lstrip()) - len(written)  # an answer's text begins with its first word
    for one in tokens:
        offsets.append(max(at, 0))
        at += len(one.token)
    return {
        "tokens": [one.token for one in tokens],
        "token_logprobs": [one.logprob for one in tokens],
        "top_logprobs": [dict(one.top) for one in tokens],
        "text_offset": offsets,
    }


def _token(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "replace"))}
