"""What the command line prints: tables, progress bars and explanations."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from data.records import Answer, Route, Trace
from data.skills import Task
from serving.demo import DISJOINT, DemoReport
from serving.evaluation.systems import System


class Lines(Console):
    """A console that leaves a line of text whole, so that a path in it can be copied, and found, at any width."""

    def print(self, *objects: Any, **how: Any) -> None:
        """Print as rich does; only tables and the like are fitted into the width."""
        if all(isinstance(part, str) for part in objects):
            how.setdefault("soft_wrap", True)
        super().print(*objects, **how)


console = Lines(highlight=False)
notes = Lines(stderr=True, highlight=False)
"""Progress and remarks go to the standard error, so that the output can be piped."""


@contextmanager
def progress_bars() -> Iterator[Callable[..., None]]:
    """Show one bar a stage; yields the function that moves them: stage, done, total, and a note at the end of its line."""
    times = (MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), *times, TextColumn("{task.fields[note]}"))
    stages: dict[str, TaskID] = {}
    with Progress(*columns, console=notes) as progress:

        def tick(stage: str, done: int, total: int, note: str = "") -> None:
            if stage not in stages:
                stages[stage] = progress.add_task(stage, total=total, note=note)
            progress.update(stages[stage], completed=done, total=total, note=note if done < total else "")

        yield tick


def route_lines(route: Route) -> list[str]:
    """Say in lines who is asked, and why."""
    lines = [f"reason   {reason}" for reason in route.reasons]
    lines.append("scores   " + "  ".join(f"{name} {score:.2f}" for name, score in route.scores.items()))
    lines.append("route    " + ", ".join(f"{name} ({weight:.2f})" for name, weight in zip(route.experts, route.weights, strict=True)))
    return lines


def explanation(answer: Answer, trace: Trace) -> list[str]:
    """Say in lines how an answer came about."""
    lines = route_lines(trace.route)
    lines += [f"answer   {part.expert}: {(part.error and 'failed: ' + part.error) or part.text!r}" for part in trace.answers]
    if trace.support:
        lines.append(f"weights  {trace.aggregator}: " + "  ".join(f"{text!r} {weight:.2f}" for text, weight in trace.support))
    usage = trace.usage
    lines.append(f"usage    {usage.calls} calls, {usage.prompt_tokens} + {usage.completion_tokens} tokens, {usage.cost_usd:.6f} US dollars")
    return lines


def systems_table(systems: list[System], title: str) -> Table:
    """The table of systems with their intervals."""
    table = Table(title=title, title_justify="left")
    for name, justify in (("system", "left"), ("accuracy", "right"), ("95% interval", "right"), ("calls", "right"), ("tokens", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for system in systems:
        row, interval = system.row(), system.interval()
        spread = f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"
        table.add_row(system.name, f"{100 * interval.mean:.1f}", spread, f"{row['mean_calls']:.2f}", f"{row['tokens']:.0f}")
    return table


def show_example(task: Task, answer: Answer, trace: Trace) -> None:
    """Print one question in full."""
    console.print(f"\n[bold]{escape(task.query)}[/bold]")
    for line in explanation(answer, trace):
        console.print(f"  {escape(line)}")
    console.print(f"  final    {escape(repr(answer.text))}, wanted {escape(repr(task.answer))}")


def show_demo(report: DemoReport) -> None:
    """Print what a demo measured."""
    for example in report.examples:
        show_example(*example)
    console.print()
    console.print(systems_table(report.systems, f"{report.n} test questions of mixed families; accuracy in percent, tokens a question"))
    for line in report.comparisons:
        console.print(line)
    console.print(f"\n{DISJOINT}")
    loads = report.loads
    console.print(
        f"Model loads, grouped: {loads['grouped']} for {loads['distinct_engines']} engines, "
        f"{loads['grouped_s']} s for all {report.n} questions.\n"
        f"The first {loads['arrival_n']} questions, from empty slots: "
        f"in order of arrival {loads['arrival']} loads, {loads['arrival_s']} s; "
        f"grouped {loads['grouped_subset']} loads, {loads['grouped_subset_s']} s."
    )
    program = program_name()
    console.print(f"Took {report.seconds:.0f} s. Go on with `{program} chat` (the page) or `{program} serve` (the endpoint).")


def program_name() -> str:
    """How the caller started this program, so that what is printed can be typed."""
    started = Path(sys.argv[0])
    found = shutil.which("counterpoint")
    return "counterpoint" if found and started.exists() and Path(found).samefile(started) else str(started)
