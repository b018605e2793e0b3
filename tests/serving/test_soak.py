"""The soak, shortened: hundreds of requests at a live endpoint, some bad, some given up, a slot killed amid them."""

import math
import random
from typing import Any

import pytest

from benchmarks.soak import KINDS, LAST, Look, growth, live, plan, said, section, soak


@pytest.mark.slow
@pytest.mark.parametrize("gateways", [1, 2])
async def test_nothing_is_lost_and_nothing_is_left(gateways: int) -> None:
    steps: list[int] = []
    with live(gateways) as endpoint:
        found = await soak(endpoint, requests=500, concurrency=64, seed=gateways, step=steps.append)
    assert found["problems"] == []
    assert (sum(found["ends"].values()), found["killed"], steps) == (500, 1, [*range(1, 501)])
    assert found["ends"]["refused as bad"] == 25
    assert found["ends"]["answered"] >= 400
    assert found["growth"] == {}, "so few requests say nothing of growth"
    assert f"| answered | {found['ends']['answered']} |" in section([found])


def test_every_kind_of_answer_of_every_expert_is_another() -> None:
    assert len({said(who, kind) for who in ("a", "b", "c", "all") for kind in range(KINDS)}) == 4 * KINDS


def test_a_seed_gives_the_same_requests() -> None:
    assert plan(300, seed=1) == plan(300, seed=1) != plan(300, seed=2)


def looks(size: Any) -> list[Look]:
    return [Look(done, {"slot": {7: round(size(done))}}, {"slot": {7: 50}}) for done in range(0, 10_001, 500)]


def test_a_process_that_leaks_is_told_from_one_that_warms_up() -> None:
    leaks = growth(looks(lambda done: 200e6 + 2_500 * done), 10_000)
    warms = growth(looks(lambda done: 200e6 + 30e6 * (1 - math.exp(-done / 800))), 10_000)
    noise = random.Random(0)
    shakes = growth(looks(lambda done: 200e6 + noise.uniform(0, 8e6)), 10_000)
    assert leaks["slot 7"] == pytest.approx(LAST * 2_500 / (200e6 + 5_000 * 2_500))
    assert leaks["slot 7"] > 0.05 > max(warms["slot 7"], shakes["slot 7"])


def test_the_first_requests_of_a_slot_that_took_a_dead_ones_place_do_not_count() -> None:
    late = [Look(done, {"slot": {8: 100 if done < 6_500 else 200} if done > 5_000 else {7: 300}}, {}) for done in range(0, 10_001, 500)]
    assert growth(late, 10_000) == {"slot 8": 0.0}
