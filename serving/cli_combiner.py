"""The commands that train and measure combiners, and that compare aggregators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data.records import CounterpointError
from serving.cli_router import left_out

if TYPE_CHECKING:
    from aggregator.learned import Fitted
    from serving.evaluation.combining import Point

app = typer.Typer(help="Train and measure combiners, and compare aggregators.", no_args_is_help=True)

ScoresOption = Annotated[Path, typer.Option("--scores", help="Score table with the experts' answers: .parquet, .jsonl or .csv.")]
RouterOption = Annotated[Path, typer.Option("--router", help="Folder of a fitted router.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Folder of the artefact.")]
FolderArgument = Annotated[Path, typer.Argument(help="Folder of the artefact.")]
SplitOption = Annotated[list[str] | None, typer.Option(help="Splits to use.")]
ExcludeOption = Annotated[list[str] | None, typer.Option(help="Experts of the table to leave out.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command("fit")
def fit(
    scores: ScoresOption,
    router: RouterOption,
    output: OutputOption,
    kind: Annotated[str, typer.Option(help="Kind of combiner: learned, rank or pool.")] = "learned",
    split: SplitOption = None,
    exclude: ExcludeOption = None,
    options: Annotated[bool, typer.Option(help="Let the look of a question's options count, which is knowledge of exams.")] = True,
    bag: Annotated[int, typer.Option(help="Combiners that are averaged, each with another seed.", min=1, max=20)] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the draws and folds.", min=0)] = 0,
) -> None:
    """Fit a combiner on graded answers; the router's scores are made anew out of fold, since it may know the questions.

    Example: `counterpoint combiner fit --scores scores.parquet --router router --split train --split tune -o combiner`
    """
    from data.scores import count_leaked, read_scores, rows_of
    from router import load_router
    from serving.combiner import examples_of, experts_in, scores_out_of_fold
    from serving.show import console, notes, progress_bars

    kinds = _fitted_kinds()
    if kind not in (*kinds, "pool"):
        raise CounterpointError(f"no combiner is called {kind!r}; there are {', '.join(kinds)}, pool")
    table = left_out(read_scores(scores), exclude)
    splits = split or (["train"] if "split" in table.columns else None)
    rows = rows_of(table, splits)
    if splits and (leaked := count_leaked(table, splits)):
        notes.print(f"left out {leaked} questions of {', '.join(splits)} whose text also stands in test")
    if kind == "pool":
        from aggregator.pooling import fit_pool

        fit_pool(rows, seed=seed).save(output)
        console.print(
            f"pool of {rows['expert'].nunique()} experts and prompts, fitted on {rows['query_id'].nunique()} questions, in {output}"
        )
        return
    made = load_router(router)
    experts = experts_in(rows, made)
    with progress_bars() as tick:
        queries, predicted = scores_out_of_fold(made, rows, experts, tick)
        examples = examples_of(rows, queries, experts, predicted, None, tick)
        combiner = kinds[kind].fit(examples, options=options, bag=bag, seed=seed, tick=lambda done, total: tick("fitting", done, total))
    combiner.save(output)
    console.print(f"{kind} combiner of {len(experts)} experts, fitted on {len(queries)} questions, in {output}")


def _fitted_kinds() -> dict[str, type[Fitted]]:
    from aggregator.learned import Learned, Ranked

    return {kind.kind: kind for kind in (Learned, Ranked)}


def load_combiner(folder: Path) -> Fitted:
    """Load a fitted combiner of either kind.

    Raises:
        CounterpointError: There is none.
    """
    kinds = _fitted_kinds()
    try:
        kind = json.loads((folder / "combiner.json").read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        kind = "learned"  # whose loading says what is wrong
    return kinds.get(kind, kinds["learned"])(str(folder))


@app.command("eval")
def evaluate(
    folder: FolderArgument,
    scores: ScoresOption,
    router: RouterOption,
    split: SplitOption = None,
    exclude: ExcludeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a combiner by the number of calls, beside the majority of as many answers, and with calls asked one by one by price.

    Example: `counterpoint combiner eval combiner --scores scores.parquet --router router --split test`
    """
    import asyncio

    from data.scores import read_scores, rows_of
    from router import load_router
    from serving.evaluation.combining import measure
    from serving.show import console, progress_bars

    combiner = load_combiner(folder)
    table = left_out(read_scores(scores), exclude)
    rows = rows_of(table, (split or ["test"]) if "split" in table.columns else None)
    with progress_bars() as tick:
        counts, prices = asyncio.run(measure(rows, load_router(router), combiner, tick))
    if as_json:
        body = {"calls": [point.row() for point in counts], "prices": [point.row() for point in prices]}
        print(json.dumps(body, indent=1))  # noqa: T201
        return
    for line in lines_of(counts, prices):
        console.print(line, markup=False)


def lines_of(counts: list[Point], prices: list[Point]) -> list[str]:
    """The measures as a table in Markdown."""
    made = ["| calls | combiner | 95% interval | majority | gain, paired | calibration error |", "|---|---|---|---|---|---|"]
    for point in counts:
        accuracy, gain = point.system.interval(), point.gain
        assert gain is not None
        assert point.vote is not None
        verdict = ", a tie" if gain.tie else ""
        made.append(
            f"| {point.system.calls.mean():.0f} | {100 * accuracy.mean:.1f} | {100 * accuracy.low:.1f} to {100 * accuracy.high:.1f} "
            f"| {100 * point.vote.right.mean():.1f} | {100 * gain.mean:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]{verdict} "
            f"| {100 * point.error:.1f} |"
        )
    made += ["", "| a call must gain | mean calls | combiner | 95% interval | calibration error |", "|---|---|---|---|---|"]
    for point in prices:
        accuracy = point.system.interval()
        price = point.system.name.removeprefix(f"{point.system.name.partition(',')[0]}, a call must gain ")
        made.append(
            f"| {price} | {point.system.calls.mean():.2f} | {100 * accuracy.mean:.1f} "
            f"| {100 * accuracy.low:.1f} to {100 * accuracy.high:.1f} | {100 * point.error:.1f} |"
        )
    return made


@app.command("kinds")
def kinds() -> None:
    """List the kinds of aggregators: what each does, and whether it asks an LLM."""
    from aggregator import DEFENCES, KINDS
    from serving.show import console

    for name, made in KINDS.items():
        asks = "asks an LLM" if getattr(made, "llm", False) else "no LLM"
        console.print(f"{name:<12} {asks:<12} {(made.__doc__ or '').splitlines()[0]}", markup=False)
    console.print()
    for name, defence in DEFENCES.items():
        console.print(f"{name:<15} defence   {(defence.__doc__ or '').splitlines()[0]}", markup=False)
