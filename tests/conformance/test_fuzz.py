import gc
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.fuzzing import Fuzz, sent, status
from tests.serving.listening import listening

HELLO = {"model": "mix", "messages": [{"role": "user", "content": "What is the capital of France?"}]}


# Starlette leaves the file of an upload that ends within it to the garbage collector, which closes it
@pytest.mark.filterwarnings("ignore:.*SpooledTemporaryFile:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("serving", [{}, {"keys": False, "cache": {"kind": "exact"}}], ids=["keys", "open"])
@pytest.mark.parametrize(("count", "seed"), [(400, 1), pytest.param(2500, 2, marks=pytest.mark.conformance)])
def test_whatever_comes_over_the_wire_is_answered_or_cut_and_the_next_one_is_served(
    tmp_path: Path, count: int, seed: int, serving: dict[str, Any]
) -> None:
    with listening(tmp_path, **serving) as endpoint, httpx.Client(base_url=endpoint.url, headers=endpoint.headers) as client:
        assert client.post("/v1/chat/completions", json=HELLO).status_code == 200
        before = endpoint.tasks()
        fuzz, faults = Fuzz(seed, endpoint.key), []
        for at in range(count):
            odd = fuzz.one()
            try:
                answer = sent(odd, endpoint.port)
            except TimeoutError:
                faults.append((at, odd.kind, odd.end, "no answer"))
                continue
            if (status(answer) or 0) >= 500:
                faults.append((at, odd.kind, b"".join(odd.pieces)[-300:], answer[-300:]))
            if endpoint.faults:
                faults.append((at, odd.kind, b"".join(odd.pieces)[-300:], endpoint.faults[:]))
                endpoint.faults.clear()
        assert faults == []
        good = client.post("/v1/chat/completions", json=HELLO)
        assert (good.status_code, good.json()["choices"][0]["message"]["content"]) == (200, "Paris is the capital of France")
        deadline = time.monotonic() + 30  # those who left are noticed a little later
        while endpoint.tasks() > before and time.monotonic() < deadline:
            time.sleep(0.1)
        assert endpoint.tasks() <= before
        pool = client.get("/v1/pool").json()
        assert [(each["waiting"], each["running"]) for each in pool["experts"].values()] == [(0, 0), (0, 0)]
        gc.collect()


def test_a_fault_of_the_endpoint_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(tmp_path) as endpoint:
        monkeypatch.delattr(endpoint.app.state.gateway, "outlook")
        answer = httpx.get(f"{endpoint.url}/v1/routers", headers=endpoint.headers)
        assert (answer.status_code, json.loads(answer.text)["error"]["code"]) == (500, "internal_error")
        assert any("AttributeError" in fault for fault in endpoint.faults)
