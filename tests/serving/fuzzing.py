"""Requests that no client should send, as bytes on the wire, and what a server may answer to them."""

import json
import random
import re
import socket
import struct
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

PATHS = (
    "/v1/chat/completions", "/v1/completions", "/v1/route", "/v1/feedback", "/v1/batches", "/v1/conversations", "/v1/routers/try",
)  # fmt: skip
GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": "mix",
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 20,
        "temperature": 0.5,
        "stop": ["x"],
        "n": 1,
        "seed": 1,
        "stream": False,
        "stream_options": {"include_usage": True},
        "user": "me",
        "metadata": {"a": "b"},
        "logprobs": True,
        "top_logprobs": 2,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "counterpoint": {"k": 1, "experts": ["a"], "exclude": [], "explain": True, "objective": {"price": 1}, "budget_usd": 1.0},
    },
    "/v1/completions": {"model": "mix", "prompt": ["What is the capital of France?"], "max_tokens": 5, "logprobs": 1},
    "/v1/route": {"model": "mix", "messages": [{"role": "user", "content": "Hi"}], "counterpoint": {"k": 2}},
    "/v1/feedback": {"id": "chatcmpl-0", "score": 0.5, "comment": "fine"},
    "/v1/batches": {"input_file_id": "file-0", "endpoint": "/v1/chat/completions", "completion_window": "24h", "metadata": {"a": "b"}},
    "/v1/conversations": {"title": "t", "messages": [{"role": "user", "content": "Hi", "trace_id": None}]},
    "/v1/routers/try": {"text": "What is two plus three?"},
}
READS = (
    "/v1/models", "/v1/files", "/v1/batches", "/v1/conversations", "/v1/pool", "/v1/routers", "/v1/runs", "/metrics", "/openapi.json",
    "/v1/runs/compare", "/healthz", "/readyz",
)  # fmt: skip
BELOW = (
    "/v1/files/{}", "/v1/files/{}/content", "/v1/batches/{}", "/v1/batches/{}/cancel", "/v1/conversations/{}", "/v1/traces/{}",
    "/v1/runs/{}", "/v1/runs/{}/report",
)  # fmt: skip
QUERIES = ("limit", "after", "q", "since", "format", "a", "b")
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "BREW", "G\x00T")
IDS = (
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%2f..%2fstore.db", "%00", "a%00b", "x" * 5000, "%ff%fe", "%", "%zz", "%F0%9F%98%80", "%ed%a0%80",
    "'%20OR%201=1--", "..", ".", "%2e", "first%2f..%2fsecond", "~root", "C:%5Cwindows", "*", "%0d%0aset-cookie:%20x", "first%00", "null",
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, -(10**400), 0.0, -0.0, 1e308, -1e308, 5e-324, float("nan"), float("inf"),
    float("-inf"), "", "x", "\x00", "\ud800", "\U0001f600" * 50, "x" * 100_000, "1", "true", [], {}, [None], [[]], {"": None}, {"x": 1},
    [1, "x", None], {"role": "user"}, [{"role": "user", "content": None}],
    {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}},
    {"type": "json_schema", "json_schema": {"name": "x", "schema": {"pattern": "(a+)+$", "type": 7}}}, "\u202e\u0000\uffff",
)  # fmt: skip
HEADERS: tuple[tuple[bytes, Sequence[bytes]], ...] = (
    (b"content-type", (b"", b"text/plain", b"application/json; charset=utf-16", b"APPLICATION/JSON", b"multipart/form-data", b"\xff\xfe")),
    (b"content-length", (b"-1", b"+5", b"0x10", b"99999999999999999999", b"5, 5", b"", b"1e3", b"\xb2", b" 7")),
    (b"transfer-encoding", (b"chunked", b"gzip", b"chunked, chunked", b"identity", b"xchunked")),
    (b"x-request-id", (b"\x00", b"\xff" * 10, b"x" * 9000, b"a b", b"", b"\xc3\xa9")),
    (b"traceparent", (b"00-0-0-0", b"x" * 500, b"\xff", b"00-" + b"f" * 32 + b"-" + b"f" * 16 + b"-zz")),
    (b"cache-control", (b"no-store, no-cache", b"max-age=-1", b"\xff", b"=" * 900)),
    (b"authorization", (b"", b"Bearer", b"Bearer \xff\xfe", b"Basic \x00", b"Bearer " + b"x" * 9000, b"Bearer cp-0-" + b"0" * 43)),
    (b"origin", (b"null", b"http://[", b"http://[::1", b"\xff", b"https://evil.example")),
    (b"host", (b"", b"[", b"[::1", b"127.0.0.1:99999", b"a" * 5000, b"\xff\xff", b"127.0.0.1:x", b"evil.example", b"a@evil.example")),
    (b"expect", (b"100-continue", b"200-ok")),
    (b"connection", (b"upgrade", b"close, close", b"keep-alive\x0b")),
    (b"upgrade", (b"websocket", b"h2c")),
    (b"accept-encoding", (b"\xff", b"gzip;q=x")),
    (b"x\x00y", (b"1",)),
    (b"bad header", (b"1",)),
    (b"", (b"1",)),
)  # fmt: skip


