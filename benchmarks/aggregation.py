"""Measure combiners on recorded answers of eight real LLMs: by calls, by price, on other pools and subjects, and the choice among kinds.

Run: COUNTERPOINT_BENCH_DATA=FOLDER python -m benchmarks.aggregation [combiner|pools|auto|limits ...]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from aggregator import Aggregator, make_aggregator
from aggregator.auto import Auto, Choice, Measured, save_choice
from aggregator.base import Nobody
from aggregator.learned import Example, Fitted, Learned, Ranked
from benchmarks.page import write_section
from data.recorded import Recorded
from data.records import Route
from data.scores import pivot, read_scores, rows_of
from data.statistics import paired
from router import Router, load_router
from router.policy import route_of
from serving.cli_combiner import lines_of
from serving.combiner import examples_of, experts_in, scores_out_of_fold
from serving.config import ASSETS
from serving.evaluation.combining import measure
from serving.evaluation.systems import System
from serving.replay import aggregate_recorded, played
from serving.show import progress_bars

TABLE = "mmlu_pro_small.parquet"
ROUTER = ASSETS / "routers" / "open-8b"
COMBINER = ASSETS / "combiners" / "open-8b"
COMMAND = "python -m benchmarks.aggregation"
SUBJECTS = 4
"""Groups of subjects, each left out of what a combiner is fitted on."""
POOLS = {
    "without the two best": ("Meta-Llama-3.1-8B-Instruct", "mathstral-7B"),
    "without the three weakest": ("Qwen1.5-7B-Chat", "Yi-6b-Chat", "Mistral-7B-Instruct-v0.2"),
    "five of the middle and below": ("Meta-Llama-3.1-8B-Instruct", "mathstral-7B", "Phi-3-mini-4k-instruct"),
}
"""Smaller pools, by the experts that they lack."""


@dataclass
class Bench:
    """The recorded answers, and what is fitted on them once."""

    table: pd.DataFrame

    @cached_property
    def router(self) -> Router:
        """The router that ships, which was fitted on train and tune."""
        return load_router(ROUTER)

    @cached_property
    def experts(self) -> list[str]:
        """All eight."""
        return experts_in(self.table, self.router)

    @cached_property
    def test(self) -> pd.DataFrame:
        """The rows of test."""
        return rows_of(self.table, ["test"])

    @cached_property
    def known(self) -> pd.DataFrame:
        """The rows to learn from."""
        return rows_of(self.table, ["train", "tune"])

    @cached_property
    def foretold(self) -> tuple[pd.DataFrame, np.ndarray]:
        """The questions to learn from, and the router's scores out of fold."""
        with progress_bars() as tick:
            return scores_out_of_fold(self.router, self.known, self.experts, tick)

    @cached_property
    def tested(self) -> tuple[pd.DataFrame, np.ndarray]:
        """The test questions, and the router's scores."""
        queries, _ = pivot(self.test, self.experts)
        at = [self.router.experts_.index(name) for name in self.experts]
        return queries, self.router.scores(list(queries["query"]))[:, at]

    def examples(self, kept: np.ndarray | None = None, without: Sequence[str] = ()) -> list[Example]:
        """Lessons from some of the questions, and some of the experts."""
        queries, scores = self.foretold
        names = [name for name in self.experts if name not in without]
        at = [self.experts.index(name) for name in names]
        some = np.arange(len(queries)) if kept is None else np.flatnonzero(kept)
        part = queries.iloc[some].reset_index(drop=True)
        return examples_of(self.known, part, names, scores[np.ix_(some, at)], None, lambda *_: None)

    def routes(self, without: Sequence[str] = ()) -> list[Route]:
        """The route of each test question to all experts but some, the best first."""
        _, scores = self.tested
        names = [name for name in self.experts if name not in without]
        at = [self.experts.index(name) for name in names]
        made = []
        for row in scores[:, at]:
            predicted = dict(zip(names, row.tolist(), strict=True))
            made.append(route_of([names[i] for i in np.argsort(-row, kind="stable")], predicted))
        return made

    def play(self, aggregator: Aggregator, k: int, without: Sequence[str] = (), kept: np.ndarray | None = None) -> System:
        """What an aggregator makes of the first k answers to the test questions, or to some of them."""
        queries, _ = self.tested
        routes = self.routes(without)
        some = np.arange(len(queries)) if kept is None else np.flatnonzero(kept)
        part = queries.iloc[some].reset_index(drop=True)
        return asyncio.run(aggregate_recorded(aggregator.kind, part, [routes[at] for at in some], Recorded(self.test), k, aggregator))


