import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.records import Usage
from serving.database import StoreError
from serving.keys import Key, Keys
from serving.limits import MINUTE_S, Admission, Buckets, Limiter, LimitError
from serving.store import Store
from serving.tables import Spend


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def store(new_url: Callable[[], str]) -> Iterator[Store]:
    with Store(new_url()) as made:
        yield made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(store: Store, clock: Clock) -> Limiter:
    return Limiter(store, Buckets(clock))


def limited(store: Store, requests: float | None = None, tokens: float | None = None, usd: float | None = None) -> Key:
    return Keys(store).create("me", requests_per_minute=requests, tokens_per_minute=tokens, budget_usd=usd)[0]


def usage(tokens: int = 0, usd: float = 0.0) -> Usage:
    return Usage(tokens, 0, usd, 1)


def refused(limiter: Limiter, key: Key, tokens: int = 0, usd: float = 0.0) -> LimitError:
    with pytest.raises(LimitError) as caught:
        limiter.admit(key, tokens=tokens, usd=usd)
    return caught.value


def test_a_key_without_limits_is_never_refused_and_its_spend_is_kept(store: Store, limiter: Limiter) -> None:
    key = limited(store)
    for _ in range(5):
        limiter.admit(key, tokens=10**9, usd=10**6).settle(Usage(7, 3, 0.5, 2))
    assert store.spend(key.id) == Spend(2.5, 35, 15, 5)


# Requests


def told(limiter: Limiter, key: Key) -> float:
    """The seconds to wait that a request is told, or 0 where it is let in."""
    try:
        limiter.admit(key, tokens=0, usd=0)
    except LimitError as error:
        return error.retry_after_s or 0.0
    return 0.0


def test_the_wait_that_is_told_is_the_one_that_is_needed(store: Store, limiter: Limiter, clock: Clock) -> None:
    key = limited(store, requests=6)
    for _ in range(6):
        limiter.admit(key, tokens=0, usd=0)
    clock.now += 2.75
    error = refused(limiter, key)
    assert (error.retry_after_s, error.retry_after, error.code, error.kind) == (7.25, "8", "rate_limit_exceeded", "requests")
    assert str(error) == "the key's 6 requests a minute are used up; try again in 8 s"
    clock.now += 7.24
    assert refused(limiter, key).retry_after == "1"
    clock.now += 0.01
    limiter.admit(key, tokens=0, usd=0)


pauses = st.sampled_from([0.0, 0.3, 5.0, 61.0, 500.0])


