from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.records import Message, Request, Route
from data.scores import ScoreTableError
from router import KINDS, FixedK, LivingRouter, Router, RouterError, load_router
from router.life import LIMIT

SUMS = [f"What is {a} plus {b}?" for a in range(2, 60) for b in (3, 17)]
THINGS = (
    "apple banana cherry date elder fig grape honey iris jasmine kiwi lemon mango nut olive peach quince rose sage thyme umber violet wheat"
)
WORDS = [f"Spell the word {thing} in {colour}." for thing in THINGS.split() for colour in ("red", "green", "blue", "black", "white")]
FRENCH = [f"Translate the sentence '{thing} is on the table' into French." for thing in THINGS.split()]
MIXED = [text for pair in zip(SUMS, WORDS, strict=False) for text in pair]

Right = Mapping[str, tuple[float, float]]
"""How often each expert is right, on sums and on words."""

AT_FIRST: Right = {"sums": (0.8, 0.4), "words": (0.4, 0.8), "both": (0.6, 0.6)}
NEW = (0.95, 0.3)

anything = st.one_of(st.sampled_from([*SUMS[:8], *WORDS[:8]]), st.text(st.characters(exclude_categories=()), max_size=30))


def kind_of(text: str) -> int:
    return int(text.startswith("Spell"))