def kept_in(combiner: Fitted, folder: Path) -> Fitted:
    """A combiner as it is once it was saved."""
    combiner.save(folder)
    return type(combiner)(str(folder))


def combiner(bench: Bench, folder: Path) -> str:
    """The curve over calls and prices, with and without what options look like, and the other kind."""
    lines: list[str] = []
    examples = bench.examples()
    for title, options in (("All evidence", True), ("Without the look of the options, which is knowledge of exams", False)):
        made = kept_in(Learned.fit(examples, options=options), folder / str(options))
        with progress_bars() as tick:
            counts, prices = asyncio.run(measure(bench.test, bench.router, made, tick))
        lines += [f"{title}:", "", *lines_of(counts, prices), ""]
    ranked = kept_in(Ranked.fit(examples, bag=1), folder / "rank")
    rows = ["The other kinds that ask no LLM:", "", "| kind | 3 calls | 8 calls |", "|---|---|---|"]
    for other in (*(make_aggregator(kind) for kind in ("best", "vote", "weighted", "medoid")), ranked):
        rows.append(f"| {other.kind} | {interval(bench.play(other, 3))} | {interval(bench.play(other, 8))} |")
    return "\n".join([*lines, *rows])


def interval(system: System) -> str:
    """Accuracy with its interval."""
    each = system.interval()
    return f"{100 * each.mean:.1f} [{100 * each.low:.1f}, {100 * each.high:.1f}]"


def difference(one: np.ndarray, other: np.ndarray) -> str:
    """A paired difference in points."""
    gap = paired(one, other)
    return f"{100 * gap.mean:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]" + (", a tie" if gap.tie else "")


def beside(head: str, ours: np.ndarray, vote: np.ndarray) -> str:
    """A row of a table: the majority, the combiner, the gain."""
    return f"{head} | {100 * vote.mean():.1f} | {100 * ours.mean():.1f} | {difference(ours, vote)} |"


def pools(bench: Bench, folder: Path) -> str:
    """The same on smaller pools, and on subjects that the combiner has never seen."""
    rows = ["| pool | calls | majority | combiner | gain, paired |", "|---|---|---|---|---|"]
    for number, (title, without) in enumerate(POOLS.items()):
        made = kept_in(Learned.fit(bench.examples(without=without)), folder / f"pool{number}")
        for k in (3, len(bench.experts) - len(without)):
            vote, ours = bench.play(make_aggregator("vote"), k, without), bench.play(made, k, without)
            rows.append(beside(f"| {title} | {k}", ours.right, vote.right))
    learn, check = bench.foretold[0]["category"].to_numpy(str), bench.tested[0]["category"].to_numpy(str)
    names = sorted(set(check))
    rows += ["", "| subjects left out | calls | majority | combiner fitted on the others | gain, paired |", "|---|---|---|---|---|"]
    right: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {3: [], 8: []}
    for group in range(SUBJECTS):
        out = names[group::SUBJECTS]
        made = kept_in(Learned.fit(bench.examples(~np.isin(learn, out))), folder / f"subjects{group}")
        for k, pairs in right.items():
            some = np.isin(check, out)
            pairs.append((bench.play(made, k, kept=some).right, bench.play(make_aggregator("vote"), k, kept=some).right))
    for k, pairs in right.items():
        ours, vote = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        rows.append(beside(f"| each of the {len(names)}, in {SUBJECTS} groups | {k}", ours, vote))
    return "\n".join(rows)


