from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import RouterError, load_router
from router.skill import SkillRouter, keywords_of, recruit, recruiting, trim

TableOf = Callable[..., pd.DataFrame]

# records: A is 3 right on alg and 2 wrong on bio, B 1 wrong and 4 right, C 2 right and 1 right
TEXTS = ["a", "a", "a", "b", "b", "b", "b"]
KEYWORDS = ["alg"] * 3 + ["bio"] * 4
SCORES = {"A": [1, 1, 1, 0, 0, None, None], "B": [0, None, None, 1, 1, 1, 1], "C": [1, 1, None, 1, None, None, None]}
TOY = {"alg": np.array([3.0, -1.0, 2.0]), "bio": np.array([-2.0, 4.0, 1.0])}
OVERALL = TOY["alg"] + TOY["bio"]

whole = st.integers(-20, 20).map(float)
records = st.integers(1, 6).flatmap(lambda n: st.tuples(st.lists(whole, min_size=n, max_size=n), st.lists(whole, min_size=n, max_size=n)))


def test_the_overall_strength_overrules_the_best_record_on_a_skill() -> None:
    # squares of 1, 3 and 3 as shares; then 3 * 1 / 19 against 2 * 9 / 19
    np.testing.assert_allclose(recruiting(np.ones(3), OVERALL, "code"), [1 / 19, 9 / 19, 9 / 19])
    np.testing.assert_allclose(recruiting(np.ones(3), OVERALL, "code").round(3), [0.053, 0.474, 0.474])
    np.testing.assert_allclose(recruiting(TOY["alg"], OVERALL, "code"), [3 / 21, 0, 18 / 21])
    np.testing.assert_allclose(recruiting(TOY["bio"], OVERALL, "code"), [0, 36 / 45, 9 / 45])


def test_as_the_paper_words_it_a_softmax_of_record_times_share() -> None:
    logits = 2 * np.array([3 * 1, -1 * 3, 2 * 3]) / 7
    np.testing.assert_allclose(recruiting(TOY["alg"], OVERALL, "paper"), np.exp(logits) / np.exp(logits).sum())


def test_where_nobody_is_suited_the_least_unsuited_are_recruited() -> None:
    # -3, -1 and 0 are lifted to 1, 3 and 4; the strengths 2, 2 and 1 count by their squares
    np.testing.assert_allclose(recruiting(np.array([-3.0, -1.0, 0.0]), np.array([2.0, 2.0, 1.0]), "code"), [4 / 20, 12 / 20, 4 / 20])


def test_a_negative_overall_strength_is_lifted_above_0() -> None:
    # -3 and 1 become 1 and 5
    np.testing.assert_allclose(recruiting(np.array([2.0, 2.0]), np.array([-3.0, 1.0]), "code"), [1 / 26, 25 / 26])


def test_experts_without_any_record_share_alike() -> None:
    np.testing.assert_allclose(recruiting(np.zeros(4), np.zeros(4), "code"), [0.25] * 4)
    np.testing.assert_allclose(recruiting(np.zeros(4), np.zeros(4), "paper"), [0.25] * 4)


@given(records, st.sampled_from(["code", "paper"]))
def test_shares_sum_to_1_and_none_is_negative(record: tuple[list[float], list[float]], weighting: str) -> None:
    local, overall = (np.array(numbers) for numbers in record)
    share = recruiting(local, overall, weighting)  # type: ignore[arg-type]
    assert share.sum() == pytest.approx(1)
    assert (share >= 0).all()
    if weighting == "code" and (local > 0).any() and share[local > 0].sum() > 0 and overall.any():
        assert not share[local <= 0].any() or share.tolist() == [1 / len(share)] * len(share)


@pytest.mark.parametrize("weighting", ["code", "paper"])
def test_a_tagged_question_is_scored_by_the_shares(weighting: str, axes: str, table_of: TableOf) -> None:
    router = SkillRouter(weighting=weighting, tags=1, least=1, encoder=axes).fit(table_of(TEXTS, SCORES, keywords=KEYWORDS))  # type: ignore[arg-type]
    assert router.experts_ == ["A", "B", "C"]
    wanted = [recruiting(TOY[skill], OVERALL, weighting) for skill in ("alg", "bio")]  # type: ignore[arg-type]
    np.testing.assert_allclose(router.scores(["a", "b"]), wanted, atol=1e-6)