def asked(right: Right, texts: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """What experts of given strengths say to some questions."""
    rng = np.random.default_rng(seed)
    rows = [(text, expert, float(rng.random() < right[expert][kind_of(text)])) for text in texts for expert in right]
    return pd.DataFrame([{"query_id": text, "query": text, "expert": expert, "score": score} for text, expert, score in rows])


@cache
def base(kind: str = "linear") -> Router:
    return KINDS[kind](**({} if kind == "best-single" else {"encoder": "static"})).fit(asked(AT_FIRST, MIXED[:80]))


def joined(probes: int, right: tuple[float, float] = NEW, seed: int = 0) -> LivingRouter:
    return LivingRouter(base()).join("new", asked({"new": right}, MIXED[80 : 80 + probes], seed))


def full() -> LivingRouter:
    """A pool with some of everything: probes, a description, ratings, and one that left."""
    living = joined(20).join_described("french", "translating sentences into French", {"words": "spelling"})
    for at, text in enumerate(MIXED[:30]):
        living.rate_answer(text, ("sums", "new", "french")[at % 3], (0.0, 1.0, 0.5)[at % 3])
    return living.leave("both")


def route(router: Router, text: str, k: int = 2) -> Route:
    scores = dict(zip(router.experts_, router.scores([text])[0].tolist(), strict=True))
    return FixedK(k).choose(Request("r", (Message("user", text),)), scores)


def first_share(router: Router, expert: str, texts: Sequence[str]) -> float:
    return float((router.scores(texts).argmax(axis=1) == router.experts_.index(expert)).mean())


def log_odds(p: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(p / (1 - p)))


# who comes and goes


@pytest.mark.parametrize("kind", ["linear", "knn", "cluster", "best-single"])
def test_who_was_there_keeps_every_score_to_the_last_bit(kind: str) -> None:
    texts = [*SUMS[-5:], *WORDS[-5:], ""]
    before = base(kind).scores(texts)
    living = LivingRouter(base(kind))
    assert living.scores(texts).tobytes() == before.tobytes()
    living.join("new", asked({"new": NEW}, MIXED[80:100])).join_described("french", "translating into French", {})
    assert living.experts_ == ["sums", "words", "both", "new", "french"]
    assert living.scores(texts)[:, :3].tobytes() == before.tobytes()
    with_new = living.scores(texts)[:, 3:].tobytes()
    living.leave("words")
    assert living.scores(texts)[:, :2].tobytes() == before[:, [0, 2]].tobytes()
    assert living.scores(texts)[:, 2:].tobytes() == with_new
    assert base(kind).scores(texts).tobytes() == before.tobytes()


def test_forty_probes_show_what_a_new_expert_is_good_at() -> None:
    router = joined(40)
    assert first_share(router, "new", SUMS[-30:]) > 0.9
    assert first_share(router, "new", WORDS[-30:]) == 0


def test_probes_move_a_new_expert_from_the_average_to_what_it_is() -> None:
    held = [SUMS[-30:], WORDS[-30:]]
    average = np.array([LivingRouter(base()).scores(texts).mean() for texts in held])
    ways = []
    for probes in (10, 40):
        scores = [[joined(probes, seed=seed).scores(texts)[:, -1].mean() for texts in held] for seed in range(6)]
        ways.append((np.mean(scores, axis=0) - average) / (np.array(NEW) - average))
    assert (ways[0] < 0.6).all(), "ten probes leave it near the others' average"
    assert (ways[1] > 0.6).all(), "forty have told most"
    assert (ways[1] > ways[0] + 0.1).all()


def test_a_lucky_probe_makes_no_star() -> None:
    probes = asked({"new": (1.0, 1.0)}, MIXED[80:82])
    average = LivingRouter(base()).scores(MIXED[-20:]).mean()
    for count, most in ((1, 0.15), (2, 0.25)):
        lucky = LivingRouter(base()).join("new", probes[:count]).scores(MIXED[-20:])[:, -1]
        assert average < lucky.mean() < average + most


def test_the_more_probes_are_right_the_better_an_expert_is_thought_to_be() -> None:
    means = [joined(40, (right, right)).scores(MIXED[-20:])[:, -1].mean() for right in (0.0, 0.3, 0.7, 1.0)]
    assert means == sorted(means)
    assert means[0] < 0.2
    assert means[-1] > 0.85


def test_only_the_rows_of_who_joins_count() -> None:
    own = asked({"new": NEW}, MIXED[80:110])
    alone = LivingRouter(base()).join("new", own)
    beside = LivingRouter(base()).join("new", pd.concat([asked({"other": (0.0, 0.0)}, MIXED[80:130]), own], ignore_index=True))
    assert alone.scores(MIXED[:9]).tobytes() == beside.scores(MIXED[:9]).tobytes()


def test_graded_probes_count_in_part() -> None:
    half = asked({"new": NEW}, MIXED[80:100]).assign(score=0.5)
    assert LivingRouter(base()).join("new", half).scores(MIXED[-20:])[:, -1].mean() == pytest.approx(0.5, abs=0.07)


def test_a_pool_of_one_can_be_joined() -> None:
    one = KINDS["best-single"]().fit(asked({"sums": (0.5, 0.5)}, MIXED[:40]))
    router = LivingRouter(one).join("new", asked({"new": (1.0, 1.0)}, MIXED[80:100]))
    assert first_share(router, "new", MIXED[-20:]) == 1


@pytest.mark.parametrize(
    "others",
    [{}, {"sums": "adding numbers", "words": "spelling words", "both": "questions of all kinds"}],
    ids=["by their names", "described"],
)
def test_a_description_brings_questions_of_its_domain(others: dict[str, str]) -> None:
    router = LivingRouter(base()).join_described("french", "translating sentences from English into French", others)
    assert first_share(router, "french", FRENCH) > 0.8
    assert first_share(router, "french", [*SUMS, *WORDS]) < 0.05


def test_the_scale_tells_how_much_a_description_says() -> None:
    plain, loud = (LivingRouter(base()).join_described("french", "translating into French", {}, scale) for scale in (0.0, 4.0))
    average = 1 / (1 + np.exp(-log_odds(base().scores(FRENCH)).mean(axis=1)))
    np.testing.assert_allclose(plain.scores(FRENCH)[:, -1], average)
    assert (loud.scores(FRENCH)[:, -1] > average).all()


@given(st.lists(anything, min_size=1, max_size=4), st.sampled_from(["sums", "words", "both", "new", "french"]), st.sampled_from([1, 2, 3]))
@settings(max_examples=30, deadline=None)
def test_no_route_without_an_expert_changes_when_it_leaves(texts: list[str], leaver: str, k: int) -> None:
    before = joined(20).join_described("french", "translating into French", {}).rate_answer(SUMS[0], "words", 0.0)
    routes = [route(before, text, k) for text in texts]
    after = before.leave(leaver)
    for text, old in zip(texts, routes, strict=True):
        new = route(after, text, k)
        assert leaver not in new.experts
        if leaver not in old.experts:
            assert (new.experts, new.weights, new.primary) == (old.experts, old.weights, old.primary)
        else:  # who was chosen beside it still is, in the same order
            assert [name for name in old.experts if name != leaver] == list(new.experts[: len(old.experts) - 1])


def test_who_joined_and_left_can_come_back() -> None:
    router = joined(40).rate_answer(SUMS[0], "new", 0.0).leave("new")
    back = router.join("new", asked({"new": NEW}, MIXED[80:120]))
    assert back.scores(MIXED[:9]).tobytes() == joined(40).scores(MIXED[:9]).tobytes(), "nothing is remembered of the first time"


def refused(act: Callable[[], object], kind: type[Exception] = RouterError) -> str:
    with pytest.raises(kind) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_is_refused_in_one_line() -> None:
    living, probes = LivingRouter(base()), asked({"sums": NEW, "new": NEW}, MIXED[:4])
    assert "there is an expert called 'sums' already, or there was" in refused(lambda: living.join("sums", probes))
    assert "there is an expert called 'sums' already" in refused(lambda: living.join_described("sums", "adding", {}))
    assert "the score table has no expert 'nobody'; it has sums, new" in refused(lambda: living.join("nobody", probes), ScoreTableError)
    assert "the description of 'new' is empty" in refused(lambda: living.join_described("new", " \n", {}))
    assert refused(lambda: living.leave("nobody")) == "no expert is called 'nobody'; the router has sums, words, both"
    assert "no expert is called 'nobody'" in refused(lambda: living.rate_answer("x", "nobody", 1.0))
    assert refused(lambda: living.rate_answer("x", "sums", 1.1)) == "a rating lies from 0 to 1, not 1.1"
    assert "not nan" in refused(lambda: living.rate_answer("x", "sums", float("nan")))
    assert refused(lambda: living.fit(probes)) == "a living router is not fitted anew: fit its base, and wrap that"
    living.leave("sums").leave("both")
    assert "there was: give the new one another name" in refused(lambda: living.join("sums", probes))
    assert refused(lambda: living.leave("words")) == "'words' is the last expert: a router needs one"
    assert living.experts_ == ["words"]


def test_only_a_fitted_router_lives_on() -> None:
    assert "the knn router is not fitted" in refused(lambda: LivingRouter(KINDS["knn"]()))
    assert "the living router is not fitted" in refused(lambda: LivingRouter().scores(["x"]))


@pytest.mark.parametrize("rate", [0.0, -1.0, 11.0, float("nan"), float("inf")])
def test_a_rate_out_of_range_is_refused_when_made_and_when_set(rate: float) -> None:
    living = LivingRouter(base(), rate=0.5)
    assert f"above 0 and up to 10, not {rate}" in refused(lambda: LivingRouter(base(), rate=rate))
    assert f"above 0 and up to 10, not {rate}" in refused(lambda: setattr(living, "rate", rate))
    assert living.rate == 0.5


# what people say


def test_a_rating_moves_only_the_expert_that_answered() -> None:
    living = full().join("late", asked({"late": NEW}, MIXED[80:90]))
    texts = [*SUMS[:5], *WORDS[:5], ""]
    for name in living.experts_:
        before = living.scores(texts)
        living.rate_answer(SUMS[0], name, 0.0)
        at = living.experts_.index(name)
        assert np.delete(living.scores(texts), at, axis=1).tobytes() == np.delete(before, at, axis=1).tobytes()
        assert living.scores(texts)[0, at] < before[0, at]


def test_a_rating_moves_likewise_questions_most() -> None:
    before = LivingRouter(base()).scores([SUMS[1], WORDS[1]])
    after = LivingRouter(base()).rate_answer(SUMS[0], "sums", 0.0).scores([SUMS[1], WORDS[1]])
    fall = log_odds(before[:, 0]) - log_odds(after[:, 0])
    assert fall[0] > fall[1] > 0


def test_a_rating_as_foreseen_says_nothing() -> None:
    living = LivingRouter(base())
    before = living.scores(MIXED[:9])
    living.rate_answer(MIXED[0], "sums", float(before[0, 0]))
    np.testing.assert_allclose(living.scores(MIXED[:9]), before, atol=1e-12)


def test_praise_of_the_perfect_and_blame_of_the_hopeless_change_nothing() -> None:
    rows = pd.concat([asked({"good": (1.0, 1.0)}, MIXED[:5]), asked({"bad": (0.0, 0.0)}, MIXED[:5])], ignore_index=True)
    living = LivingRouter(KINDS["best-single"]().fit(rows))
    living.rate_answer("a text", "good", 1.0).rate_answer("a text", "bad", 0.0)
    assert living.scores(["a text", "another"]).tolist() == [[1.0, 0.0], [1.0, 0.0]]
    living.rate_answer("a text", "good", 0.0).rate_answer("a text", "bad", 1.0)
    good, bad = living.scores(["a text"])[0]
    assert (good < 1.0, bad > 0.0) == (True, True)


ratings = st.lists(st.tuples(anything, st.sampled_from([0.0, 0.25, 1.0])), min_size=1, max_size=25)


@given(ratings, st.sampled_from([0.01, 0.3, 10.0]), anything)
@settings(max_examples=40, deadline=None)
def test_whatever_is_said_moves_no_score_further_than_the_limit(said: list[tuple[str, float]], rate: float, text: str) -> None:
    living = LivingRouter(base(), rate=rate)
    before = living.scores([text])[0, 0]
    for rated, score in said:
        living.rate_answer(rated, "sums", score)
        assert abs(log_odds(living.scores([text])[0, 0]) - log_odds(before)) <= LIMIT + 1e-9


@given(ratings, st.sampled_from([0.3, 10.0]))
@settings(max_examples=30, deadline=None)
def test_no_rating_moves_its_question_the_wrong_way(said: list[tuple[str, float]], rate: float) -> None:
    living = LivingRouter(base(), rate=rate)
    for text, score in said:
        before = living.scores([text])[0, 0]
        now = living.rate_answer(text, "sums", score).scores([text])[0, 0]
        assert (now - before) * (score - before) >= -1e-12


def test_a_flood_of_ratings_reaches_the_limit_and_is_undone_by_some_hundred_honest_ones() -> None:
    living, held = LivingRouter(base()), SUMS[-20:]
    honest = living.scores(held)[:, 0]
    for at in range(1500):
        living.rate_answer(MIXED[at % len(MIXED)], "sums", 0.0)
    flooded = living.scores(held)[:, 0]
    np.testing.assert_allclose(log_odds(honest) - log_odds(flooded), LIMIT, atol=0.05)
    rng = np.random.default_rng(0)
    for at in range(300):
        text = MIXED[at % len(MIXED)]
        living.rate_answer(text, "sums", float(rng.random() < AT_FIRST["sums"][kind_of(text)]))
    assert living.scores(held)[:, 0].mean() > honest.mean() - 0.15


def earned(living: LivingRouter, right: Right, texts: Sequence[str]) -> float:
    """What the first choices of a stream really are worth, each rated by chance as it came."""
    rng, worth = np.random.default_rng(1), []
    for text in texts:
        expert = living.experts_[int(living.scores([text])[0].argmax())]
        worth.append(right[expert][kind_of(text)])
        living.rate_answer(text, expert, float(rng.random() < worth[-1]))
    return float(np.mean(worth))


def test_ratings_find_the_new_best_expert_when_the_old_one_fails_and_a_frozen_router_does_not() -> None:
    turned: Right = {"sums": (0.2, 0.2), "words": (0.4, 0.8), "both": (0.9, 0.6)}
    stream = [MIXED[int(at)] for at in np.random.default_rng(0).permutation(len(MIXED))] * 3
    oracle = np.mean([max(part[kind_of(text)] for part in turned.values()) for text in stream])
    alive, frozen = LivingRouter(base()), LivingRouter(base(), frozen=True)
    earned(alive, AT_FIRST, stream[:150])
    earned(alive, turned, stream[150:450])
    recovered, stuck = earned(alive, turned, stream[450:]), earned(frozen, turned, stream[450:])
    assert recovered > oracle - 0.03
    assert stuck < oracle - 0.25


def test_a_frozen_router_hears_nothing_until_it_is_thawed() -> None:
    living = LivingRouter(base(), frozen=True)
    before = living.scores(MIXED[:9])
    living.rate_answer(SUMS[0], "sums", 0.0)
    assert living.scores(MIXED[:9]).tobytes() == before.tobytes()
    living.frozen = False
    living.rate_answer(SUMS[0], "sums", 0.0)
    assert living.scores(MIXED[:9]).tobytes() != before.tobytes()


# what is kept


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_life_is_saved_and_loaded_exactly(depth: int, tmp_path: Path) -> None:
    living = full()
    for level in range(1, depth):  # a living router is a router, which can live on
        living = LivingRouter(living, rate=0.7).join(f"new-{level}", asked({f"new-{level}": NEW}, MIXED[90:100]))
        living.rate_answer(WORDS[0], "words", 0.0).leave(living.experts_[0])
    living.save(tmp_path)
    loaded = load_router(tmp_path)
    assert isinstance(loaded, LivingRouter)
    assert (loaded.experts_, loaded.rate, loaded.frozen) == (living.experts_, living.rate, living.frozen)
    texts = [*MIXED[:9], "", "ƒ∂ß"]
    assert loaded.scores(texts).tobytes() == living.scores(texts).tobytes()
    assert loaded.reasons(SUMS[0]) == living.reasons(SUMS[0])
    for router in (living, loaded):  # and it goes on as it would have
        router.rate_answer(SUMS[0], living.experts_[0], 0.25).join_described("late", "cooking", {})
    assert loaded.scores(texts).tobytes() == living.scores(texts).tobytes()


def test_a_frozen_router_stays_frozen_on_disk(tmp_path: Path) -> None:
    LivingRouter(base(), frozen=True, rate=2.0).save(tmp_path)
    loaded = load_router(tmp_path)
    assert isinstance(loaded, LivingRouter)
    assert (loaded.frozen, loaded.rate) == (True, 2.0)


@given(st.lists(anything, max_size=4))
@settings(max_examples=20, deadline=None)
def test_a_texts_scores_do_not_depend_on_who_shares_its_batch(texts: list[str]) -> None:
    living = full()
    together = living.scores([*texts, SUMS[0]])
    assert together.shape == (len(texts) + 1, 4)
    assert ((together >= 0) & (together <= 1)).all()
    for at, text in enumerate(texts):
        assert living.scores([text])[0].tobytes() == together[at].tobytes()
    assert living.scores([]).shape == (0, 4)


def test_the_reasons_tell_who_is_new_and_who_was_rated() -> None:
    lines = full().reasons(SUMS[0])
    assert "new: new, from probes" in lines
    assert "french: new, from its description" in lines
    assert "sums: 10 ratings" in lines
    assert lines[: len(base().reasons(SUMS[0]))] == base().reasons(SUMS[0])
