"""What the dashboards and the chat page ask for, by both clients against the real endpoint's routes."""

from pathlib import Path

import httpx
import pytest

from counterpoint import BadRequestError, ConnectionFailedError, ConversationMessage, Counterpoint, Page
from counterpoint.routers import Opinion
from serving.runs import write_run
from tests.client.test_endpoint import mixture
from tests.serving.test_gateway import FRANCE
from tests.serving.test_outlook import TEXTS, by, stack, table  # noqa: F401
from tests.serving.test_runs import scores, summary


async def test_the_pool_is_told() -> None:
    async with mixture() as client:
        await client.chat(FRANCE)
        pool = await client.pool()
        later = await client.pool(since=pool.at + 1000)
        with pytest.raises(BadRequestError, match="wanted seconds since 1970"):
            await client.pool(since=float("nan"))
    assert {name: (state.answered, state.broken, state.resident) for name, state in pool.experts.items()} == {
        "a": (1, False, True),
        "b": (1, False, True),
    }
    assert (pool.counters["calls"], pool.waits.count, pool.slots, pool.broken, pool.every_s) == (2, 2, (), (), 2.0)
    assert len(pool.waits.counts) == len(pool.wait_bounds_s) + 1
    assert later.samples == ()


def test_a_slots_engines_are_read() -> None:
    engine = {"engine": "a+b", "experts": ["a", "b"], "bytes": 5}
    awake = engine | {"loading": False, "ending": True, "running": 2, "since_s": 3.5}
    slot = {"id": "slot-0", "running": 2, "leaving": False, "awake": [awake], "asleep": [engine], "next": "c"}
    waits = {"counts": [1], "sum_s": 0.5, "count": 1, "p50_s": 0.1, "p95_s": None}
    lanes = {"engine": "a+b", "experts": ["a", "b"], "lanes": 8, "bytes": 5, "waiting": 1, "load_s": 2.0, "wake_s": None, "service_s": 0.1}
    sample = {"at": 1.0, "waiting": {"a": 1}, "running": {}, "swaps": 1, "refused": 0, "tokens_per_s": {"a": 2.5}}
    body = {
        "at": 2.0,
        "slots": [slot | {"awake_bytes": 5, "asleep_bytes": 5}],
        "tiers": {"awake": 5, "asleep": 5},
        "budgets": {"awake": None, "asleep": 0},
        "cold": ["d"],
        "engines": [lanes],
        "experts": {},
        "broken": [],
        "waits": waits,
        "wait_bounds_s": [],
        "counters": {"swaps": 1},
        "max_wait_s": None,
        "recent": {"seconds": 2.0, "tokens_per_s": 2.5, "experts": {"a": 2.5}},
        "history": {"every_s": 2.0, "samples": [sample]},
        "added": "by a newer endpoint",
    }
    with Counterpoint("http://mixture", transport=httpx.MockTransport(lambda _: httpx.Response(200, json=body))) as client:
        pool = client.pool()
    held = pool.slots[0]
    assert (held.awake[0].experts, held.awake[0].ending, held.asleep[0].loading, held.next) == (("a", "b"), True, False, "c")
    assert (pool.engines[0].load_s, pool.engines[0].wake_s, pool.samples[0].tokens_per_s, pool.tokens_per_s) == (2.0, None, {"a": 2.5}, 2.5)
    del body["slots"]
    with (
        Counterpoint("http://mixture", transport=httpx.MockTransport(lambda _: httpx.Response(200, json=body))) as client,
        pytest.raises(ConnectionFailedError, match="no answer of Counterpoint's"),
    ):
        client.pool()


async def test_the_router_is_told_and_a_text_is_tried(stack: Path) -> None:  # noqa: F811
    async with mixture(**by(stack)) as client:
        routers = await client.routers()
        tried = await client.try_routers(TEXTS[3])
    assert (routers.name, routers.kind, routers.members, routers.questions) == ("mine", "stack", ("category", "linear", "knn"), 60)
    assert routers.profile is not None
    assert (routers.profile.rows, len(routers.profile.quality)) == (("sums", "words"), 2)
    assert routers.map is not None
    assert (routers.map.total, len(routers.map.points), routers.map.points[3].text) == (60, 60, TEXTS[3])
    assert routers.drift is not None
    assert (routers.drift.questions, routers.drift.told_apart, routers.feedback) == (0, None, None)
    assert tuple(each.name for each in tried.routers) == routers.tried
    assert tried.place is not None
    assert tried.nearest[0].number == 3
    assert tried.nearest[0].point.text == TEXTS[3]


async def test_feedback_is_told_by_the_first_choice(stack: Path, tmp_path: Path) -> None:  # noqa: F811
    async with mixture(**by(stack), serving={"store": f"sqlite:///{tmp_path / 'store.db'}"}) as client:
        answer = await client.chat(TEXTS[0])
        await client.feedback(answer.id, 0.5)
        assert (await client.routers()).feedback == {"a": Opinion(1, 0.5)}


async def test_a_mixture_without_a_router_says_so() -> None:
    async with mixture() as client:
        routers, tried = await client.routers(), await client.try_routers("Hi")
    assert (routers.kind, routers.map, routers.profile, routers.drift, routers.experts) == (None, None, None, None, ("a", "b"))
    assert routers.note == tried.note
    assert (tried.place, tried.routers[0].scores) == (None, {"a": 0.5, "b": 0.5})


