"""The commands that train and measure combiners, and that compare aggregators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data.records import CounterpointError
from serving.cli_common import ConfigOption, JsonOption, config_of, kinds_of, prepare, run_until_done
from serving.cli_router import left_out

if TYPE_CHECKING:
    from aggregator.learned import Fitted
    from serving.evaluation.combining import Point
    from serving.evaluation.ranking import Ranking

app = typer.Typer(help="Train and measure combiners, and compare aggregators.", no_args_is_help=True)

ScoresOption = Annotated[Path, typer.Option("--scores", help="Score table with the experts' answers: .parquet, .jsonl or .csv.")]
RouterOption = Annotated[Path, typer.Option("--router", help="Folder of a fitted router.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Folder of the artefact.")]
FolderArgument = Annotated[Path, typer.Argument(help="Folder of the artefact.")]
SplitOption = Annotated[list[str] | None, typer.Option(help="Splits to use.")]
ExcludeOption = Annotated[list[str] | None, typer.Option(help="Experts of the table to leave out.")]


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
    from data.scores import read_scores, rows_of
    from router import load_router
    from serving.evaluation.combining import measure
    from serving.show import console, progress_bars

    combiner = load_combiner(folder)
    table = left_out(read_scores(scores), exclude)
    rows = rows_of(table, (split or ["test"]) if "split" in table.columns else None)
    with progress_bars() as tick:
        counts, prices = run_until_done(measure(rows, load_router(router), combiner, tick))
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


@app.command("history")
def history(
    scores: ScoresOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="File of the counts, JSON.")],
    split: SplitOption = None,
    exclude: ExcludeOption = None,
) -> None:
    """Count how often each expert agreed with the others, for the defences `history` and `peers`.

    Example: `counterpoint combiner history --scores scores.parquet --split train -o history.json`
    """
    from aggregator.defences import fit_history
    from data.recorded import Recorded
    from data.scores import experts_of, read_scores, rows_of
    from serving.show import console

    table = left_out(read_scores(scores), exclude)
    rows = rows_of(table, split or (["train"] if "split" in table.columns else None))
    recorded, experts = Recorded(rows), experts_of(rows)
    queries = rows.drop_duplicates("query_id")
    asked = zip(queries["query_id"], queries["query"], strict=True)
    counts = fit_history([(query, [recorded.answer(str(id), name) for name in experts]) for id, query in asked])
    try:
        output.write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise CounterpointError(f"cannot write {output}: {error.strerror or error}") from error
    for name, (agreed, total) in counts.items():
        console.print(f"{name:<30} agreed with the others on {agreed} of {total}", markup=False)


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


KindsOption = Annotated[
    list[str] | None,
    typer.Option("--kind", help="A kind of aggregator, as NAME or NAME={settings}: `--kind vote --kind 'big={kind: fuse, expert: a}'`."),
]


@app.command("bench")
def bench(
    scores: ScoresOption,
    tasks: Annotated[Path, typer.Option(help="Labelled questions that the table has answers to, JSON lines.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Answers, JSON lines; where they are there, the run goes on.")],
    config: ConfigOption = None,
    expert: Annotated[list[str] | None, typer.Option(help="Only these experts; all unless told.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Limit of an answer.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Rank the experts as aggregators: who writes the right answer from a right one and two wrong ones, per task and skill.

    Example: `counterpoint combiner bench -c mixture.yaml --scores scores.parquet --tasks tune.jsonl -o bench.jsonl`
    """
    from data.records import Sampling
    from data.scores import read_scores
    from data.statistics import bootstrap
    from data.tasks import read_tasks
    from experts.pool import ExpertPool
    from serving.config import expert_specs
    from serving.evaluation.ranking import rank_experts
    from serving.show import console, progress_bars

    mixture, wanted, table = config_of(config), read_tasks(tasks), read_scores(scores)
    specs = expert_specs(mixture)
    prepare(mixture)

    with progress_bars() as tick:

        async def work() -> Ranking:
            async with ExpertPool(specs, mixture.pool.build()) as pool:
                names = expert or [spec.name for spec in specs]
                return await rank_experts(pool, wanted, table, names, output, tick, sampling=Sampling(max_tokens), seed=seed)

        ranking = run_until_done(work())
    if as_json:
        print(json.dumps(ranking.json(), indent=1))  # noqa: T201
        return
    for row in ranking.candidates:
        interval = bootstrap(row.right)
        tie = ", a tie with the best" if row.behind.tie and row is not ranking.candidates[0] else ""
        console.print(
            f"{row.expert:<20} {100 * interval.mean:5.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
            f"  {row.tokens.mean():.0f} tokens{tie}",
            markup=False,
        )
    for title, table_ in (("category", ranking.by_category()), ("skill", ranking.by_skill())):
        for name, means in table_.items():
            best = max(means, key=means.__getitem__)
            console.print(f"{title} {name}: {best}, {100 * means[best]:.1f}", markup=False)