@dataclass(frozen=True)
class Odd:
    """A connection that should not be: what is sent, in pieces, and how it ends.

    Attributes:
        kind: What is wrong with it.
        pieces: Bytes, sent one after the other.
        end: `read` waits for the answer, `half` ends its own side first, `leave` goes after some bytes of the answer, `reset` at once.
    """

    kind: str
    pieces: tuple[bytes, ...]
    end: str = "read"


def head(method: str, target: str, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The lines before a body."""
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return f"{method} {target} HTTP/1.1\r\n".encode("latin-1", "replace") + lines + b"\r\n"


class Fuzz:
    """Makes odd requests from a seed.

    Args:
        seed: Where the random numbers begin.
        key: A key that lets them in; a few go without.
    """

    def __init__(self, seed: int, key: str) -> None:
        self.random = random.Random(seed)
        self.key = key.encode()
        self.kinds: tuple[Callable[[], Odd], ...] = (
            self.values, self.values, self.values, self.cut, self.nested, self.doubled, self.noise, self.typed, self.ids, self.queries,
            self.methods, self.headers, self.headers, self.lengths, self.chunks, self.large, self.forms, self.lines, self.sockets,
            self.leaving, self.leaving, self.halves, self.files,
        )  # fmt: skip

    def one(self) -> Odd:
        """The next one."""
        return self.random.choice(self.kinds)()

    def _head(self, size: int | None, **changes: bytes) -> list[tuple[bytes, bytes]]:
        fields = {
            b"host": b"127.0.0.1",
            b"authorization": b"Bearer " + self.key,
            b"content-type": b"application/json",
            b"connection": b"close",
        }
        if size is not None:
            fields[b"content-length"] = str(size).encode()
        return [*(fields | {name.replace("_", "-").encode(): value for name, value in changes.items()}).items()]

    def _post(self, kind: str, raw: bytes, path: str | None = None, end: str = "read") -> Odd:
        path = path or self.random.choice(PATHS)
        return Odd(f"{kind} {path}", (head("POST", path, self._head(len(raw))), raw), end)

    def values(self) -> Odd:
        """A value of a wrong kind, at any place of a body that is good elsewhere."""
        path = self.random.choice(PATHS)
        body = json.loads(json.dumps(GOOD[path]))
        for _ in range(self.random.choice((1, 1, 1, 2, 5))):
            places = [*_places(body)]
            holder, at = self.random.choice(places)
            holder[at] = deepcopy(self.random.choice(ODD))
            if isinstance(holder, dict) and self.random.random() < 0.1:
                holder[self.random.choice(("", "\x00", "__proto__", "model ", "stream", "n", "x" * 3000))] = deepcopy(
                    self.random.choice(ODD)
                )
        return self._post("values", json.dumps(body).encode(), path)

    def cut(self) -> Odd:
        """A body that ends too early."""
        path = self.random.choice(PATHS)
        raw = json.dumps(GOOD[path]).encode()
        return self._post("cut", raw[: self.random.randrange(len(raw))], path)

    def nested(self) -> Odd:
        """A body that nests deep, alone or in a field."""
        depth = self.random.choice((50, 500, 5000, 100_000))
        deep = self.random.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth))
        path = self.random.choice(PATHS)
        raw = json.dumps(GOOD[path] | {self.random.choice([*GOOD[path]]): "@"}).encode().replace(b'"@"', deep)
        return self._post("nested", self.random.choice((deep, raw)), path)

    def doubled(self) -> Odd:
        """A body whose keys stand twice, or whose numbers are no JSON."""
        path = self.random.choice(PATHS)
        name = self.random.choice([*GOOD[path]])
        text = json.dumps(GOOD[path])[:-1]
        odd = self.random.choice(
            (
                "NaN",
                "Infinity",
                "-Infinity",
                "1e999",
                "9" * 5000,
                "-" + "9" * 400,
                "0" * 9,
                "1.",
                ".5",
                "+1",
                '"\\ud800"',
                '"\\u0000"',
                "[]",
            )
        )
        return self._post("doubled", f'{text}, "{name}": {odd}}}'.encode(), path)

    def noise(self) -> Odd:
        """A body of any bytes."""
        size = self.random.choice((0, 1, 3, 50, 4000))
        made = self.random.choice(
            (self.random.randbytes(size), b"\xff" * size, b"\xef\xbb\xbf{}", '{"model": "mix"}'.encode("utf-16"), b"\x00" * size)
        )
        return self._post("noise", made)

    def typed(self) -> Odd:
        """A good body whose content type is another."""
        path = self.random.choice(PATHS)
        raw = json.dumps(GOOD[path]).encode()
        fields = self._head(len(raw), content_type=self.random.choice(HEADERS[0][1]))
        if self.random.random() < 0.2:
            fields = [field for field in fields if field[0] != b"content-type"]
        return Odd(f"typed {path}", (head("POST", path, fields), raw))

    def ids(self) -> Odd:
        """A path with an odd id."""
        path = self.random.choice(BELOW).format(self.random.choice(IDS))
        method = self.random.choice(("GET", "GET", "DELETE", "POST", "PATCH"))
        raw = b"{}" if method in ("POST", "PATCH") else b""
        return Odd(f"ids {method} {path[:60]}", (head(method, path, self._head(len(raw))), raw))

    def queries(self) -> Odd:
        """A list or a report, asked with odd parameters."""
        path = self.random.choice((*READS, "/v1/runs/first/report", "/v1/runs/first"))
        pairs = [
            f"{self.random.choice(QUERIES)}={self.random.choice((*IDS, '-1', '0', '10001', '1e9', 'nan', 'inf', '', '%C2%B2', 'first'))}"
            for _ in range(3)
        ]
        return Odd(f"queries {path}", (head("GET", f"{path}?{'&'.join(pairs)}", self._head(None)),))

    def methods(self) -> Odd:
        """A method that a path does not have, or that is none."""
        path = self.random.choice(
            (*PATHS, *READS, *(below.format("x") for below in BELOW), "*", "/", "//", "http://evil.example/v1/models", "/v1/./models", "")
        )
        return Odd(f"methods {path}", (head(self.random.choice(METHODS), path, self._head(0)),))

    def headers(self) -> Odd:
        """Headers of odd names and bytes."""
        path = self.random.choice(PATHS)
        raw = json.dumps(GOOD[path]).encode()
        fields = self._head(len(raw))
        for _ in range(self.random.choice((1, 1, 2))):
            name, values = self.random.choice(HEADERS)
            odd = (name, self.random.choice(values))
            fields = [field for field in fields if field[0] != name or self.random.random() < 0.2] + [odd]
        if self.random.random() < 0.05:
            fields += [(f"x-{at}".encode(), b"y" * 50) for at in range(2000)]
        return Odd(f"headers {path}", (head("POST", path, fields), raw), self.random.choice(("read", "read", "half")))

    def lengths(self) -> Odd:
        """A length that is not the body's."""
        path = self.random.choice(PATHS)
        raw = json.dumps(GOOD[path]).encode()
        length = self.random.choice((b"0", b"1", str(len(raw) - 1).encode(), str(len(raw) + 50).encode(), b"4194305", *HEADERS[1][1]))
        return Odd(
            f"lengths {path}", (head("POST", path, self._head(None, content_length=length)), raw), self.random.choice(("half", "reset"))
        )

    def chunks(self) -> Odd:
        """A body in chunks, good or not."""
        path = self.random.choice(PATHS)
        raw = json.dumps(GOOD[path]).encode()
        size = f"{len(raw):x}".encode()
        made = self.random.choice((
            (size + b"\r\n" + raw + b"\r\n0\r\n\r\n",),
            (*(b"1\r\n" + raw[at : at + 1] + b"\r\n" for at in range(len(raw))), b"0\r\n\r\n"),
            (b"zz\r\n" + raw,),
            (b"-1\r\n",),
            (b"fffffffffffffffff\r\n" + raw,),
            (size + b";x=\xff\r\n" + raw + b"\r\n0\r\nx: y\r\n\r\n",),
            (size + b"\r\n" + raw[:-5],),
            (b"0\r\n\r\n",),
        ))  # fmt: skip
        return Odd(f"chunks {path}", (head("POST", path, self._head(None, transfer_encoding=b"chunked")), *made), "half")

    def large(self) -> Odd:
        """A body that is larger than any may be, with its length or in chunks."""
        path, part = self.random.choice((*PATHS, "/v1/files")), b'"' + b"x" * 65_533 + b'"'
        if self.random.random() < 0.5:
            return Odd(f"large {path}", (head("POST", path, self._head(70 * len(part))), *[part] * 70))
        chunks = [b"ffff\r\n" + part + b"\r\n"] * 70
        return Odd(f"large {path}", (head("POST", path, self._head(None, transfer_encoding=b"chunked")), *chunks, b"0\r\n\r\n"), "half")

    def sockets(self) -> Odd:
        """A web socket, where there is none."""
        fields = self._head(
            None, connection=b"upgrade", upgrade=b"websocket", sec_websocket_version=b"13", sec_websocket_key=b"eHh4eHh4eHh4eHh4eHh4eA=="
        )
        path = self.random.choice((*PATHS, *READS))
        return Odd(f"sockets {path}", (head("GET", path, fields),), "half")

    def forms(self) -> Odd:
        """An upload whose form is broken."""
        part = b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        file = b'--b\r\ncontent-disposition: form-data; name="file"; filename="%s"\r\n\r\n%s\r\n'
        name = self.random.choice((b"x.jsonl", b"../../x", b"\xff\xfe", b"\x00", b"n" * 5000, b"", b'a"b', b"\\ud800"))
        whole = part + file % (name, self.random.randbytes(self.random.choice((0, 5, 2000)))) + b"--b--\r\n"
        raw = self.random.choice((
            whole, whole, whole[: self.random.randrange(len(whole))], part + b"--b--\r\n", b"", b"--b", part * 30 + b"--b--\r\n",
            whole.replace(b"batch", b"fine-tune"), whole.replace(b"--b\r\n", b"--b\r\n\r\n"),
            b"--b\r\ncontent-disposition: form-data\r\n\r\nx\r\n--b--\r\n", b"--b\r\n\xff\xff: x\r\n\r\nx\r\n--b--\r\n",
            b"--b\r\n" + b"x: y\r\n" * 500 + b"\r\nx\r\n--b--\r\n", whole.replace(b"form-data; name", b"form-data; name*=utf-8''%ff; name"),
        ))  # fmt: skip
        kind = self.random.choice(
            (b"multipart/form-data; boundary=b",) * 6
            + (
                b"multipart/form-data",
                b"multipart/form-data; boundary=",
                b"multipart/form-data; boundary=\xff",
                b"multipart/form-data; charset=nonsense; boundary=b",
                b"multipart/form-data; boundary=" + b"b" * 3000,
            )
        )
        return Odd("forms", (head("POST", "/v1/files", self._head(len(raw), content_type=kind)), raw))

    def files(self) -> Odd:
        """A batch over lines that are none."""
        return self._post(
            "files",
            json.dumps(
                {
                    "input_file_id": self.random.choice(("file-x", "\x00", "../x", "%2e", "x" * 200)),
                    "endpoint": self.random.choice(("/v1/chat/completions", "", "\x00", "/v1/files")),
                }
            ).encode(),
            "/v1/batches",
        )

    def lines(self) -> Odd:
        """Bytes that are no HTTP, or hardly."""
        good = head("GET", "/v1/models", self._head(None))
        return Odd("lines", (self.random.choice((
            b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /v1/models HTTP/9.9\r\n\r\n",
            b"GET /v1/models\r\n\r\n", self.random.randbytes(200), b"GET " + b"/x" * 50_000 + b" HTTP/1.1\r\n\r\n",
            good.replace(b"\r\n", b"\n"), good + good, good[:-2], b" " + good, good.replace(b"HTTP/1.1", b"HTTP/1.0"),
            good.replace(b" HTTP", b"\x00 HTTP"), b"GET /v1/models HTTP/1.1\r\nx: " + b"y" * 200_000 + b"\r\n\r\n",
            b"GET http://[::1/v1/models HTTP/1.1\r\nhost: x\r\n\r\n", b"GET /v1/models?\xff\xfe HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
        )),), self.random.choice(("half", "reset")))  # fmt: skip

    def leaving(self) -> Odd:
        """A caller who goes while it is answered."""
        path = self.random.choice(("/v1/chat/completions", "/v1/completions"))
        text = self.random.choice(("slow", "What is the capital of France?"))
        asked = {"messages": [{"role": "user", "content": text}]} if "chat" in path else {"prompt": text}
        body = {
            "model": "mix",
            **asked,
            "stream": self.random.random() < 0.8,
            "n": self.random.choice((1, 3)),
            "counterpoint": {"k": 2, "explain": True},
        }
        return self._post("leaving", json.dumps(body).encode(), path, self.random.choice(("leave", "reset", "half")))

    def halves(self) -> Odd:
        """A caller who goes in the middle of the question."""
        path = self.random.choice(PATHS)
        whole = head("POST", path, self._head(5000)) + json.dumps(GOOD[path]).encode()
        return Odd(f"halves {path}", (whole[: self.random.randrange(1, len(whole))],), self.random.choice(("half", "reset")))


def _places(body: Any) -> list[tuple[Any, Any]]:
    """All places of a body: what holds them, and under which name or number."""
    found: list[tuple[Any, Any]] = []
    for at, each in body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ():
        found += [(body, at), *_places(each)]
    return found


def sent(odd: Odd, port: int, timeout_s: float = 30) -> bytes:
    """Sends an odd request, and gives what came back, up to where it was read."""
    with socket.create_connection(("127.0.0.1", port), timeout_s) as wire:
        try:
            for piece in odd.pieces:
                wire.sendall(piece)
            if odd.end == "reset":
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return b""
            if odd.end == "half":
                wire.shutdown(socket.SHUT_WR)
            if odd.end == "leave":
                return wire.recv(300)
            answer = b""
            while not _whole(answer) and (piece := wire.recv(65536)):
                answer += piece
            return answer
        except TimeoutError:
            raise
        except OSError:  # the server hung up first, which it may
            return b""


def _whole(answer: bytes) -> bool:
    """Whether the last answer's body is there by its own length: a connection that stays open has no other end."""
    while answer.startswith(b"HTTP/1.1 1"):
        answer = answer.partition(b"\r\n\r\n")[2]
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head)
    return bool(end and length and len(body) >= int(length[1]) > 0)


def status(answer: bytes) -> int | None:
    """The status of an answer; None where there is none."""
    first = answer.partition(b"\r\n")[0].split(b" ")
    return int(first[1]) if len(first) > 1 and first[0].startswith(b"HTTP/1.") else None
