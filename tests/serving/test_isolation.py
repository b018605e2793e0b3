"""What several keys do to one endpoint, in sequences of chance: none reaches what is not its own."""

import asyncio
import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.config import MixtureConfig
from serving.gateway import Gateway
from serving.keys import Key
from serving.listener import Listener
from serving.routes import make_app

pytestmark = pytest.mark.slow
FEW = 120
SEQUENCES = int(os.environ.get("COUNTERPOINT_SEQUENCES", FEW))
"""Sequences that are tried: the same ones each time, or where the variable says how many, others each time."""
EXPERTS = {"amber": (10.0, 100.0), "beryl": (20.0, 300.0), "coral": (50.0, 700.0), "delta": (90.0, 1100.0)}
"""Who there is, and what a million tokens cost, read and written."""
CHOOSING = ["best", "vote", "weighted", "bandit"]
ASKING = ["fuse", "layers", "self", "self-seq", "judge", "debate", "deliberate", "split", "pool"]
REFUSED = (400, 404, 429)


class Live:
    """An endpoint that listens, in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        experts = [
            {
                "name": name,
                "model": "-",
                "engine": "scripted",
                "max_tokens": 8,
                "price": {"input": read, "output": written},
                "options": {
                    "script": [{"match": "slow", "say": f"{name} speaks", "delay_s": 0.02}, {"match": ".", "say": f"{name} speaks"}]
                },
            }
            for name, (read, written) in EXPERTS.items()
        ]
        store = f"sqlite:///{folder / 'store.db'}"
        serving = {"port": self.port, "keys": True, "store": store, "keep_text": True, "cache": {"kind": "exact"}, "log": None}
        aggregator = {"kind": "fuse", "expert": "delta"}  # which some keys may not ask
        body = {"version": 1, "name": "mix", "experts": experts, "aggregator": aggregator, "serving": serving}
        self.gateway = Gateway(MixtureConfig.model_validate(body))
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.listener = self.run(self._start())
        limits = httpx.Limits(max_connections=8, max_keepalive_connections=8)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30, limits=limits, trust_env=False)

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    async def _start(self) -> Listener:
        await self.gateway.start()
        listener = Listener(make_app(self.gateway), "127.0.0.1", self.port, 1.0)
        await listener.start()
        return listener

    async def _stop(self) -> None:
        await self.listener.stop()
        await self.gateway.stop()

    def stop(self) -> None:
        self.http.close()
        self.run(self._stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    def calls(self) -> Counter[str]:
        """Calls that each expert has answered."""
        return Counter(self.gateway.pipeline.pool.stats.answered)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    made = Live(tmp_path_factory.mktemp("isolation"))
    yield made
    made.stop()


@dataclass
class Caller:
    """A key, what it may, and what it has made."""

    key: Key
    secret: str
    mark: str
    allowed: list[str]
    asked: set[str] = field(default_factory=set)
    traces: list[str] = field(default_factory=list)
    batches: list[str] = field(default_factory=list)
    made: dict[str, list[str]] = field(default_factory=lambda: {"files": [], "conversations": []})

    @property
    def denied(self) -> list[str]:
        return [name for name in EXPERTS if name not in self.allowed]

    @property
    def ids(self) -> list[str]:
        return [*self.traces, *self.batches, *self.made["files"], *self.made["conversations"]]


class World:
    """A few keys at a live endpoint, and all that must hold while they ask."""

    numbers = iter(range(10**9))
    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self, live: Live, rights: list[tuple[str, list[str], float | None]]) -> None:
        self.live = live
        self.number = next(self.numbers)
        self.callers = [self._caller(at, *right) for at, right in enumerate(rights)]

    def _caller(self, at: int, way: str, names: list[str], budget: float | None) -> Caller:
        keys, mark = self.live.gateway.door.keys, f"mark-{self.number}-{at}-x"
        assert keys is not None
        limits = {"allowed_experts": names} if way == "allow" else {"denied_experts": names} if way == "deny" else {}
        key, secret = keys.create(mark, budget_usd=budget, **limits)  # type: ignore[arg-type]
        return Caller(key, secret, mark, [name for name in EXPERTS if key.allows(name)])

    def call(self, who: Caller, method: str, path: str, **more: Any) -> httpx.Response:
        """Asks by a key, and sees that nothing of another's comes back."""
        headers = {"authorization": f"Bearer {who.secret}", **more.pop("headers", {})}
        answer = self.live.http.request(method, path, headers=headers, **more)
        assert answer.status_code < 500, (answer.status_code, answer.text)
        told = answer.text + str(answer.headers)
        named = path + json.dumps(more.get("json"))  # an error repeats the id that it was asked for
        for other in self.callers:
            if other is not who:
                assert other.mark not in told, f"{other.mark} in what {who.mark} got of {method} {path}: {told[:500]}"
                assert not [id for id in other.ids if id in told and id not in named]
        return answer

    def watched(self, who: Caller, method: str, path: str, **more: Any) -> tuple[httpx.Response, int]:
        """Asks while nobody else does, and gives how many calls that took; none may be of an expert that is denied."""
        before = self.live.calls()
        answer = self.call(who, method, path, **more)
        calls = self.live.calls() - before
        assert not set(calls) & set(who.denied), f"{who.mark} may ask {who.allowed}, and reached {dict(calls)} by {method} {path} {more}"
        return answer, calls.total()

    # What a key does

    def complete(self, who: Caller, ask: dict[str, Any], *, alone: bool = True) -> None:
        """Asks for a completion, and sees who spoke, whether it came from the cache, and that its trace is there."""
        body = question(ask, who.mark)
        path = "/v1/completions" if "prompt" in body else "/v1/chat/completions"
        answer, calls = self.watched(who, "POST", path, json=body) if alone else (self.call(who, "POST", path, json=body), None)
        options = body.get("counterpoint", {})
        wanted = options.get("experts", []) if body["model"] == "mix" else [body["model"]]  # an expert by its name is asked alone
        named = {*wanted} & {*who.denied}
        if named:
            assert answer.status_code in (400, 404), f"{who.mark} may not ask {named}: {answer.status_code} {answer.text}"
        if answer.status_code != 200:
            assert answer.status_code in REFUSED, answer.text
            if answer.status_code != 429 and not named:
                left = set(wanted or who.allowed) - set(options.get("exclude", []))
                assert not left, f"refused though {who.mark} may ask {left}: {answer.text}"
            assert answer.status_code != 429 or who.key.budget_usd is not None
            assert not calls
            self.seen["denied" if named else "broke" if answer.status_code == 429 else "nobody left"] += 1
            return
        id, texts, accounts = read(answer.text, stream=body.get("stream", False))
        same = json.dumps({name: value for name, value in body.items() if name != "stream"}, sort_keys=True)
        told = {name for text in texts for name in EXPERTS if name in text}
        assert told
        assert told <= set(who.allowed), f"{who.mark} may ask {who.allowed}, and read {told}"
        for account in accounts:
            self.account(who, account)
        if answer.headers["x-counterpoint-cache"] == "hit":
            assert same in who.asked, f"{who.mark} had not asked {same}, and it was a hit"
            assert not calls
            self.seen["hit"] += 1
        elif alone:
            assert calls, f"{who.mark} got an answer that nobody gave: {answer.text}"
            self.seen["asked"] += 1
        if any(account.get("cached") for account in accounts):
            assert same in who.asked or len(texts) > 1 or not alone
        who.asked.add(same)
        who.traces += [id, *(f"{id}-{at}" for at in range(1, len(texts)))]

    def account(self, who: Caller, account: dict[str, Any]) -> None:
        """Nobody stands in a route or among the answers that may not be asked; who was refused within a mixture wrote nothing."""
        route = account["route"]
        assert {*route["experts"], *route["reserve"], route["primary"]} <= set(who.allowed), account
        for part in account["answers"]:
            assert part["expert"] in who.allowed or (part["error"] and not part.get("text")), account

    def route(self, who: Caller, ask: dict[str, Any]) -> None:
        """Asks who would be asked."""
        body = question(ask | {"path": "chat", "stream": False, "n": None}, who.mark)
        answer, calls = self.watched(who, "POST", "/v1/route", json=body)
        assert not calls
        if answer.status_code == 200:
            told = answer.json()
            assert {*told["experts"], *told["reserve"], told["primary"]} <= set(who.allowed)

    def models(self, who: Caller) -> None:
        """Asks who there is."""
        names = [row["id"] for row in self.call(who, "GET", "/v1/models").json()["data"]]
        assert names == ["mix", *who.allowed]

    def feedback(self, who: Caller, about: Caller) -> None:
        """Rates an answer, its own or another's."""
        for id in about.traces[-2:]:
            body = {"id": id, "score": 0.5, "comment": f"said by {who.mark}"}
            assert self.call(who, "POST", "/v1/feedback", json=body).status_code == (200 if who is about else 404)

    def keep(self, who: Caller) -> None:
        """Keeps a conversation."""
        body = {"title": who.mark, "messages": [{"role": "user", "content": f"kept by {who.mark}"}]}
        who.made["conversations"].append(self.call(who, "POST", "/v1/conversations", json=body).json()["id"])

    def upload(self, who: Caller, asks: list[dict[str, Any]]) -> str:
        """Uploads a file of lines, some of which ask for what is denied."""
        bodies = [question(ask | {"path": "chat", "stream": False, "n": None}, who.mark) for ask in asks]
        lines = [
            {"custom_id": f"{who.mark}-{at}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            for at, body in enumerate(bodies)
        ]
        content = "\n".join(map(json.dumps, lines)).encode()
        made = self.call(who, "POST", "/v1/files", data={"purpose": "batch"}, files={"file": (f"{who.mark}.jsonl", content)})
        who.made["files"].append(made.json()["id"])
        return who.made["files"][-1]

    def batch(self, who: Caller, asks: list[dict[str, Any]]) -> None:
        """Has a file answered, and waits for it."""
        before = self.live.calls()
        wanted = {
            "input_file_id": self.upload(who, asks),
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {"of": who.mark},
        }
        made = self.call(who, "POST", "/v1/batches", json=wanted)
        if made.status_code != 200:
            assert (made.status_code, who.key.budget_usd is None) == (429, False), made.text
            return
        who.batches.append(made.json()["id"])
        while (now := self.call(who, "GET", f"/v1/batches/{made.json()['id']}").json())["status"] == "in_progress":
            time.sleep(0.005)
        assert now["status"] == "completed"
        assert not set(self.live.calls() - before) & set(who.denied)
        results = [id for id in (now.get("output_file_id"), now.get("error_file_id")) if id]
        who.made["files"] += results
        rows = [json.loads(line) for id in results for line in self.call(who, "GET", f"/v1/files/{id}/content").text.splitlines()]
        assert len(rows) == len(asks)
        for row in rows:
            if row["response"] and row["response"]["status_code"] == 200:
                text = row["response"]["body"]["choices"][0]["message"]["content"]
                assert {name for name in EXPERTS if name in text} <= set(who.allowed), row
                self.account(who, row["response"]["body"]["counterpoint"])
                self.seen["lines"] += 1

    def crowd(self, ask: dict[str, Any]) -> None:
        """Has all ask the same at the same time."""
        before = self.live.calls()
        with ThreadPoolExecutor(len(self.callers)) as threads:
            list(threads.map(lambda who: self.complete(who, ask, alone=False), self.callers))
        allowed = {name for who in self.callers for name in who.allowed}
        assert set(self.live.calls() - before) <= allowed

    def pry(self, who: Caller, other: Caller) -> None:
        """Tries all that another has by its id."""
        for id in other.traces[-3:]:
            assert self.call(who, "GET", f"/v1/traces/{id}").status_code == 404
        for id in other.made["files"][-2:]:
            wanted = {"input_file_id": id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
            tried = [self.call(who, method, f"/v1/files/{id}{more}") for method, more in (("GET", ""), ("GET", "/content"), ("DELETE", ""))]
            assert {answer.status_code for answer in tried} == {404}
            assert self.call(who, "POST", "/v1/batches", json=wanted).status_code == 400
        for id in other.batches[-2:]:
            tried = [self.call(who, "GET", f"/v1/batches/{id}"), self.call(who, "POST", f"/v1/batches/{id}/cancel")]
            assert {answer.status_code for answer in tried} == {404}
        for id in other.made["conversations"][-2:]:
            path, change = f"/v1/conversations/{id}", {"title": who.mark, "append": [{"role": "user", "content": who.mark}]}
            tried = [self.call(who, "GET", path), self.call(who, "PATCH", path, json=change), self.call(who, "DELETE", path)]
            assert {answer.status_code for answer in tried} == {404}
        for path in ("/v1/pool", "/v1/routers", "/v1/runs", "/metrics"):
            assert self.call(who, "GET", path).status_code == 403
        self.seen["pried"] += 1

    # What holds in the end

    def check(self) -> None:
        """Each has what it made and nothing else, whatever the others tried, and has spent what its own answers cost."""
        store = self.live.gateway.door.store
        assert store is not None
        for who in self.callers:
            for kind, ids in (*who.made.items(), ("batches", who.batches)):
                rows = self.call(who, "GET", f"/v1/{kind}").json()["data"]
                assert sorted(row["id"] for row in rows) == sorted(ids)
            for id in who.made["conversations"]:
                kept = self.call(who, "GET", f"/v1/conversations/{id}").json()
                assert (kept["title"], [row["content"] for row in kept["messages"]]) == (who.mark, [f"kept by {who.mark}"])
            found = [row["id"] for row in self.call(who, "GET", "/v1/conversations", params={"q": "mark-"}).json()["data"]]
            assert sorted(found) == sorted(who.made["conversations"])
            cost = 0.0
            for id in who.traces:
                trace = self.call(who, "GET", f"/v1/traces/{id}")
                assert trace.status_code == 200, f"{id}: {trace.text}"
                self.account(who, trace.json())
                cost += trace.json()["cost_usd"]
            for id in who.made["files"]:
                for row in map(json.loads, self.call(who, "GET", f"/v1/files/{id}/content").text.splitlines()):
                    cost += row.get("counterpoint", {}).get("cost_usd", 0.0)
            spent = store.spend(who.key.id).usd
            assert spent == pytest.approx(cost, abs=1e-7), f"{who.mark} has spent {spent}, and its answers cost {cost}"
            assert who.key.budget_usd is None or spent <= who.key.budget_usd
            self.seen["paid"] += cost > 0


def question(ask: dict[str, Any], mark: str) -> dict[str, Any]:
    """The body of a request: a question that all keys share, or one that only this key asks."""
    text = f"{ask['text']} of {mark}" if ask["own"] else ask["text"]
    options = {name: ask[name] for name in ("experts", "exclude", "aggregator", "k") if ask.get(name)}
    body = {"model": ask["model"], "stream": ask["stream"], "counterpoint": options | {"explain": True}}
    body |= {"prompt": text} if ask["path"] == "prompt" else {"messages": [{"role": "user", "content": text}]}
    return body | ({"n": ask["n"]} if ask.get("n") else {})


def read(raw: str, *, stream: bool) -> tuple[str, list[str], list[dict[str, Any]]]:
    """The id, the text of each choice, and how each came about."""
    if not stream:
        body = json.loads(raw)
        texts = [choice["message"]["content"] if "message" in choice else choice["text"] for choice in body["choices"]]
        return body["id"], texts, body["counterpoint"].get("choices", [body["counterpoint"]])
    assert raw.endswith("data: [DONE]\n\n")
    events = [json.loads(line[6:]) for line in raw.splitlines() if line.startswith("data: {")]
    assert not [event for event in events if "error" in event], raw
    pieces: dict[int, str] = {}
    for event in events:
        for choice in event["choices"]:
            piece = choice["delta"].get("content", "") if "delta" in choice else choice["text"]
            pieces[choice["index"]] = pieces.get(choice["index"], "") + (piece or "")
    accounts = [event["counterpoint"] for event in events if "answers" in event.get("counterpoint", {})]
    return events[0]["id"], [text for _, text in sorted(pieces.items())], accounts


NAMES = st.lists(st.sampled_from([*EXPERTS]), min_size=1, max_size=3, unique=True)
RIGHTS = st.tuples(st.sampled_from(["allow", "deny", "deny", "all"]), NAMES, st.sampled_from([None, None, 0.02, 0.2]))
ASKS = st.fixed_dictionaries(
    {
        "text": st.sampled_from(["Who speaks?", "Who speaks? And who else?", "slow: who speaks?"]),
        "own": st.booleans(),
        "model": st.sampled_from(["mix", "mix", "mix", *EXPERTS]),
        "path": st.sampled_from(["chat", "chat", "prompt"]),
        "stream": st.booleans(),
        "n": st.sampled_from([None, None, 1, 2, 3]),
        "experts": st.one_of(st.none(), st.none(), NAMES),
        "exclude": st.one_of(st.none(), st.none(), NAMES),
        "aggregator": st.sampled_from([None, None, *CHOOSING, *ASKING]),
        "k": st.sampled_from([None, 1, 2, 4]),
    }
)
WHO = st.integers(0, 2)
STEPS = st.one_of(
    st.tuples(st.just("complete"), WHO, ASKS),
    st.tuples(st.just("repeat"), WHO, ASKS),
    st.tuples(st.just("crowd"), ASKS),
    st.tuples(st.just("route"), WHO, ASKS),
    st.tuples(st.just("models"), WHO),
    st.tuples(st.just("feedback"), WHO, WHO),
    st.tuples(st.just("keep"), WHO),
    st.tuples(st.just("upload"), WHO, st.lists(ASKS, min_size=1, max_size=2)),
    st.tuples(st.just("batch"), WHO, st.lists(ASKS, min_size=1, max_size=3)),
    st.tuples(st.just("pry"), WHO, WHO),
)


def do(world: World, step: tuple[Any, ...]) -> None:
    """Takes one step of a sequence."""
    name, *what = step
    if name == "crowd":
        world.crowd(*what)
        return
    who = world.callers[what[0] % len(world.callers)]
    if name in ("feedback", "pry"):
        other = world.callers[what[1] % len(world.callers)]
        if name == "feedback" or other is not who:
            getattr(world, name)(who, other)
    elif name == "repeat":  # by everybody, this one first and last
        for each in (who, *(other for other in world.callers if other is not who), who):
            world.complete(each, what[1] | {"own": False})
    else:
        getattr(world, name)(who, *what[1:])


def test_a_key_never_reaches_what_is_not_its_own(live: Live) -> None:
    World.seen.clear()

    @settings(max_examples=SEQUENCES, deadline=None, derandomize=SEQUENCES == FEW, database=None, suppress_health_check=[*HealthCheck])
    @given(st.lists(RIGHTS, min_size=2, max_size=3), st.lists(STEPS, min_size=4, max_size=9))
    def sequence(rights: list[tuple[str, list[str], float | None]], steps: list[tuple[Any, ...]]) -> None:
        world = World(live, rights)
        for step in steps:
            do(world, step)
        world.check()

    sequence()
    happened = {"asked", "hit", "denied", "nobody left", "broke", "lines", "pried", "paid"}
    assert {name for name in happened if World.seen[name] < SEQUENCES / 50} == set(), World.seen  # else nothing was tried
