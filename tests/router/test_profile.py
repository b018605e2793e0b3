import numpy as np
import pandas as pd
import pytest

from router import KINDS, LivingRouter
from router.category import CategoryRouter
from router.cluster import ClusterRouter
from router.profile import answers_of, means_of, profile_of, questions_of
from router.skill import SkillRouter
from router.stack import StackRouter
from tests.router.conftest import TableOf

TEXTS = ["two plus two", "six plus one", "spell the cat", "spell the dog", "nine plus three", "spell a house"]
SCORES = {"sums": (1.0, 1.0, 0.0, 0.0, 1.0, None), "words": (0.0, 0.5, 1.0, 1.0, 0.0, 1.0)}
CATEGORIES = ["sums", "sums", "words", "words", "sums", "words"]


@pytest.fixture
def table(table_of: TableOf) -> pd.DataFrame:
    return table_of(TEXTS, SCORES, category=CATEGORIES)


def test_a_category_routers_profile_is_its_map(table: pd.DataFrame) -> None:
    profile = profile_of(CategoryRouter(prior=0.0).fit(table))
    assert profile is not None
    assert (profile.by, profile.rows, profile.experts, profile.of) == ("category", ("sums", "words"), ("sums", "words"), 2)
    np.testing.assert_allclose(profile.quality, [[1.0, 1 / 6], [0.0, 1.0]], atol=1e-9)


def test_a_skill_routers_profile_counts_questions_and_the_most_frequent_come_first(table_of: TableOf) -> None:
    keywords = ["sums; numbers", "sums", "words", "sums; words", "sums", "words"]
    router = SkillRouter(least=1).fit(table_of(TEXTS, {"a": (1, 1, 1, 0, 0, 1), "b": (0, 0, 1, 0, 0, 0)}, keywords=keywords))
    profile = profile_of(router, most=2)
    assert profile is not None
    assert (profile.by, profile.rows, profile.questions, profile.of) == ("skill", ("sums", "words"), (4, 3), 3)
    np.testing.assert_allclose(profile.quality, [[0.5, 0.0], [2 / 3, 1 / 3]])


def test_a_cluster_routers_profile_has_a_row_for_each_cluster(table: pd.DataFrame) -> None:
    router = ClusterRouter(clusters=2).fit(table)
    profile = profile_of(router)
    assert profile is not None
    assert (profile.by, profile.of, sum(profile.questions or ())) == ("cluster", len(router.size_), len(TEXTS))
    assert questions_of(router) == len(TEXTS)


def test_a_stack_shows_its_members_and_a_living_router_its_base(table: pd.DataFrame) -> None:
    stack = StackRouter(members=("category", "knn")).fit(table)
    for router in (stack, LivingRouter(stack)):
        profile = profile_of(router)
        assert profile is not None
        assert profile.by == "category"
        assert questions_of(router) == len(TEXTS)
        assert answers_of(router) == {"sums": 5, "words": 6}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "skill"])
def test_every_kind_has_a_profile_of_its_experts_or_none(kind: str, table: pd.DataFrame) -> None:
    router = KINDS[kind]().fit(table)
    profile, means = profile_of(router), means_of(router)
    assert (profile is None) == (kind in ("random", "linear", "mlp", "mf", "description"))
    if profile is not None:
        assert profile.quality.shape == (len(profile.rows), 2)
        assert profile.experts == ("sums", "words")
    if means is not None:
        np.testing.assert_allclose(means, [3 / 5, 3.5 / 6])