@given(st.floats(1, 10), st.lists(st.tuples(pauses, st.integers(1, 12)), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_no_stretch_of_time_sees_more_than_a_minutes_burst_and_its_own_share(
    store: Store, rate: float, steps: list[tuple[float, int]]
) -> None:
    clock = Clock()
    limiter, key = Limiter(store, Buckets(clock)), Key("k", "me", requests_per_minute=rate)
    let_in: list[float] = []
    for pause, asked in steps:
        clock.now += pause
        for _ in range(asked):
            if (wait_s := told(limiter, key)) > 0:
                before = clock.now
                clock.now = max(before, before + wait_s * 0.999 - 1e-5)
                assert told(limiter, key) > 0, "earlier than told it would have been let in"
                clock.now = before + wait_s
                assert told(limiter, key) == 0, "the promise is kept"
            let_in.append(clock.now)
    for at, first in enumerate(let_in):
        for until, last in enumerate(let_in[at:], at):
            assert until - at + 1 <= rate + rate * (last - first) / MINUTE_S + 1e-3


def test_keys_have_buckets_of_their_own(store: Store, limiter: Limiter) -> None:
    one, other = limited(store, requests=1), limited(store, requests=1)
    limiter.admit(one, tokens=0, usd=0)
    refused(limiter, one)
    limiter.admit(other, tokens=0, usd=0)


# Tokens


def test_tokens_are_set_aside_at_the_most_and_given_back_when_fewer_were_taken(store: Store, limiter: Limiter, clock: Clock) -> None:
    key = limited(store, tokens=1000)
    first = limiter.admit(key, tokens=800, usd=0)
    assert refused(limiter, key, tokens=300).retry_after_s == pytest.approx(6)
    first.settle(Usage(100, 50, 0.0, 1))
    limiter.admit(key, tokens=850, usd=0)
    error = refused(limiter, key, tokens=1)
    assert (error.kind, error.retry_after) == ("tokens", "1")


def test_what_is_given_back_never_overfills_the_bucket(store: Store, limiter: Limiter, clock: Clock) -> None:
    key = limited(store, tokens=1000)
    first = limiter.admit(key, tokens=1000, usd=0)
    clock.now += MINUTE_S
    first.settle(usage(0))
    limiter.admit(key, tokens=1000, usd=0)
    refused(limiter, key, tokens=1)


def test_more_tokens_than_were_set_aside_are_owed(store: Store, limiter: Limiter, clock: Clock) -> None:
    key = limited(store, tokens=600)
    limiter.admit(key, tokens=100, usd=0).settle(usage(700))
    assert refused(limiter, key, tokens=100).retry_after_s == pytest.approx(20)


def test_a_request_that_no_minute_can_hold_is_told_so_and_not_to_wait(store: Store, limiter: Limiter) -> None:
    key = limited(store, requests=1, tokens=1000)
    error = refused(limiter, key, tokens=1001)
    assert str(error) == "this request can take 1001 tokens, more than the key's 1000 a minute: lower max_tokens or ask fewer experts"
    assert (error.retry_after_s, error.retry_after) == (None, None)
    limiter.admit(key, tokens=1000, usd=0)  # the refusal took nothing


def test_a_refusal_takes_nothing_from_any_limit(store: Store, limiter: Limiter) -> None:
    key = limited(store, requests=2, tokens=1000, usd=1.0)
    limiter.admit(key, tokens=500, usd=0.5)
    refused(limiter, key, tokens=600, usd=0.5)
    refused(limiter, key, tokens=500, usd=0.6)
    limiter.admit(key, tokens=500, usd=0.5)
    refused(limiter, key)


def test_a_request_that_was_never_begun_gives_everything_back(store: Store, limiter: Limiter) -> None:
    key = limited(store, requests=1, tokens=1000, usd=1.0)
    admission = limiter.admit(key, tokens=1000, usd=1.0)
    admission.release()
    admission.settle(usage(1000, 1.0))  # too late
    limiter.admit(key, tokens=1000, usd=1.0)
    assert store.spend(key.id) == Spend()


# Money


def test_a_budget_refuses_what_could_pass_it_and_says_what_is_left(store: Store, limiter: Limiter) -> None:
    key = limited(store, usd=1.0)
    first = limiter.admit(key, tokens=0, usd=0.75)
    error = refused(limiter, key, usd=0.5)
    assert str(error) == "this request can cost up to $0.500000, and $0.250000 of the key's $1 is left"
    assert (error.code, error.kind, error.retry_after) == ("insufficient_quota", "insufficient_quota", None)
    first.settle(usage(10, 0.1))
    limiter.admit(key, tokens=0, usd=0.9)
    limiter.admit(key, tokens=0, usd=0.0)  # what costs nothing fits always
    refused(limiter, key, usd=1e-9)


def test_settling_twice_counts_once(store: Store, limiter: Limiter) -> None:
    key = limited(store, usd=1.0)
    admission = limiter.admit(key, tokens=0, usd=0.5)
    admission.settle(usage(10, 0.25))
    admission.settle(usage(10, 0.25))
    admission.release()
    assert (store.spend(key.id), store.held(key.id)) == (Spend(0.25, 10, 0, 1), 0)


def test_a_request_that_breaks_off_counts_as_the_most_that_it_could_take(store: Store, limiter: Limiter) -> None:
    key = limited(store, usd=1.0)

    def broken(admission: Admission) -> None:
        with admission:
            raise RuntimeError("the caller is gone")

    with pytest.raises(RuntimeError):
        broken(limiter.admit(key, tokens=100, usd=0.75))
    assert (store.spend(key.id).usd, store.held(key.id)) == (0.75, 0)
    with limiter.admit(key, tokens=100, usd=0.25) as admission:
        admission.settle(usage(10, 0.0))
    assert store.spend(key.id).usd == 0.75


def test_a_store_that_fails_lets_nobody_in_and_takes_nothing(url: str, clock: Clock) -> None:
    with Store(url) as store:
        limiter, stranger = Limiter(store, Buckets(clock)), Key("absent", "me", requests_per_minute=1, budget_usd=1.0)
        for _ in range(2):
            with pytest.raises(StoreError, match="no key has this id"):
                limiter.admit(stranger, tokens=0, usd=0.5)


steps = st.lists(st.tuples(st.sampled_from(["admit", "settle", "release", "lose"]), st.integers(0, 7), st.floats(0, 1)), max_size=40)


@given(st.floats(0, 3), steps)
@settings(max_examples=60, deadline=None)
def test_however_requests_interleave_the_budget_holds_and_nothing_is_refused_that_fits(
    store: Store, budget: float, done: list[tuple[str, int, float]]
) -> None:
    key = limited(store, usd=round(budget, 6))
    assert key.budget_usd is not None
    limiters = [Limiter(store), Limiter(store)]  # as of two processes, or of one before and after its end
    under_way: list[Admission] = []
    spent, lost = 0.0, 0.0
    for step, at, share in done:
        share = round(share, 6)
        if step == "admit":
            left = key.budget_usd - spent - lost - sum(admission.usd for admission in under_way)
            try:
                under_way.append(limiters[at % 2].admit(key, tokens=0, usd=share))
                assert share <= left + 1e-7
            except LimitError:
                assert share > left - 1e-7
        elif under_way:
            admission = under_way.pop(at % len(under_way))
            if step == "settle":
                admission.settle(usage(1, admission.usd * share))
                spent += admission.usd * share
            elif step == "release":
                admission.release()
            else:  # its process ends
                lost += admission.usd
        assert store.spend(key.id).usd + store.held(key.id) <= key.budget_usd + 1e-12
    assert store.spend(key.id).usd == pytest.approx(spent, abs=1e-7)


def test_threads_of_two_processes_that_ask_at_once_never_pass_the_budget_together(url: str) -> None:
    with Store(url) as one, Store(url) as other:
        key = limited(one, usd=1.0)
        limiters, ready = [Limiter(one), Limiter(other)], threading.Barrier(12)

        def ask(thread: int) -> int:
            ready.wait()
            let_in = 0
            for _ in range(10):
                try:
                    with limiters[thread % 2].admit(key, tokens=0, usd=0.05) as admission:
                        admission.settle(usage(1, 0.05))
                    let_in += 1
                except LimitError:
                    pass
            return let_in

        with ThreadPoolExecutor(12) as pool:
            assert sum(pool.map(ask, range(12))) == 20
        assert (one.spend(key.id), other.held(key.id)) == (Spend(1.0, 20, 0, 20), 0)
