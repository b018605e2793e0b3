import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import conversations
from serving.conversations import ConversationError, Conversations, created_of
from serving.store import Store
from tests.serving.test_gateway import FRANCE, chat, made_key, served


@pytest.fixture(scope="module")
def shared(new_url: Callable[[], str]) -> Iterator[Store]:
    with Store(new_url()) as made:
        yield made


def said(content: str, role: str = "user", trace_id: str | None = None) -> dict[str, Any]:
    return {"role": role, "content": content, "trace_id": trace_id}


async def test_a_conversation_is_kept_changed_and_deleted(url: str) -> None:
    async with served(serving={"store": url}) as client:
        answer = (await client.post("/v1/chat/completions", json=chat(FRANCE))).json()
        made = (await client.post("/v1/conversations", json={"messages": [{"role": "user", "content": FRANCE}]})).json()
        path = f"/v1/conversations/{made['id']}"
        reply = {"role": "assistant", "content": "Paris", "trace_id": answer["id"]}
        grown = (await client.patch(path, json={"append": [reply]})).json()
        named = (await client.patch(path, json={"title": "Capitals"})).json()
        trace = await client.get(f"/v1/traces/{named['messages'][1]['trace_id']}")
        listed = (await client.get("/v1/conversations")).json()
        cut = (await client.patch(path, json={"messages": [reply]})).json()
        gone = (await client.delete(path)).json()
        codes = [(await client.request(method, path, json={"title": "x"})).status_code for method in ("GET", "PATCH", "DELETE")]
    assert (made["object"], made["title"], made["messages"]) == ("counterpoint.conversation", FRANCE, [said(FRANCE)])
    assert [message["content"] for message in grown["messages"]] == [FRANCE, "Paris"]
    assert (named["title"], len(named["messages"]), trace.status_code) == ("Capitals", 2, 200)
    assert made["created_at"] == named["created_at"] <= named["updated_at"]
    assert [(row["title"], row["message_count"], "messages" in row) for row in listed["data"]] == [("Capitals", 2, False)]
    assert [message["content"] for message in cut["messages"]] == ["Paris"]
    assert (gone["deleted"], codes) == (True, [404, 404, 404])


async def test_another_key_finds_nothing_of_it(url: str) -> None:
    mine, other, admin = made_key(url), made_key(url), made_key(url, admin=True)
    async with served(serving={"keys": True, "store": url}) as client:
        assert (await client.post("/v1/conversations", json={"title": "secret"})).status_code == 401
        made = (await client.post("/v1/conversations", json={"title": "secret"}, headers=mine)).json()
        path = f"/v1/conversations/{made['id']}"
        for headers in (other, admin):
            for method in ("GET", "PATCH", "DELETE"):
                answer = await client.request(method, path, json={"title": "mine now"}, headers=headers)
                assert (answer.status_code, answer.json()["error"]["code"]) == (404, "conversation_not_found")
            assert (await client.get("/v1/conversations", headers=headers)).json()["data"] == []
            assert (await client.get("/v1/conversations", params={"q": "secret"}, headers=headers)).json()["data"] == []
            after = await client.get("/v1/conversations", params={"after": made["id"]}, headers=headers)
            assert (after.status_code, "secret" in after.text) == (400, False)
        assert (await client.get(path, headers=mine)).json()["title"] == "secret"


async def test_pages_say_truly_whether_there_is_more(url: str) -> None:
    async with served(serving={"store": url}) as client:
        made = [(await client.post("/v1/conversations", json={"title": f"{at}"})).json()["id"] for at in range(5)]
        seen: list[str] = []
        more, rounds = True, 0
        while more:
            page = (await client.get("/v1/conversations", params={"limit": 2} | ({"after": seen[-1]} if seen else {}))).json()
            seen += [row["id"] for row in page["data"]]
            more, rounds = page["has_more"], rounds + 1
        exact = (await client.get("/v1/conversations", params={"limit": 5})).json()
        lost = await client.get("/v1/conversations", params={"after": "conv_nobody"})
    assert (seen, rounds) == (made[::-1], 3)
    assert (len(exact["data"]), exact["has_more"]) == (5, False)
    assert (lost.status_code, "no conversation of yours has the id 'conv_nobody'" in lost.text) == (400, True)


