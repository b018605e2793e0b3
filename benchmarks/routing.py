"""Write the tables of docs/routing.md from recorded answers of real LLMs.

The recorded tables lie in the folder that the environment variable COUNTERPOINT_BENCH_DATA names. Run all by
`python -m benchmarks.routing`, or some: python -m benchmarks.routing bars folds kinds encoders speed scale
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.page import write_section
from data.encoders import MINILM, MINILM_INT8, get_encoder
from data.encoders.features import Features
from data.records import Message, Request
from data.scores import check_scores, read_scores
from data.statistics import Interval, paired
from router import KINDS, BestSingleRouter, EmbeddingRouter, FixedK, metrics
from router.crossfit import fold_of
from serving.evaluation.routing import Bench, Measured

SEEDS = (0, 1, 2)
IN_DISTRIBUTION = ("mmlu", "gsm8k", "cmmlu", "arc_c", "humaneval")
OUT_OF_DISTRIBUTION = {"prealgebra": "gsm8k", "mbpp": "humaneval", "ceval": "cmmlu"}
TRUE_TASK = OUT_OF_DISTRIBUTION | {"humaneval_js": "humaneval"}
"""Which task of the train split each task out of distribution is like."""


def bench(name: str) -> Bench:
    """A recorded table: fitted on train and tune, measured on test, and out of distribution where there is such."""
    table = read_scores(Path(os.environ["COUNTERPOINT_BENCH_DATA"]) / f"{name}.parquet").drop(columns=["response"], errors="ignore")
    return Bench.of(table, None, [split for split in ("test", "ood") if split in set(table["split"])])


def by_task(measured: Measured, tasks: Sequence[str]) -> float:
    """Mean over tasks of the accuracy on each, in percent."""
    accuracy = measured.by_category()
    return 100 * float(np.mean([accuracy[task] for task in tasks]))


def by_task_versus(a: Measured, b: Measured, tasks: Sequence[str], resamples: int = 2000) -> Interval:
    """The difference of two means over tasks, paired, each task's questions drawn anew by themselves."""
    rng, names = np.random.default_rng(0), np.array(a.categories, dtype=object)
    gaps = [(a.right - b.right)[names == task] for task in tasks]
    drawn = [np.mean([gap[rng.integers(0, len(gap), len(gap))].mean() for gap in gaps]) for _ in range(resamples)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(np.mean([gap.mean() for gap in gaps])), float(low), float(high))


def points(interval: Interval) -> str:
    """A difference in percent points."""
    return f"{100 * interval.mean:+.2f} [{100 * interval.low:+.2f}, {100 * interval.high:+.2f}]{', a tie' if interval.tie else ''}"


def average(runs: Sequence[Measured]) -> Measured:
    """The mean over seeds of what the first choice got on each question; the rest is the first seed's."""
    first = runs[0]
    right = np.mean([run.right for run in runs], axis=0)
    return Measured(first.name, right, first.categories, first.predicted, first.truth, first.costs, first.latency_ms, first.fit_s)


def true_task(data: Bench, measured: Measured) -> Measured:
    """The expert that was best in train on each question's true task, for every question."""
    assert data.train is not None
    means = data.train.groupby(["category", "expert"], sort=False)["score"].mean().unstack()
    experts = list(dict.fromkeys(data.test["expert"]))
    best = {task: experts.index(str(row.idxmax())) for task, row in means.iterrows()}
    picks = [best[TRUE_TASK.get(task, task)] for task in measured.categories]
    right = measured.truth[np.arange(len(picks)), picks]
    return Measured("true task", right, measured.categories, measured.predicted, measured.truth, None, 0.0)


