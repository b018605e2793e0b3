import pytest

from counterpoint import BadRequestError, Counterpoint

pytestmark = pytest.mark.slow


def test_the_running_mixture_tells_of_its_slots_its_router_and_what_it_did(live: object) -> None:
    with Counterpoint(live.url, timeout_s=300) as client:  # type: ignore[attr-defined]
        client.chat("What is twelve plus thirty?", k=1, max_tokens=8)
        pool, routers, tried = client.pool(), client.routers(), client.try_routers("What is twelve plus thirty?")
        with pytest.raises(BadRequestError, match=r"serving\.runs"):
            client.runs.list()
    held = [engine for slot in pool.slots for engine in slot.awake]
    assert any({"general", "numbers"} <= {*engine.experts} and (engine.bytes or 0) > 0 for engine in held), "one base, its adapters with it"
    assert pool.tiers["awake"] > 0
    assert any(engine.load_s for engine in pool.engines)
    assert pool.counters["loads"] >= 1
    assert sum(state.answered for state in pool.experts.values()) >= 1
    assert pool.samples
    assert (routers.kind, routers.name) == ("stack", "router")
    assert routers.profile is not None
    assert {"arithmetic", "sorting"} <= {*routers.profile.rows}
    assert routers.map is not None
    assert len(routers.map.points) == routers.map.total == routers.questions
    assert tried.nearest[0].point.category == "arithmetic"
    assert max(tried.routers[0].scores, key=lambda name: tried.routers[0].scores[name]) == "numbers"
