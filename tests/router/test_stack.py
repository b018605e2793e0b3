import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from router import KINDS, BaseRouter, EmbeddingRouter, RouterError, load_router
from router.base import centred
from router.stack import MEMBERS, StackRouter

EncoderOf = Callable[[Mapping[str, Sequence[float]]], str]

TOPICS = [f"topic{at}" for at in range(6)]
EXPERTS = "wxyz"
RIGHT = np.random.default_rng(7).uniform(0.1, 0.9, (6, 4))
"""How often each expert is right on each topic."""


class Planted(EmbeddingRouter):
    """A member that learns nothing."""

    def _fit(self, vectors: np.ndarray, scores: np.ndarray, queries: pd.DataFrame) -> None:
        self.count = scores.shape[1]

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return {}, {}

    def _restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None: ...


class Noise(Planted):
    kind = "noise"

    def _score(self, vector: np.ndarray) -> np.ndarray:
        return np.random.default_rng(zlib.crc32(vector.tobytes())).random(self.count)


class Contrary(Planted):
    """Says of the best that it is the worst."""

    kind = "contrary"

    def _score(self, vector: np.ndarray) -> np.ndarray:
        return np.asarray(1 - RIGHT[int(vector[:6].argmax())])


class Memoriser(Planted):
    """Knows by heart what it has seen, and guesses on anything else."""

    kind = "memoriser"

    def _fit(self, vectors: np.ndarray, scores: np.ndarray, queries: pd.DataFrame) -> None:
        super()._fit(vectors, scores, queries)
        self.seen_ = {vector.tobytes(): row for vector, row in zip(vectors, scores, strict=True)}

    def _score(self, vector: np.ndarray) -> np.ndarray:
        return np.asarray(self.seen_.get(vector.tobytes(), np.random.default_rng(zlib.crc32(vector.tobytes())).random(self.count)))


@pytest.fixture(scope="module")
def encoder(encoder_of: EncoderOf) -> str:
    """Reads topics and two filling words at right angles."""
    return encoder_of(dict(zip([*TOPICS, "um", "er"], np.eye(8).tolist(), strict=True)))


def world(n: int, seed: int, *, alone: bool = False, category: bool = True) -> tuple[pd.DataFrame, list[str], np.ndarray]:
    """Questions on six topics of three categories with their true chances; each is answered by all experts, or by one alone."""
    rng = np.random.default_rng(seed)
    topic = rng.integers(0, 6, n)
    texts = [f"{TOPICS[at]} " * 7 + "um " * int(rng.integers(0, 4)) + "er " * int(rng.integers(0, 4)) for at in topic]
    right = rng.random((n, 4)) < RIGHT[topic]
    asked = rng.integers(0, 4, n)
    rows = [
        {"query_id": f"{seed}/{at}", "query": texts[at], "expert": name, "score": float(right[at, expert])}
        | ({"category": f"kind {topic[at] // 2}"} if category else {})
        for at in range(n)
        for expert, name in enumerate(EXPERTS)
        if not alone or expert == asked[at]
    ]
    return pd.DataFrame(rows), texts, RIGHT[topic]


TABLE, _, _ = world(400, 0)
_, HELD, TRUTH = world(600, 1)


def missed(router: BaseRouter) -> float:
    """Mean squared error of the differences between experts on held-out questions."""
    rows = [centred(part, RIGHT.mean(axis=0))[1] for part in (router.scores(HELD), TRUTH)]
    return float(((rows[0] - rows[1]) ** 2).mean())


def reached(router: BaseRouter) -> float:
    """Mean chance that the expert that is chosen is right."""
    return float(TRUTH[np.arange(len(HELD)), router.scores(HELD).argmax(axis=1)].mean())


def weights(router: StackRouter) -> dict[str, tuple[float, float]]:
    return {member.kind: (float(ease), float(rest)) for member, ease, rest in zip(router.routers_, router.ease_, router.rest_, strict=True)}


def test_a_stack_is_at_least_as_good_as_its_best_member(encoder: str) -> None:
    kinds = ("category", "linear", "cluster")
    alone = [KINDS[kind](encoder=encoder).fit(TABLE) for kind in kinds]  # type: ignore[call-arg]
    stack = StackRouter(members=kinds, encoder=encoder).fit(TABLE)
    assert missed(stack) <= 1.05 * min(missed(router) for router in alone)
    assert reached(stack) >= max(reached(router) for router in alone) - 0.005
    assert reached(stack) > TRUTH.mean(axis=0).max() + 0.1  # the best single expert


def test_no_weight_is_negative(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "contrary", Contrary)
    router = StackRouter(members=("linear", "contrary", "category"), encoder=encoder).fit(TABLE)
    assert (router.ease_ >= 0).all()
    assert (router.rest_ >= 0).all()
    assert weights(router)["contrary"][1] == 0


