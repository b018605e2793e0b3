import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]

FIGURES = (
    "swaps",
    "swaps_per_call",
    "wait_mean_s",
    "wait_p50_s",
    "wait_p95_s",
    "wait_p99_s",
    "wait_max_s",
    "refused",
    "broken",
    "late",
    "busy",
)
NAMES = ["per-request", "fifo", "lru", "llama-swap", "counterpoint", "clairvoyant"]
FEW = ("--calls", 300, "--width", 1)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Forty calls, one every second and a half."""
    rows = [f"2023-11-16 18:{15 + at // 40}:{(at * 3 // 2) % 60:02d}.{5 * (at % 2)}00,100,{20 + 40 * (at % 5)}" for at in range(40)]
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]), encoding="utf-8")
    return path


# simulate


def test_all_policies_are_printed_as_json(run: Run, trace: Path) -> None:
    code, out, err = run("simulate", trace, *FEW, "--seeds", 2, "--max-wait-s", 40, "--json")
    assert code == 0
    report = json.loads(out)
    assert [row["name"] for row in report["policies"]] == NAMES
    for row in [*report["policies"], report["clairvoyant_swaps"]]:
        assert all(isinstance(row[name], float) for name in FIGURES if row["swaps"] is not None), row
    by_name = {row["name"]: row for row in report["policies"]}
    assert by_name["per-request"]["swaps"] == 300
    assert by_name["counterpoint"]["bound_s"] == 40
    assert by_name["counterpoint"]["late"] == by_name["clairvoyant"]["late"] == 0
    assert by_name["counterpoint"]["wait_max_s"] <= 40
    assert by_name["llama-swap"]["bound_s"] is None
    assert report["seeds"] == [0, 1]
    assert {"load": 0.7, "slots": 2, "experts": 8, "replicas": 1, "max_wait_s": 40.0}.items() <= report["settings"].items()
    assert 0 <= report["bounds"]["refused"] <= by_name["clairvoyant"]["refused"]
    if report["clairvoyant_swaps"]["swaps"] is not None:
        assert report["bounds"]["swaps"] <= report["clairvoyant_swaps"]["swaps"]
    assert "clairvoyant is left out" not in err


def test_seeds_in_processes_of_their_own_give_the_same_report(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from serving import cli_pool

    few = ("simulate", "bursts", "--calls", 400, "--seeds", 2, "--policies", "fifo,counterpoint", "--json")
    alone = run(*few)[1]
    monkeypatch.setattr(cli_pool, "SMALL", 0)
    assert run(*few)[1] == alone


def test_a_table_is_printed_for_people(run: Run) -> None:
    code, out, _ = run("simulate", "poisson", "--calls", 200, "--seeds", 1, "--policies", "llama-swap,counterpoint")
    assert code == 0
    assert "llama-swap" in out
    assert "clairvoyant" not in out


def test_a_figure_is_drawn(run: Run, tmp_path: Path) -> None:
    code, _, _ = run(
        "simulate", "poisson", "--calls", 200, "--seeds", 1, "--policies", "fifo,counterpoint", "--figure", tmp_path / "a" / "pool.png"
    )
    assert code == 0
    assert (tmp_path / "a" / "pool.png").stat().st_size > 1000
    assert (tmp_path / "a" / "pool.svg").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--slots", 17, "--experts", 20), "at most 16 slots"),
        (("--slots", 4, "--experts", 3), "knows no replicas"),
    ],
)
def test_the_clairvoyant_schedule_is_left_out_where_it_cannot_be_searched(run: Run, options: tuple[object, ...], said: str) -> None:
    code, out, err = run("simulate", "poisson", "--calls", 200, "--seeds", 1, *options, "--json")
    assert code == 0
    row = json.loads(out)["policies"][-1]
    assert row["name"] == "clairvoyant"
    assert row["swaps"] is row["wait_p95_s"] is None
    assert said in " ".join(err.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.csv",), "no trace at none.csv"),
        (("poisson", "--policies", "lru,best"), "no policy is called 'best'"),
        (("poisson", "--load", "0"), "--load must be a number above 0"),
        (("poisson", "--load", "nan"), "--load must be a number above 0"),
        (("poisson", "--zipf", "inf"), "--zipf must be a number"),
        (("poisson", "--max-wait-s", "-1"), "--max-wait-s must be a number above 0"),
        (("poisson", "--token-s", "0", "--call-s", "0"), "calls would take no time"),
        (("poisson", "--lengths", "none.parquet"), "no lengths at none.parquet"),
        (("poisson", "--slots", "0"), "slots"),
        (("poisson", "--calls", "many"), "calls"),
    ],
)
def test_what_cannot_be_simulated_is_one_line_and_code_2(run: Run, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = run("simulate", *arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert out == ""


def test_a_broken_trace_is_one_line_and_code_2(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,1,NaN\n")
    code, _, err = run("simulate", tmp_path / "bad.csv")
    assert code == 2
    assert err.strip().splitlines()[-1].endswith("row 1, column GeneratedTokens: wanted a number from 0, not 'NaN'")


# size


def test_the_answer_fits_and_one_slot_less_does_not(run: Run, trace: Path) -> None:
    code, out, _ = run("size", trace, "--calls", 400, "--max-wait-s", 30, "--call-s", 8, "--json")
    assert code == 0
    report = json.loads(out)
    tried = {row["slots"]: row["unserved"] for row in report["tried"]}
    assert report["slots"] > 1
    assert tried[report["slots"]] <= 0.01 < tried[report["slots"] - 1]


def test_more_calls_a_second_take_more_slots(run: Run) -> None:
    slots = [
        json.loads(run("size", "poisson", "--calls", 400, "--max-wait-s", 30, "--seeds", 1, "--rate", rate, "--json")[1])["slots"]
        for rate in (0.5, 8)
    ]
    assert slots[0] < slots[1]


def test_too_few_slots_are_told(run: Run) -> None:
    arguments = ("size", "poisson", "--calls", 200, "--max-wait-s", 10, "--seeds", 1, "--rate", 8, "--max-slots", 2)
    assert json.loads(run(*arguments, "--json")[1])["slots"] is None
    assert "2 slots are too few" in run(*arguments)[1]


def test_generated_arrivals_need_a_rate_to_be_sized(run: Run) -> None:
    code, _, err = run("size", "poisson", "--max-wait-s", 30)
    assert code == 2
    assert "give --rate" in err