def test_the_mean_on_a_skill_is_drawn_to_the_overall_mean(axes: str, table_of: TableOf) -> None:
    router = SkillRouter(tags=1, least=1, prior=2.0, encoder=axes).fit(table_of(TEXTS, SCORES, keywords=KEYWORDS))
    means = np.array([3 / 5, 4 / 5, 1.0])
    np.testing.assert_allclose(router.scores(["a"]), [(np.array([3, 0, 2]) + 2 * means) / (np.array([3, 1, 2]) + 2)], atol=1e-6)


def test_several_skills_weigh_by_how_likely_they_are_needed(axes: str, table_of: TableOf) -> None:
    table = table_of(TEXTS, SCORES, keywords=KEYWORDS)
    both, one = (SkillRouter(tags=tags, least=1, encoder=axes).fit(table) for tags in (2, 1))
    weights = [float(line.split()[0]) for line in both.reasons("a b")]
    assert sum(weights) == pytest.approx(1, abs=0.011)
    skills = [line.split()[1].rstrip(":") for line in both.reasons("a b")]
    alone = dict(zip(("alg", "bio"), one.scores(["a", "b"]), strict=True))
    np.testing.assert_allclose(both.scores(["a b"])[0], sum(w * alone[s] for w, s in zip(weights, skills, strict=True)), atol=0.01)


def test_a_question_without_likely_skills_goes_by_the_overall_means(axes: str, table_of: TableOf) -> None:
    table = table_of([*TEXTS, *"ccccc"], {name: [*cells, *[1] * 5] for name, cells in SCORES.items()}, keywords=[*KEYWORDS, *[None] * 5])
    router = SkillRouter(least=1, encoder=axes).fit(table)
    router.coef_[:] = 0
    router.intercept_[:] = 0
    np.testing.assert_allclose(router.scores(["c"]), [[8 / 10, 9 / 10, 1.0]], atol=1e-6)
    assert router.reasons("c") == ()


def test_rare_skills_are_forgotten_unless_all_are_rare(axes: str, table_of: TableOf) -> None:
    def kept(keywords: list[str], least: int) -> list[str]:
        return SkillRouter(least=least, encoder=axes).fit(table_of(TEXTS, SCORES, keywords=keywords)).keywords_

    assert kept(["alg"] * 3 + ["bio"] * 2 + ["art"] * 2, 3) == ["alg"]
    assert kept(["alg"] * 3 + ["bio"] * 2 + ["art"] * 2, 2) == ["alg", "art", "bio"]
    assert kept(["alg", "bio", "bio", "art", "law", "tax", "sea"], 9) == ["bio"]


def test_reasons_name_the_skills_and_who_is_best_on_them(axes: str, table_of: TableOf) -> None:
    router = SkillRouter(tags=1, least=1, encoder=axes).fit(table_of(TEXTS, SCORES, keywords=KEYWORDS))
    assert router.reasons("b") == ("1.00 bio: best is B, right on 1.00 of 4",)


def test_keywords_of_somebody_else_count_as_the_nearest_known_ones(axes: str, table_of: TableOf) -> None:
    keywords = ["arithmetic"] * 3 + ["biology"] * 4
    router = SkillRouter(weighting="code", tags=1, least=1, encoder=axes).fit(table_of(TEXTS, SCORES, keywords=keywords))
    sums, life = recruiting(TOY["alg"], OVERALL, "code"), recruiting(TOY["bio"], OVERALL, "code")
    np.testing.assert_allclose(router.scores_of_keywords(["arithmetic"]), sums, atol=1e-6)
    np.testing.assert_allclose(router.scores_of_keywords(["Adding numbers"]), sums, atol=1e-6)
    np.testing.assert_allclose(router.scores_of_keywords(["Plants and animals"]), life, atol=1e-6)
    np.testing.assert_allclose(router.scores_of_keywords(["arithmetic", "biology"]), recruiting(OVERALL, OVERALL, "code"), atol=1e-6)
    np.testing.assert_allclose(router.scores_of_keywords([]), [3 / 5, 4 / 5, 1.0], atol=1e-6)