@app.command("measure")
def measure_kinds_of(
    tasks: Annotated[Path, typer.Option(help="Labelled questions, JSON lines.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Rows by question and kind, JSON lines; where it is there, the run goes on.")
    ],
    config: ConfigOption = None,
    kind: KindsOption = None,
    max_tokens: Annotated[int | None, typer.Option(help="Limit of an answer.", min=1)] = None,
    as_json: JsonOption = False,
) -> None:
    """Let the live mixture answer labelled questions once for each kind of aggregator.

    Example: `counterpoint combiner measure -c mixture.yaml --tasks tune.jsonl --kind vote --kind fuse --kind self -o measured.jsonl`
    """
    from data.records import Sampling
    from data.tasks import read_tasks
    from serving.evaluation.aggregation import gaps, measure_kinds, systems_of
    from serving.show import console, progress_bars, systems_table

    mixture, wanted, kinds = config_of(config), read_tasks(tasks), kinds_of(kind)
    prepare(mixture)
    with progress_bars() as tick:
        outcomes = run_until_done(measure_kinds(mixture, wanted, [*kinds.items()], output, tick, sampling=Sampling(max_tokens)))
    systems = systems_of(outcomes, list(kinds))
    if as_json:
        print(json.dumps([system.row() for system in systems], indent=1))  # noqa: T201
        return
    console.print(systems_table(systems, f"{len(wanted)} questions of {tasks.name}; accuracy in percent, tokens a question"))
    for name, gap in gaps(systems, systems[0].name).items():
        verdict = ", a tie" if gap.tie else ""
        console.print(f"{name} - {systems[0].name}: {100 * gap.mean:+.1f} points [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]{verdict}")


@app.command("choose")
def choose(
    measured: Annotated[list[Path], typer.Option("--measured", help="What `combiner measure` wrote; may be repeated.")],
    output: OutputOption,
    kind: KindsOption = None,
    price: Annotated[float, typer.Option(help="Share of right answers that a thousand tokens must gain.", min=0)] = 0.0,
) -> None:
    """Learn which kind of aggregator is worth its tokens on which questions, for the kind `auto`.

    Example: `counterpoint combiner choose --measured measured.jsonl --kind vote --kind fuse --price 0.02 -o choice`
    """
    import numpy as np

    from aggregator.auto import Choice, Measured, save_choice
    from serving.evaluation.aggregation import outcomes_of, shared_of
    from serving.journal import read_rows
    from serving.show import console

    kinds = kinds_of(kind)
    by_kind = shared_of(outcomes_of([row for path in measured for row in read_rows(path)]), list(kinds))
    first = next(iter(by_kind.values()))
    choice = Choice.fit(
        Measured(
            [row.query for row in first],
            np.array([row.best_score for row in first]),
            {name: np.array([row.right for row in each]) for name, each in by_kind.items()},
            {name: np.array([row.prompt_tokens + row.completion_tokens for row in each], dtype=float) for name, each in by_kind.items()},
        ),
        price,
    )
    save_choice(choice, kinds, output)
    console.print(
        f"choice among {', '.join(choice.names)}, fitted on {len(first)} questions, in {output}; best as a whole: {choice.names[0]}"
    )