async def test_lists_of_files_and_batches_say_truly_whether_there_is_more(url: str) -> None:
    from tests.serving.test_jobs import begun, ended, lines

    async with served(serving={"store": url}) as client:
        for _ in range(3):
            await ended(client, (await begun(client, lines(FRANCE)))["id"])
        for path, count in (("/v1/batches", 3), ("/v1/files", 6)):
            some, every = [(await client.get(path, params={"limit": limit})).json() for limit in (count - 1, count)]
            assert [(len(page["data"]), page["has_more"]) for page in (some, every)] == [(count - 1, True), (count, False)]
            rest = (await client.get(path, params={"limit": count - 1, "after": some["data"][-1]["id"]})).json()
            assert (len(rest["data"]), rest["has_more"]) == (1, False)


async def test_words_are_found_in_titles_and_messages_in_letters_of_either_case(url: str) -> None:
    async with served(serving={"store": url}) as client:
        for title, content in (("Städte", "Wie heißt die HAUPTSTADT?"), ('100% "sure"\\', "a_b"), ("Sums", "role user content")):
            body = {"title": title, "messages": [{"role": "assistant", "content": content}]}
            await client.post("/v1/conversations", json=body)

        async def found(q: str) -> list[str]:
            return [row["title"] for row in (await client.get("/v1/conversations", params={"q": q})).json()["data"]]

        assert await found("STÄDTE") == ["Städte"]
        assert await found("hauptstadt") == ["Städte"]
        assert await found('% "SURE"\\') == ['100% "sure"\\']
        assert await found("a_b") == ['100% "sure"\\']
        assert await found("axb") == []
        assert await found("trace_id") == [], "what is looked through is what was said, not how it is kept"
        assert len(await found("")) == 3
        assert (await client.get("/v1/conversations", params={"q": "x" * 201})).status_code == 400


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"title": ""}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "x", "colour": "red"}]}, "messages.0.colour: not supported"),
        ({"messages": [{"role": "user", "content": "x" * 500_001}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "x"}] * 1001}, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 400_000}] * 3}, "at most 1048576 bytes"),
        ({"owner": "somebody"}, "owner: not supported"),
        ([], "body"),
    ],
)
async def test_what_does_not_fit_is_refused_by_name(url: str, body: object, message: str) -> None:
    async with served(serving={"store": url}) as client:
        answer = await client.post("/v1/conversations", json=body)
        assert (answer.status_code, message in answer.json()["error"]["message"]) == (400, True)
        assert (await client.get("/v1/conversations")).json()["data"] == []


async def test_without_a_store_it_is_told_where_conversations_would_be_kept() -> None:
    async with served() as client:
        for method, path in (("GET", ""), ("POST", ""), ("GET", "/x"), ("PATCH", "/x"), ("DELETE", "/x")):
            answer = await client.request(method, f"/v1/conversations{path}", json={})
            assert (answer.status_code, "serving.store" in answer.json()["error"]["message"]) == (400, True)


def test_a_key_keeps_so_many_and_a_conversation_holds_so_many_messages(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "MOST", 2)
    monkeypatch.setattr(conversations, "MOST_MESSAGES", 3)
    with Store(url) as store:
        for name in ("ann", "bob"):
            store.add_key(name, name=name, salt=b"", digest=b"")
        kept = Conversations(store)
        made = [kept.create("ann", f"{at}", []) for at in range(2)]
        with pytest.raises(ConversationError, match="a key keeps at most 2 conversations: delete some"):
            kept.create("ann", "3", [])
        assert kept.create("bob", "1", []).title == "1"
        kept.delete("ann", made[0].id)
        assert kept.create("ann", "3", []).title == "3"
        kept.change("ann", made[1].id, append=[said("x")] * 3)
        with pytest.raises(ConversationError, match="at most 3 messages, not 4"):
            kept.change("ann", made[1].id, append=[said("y")])
        found = kept.get("ann", made[1].id)
        assert found is not None
        assert len(found.messages) == 3


