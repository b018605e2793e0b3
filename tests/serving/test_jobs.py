import asyncio
import json
from typing import Any

import httpx
import pytest

from serving.forgetting import journals_of
from serving.gateway import Gateway
from serving.jobs import Jobs
from serving.keys import LOCAL, Key, Keys
from serving.routes import files
from serving.store import Store, StoreError
from serving.tables import Spend
from tests.serving.test_gateway import FRANCE, chat, made_key, served

SLOW = [{"match": "slow", "say": "late", "delay_s": 30}, {"match": "capital of France", "say": "Paris"}, {"match": "break", "fail": "told"}]


def lines(*texts: str) -> bytes:
    rows = [
        {"custom_id": f"line-{at}", "method": "POST", "url": "/v1/chat/completions", "body": chat(text)} for at, text in enumerate(texts)
    ]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def settings(url: str, **more: Any) -> dict[str, Any]:
    experts = [
        {"name": name, "model": "-", "engine": "scripted", "options": {"script": SLOW}, "price": {"input": 1.0, "output": 1.0}}
        for name in "ab"
    ]
    return {"experts": experts, "serving": {"store": url, **more}}


async def begun_file(client: httpx.AsyncClient, content: bytes, headers: dict[str, str] | None = None) -> str:
    upload = {"file": ("in.jsonl", content, "application/jsonl")}
    return str((await client.post("/v1/files", data={"purpose": "batch"}, files=upload, headers=headers)).json()["id"])


def gateway_of(client: httpx.AsyncClient) -> Gateway:
    made: Gateway = client._transport.app.state.gateway  # type: ignore[attr-defined]
    return made


