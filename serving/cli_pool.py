"""The commands that play traces of load through the scheduler: policies side by side, and how many slots it takes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from data.records import CounterpointError

if TYPE_CHECKING:
    from experts.comparison import Figures, Settings

T = TypeVar("T")
Tick = Callable[[str, int, int], None]
SMALL = 20_000
"""Calls below which new processes would cost more time than they save."""

FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="A trace in Azure's format (.csv), or `poisson`, or `bursts`.")]
CallsOption = Annotated[int, typer.Option(help="Calls; a shorter trace repeats.", min=2)]
ExpertsOption = Annotated[int, typer.Option(help="Experts.", min=1)]
ZipfOption = Annotated[float, typer.Option(help="Shares of the experts: the r-th has the weight 1 / r^zipf; 0 for equal ones.", min=0)]
BatchOption = Annotated[int, typer.Option(help="Calls that a slot runs at once.", min=1)]
TokenOption = Annotated[float, typer.Option("--token-s", help="Seconds of a generated token.", min=0)]
CallOption = Annotated[float, typer.Option("--call-s", help="Seconds of a call besides.", min=0)]
SwapOption = Annotated[float, typer.Option("--swap-s", help="Seconds of a swap.", min=0)]
PrefetchOption = Annotated[float, typer.Option(help="Share of a swap that reading ahead can hide; counterpoint only.", min=0, max=1)]
ReplicasOption = Annotated[
    int | None, typer.Option(help="Slots that may hold the same expert; 1, or any number where slots are more.", min=1)
]
LengthsOption = Annotated[Path | None, typer.Option(help="Score table whose recorded lengths calls get, drawn at random.")]
RateOption = Annotated[float | None, typer.Option(help="Calls a second; a trace's own times without it.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(simulate)
    app.command()(size)


def simulate(
    file: FileArgument,
    calls: CallsOption = 5000,
    experts: ExpertsOption = 8,
    zipf: ZipfOption = 0.0,
    slots: Annotated[int, typer.Option(help="Slots.", min=1)] = 2,
    load: Annotated[float, typer.Option(help="Seconds of service, as a share of what all lanes have; swaps do not count.")] = 0.7,
    batch: BatchOption = 8,
    token_s: TokenOption = 0.02,
    call_s: CallOption = 0.1,
    swap_s: SwapOption = 5.0,
    prefetch: PrefetchOption = 0.0,
    max_wait_s: Annotated[float | None, typer.Option("--max-wait-s", help="Bound of the wait; none without it.")] = None,
    seeds: Annotated[int, typer.Option(help="Seeds, from 0 on.", min=1)] = 10,
    policies: Annotated[str | None, typer.Option(help="Only these policies, with commas between.")] = None,
    replicas: ReplicasOption = None,
    lengths: LengthsOption = None,
    width: Annotated[int | None, typer.Option(help="How widely clairvoyant schedules are searched; more takes longer.", min=1)] = None,
    figure: Annotated[Path | None, typer.Option(help="Where a figure goes, as PNG and SVG.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Play a trace by all policies, with and without knowing it beforehand, and print what each made of it.

    Example: `counterpoint simulate trace.csv --slots 2 --experts 8 --load 0.7 --max-wait-s 60`
    """
    from experts.clairvoyant import WIDTH
    from serving.show import notes, progress_bars

    settings = _settings(
        file, calls=calls, experts=experts, zipf=zipf, slots=slots, batch=batch, load=load, token_s=token_s, call_s=call_s, swap_s=swap_s,
        prefetch=prefetch, max_wait_s=max_wait_s, replicas=_replicas(replicas, slots, experts), lengths=lengths, width=width or WIDTH,
    )  # fmt: skip
    chosen = _chosen(policies)
    if "clairvoyant" in chosen and not settings.searched:
        notes.print(_unsearched(settings))
    with progress_bars() as tick:
        report = compare(settings, range(seeds), chosen, tick)
    if figure is not None:
        from serving.evaluation.pool_figure import write_pool_figure

        write_pool_figure(report["policies"], figure)
    if as_json:
        print(json.dumps(report, indent=1))  # noqa: T201
    else:
        _print(report)