@pytest.mark.parametrize("useless", [Noise, Memoriser], ids=["noise", "memoriser"])
def test_a_useless_member_gets_about_no_weight_beside_a_good_one(
    useless: type[EmbeddingRouter], encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, useless.kind, useless)
    router = StackRouter(members=("linear", useless.kind), encoder=encoder).fit(TABLE)
    good, bad = weights(router)["linear"], weights(router)[useless.kind]
    assert bad[1] < 0.05 < 0.6 < good[1]
    assert bad[0] < 0.2 < good[0]


def test_where_questions_say_little_the_members_share_alike(encoder: str) -> None:
    router = StackRouter(members=("linear", "cluster"), encoder=encoder).fit(TABLE.head(4 * 8))  # too few to hold any out
    assert weights(router) == {"linear": (0.5, 0.5), "cluster": (0.5, 0.5)}


def test_a_score_is_the_mean_and_the_members_parts_by_their_weights(encoder: str) -> None:
    table = TABLE.head(4 * 9)
    stack = StackRouter(members=("linear", "cluster"), encoder=encoder).fit(table)
    alone = [KINDS[kind](encoder=encoder).fit(table) for kind in ("linear", "cluster")]  # type: ignore[call-arg]
    mean = table.groupby("expert")["score"].mean().to_numpy()
    # halves of both members' predictions; what each says of all experts alike, and of their differences, sums to its prediction
    wanted = (alone[0].scores(HELD[:20]) + alone[1].scores(HELD[:20])) / 2
    inside = ((wanted > 0.01) & (wanted < 0.99)).all(axis=1)
    assert inside.sum() > 5
    np.testing.assert_allclose(stack.scores(HELD[:20])[inside], wanted[inside], atol=1e-9)
    np.testing.assert_allclose(stack.mean_, mean)


def test_a_table_without_categories_is_clustered_instead(encoder: str) -> None:
    for table in (world(40, 2, category=False)[0], TABLE.head(160).assign(category="all"), TABLE.head(160).assign(category=None)):
        router = StackRouter(encoder=encoder).fit(table)
        assert [member.kind for member in router.routers_] == list(dict.fromkeys(kind.replace("category", "cluster") for kind in MEMBERS))
        assert np.isfinite(router.scores(HELD[:3])).all()


def test_with_categories_the_members_are_as_named_and_each_once(encoder: str) -> None:
    router = StackRouter(members=("linear", "category", "linear"), encoder=encoder).fit(TABLE.head(160))
    assert [member.kind for member in router.routers_] == ["linear", "category"]


def test_the_reasons_are_those_of_the_members(encoder: str) -> None:
    router = StackRouter(members=("category", "knn"), encoder=encoder).fit(TABLE.head(160))
    lines = router.reasons(HELD[0])
    assert lines[0].startswith("kind ")
    assert ": right were " in lines[-1]


def test_missing_cells_and_experts_that_stand_in_one_fold_only_hinder_nothing(encoder: str) -> None:
    rng = np.random.default_rng(0)
    holes = TABLE[(rng.random(len(TABLE)) < 0.6) & ((TABLE["expert"] != "z") | (TABLE["query_id"] == "0/3"))]
    scores = StackRouter(encoder=encoder).fit(holes.head(300)).scores(HELD[:3])
    assert np.isfinite(scores).all()


def test_members_and_weights_come_back_with_the_artefact(encoder: str, tmp_path: Path) -> None:
    router = StackRouter(members=("knn", "cluster", "description", "skill", "mlp"), seed=3, encoder=encoder).fit(TABLE.head(160))
    router.save(tmp_path)
    loaded = load_router(tmp_path)
    assert isinstance(loaded, StackRouter)
    assert loaded.settings() == router.settings()
    assert (loaded.members, loaded.seed) == (("knn", "cluster", "description", "skill", "mlp"), 3)
    assert weights(loaded) == weights(router)
    np.testing.assert_array_equal(loaded.scores(HELD[:20]), router.scores(HELD[:20]))
    assert loaded.reasons(HELD[0]) == router.reasons(HELD[0])


@pytest.mark.parametrize("kind", ["stack", "best-single", "astrology"])
def test_a_member_that_cannot_be_one_is_named(kind: str, encoder: str) -> None:
    with pytest.raises(RouterError, match=f"a stack has no member called '{kind}'; there are knn, linear"):
        StackRouter(members=("linear", kind), encoder=encoder).fit(TABLE)


def test_a_stack_without_members_is_refused(encoder: str) -> None:
    with pytest.raises(RouterError):
        StackRouter(members=(), encoder=encoder).fit(TABLE)


def test_questions_that_one_expert_alone_answered_do_not_weaken_what_members_say_of_differences(encoder: str) -> None:
    # a question with a single answer tells nothing of differences, so that the weights for them should stay about as they were
    members = ("category", "linear")
    before = StackRouter(members=members, encoder=encoder).fit(TABLE).rest_.sum()
    after = (
        StackRouter(members=members, encoder=encoder).fit(pd.concat([TABLE, world(1600, 2, alone=True)[0]], ignore_index=True)).rest_.sum()
    )
    assert after > 0.8 * before