def test_two_that_append_at_once_lose_nothing(url: str) -> None:
    with Store(url) as store:
        store.add_key("ann", name="ann", salt=b"", digest=b"")
        kept = Conversations(store)
        made = kept.create("ann", None, [])

        async def both() -> None:
            await asyncio.gather(*(asyncio.to_thread(kept.change, "ann", made.id, append=[said(f"{at}")]) for at in range(20)))

        asyncio.run(both())
        found = kept.get("ann", made.id)
    assert made.title == "New conversation"
    assert found is not None
    assert sorted(int(message["content"]) for message in found.messages) == [*range(20)]


def test_a_conversation_that_another_program_kept_has_the_time_of_its_last_change(url: str) -> None:
    with Store(url) as store:
        store.add_key("ann", name="ann", salt=b"", digest=b"")
        store.save_conversation("ann", "c1", "Old", [{"role": "user", "content": "Hello"}], at=4)
        kept = Conversations(store)
        (found,) = kept.list("ann", query="hello")
        assert (found.id, found.messages, created_of("c1")) == ("c1", 1, None)
        assert conversations.heading_json(found)["created_at"] == 4


# whatever keys do, each sees what it did and nothing else

OWNERS = ("o1", "o2", "o3")
WORDS = st.text(alphabet="aAbßẞİi%_\\\"'é ", max_size=6)
steps = st.lists(
    st.tuples(st.sampled_from(("create", "append", "rename", "replace", "delete")), st.sampled_from(OWNERS), st.integers(0, 4), WORDS),
    max_size=25,
)
turns = iter(range(10**9))


@given(steps, WORDS, st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_a_key_never_sees_another_keys_conversations(shared: Store, done: list[tuple[str, str, int, str]], query: str, limit: int) -> None:
    turn, kept = next(turns), Conversations(shared)
    model: dict[str, dict[str, tuple[str, list[str]]]] = {}
    ids: list[str] = []
    for name in OWNERS:
        shared.add_key(f"{turn}-{name}", name=name, salt=b"", digest=b"")
        model[f"{turn}-{name}"] = {}
    for kind, name, at, words in done:
        owner = f"{turn}-{name}"
        rows = model[owner]
        id = ids[at % len(ids)] if ids else "conv_nobody"  # whoever's it is
        match kind:
            case "create":
                made = kept.create(owner, words or None, [said(words)])
                ids.append(made.id)
                rows[made.id] = (made.title, [words])
                assert words == "" or made.title == words
            case "append":
                assert (kept.change(owner, id, append=[said(words)]) is not None) == (id in rows)
                if id in rows:
                    rows[id][1].append(words)
            case "rename":
                assert (kept.change(owner, id, title=words) is not None) == (id in rows)
                if id in rows:
                    rows[id] = (words, rows[id][1])
            case "replace":
                assert (kept.change(owner, id, messages=[said(words)]) is not None) == (id in rows)
                if id in rows:
                    rows[id] = (rows[id][0], [words])
            case "delete":
                assert kept.delete(owner, id) == (rows.pop(id, None) is not None)
    for owner, rows in model.items():
        for id in ids:
            found = kept.get(owner, id)
            assert (None if found is None else (found.title, [each["content"] for each in found.messages])) == rows.get(id)
        sought = query.casefold()
        fitting = {id for id, (title, texts) in rows.items() if any(sought in text.casefold() for text in (title, *texts))}
        for wanted, query_or_none in (({*rows}, None), (fitting, query)):
            listed: list[str] = []
            while page := kept.list(owner, limit, listed[-1] if listed else None, query_or_none):
                assert len(page) <= limit
                listed += [each.id for each in page]
            assert len(listed) == len({*listed})
            assert {*listed} == wanted
        for id in {*ids} - rows.keys():
            with pytest.raises(ConversationError, match="no conversation of yours"):
                kept.list(owner, after=id)