def compare(settings: Settings, seeds: Sequence[int], policies: Sequence[str], tick: Tick) -> dict[str, Any]:
    """Play policies on the traces of several seeds, in parallel.

    Args:
        settings: The pool and the load.
        seeds: Seeds of the traces.
        policies: Names of policies; the clairvoyant one also brings the bounds.
        tick: Told what is done: stage, done, total.

    Returns:
        What `simulate --json` prints.
    """
    names = [name for name in policies if name != "clairvoyant"]
    searched = "clairvoyant" in policies and settings.searched
    extra = (["clairvoyant", "bounds"] + ["clairvoyant_swaps"] * (settings.max_wait_s is not None)) if searched else []
    jobs = [(settings, name, seed) for name in [*extra, *names] for seed in seeds]  # long ones first
    settings.trace(seeds[0])  # what cannot be read is told before anything is started
    made: dict[str, dict[int, Any]] = {}
    for done, (job, result) in enumerate(_parallel(_job, jobs, inline=settings.calls * len(jobs) <= SMALL), start=1):
        made.setdefault(job[1], {})[job[2]] = result
        tick("runs", done, len(jobs))
    runs = {name: [by_seed[seed] for seed in seeds] for name, by_seed in made.items()}
    rows = [_row(name, runs.get(name)) for name in policies]
    report: dict[str, Any] = {"settings": asdict(settings), "seeds": list(seeds), "policies": rows}
    report["clairvoyant_swaps"] = _row("clairvoyant_swaps", runs.get("clairvoyant_swaps"))
    report["bounds"] = {"refused": None, "swaps": None}
    if "bounds" in runs:
        refused, swaps = zip(*runs["bounds"], strict=True)
        report["bounds"] = {"refused": _mean(refused), "swaps": _mean(swaps)}
    return report


def _job(job: tuple[Settings, str, int]) -> Any:
    """Play one policy on one trace; a function of the module, so that another process finds it."""
    from experts.comparison import bounds, play

    settings, name, seed = job
    return bounds(settings, seed) if name == "bounds" else play(settings, name, seed)


def _parallel(work: Callable[[Any], T], jobs: Sequence[Any], *, inline: bool = False) -> Iterator[tuple[Any, T]]:
    """Do jobs in processes of their own, as many as there are cores; gives each job with its result, as they end."""
    import os

    if inline or len(jobs) == 1:
        yield from ((job, work(job)) for job in jobs)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import active_children, get_context

    with ProcessPoolExecutor(min(os.cpu_count() or 1, len(jobs)), get_context("spawn"), _ignore_interrupts) as pool:
        waiting = {pool.submit(work, job): job for job in jobs}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BaseException:
            for process in active_children():  # the executor itself would wait for what runs
                process.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the process that started this one, which ends it."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _row(name: str, runs: Sequence[Figures | None] | None) -> dict[str, Any]:
    """One policy's figures, means over the seeds; null where there are none."""
    from experts.comparison import Figures, mean_figures

    there = [run for run in runs or () if run is not None]
    if not there or len(there) < len(runs or ()):
        return {"name": name} | {field: None for field in Figures.__slots__}
    return {"name": name} | asdict(mean_figures(there))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _settings(file: str, **given: Any) -> Settings:
    """The settings, checked.

    Raises:
        CounterpointError: A number is none, or not one that there can be.
    """
    from experts.comparison import Settings

    for name in ("load", "rate", "max_wait_s"):
        value = given.get(name)
        if value is not None and not value > 0:
            raise CounterpointError(f"--{name.replace('_', '-')} must be a number above 0, not {value}")
    for name, value in given.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise CounterpointError(f"--{name.replace('_', '-')} must be a number, not {value}")
    if not given["token_s"] + given["call_s"] > 0:
        raise CounterpointError("--token-s and --call-s are both 0: calls would take no time")
    lengths = given.pop("lengths")
    return Settings(file, lengths=None if lengths is None else str(lengths), **given)


