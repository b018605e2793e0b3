"""Measure aggregators on the demo's real experts and write a section of docs/aggregation.md.

Sampling the router's first choice as often as the tokens of a mixture allow is the control of every aggregator that asks an LLM.

Run: python -m benchmarks.aggregation_live [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from aggregator import Aggregator, make_aggregator
from aggregator.learned import Learned
from benchmarks.page import DOCS, write_section
from data.scores import read_scores, rows_of
from data.skills import generate
from data.statistics import Interval
from router import Router, load_router
from serving.combiner import examples_of, experts_in, scores_out_of_fold
from serving.config import expert_specs
from serving.demo import DISJOINT, SCORES, demo_config
from serving.evaluation.aggregation import Kind, Outcome, PoolOnce, Tick, gaps, measure_kinds, measure_replayed, systems_of
from serving.evaluation.ranking import rank_experts
from serving.show import progress_bars

PAGE = "aggregation.md"
RESULTS = Path(__file__).parent / "results" / "aggregation_live.json"
PER_FAMILY = 4
"""Test questions of each of the eleven families."""
RANKED = 6
"""Tune questions of each family, from which the experts are ranked as aggregators."""
TOLERANCE = 0.15
"""How far the tokens of equal spending may lie apart."""
MIXTURES: tuple[Kind, ...] = (
    ("best", {"kind": "best"}),
    ("vote", {"kind": "vote"}),
    ("weighted", {"kind": "weighted"}),
    ("fuse", {"kind": "fuse"}),
    ("layers 2", {"kind": "layers", "layers": 2}),
    ("layers 3", {"kind": "layers", "layers": 3}),
    ("judge", {"kind": "judge"}),
)
DEBATE: Kind = ("debate", {"kind": "debate"})
DEBATED = 22
"""Questions that are debated, the first ones: two arguments of up to 400 tokens each take longer than all else together."""
MATCHED = (("self", "fuse"), ("self", "layers 3"), ("self-seq", "layers 3"))
"""Kinds that sample one expert, and the mixture whose tokens they are given."""

Measure = Callable[[Sequence[Kind]], Awaitable[list[Outcome]]]


async def matched(measure: Measure, kind: str, target: float) -> tuple[list[Outcome], float]:
    """Find the number of samples that takes as many tokens as wanted, by measuring and adjusting.

    Args:
        measure: Measures kinds.
        kind: `self` or `self-seq`.
        target: Mean tokens of a question.

    Returns:
        The outcomes of the number that came nearest, and its tokens over the target.
    """
    tried: dict[int, tuple[float, list[Outcome]]] = {}
    samples = 4
    while samples not in tried:
        rows = await measure([(f"{kind} of {samples}", {"kind": kind, "samples": samples})])
        tried[samples] = float(systems_of(rows)[0].tokens.mean()), rows
        spent = tried[samples][0]
        if abs(spent / target - 1) <= TOLERANCE / 3:
            break
        near = sorted(tried, key=lambda n: abs(tried[n][0] - target))[:2]
        slope = (tried[near[0]][0] - tried[near[1]][0]) / (near[0] - near[1]) if len(near) > 1 else spent / samples
        samples = max(2, near[0] + round((target - tried[near[0]][0]) / slope))
    best = min(tried, key=lambda n: abs(tried[n][0] - target))
    return tried[best][1], tried[best][0] / target


async def live(folder: Path, tick: Tick) -> dict[str, Any]:
    """Measure all kinds on the real experts, and rank the experts as aggregators."""
    config, tasks = demo_config(), generate("test", PER_FAMILY)
    table, experts = read_scores(SCORES), [expert.name for expert in config.experts]
    pool, resumed = PoolOnce(expert_specs(config), config.pool.build()), (folder / "kinds.jsonl").exists()
    async with pool:
        began = time.monotonic()

        async def measure(kinds: Sequence[Kind]) -> list[Outcome]:
            return await measure_kinds(config, tasks, kinds, folder / "kinds.jsonl", tick, pool=pool)

        rows = await measure(MIXTURES)
        spent = {system.name: float(system.tokens.mean()) for system in systems_of(rows)}
        controls: dict[str, dict[str, Any]] = {}
        for kind, mixture in MATCHED:
            found, ratio = await matched(measure, kind, spent[mixture])
            controls[f"{kind} / {mixture}"] = {"name": found[0].kind, "tokens_over_target": round(ratio, 3)}
            rows += [row for row in found if row.kind not in {one.kind for one in rows}]
        systems, seconds = systems_of(rows), time.monotonic() - began
        ranking = await rank_experts(pool, generate("tune", RANKED), table, experts, folder / "ranking.jsonl", tick)
        ranked = time.monotonic() - began - seconds
        debated = await measure_kinds(config, tasks[:DEBATED], [DEBATE], folder / "kinds.jsonl", tick, pool=pool)
        took = time.monotonic() - began - seconds - ranked
        loads = pool.stats.loads
    debate = systems_of([*rows, *debated])
    against = ["vote", *dict.fromkeys(controls[f"self / {mixture}"]["name"] for mixture in ("fuse", "layers 3"))]
    return {
        "n": len(tasks),
        "systems": [system.row() for system in systems],
        "controls": controls,
        "gaps": {name: {other: _triple(gap) for other, gap in gaps(systems, name).items()} for name in against},
        "debate": {
            "n": len(debate[0].right),
            "systems": [system.row() for system in debate],
            "gaps": {name: _triple(_turned(gap)) for name, gap in gaps(debate, "debate").items()},
        },
        "categories": by_category(rows),
        "degraded": {kind: sum(row.degraded for row in rows if row.kind == kind) for kind in dict.fromkeys(row.kind for row in rows)},
        "ranking": ranking.json(),
        "loads": loads,
        "resumed": resumed,
        "seconds": {"kinds": round(seconds, 1), "ranking": round(ranked, 1), "debate": round(took, 1)},
    }


def by_category(rows: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """Accuracy of each kind on each family."""
    table = pd.DataFrame([(row.kind, row.category, row.right) for row in rows], columns=["kind", "category", "right"])
    return {
        str(kind): {str(name): round(float(part["right"].mean()), 3) for name, part in own.groupby("category")}
        for kind, own in table.groupby("kind", sort=False)
    }


async def replayed(tick: Tick) -> list[dict[str, Any]]:
    """Fit the trained combiner on the demo's recorded answers, and compare it on those of the test split."""
    table, router = read_scores(SCORES), load_router(Path(str(demo_config().router.path)))  # type: ignore[union-attr]
    experts = experts_in(table, router)
    table = table[table["expert"].isin(experts)].reset_index(drop=True)
    combiner = fitted(rows_of(table, ["train", "tune"]), router, experts, tick)
    kinds: list[tuple[str, Aggregator]] = [("learned", combiner), *((kind, make_aggregator(kind)) for kind in ("vote", "weighted", "best"))]
    made = []
    for k in (3, len(experts)):
        systems = systems_of(await measure_replayed(rows_of(table, ["test"]), router, kinds, k, tick))
        learned = systems[0]
        lead = {name: _triple(_turned(gap)) for name, gap in gaps(systems, "learned").items()}
        made.append({"k": k, "n": len(learned.right), "systems": [system.row() for system in systems], "learned_less": lead})
    return made


