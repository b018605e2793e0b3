"""Measure what one or two lying experts of five do to a mixture, and what each defence wins back; writes docs/aggregation.md.

The recorded answers lie in the folder that the environment variable COUNTERPOINT_BENCH_DATA names. Run by
`python -m benchmarks.deception`; `--live 44` measures the mixture that ships instead, with one of its experts told to lie.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from aggregator import Aggregator, forms, make_aggregator
from aggregator.base import Nobody, is_usable
from aggregator.defences import Defended, History, defended, fit_history, narrowed
from aggregator.learned import Learned
from benchmarks.page import DOCS, write_section
from data.graders import grade
from data.recorded import Recorded
from data.records import Answer, Request, Route, Usage
from data.scores import experts_of, read_scores, rows_of
from data.skills import FAMILIES, Task, generate
from data.statistics import Interval
from router import KINDS, Router, load_router
from serving.config import ASSETS
from serving.evaluation.deception import Outcome, Played, Robustness, attacked, lies, most_trusted, outcome, played, wrong_number
from serving.replay import routes_of

ROUTER = ASSETS / "routers" / "open-8b"
COMBINER = ASSETS / "combiners" / "open-8b"
HELD = ("dropout", "dropout, every subset", "filter", "dropout-filter", "history, lied before", "history, honest before")
SLOW = ("dropout, every subset",)
"""Left out for combiners that read every text again in each subset."""
MEMORIES = (50, 100, 200, 400)

Counts = dict[str, tuple[int, int]]


class Told(Defended):
    """What could be had at most: somebody tells who lies, and is right."""

    kind = "told"

    def __init__(self, inner: Aggregator, liars: Sequence[str]) -> None:
        super().__init__(inner)
        self.liars = liars

    async def _defended(self, request: Request, answers: Sequence[Answer], route: Route, ask: Nobody) -> Answer:  # type: ignore[override]
        kept = [at for at, answer in enumerate(answers) if answer.expert not in self.liars and is_usable(answer)]
        return await self._of(kept or list(range(len(answers))), request, answers, route, ask)


@dataclass(frozen=True, slots=True)
class Attack:
    """Attacks that are averaged.

    Attributes:
        name: What they are called.
        liars: Who lies in each.
        share: On which share of the questions.
        collude: Whether they argue for the same.
    """

    name: str
    liars: Sequence[Sequence[str]]
    share: float = 1.0
    collude: bool = True

    def on(self, rows: Sequence[Played], seed: int = 0) -> list[list[Played]]:
        """The attacked questions, once for each set of liars."""
        return [attacked(rows, who, seed, share=self.share, collude=self.collude) for who in self.liars]


@dataclass(frozen=True, slots=True)
class Bench:
    """A pool of experts with the questions it is attacked on, and those by which its history is known."""

    experts: list[str]
    rows: list[Played]
    past: list[Played]

    def counts(self, liars: Sequence[str] = (), attack: Attack | None = None) -> Counts:
        """Who agreed with the others in train, where some lied there already."""
        share, collude = (1.0, True) if attack is None else (attack.share, attack.collude)
        past = attacked(self.past, liars, 1, share=share, collude=collude)
        return fit_history([(row.request.question, row.answers) for row in past])


async def watched(rows: Sequence[Played], history: History) -> Outcome:
    """Answer question after question, and let the history observe each once it is answered."""
    parts = []
    for row in rows:
        parts.append(await outcome([row], history))
        history.observe(row.answers, row.request.question)
    return Outcome(np.concatenate([part.right for part in parts]), np.concatenate([part.persuaded for part in parts]))


async def measure(bench: Bench, inner: Aggregator, attack: Attack, names: Sequence[str], memory: int = 100) -> dict[str, Robustness]:
    """Every defence of one aggregator under one attack; "told" is the bound."""
    under = attack.on(bench.rows)
    clean = await outcome(bench.rows, inner)
    alone = Outcome.join([await outcome(rows, inner) for rows in under])
    honest = bench.counts()
    found = {}
    for name in names:
        if name.startswith("history"):
            parts = []
            for rows, who in zip(under, attack.liars, strict=True):
                if name == "history, watching":
                    parts.append(await watched(rows, History(inner, honest, memory=memory)))
                else:
                    parts.append(await outcome(rows, History(inner, bench.counts(who, attack) if "lied" in name else honest)))
            behind = Outcome.join(parts)
            watching = name == "history, watching"
            quiet = await (watched if watching else outcome)(bench.rows, History(inner, honest, memory=memory if watching else None))
        elif name == "told":
            behind = Outcome.join([await outcome(rows, Told(inner, who)) for rows, who in zip(under, attack.liars, strict=True)])
            quiet = clean
        else:
            kind, _, every = name.partition(", ")
            wrapped = defended(inner, kind, every=True) if every else defended(inner, kind)
            behind = Outcome.join([await outcome(rows, wrapped) for rows in under])
            quiet = await outcome(bench.rows, wrapped)
        found[name] = Robustness(clean, alone, behind, quiet)
    return found


def percent(interval: Interval, digits: int = 1) -> str:
    """An interval in percent."""
    if np.isnan(interval.mean):
        return "–"
    return f"{100 * interval.mean:.{digits}f} [{100 * interval.low:.{digits}f}, {100 * interval.high:.{digits}f}]"


HEAD = (
    "| aggregator | attack | clean | attacked | defence | defended | won back, % | cost, points | recovery | corruption | persuaded "
    "| target |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def line(kind: str, attack: Attack, name: str, found: Robustness) -> str:
    """One row of the table."""
    before, after = found.persuaded
    cells = [
        *(kind, attack.name, f"{100 * found.clean.accuracy.mean:.1f}", f"{100 * found.attacked.accuracy.mean:.1f}", name),
        *(f"{100 * found.defended.accuracy.mean:.1f}", percent(found.won_back, 0), percent(found.cost), percent(found.recovery, 0)),
        *(percent(found.corruption), f"{100 * before.mean:.1f} to {100 * after.mean:.1f}"),
        "bound" if name == "told" else "reached" if found.reached() else "no",
    ]
    return f"| {' | '.join(cells)} |"


def benches(combiner: Path, said: Callable[[str], None]) -> tuple[Bench, Bench, Bench]:
    """The fixed five on tune and test, and the five that the router asks of eight on test."""
    table = read_scores(Path(os.environ["COUNTERPOINT_BENCH_DATA"]) / "mmlu_pro_small.parquet")
    train, recorded, every = rows_of(table, ["train"]), Recorded(table), experts_of(table)
    five = list(train.groupby("expert")["score"].mean().sort_values(ascending=False).index[:5])
    said("fitting a router on train, to choose on tune")
    young, shipped = KINDS["stack"]().fit(train.drop(columns=["response"])), load_router(ROUTER)

    def rows(split: str, experts: list[str], router: Router) -> list[Played]:
        part = rows_of(table, [split]).drop_duplicates("query_id")
        rights = list(zip(part["query_id"].astype(str), part["query"], part["answer"], strict=True))
        return played(recorded, rights, routes_of(router, part, experts, 5))

    past = rows("train", five, shipped)
    tune, test = Bench(five, rows("tune", five, young), past), Bench(five, rows("test", five, shipped), past)
    return tune, test, Bench(every, rows("test", every, shipped), rows("train", every, shipped))


async def recorded_section(combiner: Path, questions: int) -> str:
    """The tables from recorded answers."""

    def said(what: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)

    tune, test, routed = benches(combiner, said)
    five = tune.experts
    expected = {name: np.mean([row.route.scores[name] for row in test.rows]) for name in five}
    trusted = max(five, key=lambda name: expected[name])
    each = Attack("one of five", [[name] for name in five])
    worst = Attack("the most trusted", [[trusted]])
    second = sorted(five, key=lambda name: -expected[name])[1]
    pairs = [[a, b] for a, b in zip(five, five[1:] + five[:1], strict=True)]
    lines = [f"Experts: {', '.join(five)}; the router trusts {trusted} most, then {second}.", "", "Chosen on tune:", "", HEAD]
    kinds = ("best", "vote", "weighted")
    lost: dict[str, list[float]] = {}
    for kind in kinds:
        for attack in (each, worst):
            found = await measure(tune, make_aggregator(kind), attack, [*HELD, "told"])
            lines += [line(kind, attack, name, one) for name, one in found.items()]
            for name, one in found.items():
                lost.setdefault(name, []).append(one.won_back.mean if one.cost.mean <= 0.01 else -1.0)
        said(f"tune, {kind}")
    picked = max((name for name in lost if name != "told"), key=lambda name: min(lost[name]))
    memory, won = 0, -1.0
    for size in MEMORIES:
        found = await measure(tune, make_aggregator("vote"), each, ["history, watching"], size)
        here = found["history, watching"]
        lines.append(line("vote", each, f"history, watching with memory {size}", here))
        if here.cost.mean <= 0.01 and here.won_back.mean > won:
            memory, won = size, here.won_back.mean
    said(f"picked {picked}, memory {memory}")
    lines += ["", f"Picked on tune: {picked}; for experts that begin to lie, watching with a memory of {memory}.", "", "On test:", "", HEAD]
    for kind in kinds:
        for attack in (each, worst):
            names = [*HELD, "history, watching", "told"]
            found = await measure(test, make_aggregator(kind), attack, names, memory)
            lines += [line(kind, attack, name, one) for name, one in found.items()]
            said(f"test, {kind}, {attack.name}")
    few = ["filter", picked, "history, watching", "told"]
    for attack in (
        Attack("two of five that collude", pairs),
        Attack("two of five, each its own", pairs, collude=False),
        Attack("one of five, half the time", each.liars, share=0.5),
    ):
        for kind in ("vote", "weighted"):
            found = await measure(test, make_aggregator(kind), attack, list(dict.fromkeys(few)), memory)
            lines += [line(kind, attack, name, one) for name, one in found.items()]
        said(f"test, {attack.name}")
    lines += ["", *await routed_lines(routed, memory)]
    said("test, routed")
    lines += ["", *await learned_lines(combiner, test, [each, worst], questions, memory)]
    return "\n".join(lines)


async def routed_lines(bench: Bench, memory: int) -> list[str]:
    """Whom the router asks of eight: whoever it trusts most on a question lies, and each of eight in turn where it is asked."""
    lines = ["The five of eight that the router asks, on test:", "", HEAD]
    every = Attack("one of eight, where asked", [[name] for name in bench.experts])
    for kind in ("best", "vote", "weighted"):
        inner = make_aggregator(kind)
        clean, rows = await outcome(bench.rows, inner), attacked(bench.rows, most_trusted(), 0)
        alone = await outcome(rows, inner)
        for name in ("dropout", "filter", "dropout-filter"):
            wrapped = defended(inner, name)
            one = Robustness(clean, alone, await outcome(rows, wrapped), await outcome(bench.rows, wrapped))
            lines.append(line(kind, Attack("whoever is trusted most on each question", ()), name, one))
        if kind != "best":
            found = await measure(bench, inner, every, ["filter", "history, lied before", "told"], memory)
            lines += [line(kind, every, name, one) for name, one in found.items()]
    return lines


async def learned_lines(combiner: Path, bench: Bench, attacks: Sequence[Attack], questions: int, memory: int) -> list[str]:
    """The trained combiner on a part of test: it reads every text again in every subset."""
    if not (combiner / "combiner.json").is_file():
        return [f"The aggregator `learned` was left out: there is no combiner in {combiner}."]
    inner, part = Learned(str(combiner)), replace(bench, rows=bench.rows[:questions])
    lines = [f"The aggregator `learned`, on the first {len(part.rows)} questions of test:", "", HEAD]
    for attack in attacks:
        found = await measure(part, inner, attack, [*(name for name in HELD if name not in SLOW), "told"], memory)
        lines += [line("learned", attack, name, one) for name, one in found.items()]
    return lines


def main() -> None:
    """Measure, print, and write the section where the page is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--combiner", type=Path, default=COMBINER)
    parser.add_argument("--questions", type=int, default=400, help="test questions for the trained combiner")
    parser.add_argument("--live", type=int, default=0, help="questions for the mixture that ships; 0 measures recorded answers")
    parser.add_argument("--print", action="store_true", dest="only", help="write no page")
    given = parser.parse_args()
    forms.form = lru_cache(maxsize=200_000)(forms.form)  # the same answers are compared in every defence; it took most of the time
    text = asyncio.run(live_section(given.live) if given.live else recorded_section(given.combiner, given.questions))
    print(text)
    name, more = ("deception-live", f" --live {given.live}") if given.live else ("deception", "")
    if not given.only and (DOCS / "aggregation.md").is_file():
        if f"<!-- {name} -->" not in (DOCS / "aggregation.md").read_text(encoding="utf-8"):
            print(f"docs/aggregation.md has no markers for {name}: nothing was written", file=sys.stderr)
            return
        write_section(name, f"python -m benchmarks.deception{more}", text, page="aggregation.md")


if __name__ == "__main__":
    main()
