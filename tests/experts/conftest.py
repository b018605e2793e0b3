import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

LIKELIEST = [("B", -0.5), ("A", -2.0), ("The", -6.0)]
TOLD = {
    "content": [
        {"token": "B", "logprob": -0.5, "bytes": None, "top_logprobs": [{"token": t, "logprob": p, "bytes": None} for t, p in LIKELIEST]}
    ]
}


@dataclass
class RemoteServer:
    """A real local server that speaks the chat completions protocol, with faults on demand."""

    url: str = ""
    key: str = "right-key"
    seen: list[dict[str, Any]] = field(default_factory=list)
    faults: list[int] = field(default_factory=list)
    """Statuses that the next requests get."""

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Response:
            body = await request.json()
            self.seen.append(body)
            if request.headers.get("authorization") != f"Bearer {self.key}":
                return JSONResponse({"error": {"message": "wrong key", "type": "auth"}}, 401)
            if self.faults:
                status = self.faults.pop(0)
                return JSONResponse({"error": {"message": f"fault {status}", "type": "fault"}}, status, headers={"retry-after": "0"})
            question = body["messages"][-1]["content"]
            if question == "be slow":
                await asyncio.sleep(20)
            if question == "break off":
                return StreamingResponse(self._events(["half"], None, 1), media_type="text/event-stream")
            if question == "no completion":
                return Response('data: {"choices": 3}\n\n', media_type="text/event-stream")
            if question == "call a tool":
                return StreamingResponse(self._calls(body), media_type="text/event-stream")
            words = ["The ", "capital ", "is ", "Paris ", "today."]
            kept = words[: body["max_tokens"]]
            told = TOLD if body.get("logprobs") else None
            return StreamingResponse(
                self._events(kept, "stop" if kept == words else "length", len(question.split()), told), media_type="text/event-stream"
            )

        return app

    async def _calls(self, body: dict[str, Any]) -> AsyncIterator[str]:
        """Two calls of the first tool that is offered, each in two pieces."""
        base = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m"}
        name = body["tools"][0]["function"]["name"]
        for at in range(2):
            opening = {"index": at, "id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": '{"city": '}}
            for call in (opening, {"index": at, "function": {"arguments": f'"{at}"}}'}}):
                yield f"data: {json.dumps(base | {'choices': [{'index': 0, 'delta': {'tool_calls': [call]}, 'finish_reason': None}]})}\n\n"
        yield f"data: {json.dumps(base | {'choices': [{'index': 0, 'delta': {}, 'finish_reason': 'tool_calls'}]})}\n\n"
        yield "data: [DONE]\n\n"

    async def _events(self, words: list[str], reason: str | None, prompt: int, told: object = None) -> AsyncIterator[str]:
        base = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m"}
        for word in words:
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None} | ({"logprobs": told} if told else {})
            yield f"data: {json.dumps(base | {'choices': [choice]})}\n\n"
            await asyncio.sleep(0.001)
        if reason is None:
            return
        yield f"data: {json.dumps(base | {'choices': [{'index': 0, 'delta': {}, 'finish_reason': reason}]})}\n\n"
        usage = {"prompt_tokens": prompt, "completion_tokens": len(words), "total_tokens": prompt + len(words)}
        yield f"data: {json.dumps(base | {'choices': [], 'usage': usage})}\n\n"
        yield "data: [DONE]\n\n"


@pytest.fixture(scope="session")
def remote_server() -> Iterator[RemoteServer]:
    remote = RemoteServer()
    server = uvicorn.Server(uvicorn.Config(remote.app(), port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    remote.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    yield remote
    server.should_exit = True
    thread.join(5)


@pytest.fixture
def remote(remote_server: RemoteServer, monkeypatch: pytest.MonkeyPatch) -> RemoteServer:
    remote_server.seen.clear()
    remote_server.faults.clear()
    monkeypatch.setenv("REMOTE_TEST_KEY", remote_server.key)
    return remote_server
