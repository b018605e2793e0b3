"""A server of chat completions that answers at once, so that what is measured is whoever stands before it.

Run: python -m benchmarks.upstream --port 9000
"""

from __future__ import annotations

import argparse
import json
from typing import Any

TEXT = "Paris"
_HEAD = {"id": "chatcmpl-1", "created": 0, "model": "instant"}
_USAGE = {"prompt_tokens": 8, "completion_tokens": 1, "total_tokens": 9}


def _chunk(choices: list[dict[str, Any]], **more: Any) -> bytes:
    return b"data: " + json.dumps({**_HEAD, "object": "chat.completion.chunk", "choices": choices, **more}).encode() + b"\n\n"


WHOLE = json.dumps(
    {
        **_HEAD,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
        "usage": _USAGE,
    }
).encode()
PIECES = (
    _chunk([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]),
    _chunk([{"index": 0, "delta": {"content": TEXT}, "finish_reason": None}]),
    _chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}]),
    _chunk([], usage=_USAGE),
    b"data: [DONE]\n\n",
)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Read a request to its end and answer it, as a stream where that is asked."""
    raw, more = b"", True
    while more:
        message = await receive()
        raw += message.get("body", b"")
        more = message.get("more_body", False)
    streams = bool(json.loads(raw or b"{}").get("stream"))
    headers = (
        [(b"content-type", b"text/event-stream")]
        if streams
        else [(b"content-type", b"application/json"), (b"content-length", str(len(WHOLE)).encode())]
    )
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for piece in PIECES if streams else ():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"" if streams else WHOLE})


def main() -> None:
    """Serve until the process is ended."""
    import uvicorn

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(app, port=parser.parse_args().port, lifespan="off", log_level="error", access_log=False)


if __name__ == "__main__":
    main()
