import asyncio
from pathlib import Path

import pytest

from tests.serving.test_gateway import FRANCE, chat, made_key, served, store  # noqa: F401


async def test_the_pool_is_told_with_what_it_did_lately() -> None:
    async with served() as client:
        await client.post("/v1/chat/completions", json=chat(FRANCE))
        told = (await client.get("/v1/pool")).json()
        while not told["history"]["samples"]:
            await asyncio.sleep(0.02)
            told = (await client.get("/v1/pool")).json()
        later = (await client.get("/v1/pool", params={"since": told["history"]["samples"][-1]["at"]})).json()
    assert told["object"] == "counterpoint.pool"
    assert {name: figures["answered"] for name, figures in told["experts"].items()} == {"a": 1, "b": 1}
    assert told["counters"]["calls"] == told["waits"]["count"] == 2
    assert (told["slots"], told["broken"], told["history"]["every_s"]) == ([], [], 2.0)
    assert told["recent"].keys() == {"seconds", "tokens_per_s", "experts"}
    assert told["history"]["samples"][0].keys() == {"at", "waiting", "running", "swaps", "refused", "tokens_per_s"}
    assert all(sample["at"] > told["history"]["samples"][-1]["at"] for sample in later["history"]["samples"])


@pytest.mark.parametrize("since", ["soon", "nan", "inf", ""])
async def test_a_time_that_is_none_is_refused(since: str) -> None:
    async with served() as client:
        answer = await client.get("/v1/pool", params={"since": since})
    assert (answer.status_code, "wanted seconds since 1970" in answer.json()["error"]["message"]) == (400, True)


async def test_the_dashboards_are_for_admins_where_keys_are_wanted(store: str, tmp_path: Path) -> None:  # noqa: F811
    mine, admin = made_key(store), made_key(store, admin=True)
    (tmp_path / "runs").mkdir()
    paths = ("/v1/pool", "/v1/routers", "/v1/runs", "/v1/runs/x", "/v1/runs/x/report", "/v1/runs/compare?a=x&b=y")
    async with served(serving={"keys": True, "store": store, "runs": str(tmp_path / "runs")}) as client:
        for path in paths:
            codes = [(await client.get(path, headers=headers)).status_code for headers in ({}, mine, admin)]
            assert codes[:2] == [401, 403]
            assert codes[2] in (200, 404)
        tried = [(await client.post("/v1/routers/try", json={"text": "Hi"}, headers=headers)).status_code for headers in ({}, mine, admin)]
    assert tried == [401, 403, 200]


async def test_pages_of_other_sites_see_no_dashboards() -> None:
    async with served() as client:
        for path in ("/v1/pool", "/v1/routers", "/v1/runs", "/v1/conversations"):
            assert (await client.get(path, headers={"origin": "https://evil.example"})).status_code == 400
            assert (await client.get(path, headers={"host": "evil.example"})).status_code == 400


async def test_a_gateway_that_stops_takes_no_more_samples() -> None:
    from serving.gateway import Gateway
    from tests.serving.test_gateway import config

    gateway = Gateway(config())
    await gateway.start()
    await gateway.stop()
    assert gateway.history._task is not None
    assert gateway.history._task.done()
