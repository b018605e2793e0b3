import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.records import CounterpointError
from data.scores import experts_of
from serving.evaluation.reach import Part, Reach
from serving.evaluation.screening import agreement, screened
from serving.evaluation.selection import Selection, select_pool
from serving.evaluation.selection_figure import write_selection_figure

N = 400
LETTERS = "ABCD"


def crowd(seed: int = 7, n: int = N) -> pd.DataFrame:
    """Two specialists that differ, a generalist, the generalist's twin, a guesser, and one that is weak at everything."""
    rng = np.random.default_rng(seed)
    rows = []
    for at in range(n):
        family = ("sums", "words")[at % 2]
        right = LETTERS[rng.integers(4)]
        rates = {"sums": 0.95 if family == "sums" else 0.4, "words": 0.95 if family == "words" else 0.4, "general": 0.7, "weak": 0.45}
        said = {name: right if rng.random() < rate else str(rng.choice([x for x in LETTERS if x != right])) for name, rate in rates.items()}
        said["twin"] = said["general"] if rng.random() < 0.97 else LETTERS[rng.integers(4)]
        said["guesser"] = LETTERS[rng.integers(4)]
        query = f"Which holds of {at}? A) this B) that C) both D) neither"
        rows += [
            {"query_id": str(at), "query": query, "expert": name, "score": float(text == right), "category": family, "prediction": text}
            for name, text in said.items()
        ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def found() -> Selection:
    return select_pool(crowd())


def test_guessers_and_duplicates_are_rejected_and_named(found: Selection) -> None:
    assert {one.expert: one.reason for one in found.rejected if one.expert != "weak"} in (
        {"guesser": "guesses", "twin": "duplicate"},
        {"guesser": "guesses", "general": "duplicate"},
    )
    assert all("[" in one.why for one in found.rejected)
    guesser = next(one for one in found.rejected if one.expert == "guesser")
    assert "is not above guessing; guessing gets 25.0%" in guesser.why


def test_the_best_two_are_the_two_specialists(found: Selection) -> None:
    assert found.pools[1].experts == ("sums", "words")
    assert found.pools[1] == select_pool(crowd(), 2).chosen
    assert found.pools[1].gain.low > 0  # either alone is right on 0.675 of the questions, both together on 0.95


def test_a_size_is_kept_to() -> None:
    assert len(select_pool(crowd(), 3).chosen.experts) == 3
    with pytest.raises(CounterpointError, match="wanted a pool of 9 of"):
        select_pool(crowd(), 9)


def test_every_size_is_measured_on_held_out_questions(found: Selection) -> None:
    sizes = [len(pool.experts) for pool in found.pools]
    assert sizes == list(range(1, len(sizes) + 1))
    assert (found.validation, found.held_out, found.dropped) == (N // 2, N // 2, 0)
    for pool in found.pools:
        assert set(pool.reached) == {"category", "majority", "oracle"}
        assert all(one.low <= one.mean <= one.high <= pool.reached["oracle"].high + 1e-9 for one in pool.reached.values())
    oracle = [pool.reached["oracle"].mean for pool in found.pools]
    assert oracle[-1] == max(oracle)


def test_the_same_seed_selects_the_same_and_it_is_told(found: Selection) -> None:
    assert select_pool(crowd()).json() == found.json()
    assert found.json()["seed"] == 0
    assert json.loads(json.dumps(found.json())) == found.json()
    assert select_pool(crowd(), seed=3).json()["seed"] == 3


def test_held_out_questions_decide_nothing() -> None:
    table = crowd().assign(split=lambda rows: np.where(rows["query_id"].astype(int) % 4 < 2, "tune", "test"))
    worse = table.assign(score=np.where((table["split"] == "test") & (table["expert"] == "words"), 0.0, table["score"]))
    one, other = select_pool(table), select_pool(worse)
    assert [pool.experts for pool in one.pools] == [pool.experts for pool in other.pools]
    assert one.rejected == other.rejected
    assert one.chosen.reached["category"].mean > other.chosen.reached["category"].mean


def test_questions_that_lack_an_expert_are_dropped_and_counted() -> None:
    table = crowd()
    assert select_pool(table[~((table["expert"] == "sums") & table["query_id"].isin(["3", "5"]))]).dropped == 2


def test_a_table_without_answers_or_categories_will_do() -> None:
    found = select_pool(crowd().drop(columns=["prediction", "category"]))
    assert set(found.pools[0].reached) == {"category", "oracle"}
    assert found.objective == "the best member, cross-fitted; of equals, the higher oracle"
    assert not [one for one in found.rejected if one.reason == "duplicate"]  # that needs their answers


def test_an_expert_that_answered_hardly_anything_is_named() -> None:
    table = crowd()
    with pytest.raises(CounterpointError, match=r"every expert has a score on 2 questions only.*sums, has 2"):
        select_pool(table[(table["expert"] != "sums") | table["query_id"].isin(["3", "5"])])


def test_too_few_questions_are_refused() -> None:
    with pytest.raises(CounterpointError, match=r"needs 20 questions to be selected by and 20 to be measured on, not 15 and 15"):
        select_pool(crowd(n=30))


def test_a_majority_and_the_best_of_each_category_are_as_counted_by_hand() -> None:
    says = {"1": "AAB", "2": "ABB", "3": "BAA", "4": "BBA", "5": "ABC", "6": "CCA"}  # the right answer is always A
    rows = [
        {"query_id": id, "query": f"Which of {id}? A) x B) y C) z", "expert": name, "category": "c",
         "score": float(said == "A"), "prediction": said}
        for id, row in says.items()
        for name, said in zip("pqr", row, strict=True)
    ]  # fmt: skip
    part = Part.of(pd.DataFrame(rows), ["p", "q", "r"])
    reach = Reach.fit(part)
    right = reach.on(part, [0, 1, 2])
    # question 5: three answers, one vote each; p and r were right three times, q twice, and p comes before r
    assert right["majority"].tolist() == [1, 0, 1, 0, 1, 0]
    assert right["oracle"].tolist() == [1, 1, 1, 1, 1, 1]
    assert right["category"].tolist() == part.scores[:, 0].tolist()
    assert part.chance.tolist() == [1 / 3] * 6


def test_a_lucky_guesser_is_one_whose_right_answers_on_hard_questions_are_chance() -> None:
    rng = np.random.default_rng(1)
    rows = []
    for at in range(600):
        hard = at % 3 == 0
        right = LETTERS[rng.integers(4)]
        rates = {
            "deep": 0.55 if hard else 0.95,
            "good": 0.12 if hard else 0.95,
            "fair": 0.12 if hard else 0.9,
            "lucky": 0.25 if hard else 0.5,
        }
        for name, rate in rates.items():
            said = right if rng.random() < rate else str(rng.choice([x for x in LETTERS if x != right]))
            query = f"Which of {at}? A) x B) y C) z D) w"
            rows.append(
                {"query_id": str(at), "query": query, "expert": name, "score": float(said == right), "category": "c", "prediction": said}
            )
    found = {one.expert: one.reason for one in screened(Part.of(pd.DataFrame(rows), ["deep", "good", "fair", "lucky"]))}
    assert found["lucky"] == "lucky"
    assert "deep" not in found


def test_experts_that_agree_no_more_than_expected_are_no_duplicates() -> None:
    table = crowd()
    names = experts_of(table)
    part = Part.of(table, names)
    every = list(range(len(names)))
    twins = agreement(part, names.index("general"), names.index("twin"), every)
    others = agreement(part, names.index("sums"), names.index("words"), every)
    assert twins is not None
    assert others is not None
    assert twins.low > 0.8
    assert others.high < 0.5


def test_the_figure_has_axes_with_names(found: Selection, tmp_path: Path) -> None:
    png, svg = write_selection_figure(found, tmp_path / "pools.png")
    assert png.stat().st_size > 1000
    assert "<svg" in svg.read_text()
    with pytest.raises(CounterpointError, match="the figure needs the name of a file"):
        write_selection_figure(found, Path())


def test_the_command_tells_the_choice_what_was_rejected_and_draws_it(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    crowd().to_parquet(tmp_path / "cells.parquet")
    code, out, error = run("pool", "select", str(tmp_path / "cells.parquet"), "--figure", str(tmp_path / "pool.png"))
    assert code == 0, error
    assert {"rejected guesser", "chosen: sums, words"} <= {part for part in ("rejected guesser", "chosen: sums, words") if part in error}
    assert "held-out questions" in out
    assert {path.suffix for path in tmp_path.glob("pool.*")} == {".png", ".svg"}
    code, out, error = run("pool", "select", str(tmp_path / "cells.parquet"), "--size", "1", "--json")
    assert (code, json.loads(out)["chosen"]["size"]) == (0, 1)
    code, _, error = run("pool", "select", str(tmp_path / "cells.parquet"), "--size", "9")
    assert (code, "wanted a pool of 9" in " ".join(error.split())) == (2, True)