def fitted(train: pd.DataFrame, router: Router, experts: Sequence[str], tick: Tick) -> Learned:
    """The combiner, fitted on what a router out of fold would have asked."""
    queries, scores = scores_out_of_fold(router, train, experts, tick)
    examples = examples_of(train, queries, experts, scores, None, tick)
    return Learned.fit(examples, tick=lambda done, total: tick("fitting the combiner", done, total))


def _turned(gap: Interval) -> Interval:
    return Interval(-gap.mean, -gap.high, -gap.low)


def _triple(gap: Interval) -> list[float]:
    return [round(value, 4) for value in (gap.mean, gap.low, gap.high)]


def _points(triple: Sequence[float]) -> str:
    mean, low, high = (round(100 * value, 1) + 0.0 for value in triple)  # no -0.0
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]{', a tie' if low <= 0 <= high else ''}"


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    told, controls = results["live"], results["live"]["controls"]
    first, second = (controls[f"self / {name}"]["name"] for name in ("fuse", "layers 3"))
    lines = [
        f"| aggregator | accuracy | 95% interval | calls | tokens | less vote | less {first} | less {second} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in told["systems"]:
        name = row["name"]
        less = [_points(told["gaps"][base][name]) if name in told["gaps"][base] else "" for base in ("vote", first, second)]
        accuracy = f"{100 * row['accuracy']:.1f} | {100 * row['low']:.1f} to {100 * row['high']:.1f}"
        lines.append(f"| {name} | {accuracy} | {row['mean_calls']:.2f} | {row['tokens']:.0f} | {' | '.join(less)} |")
    lines += [
        "",
        f"{told['n']} test questions of eleven families, three experts a question, accuracy and differences in points, tokens a question, "
        f"paired 95% intervals. {DISJOINT}",
        "",
        "The controls sample the router's first choice and write one answer from the samples; their number was adjusted until the "
        "tokens came to those of a mixture:",
        "",
        *(f"- {pair}: `{one['name']}`, {one['tokens_over_target']:.2f} of its tokens" for pair, one in controls.items()),
    ]
    debate, ranking = told["debate"], told["ranking"]
    row = next(row for row in debate["systems"] if row["name"] == "debate")
    accuracy = f"{100 * row['accuracy']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
    lines += [
        "",
        f"Debate on the first {debate['n']} of the questions: {accuracy}, "
        f"{row['mean_calls']:.2f} calls, {row['tokens']:.0f} tokens. Debate less others on these:",
        "",
        *(f"- {name}: {_points(gap)}" for name, gap in debate["gaps"].items() if name in ("vote", "best", "judge", first)),
    ]
    lines += ["", f"The experts as aggregators: from a right and two wrong recorded answers to {ranking['n']} tune questions, "
              f"the share of right answers; copying at random gives {100 * ranking['chance']:.1f}.", ""]  # fmt: skip
    lines += [
        "| expert | accuracy | 95% interval | behind the best | copies one | of these the first | alone | tokens |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in ranking["experts"]:
        accuracy = f"{100 * row['accuracy']:.1f} | {100 * row['low']:.1f} to {100 * row['high']:.1f} | {_points(row['behind'])}"
        share = "" if row["copies_first"] is None else f"{100 * row['copies_first']:.0f}"
        lines.append(
            f"| {row['expert']} | {accuracy} | {100 * row['copies']:.0f} | {share} | {100 * row['alone']:.1f} | {row['tokens']:.0f} |"
        )
    lines += ["", f"Tied with the best: {', '.join(ranking['tied'])}.", ""]
    lines += ["The trained combiner, fitted on the recorded answers of train and tune, on those of test:", ""]
    lines += ["| experts asked | aggregator | accuracy | 95% interval | learned less it |", "|---|---|---|---|---|"]
    for part in results["replayed"]:
        for row in part["systems"]:
            lead = _points(part["learned_less"][row["name"]]) if row["name"] in part["learned_less"] else ""
            accuracy = f"{100 * row['accuracy']:.1f} | {100 * row['low']:.1f} to {100 * row['high']:.1f}"
            lines.append(f"| {part['k']} | {row['name']} | {accuracy} | {lead} |")
    seconds = told["seconds"]
    parts = ("kinds", "ranking", "debate")
    spent = ", ".join(f"{seconds[part]:.0f} s for the {part}" for part in parts) + f", {told['loads']} model loads"
    took = "an interrupted run that was gone on with, so its seconds say nothing" if told["resumed"] else spent
    lines += ["", f"{results['replayed'][0]['n']} test questions. Measured on {platform.machine()}, 2 cores, no GPU: {took}."]
    return "\n".join(lines)


def main() -> None:
    """Measure, keep the results, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="Where rows go as they come; a run that was interrupted goes on from there.")
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp())
    print(f"rows go to {folder}", flush=True)
    with progress_bars() as tick:
        results = {"live": asyncio.run(live(folder, tick)), "replayed": asyncio.run(replayed(tick))}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if (DOCS / PAGE).is_file():
        write_section("live", "python -m benchmarks.aggregation_live", page(results), PAGE)
    print(page(results))


if __name__ == "__main__":
    main()
