"""Two gateways tell of one pool, live: whichever answers, it is the same."""

import pytest

from tests.serving.test_gateways import Endpoint, endpoint  # noqa: F401

pytestmark = pytest.mark.slow


def test_every_gateway_tells_of_the_shared_pool_and_of_conversations(endpoint: Endpoint) -> None:  # noqa: F811
    for _ in range(4):
        assert endpoint.ask("a").status_code == 200
    made = endpoint.call("POST", "/v1/conversations", json={"title": "Capitals"}).json()
    for _ in range(8):  # each by a connection of its own, so that both gateways are met
        pool = endpoint.call("GET", "/v1/pool").json()
        assert pool["experts"]["a"]["answered"] >= 4
        assert set(pool["experts"]) == {"a", "b"}
        assert [engine["experts"] for slot in pool["slots"] for engine in slot["awake"]] == [["a"]]
        assert pool["engines"][0]["load_s"] is not None
        assert pool["experts"]["b"]["resident"]
        conversation = endpoint.call("GET", f"/v1/conversations/{made['id']}").json()
        assert conversation["title"] == "Capitals"
    assert endpoint.call("GET", "/v1/pool", endpoint.few).status_code == 403
    assert endpoint.call("GET", f"/v1/conversations/{made['id']}", endpoint.few).status_code == 404
