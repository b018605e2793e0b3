import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from data.records import CounterpointError
from data.statistics import Interval
from router import KINDS, Router
from router.drift import LEAST, Drift, measure_drift

THINGS = (
    "apple banana cherry date elder fig grape honey iris jasmine kiwi lemon mango nut olive peach quince rose sage thyme umber violet wheat"
)
COLOURS = ("red", "green", "blue", "black", "white")
SUMS = [f"What is {a} plus {b}?" for a in range(2, 30) for b in (3, 17, 41, 58)]
WORDS = [f"Spell the word {thing} in {colour}." for thing in THINGS.split() for colour in COLOURS]


def scored(texts: Sequence[str], right: dict[str, float], seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [(text, expert, float(rng.random() < chance)) for text in texts for expert, chance in right.items()]
    return pd.DataFrame([{"query_id": text, "query": text, "expert": expert, "score": score} for text, expert, score in rows])


def questions(texts: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame({"query_id": texts, "query": texts})


@pytest.fixture(scope="module")
def router() -> Router:
    """Sends sums to `m` and words to `l`."""
    both = pd.concat([scored(SUMS[::2], {"m": 0.9, "l": 0.2}), scored(WORDS[::2], {"m": 0.2, "l": 0.9})], ignore_index=True)
    return KINDS["linear"](encoder="static").fit(both)  # type: ignore[call-arg]


def shuffled(texts: Sequence[str], seed: int) -> list[str]:
    return [texts[int(at)] for at in np.random.default_rng(seed).permutation(len(texts))]


@pytest.mark.parametrize("seed", range(4))
def test_questions_of_the_same_kinds_are_not_told_apart(router: Router, seed: int) -> None:
    pool = shuffled([*SUMS, *WORDS], seed)
    found = measure_drift(router, questions(pool[:100]), questions(pool[100:200]), seed)
    assert found.told_apart <= found.chance
    assert found.moved < 0.2
    assert found.lines()[0].endswith("no other questions than chance would bring")


def test_chance_is_passed_by_chance_in_no_more_cases_than_it_says(router: Router) -> None:
    passed = 0
    for seed in range(300):
        pool = shuffled([*SUMS, *WORDS], 100 + seed)
        found = measure_drift(router, questions(pool[:60]), questions(pool[60:120]), seed)
        passed += found.told_apart > found.chance
    assert passed <= 20  # 1 of 20 is 15 of 300


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_other_questions_are_told_apart(router: Router, share: float) -> None:
    sums, words = shuffled(SUMS, 0), shuffled(WORDS, 0)
    some = int(share * 50)
    found = measure_drift(router, questions(sums[:50]), questions([*words[: 50 - some], *sums[50 : 50 + some]]))
    assert found.told_apart > 0.8 > found.chance
    assert found.shares_before["m"] > 0.9
    assert found.shares_now["l"] > 0.8
    assert found.moved > 0.7
    assert found.lines()[0].endswith("other questions than before")
    assert found.accuracy is None
    assert len(found.lines()) == 3, "of questions without scores nothing is said of accuracy"


def test_the_same_table_twice_has_not_drifted(router: Router) -> None:
    table = scored([*SUMS[:50], *WORDS[:50]], {"m": 0.6, "l": 0.6})
    found = measure_drift(router, table, table)
    assert found.told_apart <= found.chance
    assert (found.moved, found.confidence[0]) == (0.0, found.confidence[1])
    assert found.accuracy is not None
    assert found.accuracy[0] == found.accuracy[1]
    assert found.lines()[3].endswith(" now, a tie")


def test_an_expert_that_got_worse_is_seen_though_the_questions_are_the_same(router: Router) -> None:
    before, now = scored(SUMS[1::2], {"m": 0.9, "l": 0.2}, 1), scored(SUMS[::2], {"m": 0.2, "l": 0.2}, 2)
    found = measure_drift(router, before, now)
    assert found.accuracy is not None
    assert found.calibration is not None
    assert found.accuracy[0].mean > 0.8 > 0.4 > found.accuracy[1].mean
    assert found.calibration[0] < 0.15 < 0.3 < found.calibration[1]
    assert not found.lines()[3].endswith("a tie")


def test_scores_of_one_side_only_tell_nothing_of_accuracy(router: Router) -> None:
    found = measure_drift(router, scored(SUMS[:50], {"m": 0.9, "l": 0.2}), questions(WORDS[:50]))
    assert (found.accuracy, found.calibration) == (None, None)
    lacks = measure_drift(router, scored(SUMS[:50], {"m": 0.9, "l": 0.2}), scored(WORDS[:50], {"m": 0.9}))
    assert lacks.accuracy is None


def test_missing_cells_and_more_experts_are_left_out(router: Router) -> None:
    table = scored(SUMS[:60], {"m": 0.9, "l": 0.2, "another": 0.5})
    holes = table[[at % 7 != 0 for at in range(len(table))]]
    found = measure_drift(router, holes, holes)
    assert found.accuracy is not None
    assert 0.5 < found.accuracy[0].mean < 1
    assert found.shares_now.keys() == {"m", "l"}


@pytest.mark.parametrize("side", ["before", "now"])
def test_too_few_questions_are_refused_in_one_line(router: Router, side: str) -> None:
    enough, few = questions(SUMS[:LEAST]), questions([*SUMS[: LEAST - 1], *SUMS[:5]])  # five stand twice
    with pytest.raises(CounterpointError) as caught:
        measure_drift(router, *((few, enough) if side == "before" else (enough, few)))
    assert str(caught.value) == f"39 questions {side} are too few to tell a drift: wanted 40 or more"
    measure_drift(router, enough, enough)


def test_shares_add_up_and_all_of_it_becomes_json(router: Router) -> None:
    found = measure_drift(router, questions([*SUMS[:30], *WORDS[:30]]), questions(WORDS[30:90]))
    assert sum(found.shares_before.values()) == pytest.approx(1)
    assert sum(found.shares_now.values()) == pytest.approx(1)
    assert found.moved == pytest.approx(abs(found.shares_now["m"] - found.shares_before["m"]))
    assert json.loads(json.dumps(asdict(found)))["told_apart"] == found.told_apart


def test_what_moved_is_the_least_that_must_change_hands() -> None:
    some = Interval(0.5, 0.4, 0.6)
    drift = Drift(0.5, 0.6, {"a": 0.5, "b": 0.5, "c": 0.0}, {"a": 0.2, "b": 0.6, "c": 0.2}, (0.7, 0.7), (some, some), (0.0, 0.0))
    assert drift.moved == pytest.approx(0.3)
    assert drift.lines()[1] == "first choices   30.0% moved from one expert to another"


def test_the_same_seed_finds_the_same(router: Router) -> None:
    before, now = questions(SUMS[:50]), questions([*SUMS[50:75], *WORDS[:25]])
    assert measure_drift(router, before, now, 3) == measure_drift(router, before, now, 3)