async def begun(client: httpx.AsyncClient, content: bytes, headers: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    file = await begun_file(client, content, headers)
    body = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h", **more}
    return dict((await client.post("/v1/batches", json=body, headers=headers)).json())


async def ended(client: httpx.AsyncClient, id: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    for _ in range(200):
        batch = (await client.get(f"/v1/batches/{id}", headers=headers)).json()
        if batch["status"] in ("completed", "failed", "cancelled"):
            return dict(batch)
        await asyncio.sleep(0.05)
    raise AssertionError(f"the batch did not end: {batch}")


async def test_a_batch_is_answered_line_by_line_and_filed(url: str) -> None:
    async with served(**settings(url)) as client:
        made = await begun(client, lines(FRANCE, "please break", FRANCE), metadata={"of": "mine"})
        assert (made["object"], made["status"], made["metadata"]["of"]) == ("batch", "in_progress", "mine")
        assert json.loads(made["metadata"]["counterpoint_calls"]) == {"a": 3, "b": 3}
        assert float(made["metadata"]["counterpoint_predicted_s"]) >= 0
        batch = await ended(client, made["id"])
        assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 3, "completed": 2, "failed": 1})
        rows = (await client.get(f"/v1/files/{batch['output_file_id']}/content")).text.splitlines()
        errors = (await client.get(f"/v1/files/{batch['error_file_id']}/content")).text.splitlines()
        listed = (await client.get("/v1/batches")).json()["data"]
    answers = {row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"] for row in map(json.loads, rows)}
    assert answers == {"line-0": "Paris", "line-2": "Paris"}
    assert [json.loads(row)["custom_id"] for row in errors] == ["line-1"]
    assert [each["id"] for each in listed] == [made["id"]]
    assert not [*journals_of(url).iterdir()]  # nothing is left beside the store


async def test_a_batch_goes_on_after_the_endpoint_has_ended_and_asks_no_line_twice(url: str) -> None:
    async with served(**settings(url)) as client:
        id = (await begun(client, lines(FRANCE, "a slow one", FRANCE)))["id"]
        journal = journals_of(url) / f"{id}.out.jsonl"
        for _ in range(100):
            if journal.exists() and len(journal.read_bytes().splitlines()) == 2:
                break
            await asyncio.sleep(0.05)
    assert len(journal.read_bytes().splitlines()) == 2
    SLOW[0]["delay_s"] = 0.0
    try:
        async with served(**settings(url)) as client:
            batch = await ended(client, id)
            rows = (await client.get(f"/v1/files/{batch['output_file_id']}/content")).text.splitlines()
    finally:
        SLOW[0]["delay_s"] = 30
    assert batch["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    assert sorted(json.loads(row)["custom_id"] for row in rows) == ["line-0", "line-1", "line-2"]


async def test_what_a_line_took_when_it_failed_is_paid_though_it_is_asked_again(url: str) -> None:
    mine = made_key(url, budget_usd=1.0)
    async with served(**settings(url, keys=True)) as client:
        id = (await begun(client, lines("a slow one", FRANCE), mine))["id"]
        await asyncio.sleep(0.3)
    failed = {"custom_id": "line-0", "response": {"status_code": 502, "body": {}}, "error": None}
    took = {"prompt_tokens": 1000, "completion_tokens": 7, "cost_usd": 0.25, "calls": 2}
    with (journals_of(url) / f"{id}.out.jsonl").open("a") as journal:
        journal.write(json.dumps(failed | {"counterpoint": took}) + "\n")
    for delay, status in ((30, "in_progress"), (0, "completed")):  # once more cut off before the line is answered
        SLOW[0]["delay_s"] = delay
        try:
            async with served(**settings(url, keys=True)) as client:
                await asyncio.sleep(0.3)
                batch = await ended(client, id, mine) if not delay else (await client.get(f"/v1/batches/{id}", headers=mine)).json()
        finally:
            SLOW[0]["delay_s"] = 30
        assert batch["status"] == status
    assert batch["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    with Store(url) as opened:
        spent = opened.spend(Keys(opened).list()[0].id)
    assert (0.25 < spent.usd < 0.26, spent.prompt_tokens > 1000, spent.requests) == (True, True, 1)


async def test_a_cancelled_batch_keeps_what_was_answered(url: str) -> None:
    async with served(**settings(url)) as client:
        id = (await begun(client, lines(FRANCE, "a slow one")))["id"]
        for _ in range(100):
            if (journals_of(url) / f"{id}.out.jsonl").exists():
                break
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        batch = (await client.post(f"/v1/batches/{id}/cancel")).json()
        assert (batch["status"], batch["request_counts"]["completed"]) == ("cancelled", 1)
        again = (await client.post(f"/v1/batches/{id}/cancel")).json()
        assert again["status"] == "cancelled"


async def test_batches_and_files_of_one_key_are_unknown_to_another(url: str) -> None:
    mine, other = made_key(url), made_key(url)
    async with served(**settings(url, keys=True)) as client:
        made = await begun(client, lines(FRANCE), mine)
        await ended(client, made["id"], mine)
        for path in (f"/v1/batches/{made['id']}", f"/v1/files/{made['input_file_id']}", f"/v1/files/{made['input_file_id']}/content"):
            assert (await client.get(path, headers=other)).status_code == 404
            assert (await client.get(path, headers=mine)).status_code == 200
        assert (await client.post(f"/v1/batches/{made['id']}/cancel", headers=other)).status_code == 404
        body = {"input_file_id": made["input_file_id"], "endpoint": "/v1/chat/completions"}
        assert (await client.post("/v1/batches", json=body, headers=other)).status_code == 400
        assert (await client.get("/v1/files", headers=other)).json()["data"] == []
        assert (await client.delete(f"/v1/files/{made['input_file_id']}", headers=other)).status_code == 404
        assert (await client.delete(f"/v1/files/{made['input_file_id']}", headers=mine)).json()["deleted"] is True


async def test_a_batchs_price_is_spent_once_and_must_fit_into_the_budget(url: str) -> None:
    rich, poor = made_key(url, budget_usd=1.0), made_key(url, budget_usd=0.000001)
    async with served(**settings(url, keys=True)) as client:
        made = await begun(client, lines(FRANCE, FRANCE), rich)
        batch = await ended(client, made["id"], rich)
        refused = await begun(client, lines(FRANCE), poor)
    assert batch["status"] == "completed"
    assert refused["error"]["code"] == "insufficient_quota"
    with Store(url) as opened:
        owner = next(key.id for key in Keys(opened).list() if key.budget_usd == 1.0)
        assert opened.spend(owner).usd > 0
        assert opened.held(owner) == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"input_file_id": "file-x", "endpoint": "/v1/chat/completions"}, "no file has the id 'file-x'"),
        ({"input_file_id": "file-x", "endpoint": "/v1/embeddings"}, "endpoint: a batch asks /v1/chat/completions"),
        ({"endpoint": "/v1/chat/completions"}, "input_file_id: Field required"),
        ({"input_file_id": "f", "endpoint": "/v1/chat/completions", "completion_window": "1h"}, "completion_window"),
    ],
)
async def test_a_batch_that_cannot_begin_says_why(url: str, body: dict[str, Any], message: str) -> None:
    async with served(**settings(url)) as client:
        response = await client.post("/v1/batches", json=body)
    assert (response.status_code, message in response.json()["error"]["message"]) == (400, True), response.text


