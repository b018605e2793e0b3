import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.history import History, since


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def figures(at: float, tokens: int = 0, swaps: int = 0, waiting: int = 0, refused: int = 0) -> dict[str, Any]:
    idle = {"tokens": 0, "waiting": 0, "running": 0}
    busy = {"tokens": tokens, "waiting": waiting, "running": 1}
    return {"at": at, "experts": {"a": busy, "b": idle}, "counters": {"swaps": swaps, "refused": refused}}


async def nothing() -> dict[str, Any]:
    return figures(0.0)


def history(**settings: Any) -> tuple[History, Clock]:
    clock = Clock()
    return History(nothing, clock=clock, **settings), clock


def test_a_sample_tells_what_happened_since_the_one_before() -> None:
    kept, clock = history()
    kept.take(figures(1.0, tokens=50, swaps=3, refused=1))
    clock.now += 2
    kept.take(figures(3.0, tokens=70, swaps=4, waiting=5, refused=1))
    first, second = kept.samples()
    assert (first["swaps"], first["tokens_per_s"], first["waiting"]) == (0, {}, {})
    assert (second["swaps"], second["refused"], second["tokens_per_s"], second["waiting"]) == (1, 0, {"a": 10.0}, {"a": 5})
    assert second["running"] == {"a": 1}
    assert kept.samples(after=1.0) == [second]


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40), st.integers(1, 10))
def test_there_are_never_more_samples_than_fit_and_the_latest_are_kept(tokens: list[int], most: int) -> None:
    kept, clock = history(every_s=2.0, kept_s=2.0 * most)
    for at, count in enumerate(tokens):
        clock.now += 2
        kept.take(figures(float(at), tokens=count))
    ats = [sample["at"] for sample in kept.samples(after=-1)]
    assert ats == [float(at) for at in range(len(tokens))][-most:]


def test_tokens_per_second_are_of_the_last_minute() -> None:
    kept, clock = history()
    for at in range(100):  # 10 tokens a second for 150 s, then 20
        kept.take(figures(float(at), tokens=20 * at if at < 75 else 20 * 75 + 40 * (at - 75)))
        clock.now += 2
    recent = kept.recent(figures(200.0, tokens=20 * 75 + 40 * 25))
    assert recent["seconds"] == 60.0
    assert recent["experts"] == {"a": pytest.approx((10 * 10 + 50 * 20) / 60, abs=1e-3), "b": 0.0}
    empty, _ = history()
    assert empty.recent(figures(0.0)) == {"seconds": 0.0, "tokens_per_s": 0.0, "experts": {}}


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_counter_that_began_anew_never_gives_less_than_nothing(old: int, new: int) -> None:
    assert 0 <= since(old, new) <= new


async def test_it_takes_samples_until_it_is_stopped_and_goes_on_after_a_fault() -> None:
    asked = 0

    async def read() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise OSError("the pool cannot be reached")
        return figures(float(asked))

    kept = History(read, every_s=0.01, kept_s=1.0)
    kept.start()
    while len(kept.samples()) < 3:
        await asyncio.sleep(0.01)
    await kept.stop()
    count = asked
    await asyncio.sleep(0.05)
    assert asked == count
    assert kept.samples()[0]["at"] == 2.0