async def test_runs_are_listed_read_and_compared(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    write_run(folder, "one", summary("one"), scores(mixture=[1, 1, 0, 1], best_single=[1, 0, 0, 1]), markdown="# One", html="<h1>One</h1>")
    write_run(folder, "two", summary("two", 200.0), scores(mixture=[0, 1, 0, 1], best_single=[1, 0, 0, 1]))
    (folder / "broken").mkdir()
    async with mixture(serving={"runs": str(folder)}) as client:
        listed = await client.runs.list()
        first = await client.runs.list(limit=1)
        one = await client.runs.get("one")
        page = await client.runs.report("one")
        text = await client.runs.report("one", "md")
        differences = await client.runs.compare("one", "two")
        with pytest.raises(BadRequestError, match="no run of yours has the id"):
            await client.runs.get("..secret")
    assert [(run.id, run.error is None) for run in listed] == [("two", True), ("one", True), ("broken", False)]
    assert (len(first), first.has_more) == (1, True)
    assert (one.systems[0].name, one.systems[0].score, one.report, page, text) == ("mixture", 0.5, "# One", "<h1>One</h1>", "# One")
    assert one.categories is not None
    assert one.categories.scores == ((0.5, 0.5), (1.0, 0.5))
    assert [(each.system, each.questions, each.difference, each.tie) for each in differences] == [
        ("mixture", 4, 0.25, True),
        ("best single", 4, 0.0, True),
    ]


async def test_conversations_are_kept_for_the_key(tmp_path: Path) -> None:
    async with mixture(serving={"store": f"sqlite:///{tmp_path / 'store.db'}"}) as client:
        made = await client.conversations.create(FRANCE)
        answer = await client.chat(FRANCE)
        grown = await client.conversations.update(made.id, append=[ConversationMessage("assistant", answer.text, answer.id)])
        other = await client.conversations.create([{"role": "user", "content": "What is 2 + 2?"}], title="Sums")
        listed = await client.conversations.list(limit=1)
        rest = await client.conversations.list(limit=1, after=listed.items[-1].id)
        found = await client.conversations.search("PARIS")
        again = await client.conversations.get(made.id)
        renamed = await client.conversations.update(made.id, title="Capitals", messages=[])
        await client.conversations.delete(other.id)
        with pytest.raises(BadRequestError, match="no conversation of yours") as caught:
            await client.conversations.get(other.id)
    assert (made.title, made.messages) == (FRANCE, (ConversationMessage("user", FRANCE),))
    assert grown.messages is not None
    assert grown.messages[1] == ConversationMessage("assistant", "Paris", answer.id)
    assert ([each.title for each in listed], listed.has_more, [each.title for each in rest], rest.has_more) == (
        ["Sums"],
        True,
        [FRANCE],
        False,
    )
    assert [(each.id, each.messages, each.message_count) for each in found] == [(made.id, None, 2)]
    assert again == grown
    assert (renamed.title, renamed.messages, renamed.created_at) == ("Capitals", (), made.created_at)
    assert caught.value.status == 404


def test_the_plain_clients_resources_ask_the_same() -> None:
    asked: list[str] = []
    head = {"id": "c", "title": "t", "created_at": 1, "updated_at": 2, "message_count": 0}

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.raw_path.decode()}")
        path = request.url.path
        if path.endswith("/report"):
            return httpx.Response(200, text="# Report")
        if path.endswith("/compare"):
            return httpx.Response(200, json={"systems": []})
        if path == "/v1/runs/r 1":
            return httpx.Response(200, json={"id": "r 1", "error": "no summary"})
        if request.method == "DELETE":
            return httpx.Response(200, json={"deleted": True})
        if request.method == "GET" and path in ("/v1/conversations", "/v1/runs"):
            return httpx.Response(200, json={"data": [], "has_more": True})
        return httpx.Response(200, json=head)

    with Counterpoint("http://mixture", transport=httpx.MockTransport(answer)) as client:
        client.conversations.create("Hi")
        assert client.conversations.list(5, after="c/1") == Page((), True)
        client.conversations.search("a b&c")
        client.conversations.get("c/1")
        client.conversations.update("c", title="t")
        client.conversations.delete("c")
        assert client.runs.list(limit=3) == Page((), True)
        assert client.runs.get("r 1").error == "no summary"
        assert client.runs.report("r", "md") == "# Report"
        assert client.runs.compare("a", "b") == ()
    assert asked == [
        "POST /v1/conversations",
        "GET /v1/conversations?limit=5&after=c%2F1",
        "GET /v1/conversations?limit=100&q=a+b%26c",
        "GET /v1/conversations/c%2F1",
        "PATCH /v1/conversations/c",
        "DELETE /v1/conversations/c",
        "GET /v1/runs?limit=3",
        "GET /v1/runs/r%201",
        "GET /v1/runs/r/report?format=md",
        "GET /v1/runs/compare?a=a&b=b",
    ]


def test_a_page_is_looped_over() -> None:
    page = Page((1, 2), False)
    assert ([*page], len(page)) == ([1, 2], 2)
