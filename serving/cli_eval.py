"""`counterpoint eval`: benchmark runs that can be trusted and repeated, and their reports."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from data.records import CounterpointError
from serving.cli_common import ConfigOption, JsonOption, config_of, kept, kinds_of, prepare, run_until_done, say

app = typer.Typer(help="Run benchmarks against the mixture, its experts and the baselines, and report what came out.", no_args_is_help=True)

RunsOption = Annotated[Path, typer.Option("--runs", help="Folder of runs.")]
BenchmarksOption = Annotated[
    list[str],
    typer.Option(
        "--benchmark",
        "-b",
        help="A benchmark from the hub (gsm8k, mmlu-pro, ...), or NAME=PATH where its files lie here; skills, or some families "
        "(skills:logic,dates); file:PATH for tasks; scores:PATH for the questions of a score table.",
    ),
]


@app.command("run")
def run(
    benchmark: BenchmarksOption,
    config: ConfigOption = None,
    runs: RunsOption = Path("runs"),
    name: Annotated[str | None, typer.Option(help="The run's id; the same one goes on with a run that was cut off.")] = None,
    limit: Annotated[int | None, typer.Option(help="Questions of each benchmark, drawn by the seed.", min=1)] = None,
    split: Annotated[str, typer.Option(help="Split that is asked.")] = "test",
    weight: Annotated[list[str] | None, typer.Option(help="BENCHMARK=WEIGHT in the mean over benchmarks; 1 unless told.")] = None,
    aggregator: Annotated[
        list[str] | None, typer.Option(help="A further system: a kind of aggregator, as NAME or NAME={settings}; may be repeated.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Limit of an answer.", min=1)] = None,
    shots: Annotated[int, typer.Option(help="Worked examples before each question, out of train; for benchmarks from the hub.", min=0)] = 0,
    ood: Annotated[list[str] | None, typer.Option(help="A category that is told apart: nothing was learned from it.")] = None,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Run the programs that experts write, in a sandbox.")] = False,
    judge: Annotated[str | None, typer.Option(help="The expert that compares answers with a reference, for pairwise benchmarks.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of draws, samples and resampling.", min=0)] = 0,
    recorded: Annotated[
        Path | None, typer.Option("--from", help="Folder of another run, or a score table: its answers are taken, and nobody is asked.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the mixture, every expert and the best one sampled as often; write figures and a report.

    A run that is stopped, or killed, goes on where it was when it is started again with the same --name.

    Example: `counterpoint eval run -c mixture.yaml --benchmark skills --benchmark file:mine.jsonl --limit 200 --name first`
    """
    from data.benchmarks import check
    from data.records import Sampling
    from serving.evaluation.benchmarks import loaded, weights_of
    from serving.evaluation.folder import begun, ended, surroundings
    from serving.evaluation.report import write_report
    from serving.evaluation.run import evaluate
    from serving.evaluation.suite import Plan
    from serving.show import console, progress_bars

    mixture = config_of(config)
    if judge is not None and judge not in (known := [expert.name for expert in mixture.experts]):
        raise CounterpointError(f"--judge {judge}: no expert is called so; there are {', '.join(known)}")
    questions, sources = loaded(benchmark, split=split, limit=limit, seed=seed, shots=shots, ood=ood or [])
    check((question.task for question in questions), allow_code=allow_code, judge=judge is not None)
    own = mixture.aggregator.model_dump(exclude_unset=True) or {"kind": mixture.aggregator.kind}
    further = kinds_of(aggregator) if aggregator else {}
    systems = [("mixture", own), *((f"mixture:{kind}", settings) for kind, settings in further.items())]
    about: dict[str, Any] = {
        "command": " ".join(["counterpoint", *sys.argv[1:]]),
        "benchmarks": sources,
        "weights": weights_of(weight or [], sources),
        "judge": judge,
        **surroundings(),
    }
    table = recorded is not None and recorded.is_file()  # which holds one answer of each expert, and no samples
    how: dict[str, Any] = {"sampled": not table, "seed": seed, "allow_code": allow_code, "judge": judge}
    plan = Plan(mixture, tuple(questions), tuple(systems), Sampling(max_tokens), about=about, **how)
    id = name or f"{mixture.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = runs / id
    created = begun(plan, folder)
    say(f"{len(questions)} questions, {len(systems)} systems of the mixture, {len(mixture.experts)} experts; the run is in {folder}")
    if recorded is None:
        prepare(mixture)
    with kept(), progress_bars() as tick:
        data = run_until_done(evaluate(plan, folder, name=id, created=created, tick=tick, recorded=recorded))
    summary = ended(data, folder)
    write_report(data, folder)
    if as_json:
        print(json.dumps(summary.json(), indent=1))  # noqa: T201
        return
    console.print(_table(folder))
    say(f"the report: {folder / 'report.html'}")


@app.command("report")
def report(folder: Annotated[Path, typer.Argument(help="The run's folder.")]) -> None:
    """Write a run's report again.

    Example: `counterpoint eval report runs/first`
    """
    from serving.evaluation.folder import ended
    from serving.evaluation.report import write_report
    from serving.evaluation.rundata import RunData
    from serving.show import console

    data = RunData.load(folder)
    ended(data, folder)
    write_report(data, folder)
    console.print(_table(folder))
    say(f"the report: {folder / 'report.html'}")


@app.command("compare")
def compare(
    first: Annotated[Path, typer.Argument(help="A run's folder.")],
    second: Annotated[Path, typer.Argument(help="Another run's folder.")],
    as_json: JsonOption = False,
) -> None:
    """Compare two runs, system by system, on the questions that both have.

    Example: `counterpoint eval compare runs/first runs/second`
    """
    from serving.evaluation.report import write_comparison
    from serving.evaluation.rundata import RunData
    from serving.show import console

    markdown, body = write_comparison(RunData.load(first), RunData.load(second))
    if as_json:
        print(json.dumps(body, indent=1))  # noqa: T201
        return
    console.print(markdown, markup=False)


def _table(folder: Path) -> Any:
    from serving.evaluation.folder import systems_of
    from serving.evaluation.rundata import RunData
    from serving.show import systems_table

    data = RunData.load(folder)
    if not len(data.outcomes):
        raise CounterpointError(f"{folder} holds no results")
    return systems_table(systems_of(data), f"{len(data.questions)} questions of {data.name}; score in percent, tokens a question")