def bars() -> str:
    """The default on the three tables, mean of three seeds, against the best published and simple baselines."""
    lines = ["| table | measure | default | best published or baseline | difference, paired |", "|---|---|---|---|---|"]
    data = bench("routerdc")
    runs = [data.fit("stack", {"seed": seed}) for seed in SEEDS]
    mean, lookup = average(runs), true_task(data, runs[0])
    for what, tasks, published in (("in distribution", IN_DISTRIBUTION, 58.54), ("out of distribution", tuple(OUT_OF_DISTRIBUTION), 45.85)):
        ours, theirs = by_task(mean, tasks), by_task(lookup, tasks)
        gap = points(by_task_versus(mean, lookup, tasks))
        known = f"RouterDC {published}; lookup by true task {theirs:.2f}"
        lines.append(f"| routerdc | mean over tasks, {what} | {ours:.2f} | {known} | {gap} to the lookup |")
    pooled = f"lookup by true task {100 * lookup.accuracy.mean:.2f}"
    lines.append(f"| routerdc | all test and ood questions | {100 * mean.accuracy.mean:.2f} | {pooled} | {points(mean.versus(lookup))} |")
    lines.append(f"| routerdc | calibration error | {100 * np.mean([run.ece for run in runs]):.2f} | | |")
    data = bench("mmlu_pro_small")
    runs, base = [data.fit("stack", {"seed": seed}) for seed in SEEDS], data.baselines()
    mean = average(runs)
    for name in ("best-single", "category-oracle"):
        other = base[name]
        ours, theirs = 100 * mean.accuracy.mean, 100 * other.accuracy.mean
        lines.append(f"| mmlu_pro_small | top-1 on test | {ours:.2f} | {name} {theirs:.2f} | {points(mean.versus(other))} |")
    lines.append(f"| mmlu_pro_small | calibration error | {100 * np.mean([run.ece for run in runs]):.2f} | | |")
    data = bench("routellm")
    runs = [data.fit("stack", {"seed": seed}) for seed in SEEDS]
    length = np.array([len(text) for text in data.test.drop_duplicates("query_id")["query"]], dtype=float)
    for what, published in (("mmlu", 0.603), ("gsm8k", 0.622)):
        rows = np.array([name.startswith(what) for name in runs[0].categories])
        strong, weak = metrics.strong_of(runs[0].truth)
        pair = runs[0].truth[rows, strong], runs[0].truth[rows, weak]
        gains = [(run.predicted[:, strong] - run.predicted[:, weak])[rows] for run in runs]
        apgr = np.mean([metrics.apgr(gain, *pair) for gain in gains])
        alone = metrics.apgr(length[rows], *pair)
        gap = metrics.apgr_versus(np.mean(gains, axis=0), length[rows], *pair)
        difference = f"{gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]{', a tie' if gap.tie else ''}"
        lines.append(f"| routellm | APGR, {what} | {apgr:.3f} | RouteLLM {published}; prompt length alone {alone:.3f} | {difference} |")
        cpt = [f"{100 * np.mean([metrics.cpt(gain, *pair, share) for gain in gains]):.0f}%" for share in (0.5, 0.8)]
        alone_cpt = [f"{100 * metrics.cpt(length[rows], *pair, share):.0f}%" for share in (0.5, 0.8)]
        lines.append(f"| routellm | CPT(50%), CPT(80%), {what} | {', '.join(cpt)} | prompt length alone {', '.join(alone_cpt)} | |")
    lines.append(f"| routellm | calibration error | {100 * np.mean([run.ece for run in runs]):.2f} | | |")
    return "\n".join(lines)


