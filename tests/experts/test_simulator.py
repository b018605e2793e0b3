import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experts.baselines import ORDERED, Ordered
from experts.comparison import POLICIES, Settings, play, play_policy
from experts.rules import RULES, FirstInFirstOut, LlamaSwap
from experts.scheduler import Scheduler
from experts.simulator import simulate, simulate_per_request
from experts.traces import Trace

SMALL = Settings("poisson", calls=600, load=0.6, max_wait_s=30.0, width=1)


def made(scheduler: Scheduler, *, slots: int, engines: int, lanes: int, swap_s: float) -> Scheduler:
    for slot in range(slots):
        scheduler.add_slot(slot)
    for engine in range(engines):
        scheduler.add_engine(str(engine), lanes=lanes, load_s=swap_s)
    return scheduler


def test_a_swap_and_a_full_slot_make_calls_wait() -> None:
    trace = Trace(np.array([0.0, 0.0, 0.0, 20.0]), np.array([4.0, 4.0, 4.0, 1.0]), np.array([0, 0, 0, 1]))
    run = simulate(trace, made(Scheduler(), slots=1, engines=2, lanes=2, swap_s=5.0), 5.0)
    assert run.waits.tolist() == [5.0, 5.0, 9.0, 5.0]
    assert (run.swaps, run.end, run.busy) == (2, 26.0, 13.0)


def test_reading_ahead_hides_its_share_of_a_swap() -> None:
    trace = Trace(np.array([0.0, 1.0]), np.array([20.0, 1.0]), np.array([0, 1]))
    waits = [
        simulate(trace, made(Scheduler(prefetch=True), slots=1, engines=2, lanes=2, swap_s=5.0), 5.0, share).waits for share in (0, 0.6)
    ]
    assert waits[0] - waits[1] == pytest.approx([0.0, 3.0])


def test_a_call_for_each_request_is_an_engine_for_each_call() -> None:
    trace = replace(SMALL, calls=150, slots=3).trace(0)
    alone = Trace(trace.arrivals, trace.seconds, np.arange(len(trace)))
    by_scheduler = simulate(alone, made(Scheduler(LlamaSwap()), slots=3, engines=len(trace), lanes=1, swap_s=5.0), 5.0)
    run = simulate_per_request(trace, 3, 5.0)
    np.testing.assert_allclose(run.waits, by_scheduler.waits)
    assert (run.swaps, run.refused, run.broken) == (by_scheduler.swaps, 0, 0)
    assert (run.end, run.busy) == (pytest.approx(by_scheduler.end), pytest.approx(by_scheduler.busy))


def steady_stream(seconds: float) -> Trace:
    """One call every second for expert 0, each of four seconds, and one for expert 1 after ten seconds."""
    arrivals = np.arange(seconds)
    experts = (arrivals == 10).astype(int)
    return Trace(arrivals, np.full(len(arrivals), 4.0), experts)


@pytest.mark.parametrize("seconds", [200, 800])
def test_llama_swap_lets_a_call_wait_as_long_as_others_keep_its_slot_busy_and_counterpoint_does_not(seconds: int) -> None:
    waits = {}
    for name in ("llama-swap", "counterpoint"):
        scheduler = made(Scheduler(RULES[name]()), slots=1, engines=2, lanes=8, swap_s=5.0)
        waits[name] = simulate(steady_stream(seconds), scheduler, 5.0).waits[10]
    assert waits["llama-swap"] > seconds - 10
    assert waits["counterpoint"] < 90


@pytest.mark.parametrize("policy", [*POLICIES, "clairvoyant_swaps"])
def test_a_seed_gives_the_same_figures_again(policy: str) -> None:
    assert play(SMALL, policy, 1) == play(SMALL, policy, 1)
    if policy != "clairvoyant_swaps":
        assert play(SMALL, policy, 1) != play(SMALL, policy, 2)


@pytest.mark.parametrize("policy", RULES)
def test_every_call_is_started_or_refused(policy: str) -> None:
    settings = replace(SMALL, load=1.1, zipf=1.0)
    run = play_policy(settings, policy, settings.trace(0))
    assert np.isfinite(run.waits).sum() + run.refused + run.broken == 600
    assert np.nanmin(run.waits) >= 0
    if policy == "counterpoint":
        assert run.refused > 0
        assert np.nanmax(run.waits) <= 30.0
    else:
        assert run.refused == run.broken == 0


@pytest.mark.parametrize("name", ORDERED)
def test_rules_for_many_slots_start_all_calls_too(name: str) -> None:
    settings = replace(SMALL, calls=3000, slots=20, experts=30, max_wait_s=None, zipf=1.0)
    run = play_policy(settings, name, settings.trace(0))
    assert np.isfinite(run.waits).all()


def test_first_in_first_out_starts_calls_in_order_of_arrival() -> None:
    trace = replace(SMALL, calls=300).trace(0)
    for scheduler in (Scheduler(FirstInFirstOut()), Ordered(ORDERED["fifo"]())):
        run = simulate(trace, made(scheduler, slots=2, engines=8, lanes=8, swap_s=5.0), 5.0)
        assert (np.diff(trace.arrivals + run.waits) >= -1e-9).all()


DATA = os.environ.get("COUNTERPOINT_BENCH_DATA")


@pytest.mark.skipif(DATA is None, reason="COUNTERPOINT_BENCH_DATA names no folder with traces")
@pytest.mark.parametrize(("zipf", "ratio"), [(0.0, 0.85), (1.0, 0.75)])
def test_on_a_recorded_trace_calls_wait_less_than_under_llama_swap(zipf: float, ratio: float) -> None:
    settings = Settings(str(Path(DATA or "") / "azure_llm_conv.csv"), zipf=zipf, load=0.7)
    for seed in (0, 1):
        ours, theirs = play(settings, "counterpoint", seed), play(settings, "llama-swap", seed)
        assert ours is not None
        assert theirs is not None
        assert ours.wait_p95_s < ratio * theirs.wait_p95_s  # type: ignore[operator]
        assert ours.wait_mean_s < theirs.wait_mean_s  # type: ignore[operator]


@pytest.mark.skipif(DATA is None, reason="COUNTERPOINT_BENCH_DATA names no folder with traces")
@pytest.mark.parametrize("zipf", [0.0, 1.0])
def test_on_a_recorded_trace_what_is_accepted_starts_in_time(zipf: float) -> None:
    settings = Settings(str(Path(DATA or "") / "azure_llm_conv.csv"), zipf=zipf, load=0.7, max_wait_s=60.0)
    for seed in (0, 1):
        ours = play(settings, "counterpoint", seed)
        assert ours is not None
        assert ours.late == 0
        assert ours.broken < 0.02
        assert ours.refused < 0.35
