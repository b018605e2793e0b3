"""Measure the scheduler online: replayed arrivals, against llama-swap's rule and against schedules that know the trace.

Run: COUNTERPOINT_BENCH_DATA=FOLDER python -m benchmarks.pool_online [--seeds N]
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.page import write_section
from experts.comparison import Figures, Settings, bounds, mean_figures, play

DRAWS = ((0.0, "uniform"), (1.0, "Zipf 1"))
LOADS = (0.3, 0.5, 0.7)


def one(job: tuple[Settings, str, int]) -> Figures | None:
    """Play one trace by one policy."""
    return play(*job)


def limit(job: tuple[Settings, int]) -> tuple[float | None, float | None]:
    """What no schedule can undercut on one trace."""
    return bounds(*job)


def ratio(ours: list[float], theirs: list[float]) -> str:
    """The ratio of two means over the same seeds, and its 95% interval."""
    pairs = np.array([ours, theirs]).T
    low, high = np.percentile(
        [np.divide(*pairs[rows].mean(axis=0)) for rows in np.random.default_rng(0).integers(0, len(pairs), (2000, len(pairs)))], [2.5, 97.5]
    )
    return f"{np.mean(ours) / np.mean(theirs):.2f} [{low:.2f}, {high:.2f}]"


def unbounded(base: Settings, seeds: range, pool: ProcessPoolExecutor) -> list[str]:
    """Waits where every call is accepted."""
    rows = [
        "| draw | load | prefetch | llama-swap: p95 s | ours: p95 s | ratio of p95 | ratio of means | swaps, ours and theirs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for zipf, name in DRAWS:
        for load in LOADS:
            settings = replace(base, zipf=zipf, load=load)
            theirs = [each for each in pool.map(one, [(settings, "llama-swap", seed) for seed in seeds]) if each]
            for prefetch in (0.0, 0.7):
                ours = [each for each in pool.map(one, [(replace(settings, prefetch=prefetch), "counterpoint", s) for s in seeds]) if each]
                a, b = mean_figures(ours), mean_figures(theirs)
                p95 = ratio([each.wait_p95_s or 0.0 for each in ours], [each.wait_p95_s or 0.0 for each in theirs])
                mean = ratio([each.wait_mean_s or 0.0 for each in ours], [each.wait_mean_s or 0.0 for each in theirs])
                rows.append(
                    f"| {name} | {load} | {prefetch:.0%} | {b.wait_p95_s:.1f} | {a.wait_p95_s:.1f} | {p95} | {mean} "
                    f"| {a.swaps:.0f}, {b.swaps:.0f} |"
                )
    return rows


def known(base: Settings, seeds: range, pool: ProcessPoolExecutor) -> list[str]:
    """What waits are where a search knows the whole trace and all calls are accepted."""
    rows = ["| draw | ours: mean wait s | knows the trace: mean wait s | ours against it |", "|---|---|---|---|"]
    for zipf, draw in DRAWS:
        settings = replace(base, zipf=zipf, load=0.7)
        waits = {
            policy: [each.wait_mean_s or 0.0 for each in pool.map(one, [(settings, policy, seed) for seed in seeds]) if each]
            for policy in ("counterpoint", "clairvoyant")
        }
        ours, theirs = waits.values()
        rows.append(f"| {draw} | {np.mean(ours):.1f} | {np.mean(theirs):.1f} | {ratio(ours, theirs)} |")
    return rows


def bounded(base: Settings, seeds: range, pool: ProcessPoolExecutor) -> list[str]:
    """What a bound of 60 seconds costs."""
    rows = [
        "| draw | schedule | refused | broken promises | late starts | largest wait s | swaps |",
        "|---|---|---|---|---|---|---|",
    ]
    names = {
        "counterpoint": "ours",
        "clairvoyant": "knows the trace, refuses little",
        "clairvoyant_swaps": "knows the trace, few swaps at our share refused",
    }
    shares: dict[str, list[float]] = {}
    for zipf, draw in DRAWS:
        settings = replace(base, zipf=zipf, load=0.7, max_wait_s=60.0)
        for policy, name in names.items():
            runs = [each for each in pool.map(one, [(settings, policy, seed) for seed in seeds]) if each]
            f = mean_figures(runs)
            swaps = [each.swaps for each in runs]
            shares.setdefault(policy, []).append(f.refused)
            rows.append(
                f"| {draw} | {name} | {f.refused:.1%} | {f.broken:.2%} | {f.late:.1%} | {f.wait_max_s:.1f} | {np.mean(swaps):.0f}"
                + (f" (found for {len(runs)} of {len(seeds)})" if len(runs) < len(seeds) else "")
                + " |"
            )
        floors = list(pool.map(limit, [(settings, seed) for seed in seeds]))
        rows.append(
            f"| {draw} | no schedule can undercut | {np.mean([r or 0.0 for r, _ in floors]):.1%} | - | - | - "
            f"| {np.mean([s or 0.0 for _, s in floors]):.0f} at our share refused |"
        )
    pairs = " and ".join(
        f"{ours:.1%} against {theirs:.1%}" for ours, theirs in zip(shares["counterpoint"], shares["clairvoyant"], strict=True)
    )
    closing = (
        f"Here we lose: ours refuses {pairs} of a schedule that knows every arrival and every length. The search is a beam, so the best "
        "schedule may refuse less still."
    )
    return [*rows, "", closing]


def main() -> None:
    """Measure and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    seeds = range(parser.parse_args().seeds)
    folder = os.environ.get("COUNTERPOINT_BENCH_DATA")
    if not folder:
        sys.exit("COUNTERPOINT_BENCH_DATA must name the folder with azure_llm_conv.csv")
    base = Settings(str(Path(folder) / "azure_llm_conv.csv"))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        free, best, kept = unbounded(base, seeds, pool), known(base, seeds, pool), bounded(base, seeds, pool)
    text = "\n".join(
        [
            f"The first {base.calls} calls of Azure's conversation trace of November 2023, {base.experts} experts, {base.slots} slots, "
            f"{base.batch} calls at once in a slot, {base.call_s} s and {1000 * base.token_s:.0f} ms a token for each call, "
            f"{base.swap_s:.0f} s a swap; experts are drawn, arrivals scaled to the load. Means of {len(seeds)} seeds; intervals "
            "are bootstrapped over them. "
            "llama-swap has no prefetch; ours hides up to 70% of a swap behind the last calls where the column says so.",
            "",
            *free,
            "",
            "At load 0.7 without prefetch, beside a search that knows the whole trace:",
            "",
            *best,
            "",
            "With a bound of 60 s at load 0.7. A promise that breaks ends the call at its deadline; a late start would be one after it.",
            "",
            *kept,
        ]
    )
    write_section("online", f"python -m benchmarks.pool_online --seeds {len(seeds)}", text, "pool.md")


if __name__ == "__main__":
    main()