async def test_a_key_that_keeps_too_much_is_told_so_and_may_delete(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(lines(FRANCE))
    monkeypatch.setattr(files, "MAX_KEPT_BYTES", size + 1)
    upload = {"data": {"purpose": "batch"}, "files": {"file": ("in.jsonl", lines(FRANCE), "application/jsonl")}}
    async with served(**settings(url)) as client:
        first, second = await client.post("/v1/files", **upload), await client.post("/v1/files", **upload)
        wanted = f"this key's files take {size} of {size + 1} bytes, and this one {size}: delete some"
        assert (first.status_code, second.status_code, second.json()["error"]["message"]) == (200, 400, wanted)
        await client.delete(f"/v1/files/{first.json()['id']}")
        assert (await client.post("/v1/files", **upload)).status_code == 200


async def test_without_a_store_files_and_batches_are_refused() -> None:
    async with served() as client:
        for response in (await client.get("/v1/files"), await client.get("/v1/batches"), await client.get("/v1/files/x")):
            assert (response.status_code, "serving.store" in response.json()["error"]["message"]) == (400, True)


async def test_a_batch_that_nobody_is_at_is_cancelled_all_the_same(url: str) -> None:
    async with served(**settings(url)) as client:
        id = (await begun(client, lines(FRANCE, "a slow one")))["id"]
        for _ in range(100):
            if (journals_of(url) / f"{id}.out.jsonl").exists():
                break
            await asyncio.sleep(0.05)
        jobs = gateway_of(client).jobs
        assert jobs is not None
        await jobs.stop()
        jobs._stopping = False
        assert not jobs.has(Key(LOCAL, ""), id)
        batch = (await client.post(f"/v1/batches/{id}/cancel")).json()
    assert (batch["status"], batch["request_counts"]["completed"]) == ("cancelled", 1)
    assert not [*journals_of(url).iterdir()]


async def test_a_batch_waits_while_its_store_is_away_and_is_gone_on_with(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise StoreError("the store is away")

    async with served(**settings(url)) as client:
        file = await begun_file(client, lines(FRANCE))
        with monkeypatch.context() as patched:
            patched.setattr(Store, "add_file", away)
            id = (await client.post("/v1/batches", json={"input_file_id": file, "endpoint": "/v1/chat/completions"})).json()["id"]
            gateway = gateway_of(client)
            for _ in range(100):
                if gateway.jobs is not None and not gateway.jobs.has(Key(LOCAL, ""), id):
                    break
                await asyncio.sleep(0.05)
        assert (await client.get(f"/v1/batches/{id}")).json()["status"] == "in_progress"
        await gateway._resume()
        assert (await ended(client, id))["request_counts"] == {"total": 1, "completed": 1, "failed": 0}


async def test_a_batch_cut_off_at_its_very_end_is_filed_and_booked_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise StoreError("the store is away")

    mine = made_key(url, budget_usd=1.0)
    async with served(**settings(url, keys=True)) as client:
        with monkeypatch.context() as patched:
            patched.setattr(Store, "end_batch", away)
            id = (await begun(client, lines(FRANCE), mine))["id"]
            await asyncio.sleep(0.5)
        await gateway_of(client)._resume()
        batch = await ended(client, id, mine)
        kept = (await client.get("/v1/files", headers=mine)).json()["data"]
        with Store(url) as opened:
            owner = Keys(opened).list()[0].id
            spent = opened.spend(owner)
            assert not opened.end_batch(owner, id, Spend(1.0, 1, 1, 1), held=True, status="failed")  # it has ended
            assert (opened.spend(owner), opened.held(owner)) == (spent, 0)
    assert sorted(file["purpose"] for file in kept) == ["batch", "batch_output"]
    assert batch["output_file_id"] in [file["id"] for file in kept]
    assert (spent.requests, spent.usd > 0) == (1, True)


async def test_who_does_not_hold_a_batch_leaves_it_alone_though_its_key_has_ended(url: str) -> None:
    mine = made_key(url)
    async with served(**settings(url, keys=True)) as client:
        id = (await begun(client, lines(FRANCE, "a slow one"), mine))["id"]
        await asyncio.sleep(0.3)
        with Store(url) as opened:
            keys = Keys(opened)
            keys.revoke(keys.list()[0].id)
            revoked = keys.list()[0]
            door = gateway_of(client).door
            other = Jobs(gateway_of(client).pipeline, door, opened, journals_of(url))
            await other._begin(revoked, id)
            batch = opened.batch(revoked.id, id)
        assert batch is not None
        assert (batch.status, (journals_of(url) / f"{id}.out.jsonl").exists()) == ("in_progress", True)


async def test_a_batch_takes_its_keys_options_where_a_line_says_null(url: str) -> None:
    mine = made_key(url, defaults={"k": 1})
    async with served(**settings(url, keys=True)) as client:
        rows = [{"custom_id": str(at), "body": chat(FRANCE, counterpoint=own)} for at, own in enumerate((None, {"k": None}, {"k": 2}))]
        made = await begun(client, b"".join(json.dumps(row).encode() + b"\n" for row in rows), mine)
        assert json.loads(made["metadata"]["counterpoint_calls"]) == {"a": 3, "b": 1}
        await ended(client, made["id"], mine)
