"""`counterpoint pool`: which experts are worth their place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from serving.cli_common import JsonOption, say

app = typer.Typer(help="Choose the experts of a mixture from measured answers.", no_args_is_help=True)


@app.command("select")
def select(
    table: Annotated[Path, typer.Argument(help="Score table of every expert on the same questions, such as a run's cells.parquet.")],
    size: Annotated[int | None, typer.Option(help="How many experts; as few as are as good as any number without it.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the division into questions to select by and to measure on.", min=0)] = 0,
    figure: Annotated[Path | None, typer.Option(help="Where quality against the pool's size is drawn, as PNG and SVG.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Choose the best pool of experts: good ones that differ, without lucky guessers and duplicates.

    Example: `counterpoint pool select runs/first/cells.parquet --size 3 --figure pool.png`
    """
    from rich.table import Table

    from data.scores import read_scores
    from serving.evaluation.selection import select_pool
    from serving.evaluation.selection_figure import write_selection_figure
    from serving.show import console, progress_bars

    with progress_bars() as tick:
        found = select_pool(read_scores(table), size, seed=seed, tick=tick)
    files = [] if figure is None else write_selection_figure(found, figure)
    if as_json:
        print(json.dumps(found.json(), indent=1))  # noqa: T201
        return
    for one in found.rejected:
        say(f"rejected {one.expert}: {one.why}")
    shown = Table(
        title=f"{found.held_out} held-out questions, percent with 95% intervals; searched by {found.objective}", title_justify="left"
    )
    for name in ("size", "experts", *found.chosen.reached, f"gain on {found.best_single}"):
        shown.add_column(name, justify="left" if name == "experts" else "right")
    for pool in found.pools:
        mark = " *" if pool is found.chosen else ""
        cells = [f"{100 * at.mean:.1f} [{100 * at.low:.1f}, {100 * at.high:.1f}]" for at in pool.reached.values()]
        gain = f"{100 * pool.gain.mean:+.1f} [{100 * pool.gain.low:+.1f}, {100 * pool.gain.high:+.1f}]{', a tie' if pool.gain.tie else ''}"
        shown.add_row(f"{len(pool.experts)}{mark}", ", ".join(pool.experts), *cells, gain)
    console.print(shown)
    say(f"chosen: {', '.join(found.chosen.experts)}")
    if files:
        say(f"the figure: {', '.join(map(str, files))}")
