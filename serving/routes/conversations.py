"""Conversations of the caller's own key."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from data.records import CounterpointError
from serving import shapes
from serving.conversations import MOST_MESSAGES, MOST_TITLE, Conversations, conversation_json, heading_json
from serving.operations import told
from serving.pipeline import RequestError
from serving.protocol import parse
from serving.routes.common import body_of, gateway_of, key_of, page_of, unknown
from serving.routes.pages import paged

router = APIRouter()

MOST_SOUGHT = 200
"""Characters that can be searched for."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class KeptMessage(_Body):
    """A message of a conversation, and the id of the answer whose trace tells how it came about."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, Field(max_length=500_000)]
    trace_id: Annotated[str, Field(min_length=1, max_length=200)] | None = None


Title = Annotated[str, Field(min_length=1, max_length=MOST_TITLE)]
Messages = Annotated[list[KeptMessage], Field(max_length=MOST_MESSAGES)]


class CreateBody(_Body):
    """The body of `POST /v1/conversations`."""

    title: Title | None = None
    messages: Messages = []


class ChangeBody(_Body):
    """The body of `PATCH /v1/conversations/{id}`."""

    title: Title | None = None
    messages: Messages | None = None
    append: Messages = []


@router.post("/v1/conversations", openapi_extra=told(shapes.Conversation, body=CreateBody))
async def create(http: HTTPRequest) -> Response:
    """Keep a new conversation."""
    owner, kept = await _kept(http)
    asked = parse(CreateBody, await body_of(http))
    made = await asyncio.to_thread(kept.create, owner, asked.title, _rows(asked.messages))
    return JSONResponse(conversation_json(made))


@router.get("/v1/conversations", openapi_extra=told(shapes.Conversations, takes=("limit", "after", "q")))
async def conversations(http: HTTPRequest) -> Response:
    """List the caller's own conversations without their messages, the one that changed last first; `q` searches titles and messages."""
    owner, kept = await _kept(http)
    (limit, after), sought = page_of(http), http.query_params.get("q") or None
    if sought is not None and len(sought) > MOST_SOUGHT:
        raise RequestError(f"q: wanted at most {MOST_SOUGHT} characters, not {len(sought)}")
    return paged(await asyncio.to_thread(kept.list, owner, limit + 1, after, sought), limit, heading_json)


@router.get("/v1/conversations/{id}", openapi_extra=told(shapes.Conversation, fails=(404, 405)))
async def conversation(http: HTTPRequest, id: str) -> Response:
    """Give one of the caller's own conversations."""
    owner, kept = await _kept(http)
    found = await asyncio.to_thread(kept.get, owner, id)
    return unknown("conversation", id) if found is None else JSONResponse(conversation_json(found))


@router.patch("/v1/conversations/{id}", openapi_extra=told(shapes.Conversation, body=ChangeBody, fails=(404, 405)))
async def change(http: HTTPRequest, id: str) -> Response:
    """Change the title of one of the caller's own conversations, replace its messages, or append some."""
    owner, kept = await _kept(http)
    asked = parse(ChangeBody, await body_of(http))
    messages = None if asked.messages is None else _rows(asked.messages)
    found = await asyncio.to_thread(kept.change, owner, id, title=asked.title, messages=messages, append=_rows(asked.append))
    return unknown("conversation", id) if found is None else JSONResponse(conversation_json(found))


@router.delete("/v1/conversations/{id}", openapi_extra=told(shapes.Deleted, fails=(404, 405)))
async def delete(http: HTTPRequest, id: str) -> Response:
    """Delete one of the caller's own conversations."""
    owner, kept = await _kept(http)
    gone = await asyncio.to_thread(kept.delete, owner, id)
    return JSONResponse({"id": id, "object": "counterpoint.conversation", "deleted": True}) if gone else unknown("conversation", id)


async def _kept(http: HTTPRequest) -> tuple[str, Conversations]:
    """Who asks, and the conversations.

    Raises:
        CounterpointError: This endpoint keeps none.
    """
    key, store = await key_of(http), gateway_of(http).door.store
    if store is None:
        raise CounterpointError("conversations are kept where serving.store names a place; this endpoint has none")
    return key.id, Conversations(store)


def _rows(messages: list[KeptMessage]) -> list[dict[str, Any]]:
    return [message.model_dump() for message in messages]