def test_keywords_come_from_their_column_then_from_the_category_then_from_the_words() -> None:
    queries = pd.DataFrame({"query": ["add the numbers", "spell it", "the sum"], "category": ["sums", "words", None]})
    with_keywords = queries.assign(keywords=["Adding ; numbers;adding;;", None, " "])
    assert keywords_of(with_keywords, 5) == [["adding", "numbers"], [], []]
    assert keywords_of(with_keywords, 1) == [["adding"], [], []]
    assert keywords_of(queries, 5) == [["sums"], ["words"], []]
    assert set(keywords_of(queries.drop(columns="category"), 2)[1]) == {"it", "spell"}
    assert keywords_of(with_keywords.assign(keywords=None, category=None), 1)[2] == ["sum"]  # the rarer of "the" and "sum"


SHARES = {"a": 3 / 21, "b": 0.0, "c": 18 / 21}


def test_experts_are_drawn_by_their_shares() -> None:
    drawn = Counter(name for at in range(2000) for name in recruit(f"question {at}", SHARES, 3))
    assert drawn["b"] == 0
    assert drawn["a"] / 6000 == pytest.approx(3 / 21, abs=0.02)
    assert any(len(set(recruit(f"question {at}", SHARES, 3))) < 3 for at in range(9))  # with replacement


@given(st.text(st.characters(exclude_categories=())), st.integers(0, 5), st.integers(0, 9))
def test_a_draw_depends_on_the_text_and_the_seed_only(text: str, seed: int, k: int) -> None:
    drawn = recruit(text, SHARES, k, seed)
    assert drawn == recruit(text, SHARES, k, seed)
    assert len(drawn) == k
    assert set(drawn) <= {"a", "c"}


def test_other_texts_and_seeds_give_other_draws() -> None:
    assert len({tuple(recruit(f"question {at}", SHARES, 9)) for at in range(20)}) > 5
    assert len({tuple(recruit("question", SHARES, 9, seed)) for seed in range(20)}) > 5


def test_where_all_shares_are_0_all_are_drawn_alike() -> None:
    drawn = Counter(name for at in range(600) for name in recruit(f"question {at}", {"a": 0.0, "b": 0.0, "c": 0.0}, 1))
    assert min(drawn.values()) > 150


