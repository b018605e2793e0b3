import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aggregator.gains import Gains

# 40 questions: the unsure half is right after the second call only, the sure half from the first on, and the third spoils ten of it
SURE = np.array([[0.2] * 20 + [0.9] * 20, [0.5] * 20 + [0.9] * 20, [0.6] * 20 + [0.9] * 20])
RIGHT = np.array([[0.0] * 20 + [1.0] * 20, [1.0] * 20 + [1.0] * 20, [1.0] * 20 + [1.0] * 10 + [0.0] * 10])


@st.composite
def tables(draw: st.DrawFn) -> Gains:
    rng, most = np.random.default_rng(draw(st.integers(0, 10**6))), draw(st.integers(1, 6))
    n = draw(st.integers(1, 200))
    return Gains.fit(rng.random((most, n)), (rng.random((most, n)) < 0.5).astype(float))


def test_the_table_holds_the_mean_confidence_and_what_more_calls_add() -> None:
    gains = Gains.fit(SURE, RIGHT, bins=2)
    np.testing.assert_allclose(gains.sure, [[0.2, 0.9], [0.5, 0.9], [0.6, 0.9]])
    np.testing.assert_allclose(gains.gain[0], [[0, 1, 1], [0, 0, -0.5]])
    np.testing.assert_allclose(gains.gain[1], [[-1, 0, 0], [0, 0, -0.5]])
    np.testing.assert_allclose(gains.gain[2], [[-1, 0, 0], [0.5, 0.5, 0]])


def test_it_asks_where_unsure_and_only_as_many_as_add_something() -> None:
    gains = Gains.fit(SURE, RIGHT, bins=2)
    assert gains.more(1, 0.1, 0.05, reserve=2) == 1
    assert gains.more(1, 0.9, 0.0, reserve=2) == 0
    assert gains.more(2, 0.5, 0.0, reserve=1) == 0
    assert gains.more(1, 0.55, 0.3, reserve=2) == 1  # half way between the classes, half the gain
    assert gains.more(1, 0.55, 0.6, reserve=2) == 0


def test_it_sees_past_a_call_that_adds_nothing_by_itself() -> None:
    gains = Gains(np.full((3, 1), 0.5), np.array([[[0.0, 0.0, 0.3]]] * 3))
    assert [gains.more(1, 0.5, price, reserve=2) for price in (0.0, 0.14, 0.16)] == [2, 2, 0]
    assert gains.more(1, 0.5, 0.0, reserve=1) == 0


def test_few_questions_make_few_classes() -> None:
    assert Gains.fit(SURE[:, :5], RIGHT[:, :5]).sure.shape == (3, 1)
    assert Gains.fit(np.zeros((2, 1000)), np.zeros((2, 1000))).sure.shape == (2, 8)


@given(tables(), st.integers(0, 8), st.floats(0, 1), st.floats(0, 1), st.integers(0, 9))
def test_it_never_wants_more_than_there_are_or_were_learned_from(gains: Gains, calls: int, sure: float, price: float, reserve: int) -> None:
    more = gains.more(calls, sure, price, reserve)
    assert 0 <= more <= min(reserve, max(0, len(gains.sure) - calls))


@given(tables(), st.integers(1, 6), st.floats(0, 1), st.integers(0, 9))
def test_for_nothing_it_asks_while_there_is_a_gain_and_at_the_highest_price_never(
    gains: Gains, calls: int, sure: float, reserve: int
) -> None:
    most = len(gains.sure)
    ahead = [float(np.interp(sure, gains.sure[calls - 1], gains.gain[calls - 1, :, at])) for at in range(calls, min(most, calls + reserve))]
    assert (gains.more(calls, sure, 0.0, reserve) > 0) is any(gain > 0 for gain in ahead)
    assert gains.more(calls, sure, 1.0, reserve) == 0


@given(tables(), st.integers(1, 6), st.floats(0, 1), st.integers(0, 9), st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_higher_price_never_asks_more(gains: Gains, calls: int, sure: float, reserve: int, prices: tuple[float, float]) -> None:
    low, high = sorted(prices)
    assert gains.more(calls, sure, high, reserve) <= gains.more(calls, sure, low, reserve)
