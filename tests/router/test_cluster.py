from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from router import RouterError, load_router
from router.cluster import ClusterRouter

TableOf = Callable[..., pd.DataFrame]

# four questions near "a", four near "b"; the overall means are 0.625, 0.5 and 0.4375
TEXTS = ["a", "a a a a a c", "a a a a a d", "a a", "b", "b b b b b c", "b b b b b d", "b b"]
SCORES = {"x": [1, 1, 1, 0.5, 0, 0.5, 0, 1], "y": [0, 0, 0, 1, 1, 1, 1, 0], "z": [0.5] * 7 + [0]}
CLEAN = {"x": [1, 1, 1, 0.5, 0, 0.5, 0, 1], "y": [0, 0, 0, 1, 1, 1, 1, 0]}


def test_each_cluster_scores_by_its_means(axes: str, table_of: TableOf) -> None:
    router = ClusterRouter(clusters=2, nearest=1, prior=0.0, encoder=axes).fit(table_of(TEXTS, SCORES))
    np.testing.assert_allclose(router.scores(["a a c", "b b d"]), [[3.5 / 4, 1 / 4, 0.5], [1.5 / 4, 3 / 4, 1.5 / 4]])
    assert sorted(router.size_.tolist()) == [4, 4]


def test_a_prior_pulls_towards_the_overall_mean(axes: str, table_of: TableOf) -> None:
    router = ClusterRouter(clusters=2, nearest=1, prior=2.0, encoder=axes).fit(table_of(TEXTS, SCORES))
    np.testing.assert_allclose(router.scores(["a"]), [[(3.5 + 2 * 0.625) / 6, (1 + 2 * 0.5) / 6, (2 + 2 * 0.4375) / 6]])


def test_by_rank_the_places_in_the_cluster_count_and_not_the_means(axes: str, table_of: TableOf) -> None:
    router = ClusterRouter(clusters=2, nearest=1, prior=0.0, by="rank", encoder=axes).fit(table_of(TEXTS, SCORES))
    # 0.1 / (place + 0.1) for the places 0, 1 and 2; x and z are equal near "b", and the first one named comes first
    first, second, third = 1, 0.1 / 1.1, 0.1 / 2.1
    np.testing.assert_allclose(router.scores(["a", "b"]), [[first, third, second], [second, first, third]], atol=1e-6)


def test_several_clusters_weigh_by_the_softmax_of_their_nearness(axes: str, table_of: TableOf) -> None:
    router = ClusterRouter(clusters=2, nearest=2, sharpness=1.5, prior=0.0, encoder=axes).fit(table_of(TEXTS, CLEAN))
    question = np.array([0.8, 0.6, 0, 0])  # "a" four times and "b" three times
    distance = ((router.centres_ - question) ** 2).sum(axis=1)
    weight = np.exp(-1.5 * distance / 2)
    wanted = weight @ router.quality_ / weight.sum()
    np.testing.assert_allclose(router.scores(["a a a a b b b"])[0], wanted, atol=1e-6)


def test_without_sharpness_all_near_clusters_count_alike(axes: str, table_of: TableOf) -> None:
    router = ClusterRouter(clusters=2, nearest=9, sharpness=0.0, prior=0.0, encoder=axes).fit(table_of(TEXTS, SCORES))
    np.testing.assert_allclose(router.scores(["a", "b"]), [[0.625, 0.5, 0.4375]] * 2)


def test_there_are_at_most_as_many_clusters_as_a_quarter_of_the_questions_or_as_there_are_texts(axes: str, table_of: TableOf) -> None:
    for texts, wanted in ((TEXTS, 2), (TEXTS[:3], 1), (["a"] * 8, 1), (["a", "b"] * 20, 2), ([f"{'a ' * n}b" for n in range(40)], 10)):
        router = ClusterRouter(encoder=axes).fit(table_of(texts, {"x": [1.0] * len(texts)}))
        assert len(router.centres_) == wanted
        assert router.size_.sum() == len(texts)


def test_an_expert_that_a_cluster_does_not_know_gets_its_overall_mean(axes: str, table_of: TableOf) -> None:
    holes = {"x": [None, None, None, None, 0, 0.5, 0, 1], "y": SCORES["y"]}
    for prior in (0.0, 5.0):
        router = ClusterRouter(clusters=2, nearest=1, prior=prior, encoder=axes).fit(table_of(TEXTS, holes))
        assert router.scores(["a"])[0, router.experts_.index("x")] == pytest.approx(1.5 / 4)


@pytest.mark.parametrize("by", ["accuracy", "rank"])
def test_with_disjoint_winners_it_ranks_as_the_clusters_do_and_beats_the_best_single_expert(by: str, axes: str, table_of: TableOf) -> None:
    rng = np.random.default_rng(0)
    right = {"a": [0.9, 0.2, 0.6], "b": [0.2, 0.8, 0.6]}  # of x, y and z on questions about a and about b

    def world(n: int) -> tuple[list[str], np.ndarray]:
        texts = [f"{'ab'[at % 2]} " * 6 + " ".join(rng.choice(list("cd"), size=int(rng.integers(0, 4)))) for at in range(n)]
        return texts, (rng.random((n, 3)) < [right[text[0]] for text in texts]).astype(float)

    texts, scores = world(400)
    table = table_of(texts, {name: scores[:, at].tolist() for at, name in enumerate("xyz")})
    router = ClusterRouter(clusters=2, nearest=1, by=by, encoder=axes).fit(table)  # type: ignore[arg-type]
    held, truth = world(400)
    predicted = router.scores(held)
    for text, row in zip(held, predicted, strict=True):
        assert np.argsort(-row).tolist() == np.argsort(-np.array(right[text[0]])).tolist()
    routed = truth[np.arange(400), predicted.argmax(axis=1)].mean()
    assert routed > truth.mean(axis=0).max() + 0.15


def test_the_reason_names_the_nearest_cluster_its_size_and_who_is_best_in_it(axes: str, table_of: TableOf) -> None:
    router = ClusterRouter(clusters=2, nearest=1, encoder=axes).fit(table_of(TEXTS, SCORES))
    (line,) = router.reasons("b b b")
    cluster = int(router.centres_[:, 1].argmax())
    assert line.startswith(f"cluster {cluster} (4 questions, weight 1.00): best is y 0.")


def test_settings_come_back_with_the_artefact(score_table: pd.DataFrame, tmp_path: Path) -> None:
    router = ClusterRouter(clusters=3, nearest=2, sharpness=1.0, prior=0.5, by="rank", seed=1, encoder="static").fit(score_table)
    router.save(tmp_path)
    loaded = load_router(tmp_path)
    assert isinstance(loaded, ClusterRouter)
    assert loaded.settings() == {
        "clusters": 3, "nearest": 2, "sharpness": 1.0, "prior": 0.5, "by": "rank", "seed": 1, "encoder": "static"
    }  # fmt: skip
    np.testing.assert_array_equal(loaded.scores(["a text"]), router.scores(["a text"]))


@pytest.mark.parametrize("setting", [{"clusters": 0}, {"nearest": 0}, {"prior": -1.0}, {"by": "luck"}])
def test_a_setting_out_of_range_is_shown(score_table: pd.DataFrame, setting: dict[str, object]) -> None:
    with pytest.raises(RouterError, match="the cluster router wants clusters and nearest from 1, a prior from 0, by") as caught:
        ClusterRouter(**setting).fit(score_table)  # type: ignore[arg-type]
    ((name, value),) = setting.items()
    assert f"{name}={value!r}" in str(caught.value)