def batch(rare: int) -> list[list[str]]:
    """A hundred questions of three draws each, some of them of the rare expert and two of the others' to one."""
    names = ["rare"] * rare + ["a"] * (2 * (300 - rare) // 3)
    names += ["b"] * (300 - len(names))
    order = np.random.default_rng(0).permutation(300)
    return [[names[at] for at in order[start : start + 3]] for start in range(0, 300, 3)]


@pytest.mark.parametrize("rare", [1, 14])
def test_of_300_draws_an_expert_with_fewer_than_15_is_drawn_anew_among_the_others(rare: int) -> None:
    before, after = batch(rare), trim(batch(rare))
    assert [len(names) for names in after] == [3] * 100
    anew = []
    for old, new in zip(before, after, strict=True):
        for was, name in zip(old, new, strict=True):
            if was == "rare":
                anew.append(name)
            else:
                assert name == was
    assert len(anew) == rare
    assert set(anew) <= {"a", "b"}


def test_an_expert_with_15_of_300_draws_stays() -> None:
    assert trim(batch(15)) == batch(15)


def test_those_drawn_anew_are_drawn_in_proportion_to_their_counts() -> None:
    anew = Counter(
        name
        for seed in range(100)
        for old, new in zip(batch(14), trim(batch(14), seed=seed), strict=True)
        for was, name in zip(old, new, strict=True)
        if was == "rare"
    )
    assert anew["a"] / anew.total() == pytest.approx(2 / 3, abs=0.04)


def test_where_all_are_rare_nothing_is_trimmed() -> None:
    drawn = [[f"expert {at}"] for at in range(30)]
    assert trim(drawn) == drawn
    assert trim([]) == []


def test_settings_come_back_with_the_artefact(axes: str, table_of: TableOf, tmp_path: Path) -> None:
    router = SkillRouter(weighting="paper", tags=2, least=2, prior=3.0, encoder=axes).fit(table_of(TEXTS, SCORES, keywords=KEYWORDS))
    router.save(tmp_path)
    loaded = load_router(tmp_path)
    assert isinstance(loaded, SkillRouter)
    assert loaded.settings() == {"weighting": "paper", "tags": 2, "least": 2, "prior": 3.0, "encoder": axes}
    np.testing.assert_array_equal(loaded.scores(["a", "b", "a b"]), router.scores(["a", "b", "a b"]))
    np.testing.assert_array_equal(loaded.scores_of_keywords(["bio"]), router.scores_of_keywords(["bio"]))


@pytest.mark.parametrize("setting", [{"weighting": "luck"}, {"tags": 0}, {"least": 0}, {"prior": -1.0}])
def test_a_setting_out_of_range_is_shown(score_table: pd.DataFrame, setting: dict[str, object]) -> None:
    with pytest.raises(RouterError, match="the skill router wants weighting mean, code or paper, tags and least from 1 and") as caught:
        SkillRouter(**setting).fit(score_table)  # type: ignore[arg-type]
    ((name, value),) = setting.items()
    assert f"{name}={value!r}" in str(caught.value)


def test_an_expert_that_a_skill_does_not_know_gets_its_overall_mean(axes: str, table_of: TableOf) -> None:
    scores = {"x": [1.0] * 7, "y": [None] * 3 + [1, 1, 0.5, 1]}
    router = SkillRouter(prior=0.0, tags=1, encoder=axes).fit(table_of(TEXTS, scores, keywords=KEYWORDS))
    assert router.scores(["a"])[0, 1] == pytest.approx(3.5 / 4)


@pytest.mark.parametrize(
    ("texts", "columns"),
    [
        ([f"{at % 10} + {at // 10}" for at in range(12)], {}),
        ([f"{at % 10} + {at // 10}" for at in range(30)], {}),
        ([f"{chr(0x4E00 + at)}{chr(0x4E80 + at)}" for at in range(30)], {}),
        ([f"{10 + at} plus {10 + at}" for at in range(30)], {}),
        (["a", "b"], {"keywords": [" ; ", ";"]}),
    ],
    ids=["few sums", "sums", "chinese", "one word for all", "blank"],
)
def test_a_table_without_telling_words_is_scored_by_the_overall_means(
    texts: list[str], columns: dict[str, list[str]], axes: str, table_of: TableOf
) -> None:
    router = SkillRouter(encoder=axes).fit(table_of(texts, {"x": [1.0] * len(texts), "y": [0.5] * len(texts)}, **columns))
    np.testing.assert_allclose(router.scores(["3 + 4"]), [[1.0, 0.5]], atol=1e-6)


@pytest.mark.parametrize("weighting", ["mean", "code", "paper"])
def test_on_a_large_table_too_the_best_on_a_skill_is_first(weighting: str, axes: str, table_of: TableOf) -> None:
    rng = np.random.default_rng(0)
    texts, right = ["a", "b"] * 200, {"x": (0.9, 0.6), "y": (0.5, 0.95), "z": (0.7, 0.8)}
    scores = {name: [float(rng.random() < chance[at % 2]) for at in range(400)] for name, chance in right.items()}
    router = SkillRouter(weighting=weighting, tags=1, encoder=axes).fit(table_of(texts, scores, keywords=["alg", "bio"] * 200))  # type: ignore[arg-type]
    predicted = router.scores(["a", "b"])
    assert predicted.argmax(axis=1).tolist() == [0, 1]
    assert (np.ptp(predicted, axis=1) > 0.01).all()