def kinds(encoder: str = "static+style") -> str:
    """Every kind on the three tables, with one encoder."""
    names = [name for name, kind in KINDS.items() if issubclass(kind, EmbeddingRouter)]
    columns: dict[str, dict[str, str]] = {}
    heads = ["mmlu_pro_small", "routerdc in", "routerdc out", "routerdc all", "routellm MMLU", "routellm GSM8K", "calib. error", "ms"]
    for table in ("mmlu_pro_small", "routerdc", "routellm"):
        data = bench(table)
        found = {name: data.fit(name, {"encoder": encoder}) for name in names} | data.baselines()
        best = max((found[name] for name in names), key=lambda each: each.accuracy.mean)
        for name, each in found.items():
            cells = columns.setdefault(name, {})
            accuracy = f"{100 * each.accuracy.mean:.2f}"
            if name in names and each is not best and each.versus(best).tie:
                accuracy += " ="
            if table == "mmlu_pro_small":
                cells["mmlu_pro_small"] = f"**{accuracy}**" if each is best else accuracy
                if name in names:
                    cells["calib. error"], cells["ms"] = f"{100 * each.ece:.1f}", f"{each.latency_ms:.2f}"
            elif table == "routerdc":
                cells["routerdc in"], cells["routerdc out"] = (
                    f"{by_task(each, t):.2f}" for t in (IN_DISTRIBUTION, tuple(OUT_OF_DISTRIBUTION))
                )
                cells["routerdc all"] = f"**{accuracy}**" if each is best else accuracy
            elif name in names:
                strong, weak = metrics.strong_of(each.truth)
                for what, head in (("mmlu", "routellm MMLU"), ("gsm8k", "routellm GSM8K")):
                    rows = np.array([category.startswith(what) for category in each.categories])
                    gain = (each.predicted[:, strong] - each.predicted[:, weak])[rows]
                    cells[head] = f"{metrics.apgr(gain, each.truth[rows, strong], each.truth[rows, weak]):.3f}"
    lines = ["| router | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(cells.get(head, "") for head in heads) + " |" for name, cells in columns.items()]
    return "\n".join(lines)


def folds() -> str:
    """The default and its baselines in cross-validation on train and tune, where nothing was chosen by looking at test."""
    lines = ["| mmlu_pro_small, train and tune in five folds | accuracy | default against it |", "|---|---|---|"]
    table = bench("mmlu_pro_small").train
    assert table is not None
    fold = dict(zip(table["query_id"].unique(), fold_of(table["query_id"].nunique(), seed=11), strict=True))
    part = table["query_id"].map(fold)
    right: dict[str, list[np.ndarray]] = {}
    for held in range(5):
        data = Bench(table[part == held].reset_index(drop=True), table[part != held].reset_index(drop=True))
        single = data.measure("best-single", BestSingleRouter().fit(table))
        for each in (data.fit("stack", {}), single, data.baselines()["category-oracle"]):
            right.setdefault(each.name, []).append(each.right)
    ours = np.concatenate(right["stack"])
    for name, parts in right.items():
        other = np.concatenate(parts)
        gap = "" if name == "stack" else points(paired(ours, other))
        lines.append(f"| {name} | {100 * other.mean():.2f} | {gap} |")
    return "\n".join(lines)


ENCODERS = ("static+style", "static", "style", "tfidf+style", f"{MINILM}+style", f"{MINILM_INT8}+style")


def encoders(names: Sequence[str] = ENCODERS) -> str:
    """The default kind with each encoder; those of transformers take twenty minutes each on one core."""
    lines = [
        "| features | mmlu_pro_small | against static+style | routerdc in | routerdc out | routellm MMLU | routellm GSM8K | ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = {name: bench(name) for name in ("mmlu_pro_small", "routerdc", "routellm")}
    first: Measured | None = None
    for name in names:
        mmlu = rows["mmlu_pro_small"].fit("stack", {"encoder": name})
        first = first or mmlu
        dc, pair = rows["routerdc"].fit("stack", {"encoder": name}), rows["routellm"].fit("stack", {"encoder": name})
        gains = []
        for what in ("mmlu", "gsm8k"):
            at = np.array([category.startswith(what) for category in pair.categories])
            strong, weak = metrics.strong_of(pair.truth)
            gain = (pair.predicted[:, strong] - pair.predicted[:, weak])[at]
            gains.append(f"{metrics.apgr(gain, pair.truth[at, strong], pair.truth[at, weak]):.3f}")
        cells = [f"{100 * mmlu.accuracy.mean:.2f}", "" if mmlu is first else points(mmlu.versus(first))]
        cells += [f"{by_task(dc, IN_DISTRIBUTION):.2f}", f"{by_task(dc, tuple(OUT_OF_DISTRIBUTION)):.2f}", *gains, f"{mmlu.latency_ms:.2f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def speed() -> str:
    """Milliseconds of a decision, and decisions a second in batches."""
    data = bench("mmlu_pro_small")
    assert data.train is not None
    texts = list(data.test.drop_duplicates("query_id")["query"])[:1000]
    lines = ["| what, one thread, one question at a time | median ms | 95th percentile |", "|---|---|---|"]
    policy = FixedK(3)
    router = KINDS["stack"]().fit(data.train)
    encode = Features("static+style").fit(texts)

    def decide(text: str) -> object:
        scores = dict(zip(router.experts_, router.scores([text])[0].tolist(), strict=True))
        return policy.choose(Request("r", (Message("user", text),)), scores)

    steps: list[tuple[str, Callable[[str], object], str]] = [
        ("the encoder alone: static+style", lambda text: encode([text]), " "),
        ("a whole decision: text in, route out", decide, "  "),
    ]
    medians = []
    for what, step, end in steps:
        taken = metrics.route_latency_ms(step, [text + end for text in texts], warm=50)  # its own end: no vector is remembered
        medians.append(float(np.median(taken)))
        lines.append(f"| {what} | {medians[-1]:.3f} | {np.percentile(taken, 95):.3f} |")
    lines.insert(4, f"| our part: the difference of the medians | {medians[1] - medians[0]:.3f} | |")
    lines.append("| for comparison: the semantic-router package's own part (`benchmarks/semantic_router_speed.py`) | 0.177 | |")
    begin = time.perf_counter()
    router.scores([text + "   " for text in texts])
    lines.append(f"\n{len(texts) / (time.perf_counter() - begin):.0f} decisions a second in one batch on one core of two.")
    return "\n".join(lines)


def scale() -> str:
    """Fit and score on tables of 300 and 300,000 rows, of 2 and of 35 experts, a third of the cells missing."""
    lines = ["| rows | experts | questions | fit s | accuracy | best single | peak memory GiB |", "|---|---|---|---|---|---|---|"]
    rng = np.random.default_rng(0)
    words = [f"{stem}{end}" for stem in ("sum", "verb", "cell", "law", "atom", "king", "rate", "code") for end in ("", "s", "ing", "ed")]
    for rows, experts in ((300, 2), (300, 35), (300_000, 2), (300_000, 35)):
        n = round(1.5 * rows / experts)
        kind = rng.integers(0, 8, n)
        picks = rng.integers(0, 32, (n, 12))
        picks[:, :6] = kind[:, None] * 4 + picks[:, :6] % 4  # half of the words tell the kind
        queries = [f"{number} " + " ".join(words[at] for at in row) for number, row in enumerate(picks)]
        skill = rng.random((experts, 8)) * 0.6 + 0.2
        cells = np.flatnonzero(rng.random(n * experts) < 2 / 3)[:rows]
        question, expert = cells // experts, cells % experts
        table = pd.DataFrame({
            "query_id": question.astype(str),
            "query": np.array(queries, dtype=object)[question],
            "category": np.array([f"kind {k}" for k in kind], dtype=object)[question],
            "expert": np.array([f"expert-{e}" for e in range(experts)], dtype=object)[expert],
            "score": (rng.random(len(cells)) < skill[expert, kind[question]]).astype(float),
        })  # fmt: skip
        begin = time.perf_counter()
        data = Bench.of(check_scores(table), None, None)
        found = data.fit("stack", {})
        single = data.baselines()["best-single"].accuracy
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        counts = f"{len(table)} | {experts} | {table['query_id'].nunique()} | {found.fit_s:.0f}"
        lines.append(f"| {counts} | {100 * found.accuracy.mean:.1f} | {100 * single.mean:.1f} | {peak:.2f} |")
        print(lines[-1], f"{time.perf_counter() - begin:.0f} s", flush=True)
    return "\n".join(lines)


SECTIONS: dict[str, Callable[[], str]] = {
    "bars": bars,
    "folds": folds,
    "kinds": kinds,
    "encoders": encoders,
    "speed": speed,
    "scale": scale,
}


def main(names: Sequence[str]) -> None:
    """Measure and write the sections of these names, or all."""
    if unknown := [name for name in names if name not in SECTIONS]:
        raise SystemExit(f"no section is called {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    if "COUNTERPOINT_BENCH_DATA" not in os.environ and set(names or SECTIONS) - {"scale"}:
        raise SystemExit("COUNTERPOINT_BENCH_DATA must name the folder of the recorded tables")
    get_encoder()
    for name in names or SECTIONS:
        content = SECTIONS[name]()
        write_section(name, f"python -m benchmarks.routing {name}", content, "routing.md")
        print(content)


if __name__ == "__main__":
    main(sys.argv[1:])
