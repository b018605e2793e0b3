import asyncio
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from data.records import Call, Message
from experts import ExpertSpec
from experts.pool import ExpertPool
from experts.slot import start_ray
from serving.metrics import exposition, samples


@pytest.fixture(scope="module", autouse=True)
def ray_session() -> Iterator[None]:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed here")
    start_ray(2)
    yield
    import ray

    ray.shutdown()


async def test_the_pools_figures_are_text_that_prometheus_reads() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    script = [{"match": "fail", "fail": "no"}, {"match": ".", "say": "four words it says"}]
    specs = [ExpertSpec(name, name, "scripted", options={"slot": True, "script": script, "memory_bytes": 7}) for name in "ab"]
    async with ExpertPool(specs) as pool:
        calls = [Call(str(at), "ab"[at % 2], (Message("user", "hi" if at else "fail"),)) for at in range(6)]
        await asyncio.gather(*(pool.answer(call) for call in calls))
        text, kind = exposition(samples(pool))
    assert kind.startswith("text/plain")
    told = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }
    assert told["counterpoint_tokens_total", "b"] == 12
    assert told["counterpoint_answers_total", "a"] == 2
    assert told["counterpoint_failures_total", "a"] == 1
    assert told["counterpoint_loads_total",] == 2
    assert told["counterpoint_queue_calls", "a"] == 0
    assert told["counterpoint_wait_seconds_count", "a"] == 3
    assert told["counterpoint_tier_bytes", "awake", "slot-0"] == 7
    assert told["counterpoint_engine_awake", "b", "slot-0"] == 1.0
