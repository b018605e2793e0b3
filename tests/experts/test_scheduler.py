from hypothesis import given
from hypothesis import strategies as st

from experts.scheduler import Arrival, Grouped, Scheduler

QUEUES = st.lists(st.sampled_from("abcd"), max_size=40)


def loads_of(scheduler: Scheduler, queue: list[str]) -> int:
    loaded, loads = None, 0
    while (visit := scheduler.next(queue, loaded, frozenset())) is not None:
        loads += visit.engine != loaded
        loaded = visit.engine
        for _ in range(visit.calls):
            queue.remove(visit.engine)
    return loads


@given(QUEUES)
def test_grouped_loads_each_engine_once(queue: list[str]) -> None:
    assert loads_of(Grouped(), list(queue)) == len(set(queue))


@given(QUEUES)
def test_arrival_loads_an_engine_whenever_the_next_call_needs_another(queue: list[str]) -> None:
    changes = sum(a != b for a, b in zip([None, *queue], queue, strict=False))
    assert loads_of(Arrival(), list(queue)) == changes


@given(QUEUES, st.sampled_from([None, "a", "b", "z"]), st.frozensets(st.sampled_from("abcd"), max_size=3))
def test_a_visit_takes_only_calls_that_wait_and_are_not_served_elsewhere(
    queue: list[str], loaded: str | None, elsewhere: frozenset[str]
) -> None:
    for scheduler in (Grouped(), Arrival()):
        visit = scheduler.next(queue, loaded, elsewhere)
        if visit is None:
            assert all(engine in elsewhere for engine in queue)
        else:
            assert visit.engine not in elsewhere
            assert 1 <= visit.calls <= queue.count(visit.engine)


def test_grouped_stays_with_the_loaded_engine_while_it_has_work() -> None:
    visit = Grouped().next(["b", "b", "b", "a"], "a", frozenset())
    assert visit is not None
    assert visit.engine == "a"