def auto(bench: Bench, folder: Path) -> str:
    """The choice among kinds by category: combiners fitted on train, the choice on tune, both measured on test."""
    queries, scores = bench.foretold
    split = bench.known.drop_duplicates("query_id").set_index("query_id")["split"].reindex(queries["query_id"]).to_numpy(str)
    lessons = bench.examples(split == "train")
    kinds: dict[str, Aggregator] = {kind: make_aggregator(kind) for kind in ("best", "vote", "weighted", "medoid")}
    kinds |= {"learned": kept_in(Learned.fit(lessons), folder / "learned"), "rank": kept_in(Ranked.fit(lessons, bag=1), folder / "rank")}
    tune = np.flatnonzero(split == "tune")
    some = queries.iloc[tune].reset_index(drop=True)
    recorded, routes = Recorded(bench.known), []
    for row in scores[tune]:
        predicted = dict(zip(bench.experts, row.tolist(), strict=True))
        routes.append(route_of([bench.experts[at] for at in np.argsort(-row, kind="stable")], predicted))
    seen = {name: asyncio.run(aggregate_recorded(name, some, routes, recorded, 3, made)) for name, made in kinds.items()}
    measured = Measured(
        list(some["query"]),
        scores[tune].max(axis=1),
        {name: system.right for name, system in seen.items()},
        {name: np.full(len(tune), 3.0) for name in seen},
    )
    settings = {name: {"kind": name} | ({"path": str(folder / name)} if name in ("learned", "rank") else {}) for name in kinds}
    save_choice(Choice.fit(measured, 0.0), settings, folder / "auto")
    chooser = Auto(str(folder / "auto"))
    ours = bench.play(chooser, 3)
    fixed = {name: bench.play(made, 3) for name, made in kinds.items()}
    category = bench.tested[0]["category"].to_numpy(str)
    rows = ["| category | questions | auto | best fixed kind | auto - it, paired |", "|---|---|---|---|---|"]
    for name in [*sorted(set(category)), "all"]:
        here = np.ones(len(category), dtype=bool) if name == "all" else category == name
        best = max(fixed, key=lambda kind: fixed[kind].right[here].mean())
        gap = difference(ours.right[here], fixed[best].right[here])
        rows.append(
            f"| {name} | {here.sum()} | {100 * ours.right[here].mean():.1f} | {100 * fixed[best].right[here].mean():.1f} ({best}) | {gap} |"
        )
    return "\n".join(rows)


def limits(bench: Bench, folder: Path) -> str:
    """What the combiner that ships cannot win: questions without a right answer, and right answers that stand alone."""
    made = Learned(str(COMBINER))
    queries, _ = bench.tested
    recorded, routes = Recorded(bench.test), bench.routes()
    rows = ["| calls | a right answer is there | combiner right where it is | majority right where it is | of those lost, one backer |"]
    rows += ["|---|---|---|---|---|"]
    for k in (2, 3, 5, 8):
        scores = [
            [recorded.score(query_id, name) for name in route.experts[:k]]
            for query_id, route in zip(queries["query_id"], routes, strict=True)
        ]
        backers = np.array([sum(score > 0.5 for score in row) for row in scores])
        ours, vote = bench.play(made, k).right, bench.play(make_aggregator("vote"), k).right
        there = backers > 0
        lost = there & (ours < 0.5)
        rows.append(
            f"| {k} | {100 * there.mean():.1f} | {100 * ours[there].mean():.1f} | {100 * vote[there].mean():.1f} "
            f"| {100 * (backers[lost] == 1).mean():.1f} |"
        )
    return "\n".join([*rows, "", f"Reading and scoring the answers to a question takes {timed(bench, made)}."])


def timed(bench: Bench, combiner: Fitted, questions: int = 300) -> str:
    """The median time of aggregating three and eight answers, on one core."""
    queries, _ = bench.tested
    rows, _ = played(queries.iloc[:questions], bench.routes()[:questions], Recorded(bench.test))
    told = []
    for k in (3, 8):
        spent = []
        for request, route, answers in rows:
            began = time.perf_counter()
            asyncio.run(combiner.aggregate(request, answers[:k], route, Nobody(combiner.kind)))
            spent.append(1000 * (time.perf_counter() - began))
        told.append(f"{np.median(spent):.1f} ms for {k} answers")
    return f"{' and '.join(told)} (median of {questions} questions, one core, with the start of an event loop)"


SECTIONS = {"combiner": combiner, "pools": pools, "auto": auto, "limits": limits}


def main() -> None:
    """Measure and write the sections."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], default=[])
    wanted = parser.parse_args().sections or list(SECTIONS)
    data = os.environ.get("COUNTERPOINT_BENCH_DATA")
    if not data:
        sys.exit(f"COUNTERPOINT_BENCH_DATA must name the folder with {TABLE}")
    bench = Bench(read_scores(Path(data) / TABLE))
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            text = SECTIONS[name](bench, Path(folder))
        print(text, flush=True)
        write_section(name, f"{COMMAND} {name}", text, page="aggregation.md")


if __name__ == "__main__":
    main()
