import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.cluster import ClusterRouter
from router.knn import KNNRouter
from router.landscape import Landscape, shortened
from router.life import LivingRouter
from router.linear import LinearRouter
from router.stack import StackRouter
from tests.router.conftest import TableOf

SUMS = [f"What is {n} plus {n + 3}?" for n in range(10)]
WORDS = [f"How do you spell the word {word}?" for word in ("cat", "dog", "house", "mouse", "tree", "bird", "fish", "lamp", "door", "roof")]


@pytest.fixture(scope="module")
def table(table_of: TableOf) -> pd.DataFrame:
    right = [1.0] * len(SUMS) + [0.0] * len(WORDS)
    return table_of([*SUMS, *WORDS], {"sums": right, "words": [1 - score for score in right]}, category=["s"] * 10 + ["w"] * 10)


def test_questions_that_are_alike_lie_together(table: pd.DataFrame) -> None:
    drawn = Landscape.of_router(KNNRouter().fit(table))
    assert drawn is not None
    assert (drawn.of, drawn.total, len(drawn.points)) == ("questions", 20, 20)
    places = np.array([(point.x, point.y) for point in drawn.points])
    centres = places[:10].mean(axis=0), places[10:].mean(axis=0)
    for row, place in enumerate(places):
        near, far = (centres[0], centres[1]) if row < 10 else (centres[1], centres[0])
        assert np.linalg.norm(place - near) < np.linalg.norm(place - far)
    assert {point.best for point in drawn.points[:10]} == {"sums"}
    assert {point.right for point in drawn.points[10:]} == {("words",)}
    assert drawn.points[0].text == SUMS[0]
    assert np.abs(places.mean(axis=0)).max() < 1e-3


def test_a_map_is_the_same_each_time_and_a_known_question_lies_on_its_point(table: pd.DataFrame) -> None:
    router = StackRouter(members=("category", "knn")).fit(table)
    one, two = Landscape.of_router(router), Landscape.of_router(LivingRouter(router))
    assert one is not None
    assert two is not None
    assert one.points == two.points
    x, y = one.place(SUMS[3])
    assert (x, y) == pytest.approx((one.points[3].x, one.points[3].y), abs=0.02)  # vectors are kept in 8 bits
    similarity, point, number = one.nearest(SUMS[3])[0]
    assert (point.text, number, similarity) == (SUMS[3], 3, pytest.approx(1.0, abs=0.01))


def test_a_points_category_is_foretold_by_the_stacks_member(table: pd.DataFrame) -> None:
    drawn = Landscape.of_router(StackRouter(members=("category", "knn")).fit(table))
    assert drawn is not None
    assert [point.category for point in drawn.points] == ["s"] * 10 + ["w"] * 10


def test_of_many_questions_some_are_drawn_and_the_nearest_may_be_none_of_them(table: pd.DataFrame) -> None:
    router = KNNRouter().fit(table)
    drawn = Landscape.of_router(router, most=5)
    again = Landscape.of_router(router, most=5)
    assert drawn is not None
    assert again is not None
    assert (len(drawn.points), drawn.total, drawn.points) == (5, 20, again.points)
    numbers = [number for text in SUMS for _, _, number in drawn.nearest(text, most=1)]
    assert None in numbers
    assert all(drawn.points[number].text in SUMS for number in numbers if number is not None)


def test_an_artefact_without_texts_shows_none(table: pd.DataFrame) -> None:
    drawn = Landscape.of_router(KNNRouter(texts=False).fit(table))
    assert drawn is not None
    assert {point.text for point in drawn.points} == {None}
    assert {point.text for _, point, _ in drawn.nearest(SUMS[0])} == {None}


def test_a_cluster_router_shows_its_clusters_and_a_regression_alone_nothing(table: pd.DataFrame) -> None:
    drawn = Landscape.of_router(ClusterRouter(clusters=2).fit(table))
    assert drawn is not None
    assert drawn.of == "clusters"
    assert sum(point.questions for point in drawn.points) == 20
    assert drawn.nearest(SUMS[0])[0][1].best == "sums"
    assert Landscape.of_router(LinearRouter().fit(table)) is None


def test_one_question_is_a_map_too(table_of: TableOf) -> None:
    drawn = Landscape.of_router(KNNRouter().fit(table_of(["What is two plus two?"], {"a": [0.0]})))
    assert drawn is not None
    assert (drawn.points[0].x, drawn.points[0].y, drawn.points[0].best, drawn.points[0].right) == (0.0, 0.0, None, ())


@given(st.text(), st.integers(2, 50))
def test_what_is_shortened_is_one_line_and_short(text: str, most: int) -> None:
    made = shortened(text, most)
    assert len(made) <= most
    assert made == " ".join(made.split())