def _replicas(given: int | None, slots: int, experts: int) -> int | None:
    return given if given is not None else 1 if slots <= experts else None


def _chosen(policies: str | None) -> list[str]:
    """The policies that are wanted, in the usual order.

    Raises:
        CounterpointError: There is none of this name.
    """
    from experts.comparison import POLICIES

    wanted = list(POLICIES) if policies is None else [name.strip() for name in policies.split(",")]
    if unknown := [name for name in wanted if name not in POLICIES]:
        raise CounterpointError(f"no policy is called {unknown[0]!r}; there are {', '.join(POLICIES)}")
    return [name for name in POLICIES if name in wanted]


def _unsearched(settings: Settings) -> str:
    from experts.comparison import SEARCHED_CALLS, SEARCHED_SLOTS

    if settings.replicas != 1:
        return "clairvoyant is left out: it knows no replicas"
    return f"clairvoyant is left out: it takes at most {SEARCHED_SLOTS} slots and {SEARCHED_CALLS} calls"


COLUMNS = ("swaps", "wait_mean_s", "wait_p95_s", "refused", "broken", "late", "busy")
SHARES = ("refused", "broken", "late", "busy")


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f}%" if name in SHARES else f"{value:.0f}" if name == "swaps" else f"{value:.1f}"


def _print(report: dict[str, Any]) -> None:
    """Print the table of policies and the bounds."""
    from rich.table import Table

    from serving.show import console

    settings = report["settings"]
    title = (
        f"{settings['calls']} calls for {settings['experts']} experts on {settings['slots']} slots, mean of {len(report['seeds'])} seeds"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("policy", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name.removesuffix("_s").replace("_", ", "), justify="right")
    rows = report["policies"] + ([report["clairvoyant_swaps"]] if report["clairvoyant_swaps"]["swaps"] is not None else [])
    for row in rows:
        table.add_row("- few swaps" if row["name"] == "clairvoyant_swaps" else row["name"], *(_cell(n, row[n]) for n in COLUMNS))
    console.print(table)
    bounds = report["bounds"]
    if bounds["swaps"] is not None:
        console.print(
            f"Without prefetch no schedule refuses less than {_cell('refused', bounds['refused'])}; "
            f"none that refuses as little as counterpoint has less than {bounds['swaps']:.0f} swaps."
        )


def size(
    file: FileArgument,
    max_wait_s: Annotated[float, typer.Option("--max-wait-s", help="Bound of the wait.")],
    refused: Annotated[
        float, typer.Option(help="Share of the calls that may be refused, or accepted and not started.", min=0, max=1)
    ] = 0.01,
    max_slots: Annotated[int, typer.Option(help="Most slots that are tried.", min=1)] = 64,
    rate: RateOption = None,
    calls: CallsOption = 5000,
    experts: ExpertsOption = 8,
    zipf: ZipfOption = 0.0,
    batch: BatchOption = 8,
    token_s: TokenOption = 0.02,
    call_s: CallOption = 0.1,
    swap_s: SwapOption = 5.0,
    prefetch: PrefetchOption = 0.0,
    seeds: Annotated[int, typer.Option(help="Seeds, from 0 on.", min=1)] = 3,
    replicas: ReplicasOption = None,
    lengths: LengthsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find how many slots keep a bound of the wait for a trace.

    Example: `counterpoint size trace.csv --max-wait-s 60 --refused 0.01 --experts 8`
    """
    from experts.comparison import GENERATED
    from serving.show import progress_bars

    if file in GENERATED and rate is None:
        raise CounterpointError(f"{file} has no times of its own: give --rate, calls a second")
    settings = _settings(
        file, calls=calls, experts=experts, zipf=zipf, slots=1, batch=batch, rate=rate, token_s=token_s, call_s=call_s, swap_s=swap_s,
        prefetch=prefetch, max_wait_s=max_wait_s, lengths=lengths,
    )  # fmt: skip
    settings.trace(0)
    with progress_bars() as tick:
        report = find_slots(settings, refused, max_slots, range(seeds), replicas, tick)
    if as_json:
        print(json.dumps(report, indent=1))  # noqa: T201
    else:
        _print_sizes(report)


def find_slots(
    settings: Settings, refused: float, max_slots: int, seeds: Sequence[int], replicas: int | None, tick: Tick
) -> dict[str, Any]:
    """Find the fewest slots with which our policy refuses at most some share: doubling, then bisection, then the neighbour below.

    Args:
        settings: The pool and the load.
        refused: Share of the calls that may be refused, or accepted and not started in time.
        max_slots: Most slots that are tried.
        seeds: Seeds of the traces.
        replicas: Slots that may hold the same expert; None for 1, or any number where slots are more than experts.
        tick: Told what is done: stage, done, total.

    Returns:
        What `size --json` prints: `slots` is None where even the most are too few.
    """
    tried: dict[int, dict[str, Any]] = {}

    def fits(slots: int) -> bool:
        if slots not in tried:
            pool = replace(settings, slots=slots, replicas=_replicas(replicas, slots, settings.experts))
            jobs = [(pool, "counterpoint", seed) for seed in seeds]
            runs = [run for _, run in _parallel(_job, jobs, inline=settings.calls * len(jobs) <= 20 * SMALL)]
            row = _row("counterpoint", runs)
            unserved = row["refused"] + row["broken"] * (1 - row["refused"])
            tried[slots] = {"slots": slots, "unserved": unserved} | {
                name: row[name] for name in ("refused", "broken", "wait_p95_s", "swaps", "busy")
            }
            tick("pools tried", len(tried), max(len(tried), 2 * math.ceil(math.log2(max_slots + 1))))
        return bool(tried[slots]["unserved"] <= refused)

    low, high = 0, 1
    while not fits(high) and high < max_slots:
        low, high = high, min(2 * high, max_slots)
    found: int | None = high if fits(high) else None
    while found is not None and found - low > 1:
        middle = (low + found) // 2
        low, found = (low, middle) if fits(middle) else (middle, found)
    while found is not None and found > 1 and fits(found - 1):  # one slot more may be worse, where replicas begin
        found -= 1
    return {
        "slots": found, "max_wait_s": settings.max_wait_s, "refused": refused,
        "settings": {name: value for name, value in asdict(settings).items() if name not in ("slots", "load", "replicas", "width")},
        "seeds": list(seeds), "tried": [tried[slots] for slots in sorted(tried)],
    }  # fmt: skip


def _print_sizes(report: dict[str, Any]) -> None:
    """Print what was tried, and the answer."""
    from rich.table import Table

    from serving.show import console

    table = Table(title=f"wait at most {report['max_wait_s']:g} s, mean of {len(report['seeds'])} seeds", title_justify="left")
    for name in ("slots", "refused", "broken", "p95", "swaps", "busy"):
        table.add_column(name, justify="right")
    for row in report["tried"]:
        cells = [_cell(name, row[name]) for name in ("refused", "broken", "wait_p95_s", "swaps", "busy")]
        table.add_row(f"{row['slots']}{' *' if row['slots'] == report['slots'] else ''}", *cells)
    console.print(table)
    wanted = f"refuse at most {100 * report['refused']:g}%"
    if report["slots"] is None:
        console.print(f"{report['tried'][-1]['slots']} slots are too few to {wanted}")
    else:
        console.print(f"{report['slots']} slot{'s' if report['slots'] > 1 else ''} {wanted}")
