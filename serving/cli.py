"""The command line. One line per user error, exit code 2, no traceback."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from data.records import CounterpointError
from serving import cli_combiner, cli_eval, cli_keys, cli_migrate, cli_pool, cli_router, cli_selection
from serving.cli_common import ConfigOption, JsonOption, config_of, kept, prepare, run_until_done, say

app = typer.Typer(
    name="counterpoint",
    help="A mixture of LLMs behind one door: routes each question to the best experts and makes one answer of theirs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
adapter_app = typer.Typer(help="Train LoRA specialists.", no_args_is_help=True)
encoder_app = typer.Typer(help="Make text encoders.", no_args_is_help=True)
app.add_typer(cli_router.app, name="router")
app.add_typer(cli_combiner.app, name="combiner")
app.add_typer(cli_keys.app, name="keys")
app.add_typer(cli_eval.app, name="eval")
app.add_typer(cli_selection.app, name="pool")
app.add_typer(adapter_app, name="adapter")
app.add_typer(encoder_app, name="encoder")

ScoresOption = Annotated[Path, typer.Option("--scores", help="Score table: .parquet, .jsonl or .csv.")]


def main() -> None:
    """Run the command line; a person's mistake is one line and exit code 2."""
    _be_quiet()
    try:
        app(standalone_mode=True)
    except CounterpointError as error:
        print(f"counterpoint: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None


def _be_quiet() -> None:
    """Keep the libraries' remarks out of our output; COUNTERPOINT_VERBOSE lets them through."""
    if os.environ.get("COUNTERPOINT_VERBOSE"):
        return
    warnings.filterwarnings("ignore")
    for name in ("transformers", "sentence_transformers", "ray", "httpx", "vllm", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@app.command()
def demo(
    questions: Annotated[int, typer.Option(help="Test questions to answer.", min=24, max=440)] = 120,
    arrival: Annotated[int, typer.Option(help="Questions that also run in order of arrival.", min=1, max=40)] = 8,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Measure the single experts and fit the router anew.")] = False,
    keep: Annotated[Path | None, typer.Option(help="With --from-scratch: folder for the score table and the router.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check that everything is there, and start nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Answer test questions with the mixture that ships, and print how it did against honest baselines.

    Example: `counterpoint demo --questions 120`
    """
    from serving.demo import demo_config, run_demo
    from serving.show import console, progress_bars, show_demo

    config = demo_config()
    if dry_run:
        from serving.pipeline import Pipeline

        Pipeline.of(config)
        console.print(f"ready: {', '.join(expert.name for expert in config.experts)}")
        return
    prepare(config)
    scratch = (keep or Path(tempfile.mkdtemp(prefix="counterpoint-"))) if from_scratch else None
    with progress_bars() as tick:
        report = run_until_done(run_demo(questions, arrival=arrival, scratch=scratch, tick=tick))
    if as_json:
        print(json.dumps(report.json(), indent=1))  # noqa: T201
    else:
        show_demo(report)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    config: ConfigOption = None,
    explain: Annotated[bool, typer.Option("--explain", help="Tell who was asked, why, and what each said.")] = False,
    k: Annotated[int | None, typer.Option(help="Experts to ask.", min=1)] = None,
    aggregator: Annotated[str | None, typer.Option(help="Kind of aggregator.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the mixture one question.

    Example: `counterpoint ask "What is twelve plus thirty?" --explain`
    """
    from serving.pipeline import Pipeline, one_question
    from serving.protocol import explain_json, usage_json
    from serving.show import explanation

    mixture = config_of(config)
    request = one_question(question, k=k, aggregator=aggregator)
    pipeline = Pipeline.of(mixture)
    route = pipeline.route(request)  # what cannot be asked is refused before anything is loaded
    prepare(mixture)

    async def work() -> Any:
        async with pipeline:
            return await pipeline.answer(request, route)

    answer, trace = run_until_done(work())
    if answer.error is not None:
        raise CounterpointError(answer.error)
    if as_json:
        body = {"text": answer.text, "usage": usage_json(answer.usage), **(explain_json(answer, trace) if explain else {})}
        print(json.dumps(body, ensure_ascii=False, indent=1))  # noqa: T201
        return
    print(answer.text)  # noqa: T201
    if explain:
        print("\n".join(f"  {line}" for line in explanation(answer, trace)))  # noqa: T201


@app.command()
def tasks(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the tasks go, one JSON object a line.")],
    split: Annotated[list[str] | None, typer.Option(help="train, tune or test; may be given several times.")] = None,
    per_family: Annotated[int, typer.Option(help="Questions of each family.", min=1)] = 40,
    family: Annotated[list[str] | None, typer.Option(help="Only these families; may be given several times.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the questions.")] = 0,
) -> None:
    """Write questions with exact answers, made by program.

    Example: `counterpoint tasks --split train --split test --per-family 60 -o tasks.jsonl`
    """
    from data.skills import generate
    from data.tasks import write_tasks

    try:
        made = [
            task for name in split or ["test"] for task in generate(name, per_family, seed=seed, families=tuple(family) if family else None)
        ]
    except ValueError as error:
        raise CounterpointError(str(error)) from error
    write_tasks(made, output)
    say(f"{len(made)} tasks in {output}")


@app.command()
def profile(
    tasks: Annotated[Path, typer.Option("--tasks", help="Tasks: one JSON object a line with query, answer and grader.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The score table: .parquet, .jsonl or .csv.")],
    config: ConfigOption = None,
    expert: Annotated[list[str] | None, typer.Option(help="Only these experts; may be given several times.")] = None,
    options: Annotated[bool, typer.Option("--options", help="Also ask how probable each lettered option is.")] = False,
    prompt: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=TEXT", help="With --options: an instruction below the question; may be repeated."),
    ] = None,
) -> None:
    """Run every expert on tasks with known answers and write the score table; run again to go on after a stop.

    With --options, every expert is also asked for the log-probabilities of the options of tasks that have them, under each prompt;
    what it tells stands in rows of the expert EXPERT@PROMPT, in the column `logprobs`. The aggregator `pool` learns from these rows;
    leave them out of the table of a router.

    Example: `counterpoint profile -c mixture.yaml --tasks tasks.jsonl -o scores.parquet`
    """
    from data.tasks import read_tasks
    from experts.pool import ExpertPool
    from serving.config import expert_specs
    from serving.profile import profile as run_profile
    from serving.show import console, progress_bars

    mixture, wanted = config_of(config), read_tasks(tasks)
    specs = expert_specs(mixture)
    names = expert or [spec.name for spec in specs]
    if unknown := [name for name in names if name not in {spec.name for spec in specs}]:
        raise CounterpointError(f"no expert is called {unknown[0]!r}; the mixture has {', '.join(spec.name for spec in specs)}")
    prompts = _prompts(prompt, wanted) if options or prompt else {}
    prepare(mixture)

    async def work(tick: Callable[[str, int, int], None]) -> Any:
        async with ExpertPool(specs, mixture.pool.build()) as pool:
            return await run_profile(pool, wanted, names, output, lambda done, total, _: tick("answers", done, total), prompts)

    with kept(), progress_bars() as tick:
        table = run_until_done(work(tick))
    means = table.groupby("expert", sort=False)["score"].mean()
    console.print(f"{len(table)} answers in {output}: " + ", ".join(f"{name} {100 * mean:.1f}%" for name, mean in means.items()))


def _prompts(given: list[str] | None, tasks: Any) -> dict[str, str]:
    """The prompts of --prompt by their names, or ours."""
    from aggregator.pooling import PROMPTS
    from serving.profile import letters_of

    if not any(letters_of(task) for task in tasks):
        raise CounterpointError("--options: no task has lettered options and the grader choice")
    prompts: dict[str, str] = {}
    for one in given or ():
        name, is_one, text = (part.strip() for part in one.partition("="))
        if not (is_one and text and re.fullmatch(r"[A-Za-z0-9._-]+", name)) or name in prompts:
            raise CounterpointError(f"--prompt wants NAME=TEXT, each NAME once and of letters, digits, '.', '_' and '-', not {one!r}")
        prompts[name] = text
    return prompts or dict(PROMPTS)


@app.command()
def replay(
    scores: ScoresOption,
    router: Annotated[Path | None, typer.Option(help="Folder of a router; without it, one is fitted on the table's train split.")] = None,
    k: Annotated[int, typer.Option("--k", help="Experts to ask.", min=1)] = 3,
    aggregator: Annotated[list[str] | None, typer.Option(help="Kind of aggregator, weighted unless told; may be repeated.")] = None,
    combiner: Annotated[Path | None, typer.Option(help="Folder of a fitted combiner, for learned, rank, auto and pool.")] = None,
    most: Annotated[int | None, typer.Option(help="Experts that may be asked one after the other, beyond k.", min=1)] = None,
    price: Annotated[float | None, typer.Option(help="What one more call must gain, for learned and rank.", min=0, max=1)] = None,
    split: Annotated[list[str] | None, typer.Option(help="Splits to replay; test where the table has splits.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Experts of the table to leave out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the whole mixture over recorded answers, without a model.

    Example: `counterpoint replay --scores scores.parquet --k 3 --aggregator weighted`
    """
    from aggregator import make_aggregator, settings_of
    from data.scores import count_leaked, experts_of, read_scores, rows_of
    from router import DEFAULT_KIND, KINDS, Router, load_router
    from serving.evaluation.systems import baselines, versus
    from serving.replay import replay as run_replay
    from serving.show import console, progress_bars, systems_table

    table = cli_router.left_out(read_scores(scores), exclude)
    kinds = list(dict.fromkeys(aggregator or ["weighted"]))  # what cannot be done is refused before anything is routed
    fitted_too = {name: value for name, value in (("path", combiner), ("price", price)) if value is not None}
    takers = [kind for kind in kinds if "price" in settings_of(kind) or kind == "pool"]
    if fitted_too and not takers:
        raise CounterpointError(f"--combiner and --price are for learned, rank, auto and pool, not for {', '.join(kinds)}")
    if combiner is None and (without := [kind for kind in takers if kind != "pool"]):
        raise CounterpointError(f"the aggregator {without[0]!r} needs a fitted combiner: give its folder by --combiner")
    fits = {kind: {name: value for name, value in fitted_too.items() if name in settings_of(kind)} for kind in takers}
    made = [make_aggregator(kind, **fits.get(kind, {})) for kind in kinds]
    if unfit := [each.kind for each in made if not each.replays]:
        raise CounterpointError(f"the aggregator {unfit[0]!r} asks an LLM, so given answers cannot replay it")
    has_splits = "split" in table.columns
    rows = rows_of(table, (split or ["test"]) if has_splits else None)
    if router is None and not has_splits:
        raise CounterpointError(f"{scores} has no splits to fit a router on: give one by --router")
    train = rows_of(table, ["train", "tune"]) if has_splits and {"train", "tune"} & set(table["split"]) else None
    if train is not None and (leaked := count_leaked(table, ["train", "tune"])):
        say(f"left out {leaked} questions of train and tune whose text also stands in test")
    with progress_bars() as tick:
        fitted: Router
        if router is None:
            fitted = KINDS[DEFAULT_KIND]().fit(rows_of(table, ["train"]), lambda done, total: tick("texts to fit on", done, total))
        else:
            fitted = load_router(router)
        experts = [name for name in experts_of(rows) if name in fitted.experts_]
        k = min(k, max(1, len(experts)))
        most = None if most is None else min(max(most, k), len(experts))
        top, mixtures = run_until_done(run_replay(rows, fitted, k, made, most, lambda done, total: tick("questions", done, total)))
    final = mixtures[0] if k > 1 or most else top
    controls = baselines(rows, train, experts)
    systems = [*controls, top, *(mixtures if k > 1 or most else [])]
    comparisons = [versus(final, system) for system in systems[:3]]
    if as_json:
        row, costs = final.row(), final.costs
        report = {name: row[name] for name in ("accuracy", "low", "high", "mean_calls")}
        report["cost"] = None if costs is None else round(float(costs.mean()), 8)
        by_name = {system.name: system.row()["accuracy"] for system in controls}
        for name in ("best-single", "random", "category-oracle", "oracle"):
            report[name.replace("-", "_")] = by_name.get(name)
        print(json.dumps(report | {"systems": [system.row() for system in systems], "comparisons": comparisons}, indent=1))  # noqa: T201
        return
    console.print(
        systems_table(systems, f"{rows['query_id'].nunique()} questions of {scores.name}; accuracy in percent, tokens a question")
    )
    for line in comparisons:
        console.print(line)


@app.command()
def batch(
    source: Annotated[Path, typer.Option("--input", "-i", help="Requests in OpenAI's batch format, one a line.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Answers; where it is there already, the run goes on.")],
    config: ConfigOption = None,
    calls: Annotated[
        int | None,
        typer.Option(help="Calls for all requests that set nothing themselves, spent where they add most.", min=1),
    ] = None,
    balance: Annotated[int | None, typer.Option(help="Experts a question on average; every expert gets as many questions.", min=1)] = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a file of requests, grouped by expert; run again after any stop, no line is lost or doubled.

    Example: `counterpoint batch -c mixture.yaml -i in.jsonl -o out.jsonl`
    """
    from dataclasses import asdict

    import numpy as np

    from router.batch_policy import expert_choice, knapsack
    from serving.batch import read_batch, run_batch
    from serving.journal import Journal
    from serving.pipeline import Pipeline
    from serving.show import console, progress_bars

    if calls is not None and balance is not None:
        raise CounterpointError("--calls and --balance plan the file in two ways: give one of them")
    choose = None
    if calls is not None:
        choose = lambda scores: knapsack(scores, np.ones(scores.shape[1]), float(calls))  # noqa: E731
    elif balance is not None:
        choose = lambda scores: expert_choice(scores, balance)  # noqa: E731
    read_batch(source)
    if output.exists() and output.samefile(source):
        raise CounterpointError(f"input and output are the same file: {source}")
    with Journal(output):  # a path that cannot be written is told before models are loaded
        pass
    mixture = config_of(config)
    pipeline = Pipeline.of(mixture)
    prepare(mixture)

    async def work(tick: Callable[[str, int, int], None]) -> Any:
        async with pipeline:
            return await run_batch(pipeline, source, output, lambda done, total: tick("requests", done, total), choose)

    with kept(), progress_bars() as tick:
        report = run_until_done(work(tick))
    if as_json:
        print(json.dumps(asdict(report)))  # noqa: T201
    else:
        console.print(f"{report.done} of {report.total} requests in {output}: {report.failed} failed, {report.resumed} were there already")
    if report.failed:
        raise typer.Exit(2)


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check a mixture before anything starts: the config, the bytes, the licences. Downloads nothing.

    Weights, cache and what may sleep are added up for each engine and held against the slots' budgets; a mixture that cannot run ends
    in exit code 2. It may be meant for another machine: models that are not here are named, and counted by their size_b.

    Example: `counterpoint check -c mixture.yaml`
    """
    from serving.check import check as run_check
    from serving.check import report_lines

    report = run_check(config_of(config))
    print(json.dumps(report.json(), ensure_ascii=False, indent=1) if as_json else "\n".join(report_lines(report)))  # noqa: T201
    for error in report.errors:
        print(f"counterpoint: {error}", file=sys.stderr)  # noqa: T201
    if report.errors:
        raise typer.Exit(2)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="File or folder in the other project's format; with --to, a score table.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The score table: .parquet, .jsonl or .csv; with --to, a folder.")],
    kind: Annotated[
        str | None, typer.Option("--from", help="routerbench, llmrouterbench, routerarena, embedllm or routerdc.", show_default=False)
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="llmrouterbench: write a score table as its results.", show_default=False)] = None,
) -> None:
    """Turn another project's recorded answers into a score table, or a score table into another project's results.

    Example: `counterpoint convert routerbench.parquet --from routerbench -o scores.parquet`

    Example: `counterpoint convert runs/first/cells.parquet --to llmrouterbench -o results/bench`
    """
    from data.converters import convert as run
    from data.converters import write_llmrouterbench
    from data.scores import read_scores, write_scores
    from serving.show import console

    if (kind is None) == (to is None):
        raise CounterpointError("wanted one of --from FORMAT and --to FORMAT")
    if kind is not None:
        table = run(kind, source)
        write_scores(table, output)
        console.print(f"{len(table)} rows of {table['expert'].nunique()} experts on {table['query_id'].nunique()} questions in {output}")
        return
    if to != "llmrouterbench":
        raise CounterpointError(f"--to {to}: wanted llmrouterbench (RouterArena's prediction files come from `counterpoint router export`)")
    files = write_llmrouterbench(read_scores(source), output, time.strftime("%Y%m%d_%H%M%S"))
    console.print(f"{len(files)} files of results in {output}")


@encoder_app.command("distil")
def encoder_distil(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the encoder.")],
    model: Annotated[str, typer.Argument(help="all-MiniLM-L6-v2, or the folder of a sentence-transformers model.")] = "all-MiniLM-L6-v2",
    dim: Annotated[int, typer.Option(help="Length of its vectors, even.")] = 256,
) -> None:
    """Distil a static encoder of a sentence-transformers model: a vector for each word piece, no transformer at run time.

    Example: `counterpoint encoder distil all-MiniLM-L6-v2 -o my-static`
    """
    from data.encoders.static import distil
    from serving.show import console, progress_bars

    if "+" in str(output.resolve()):
        raise CounterpointError(f"{output.resolve()} is no place for an encoder: + joins the names of encoders")
    with progress_bars() as tick:
        distil(model, output, dim, lambda done, total: tick("word pieces", done, total))
    console.print(f"static encoder of {dim} dimensions in {output}; use it as `--encoder {output.resolve()}+style`")


@adapter_app.command("fit")
def adapter_fit(
    model: Annotated[str, typer.Argument(help="The base: a folder, packaged:NAME, or a hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the adapter.")],
    family: Annotated[list[str], typer.Option(help="Families of questions to learn; may be given several times.")],
    steps: Annotated[int, typer.Option(help="Optimiser steps.", min=1)] = 600,
    rank: Annotated[int, typer.Option(help="Rank of the adapter.", min=1)] = 2,
    batch: Annotated[int, typer.Option(help="Questions a step.", min=1)] = 16,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    per_family: Annotated[int, typer.Option(help="Training questions of each family.", min=1)] = 3000,
    system: Annotated[str | None, typer.Option(help="System message under which it will work.")] = "Answer briefly.",
    seed: Annotated[int, typer.Option(help="Seed of the matrices and of the order.")] = 0,
) -> None:
    """Fine-tune a LoRA specialist on families of the skills generator; its own train split only.

    Example: `counterpoint adapter fit packaged:smollm2-135m-instruct --family dates --steps 200 -o adapters/dates`
    """
    from data.skills import generate
    from experts.finetune import Recipe, fit_adapter
    from experts.models import resolve
    from serving.show import console, progress_bars

    try:
        examples = [(task.query, task.answer) for task in generate("train", per_family, families=tuple(family))]
    except ValueError as error:
        raise CounterpointError(str(error)) from error
    recipe = Recipe(rank, steps, batch, learning_rate, seed)
    command = f"counterpoint adapter fit {model} {' '.join(f'--family {name}' for name in family)} --steps {steps} --rank {rank}"
    command += f" --batch {batch} --learning-rate {learning_rate:g} --per-family {per_family} --seed {seed} -o {output.name}"
    with progress_bars() as tick:
        report = fit_adapter(
            resolve(model, None, say), examples, output, system=system, recipe=recipe, command=command,
            on_step=lambda step, loss: tick(f"loss {loss:.3f}", step, steps),
        )  # fmt: skip
    console.print(f"{output}: {report['weights']} weights, {report['minutes']} minutes, last loss {report['loss'][-1]}")


@app.command()
def serve(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; the config's, else loopback only.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Listen beyond loopback without keys, because something else guards it.")] = False,
    emit: Annotated[Path | None, typer.Option(help="Write what Ray's own `serve deploy` takes into this file, and start nothing.")] = None,
) -> None:
    """Serve the mixture: OpenAI's protocol over HTTP, on Ray Serve. SIGHUP reads the config again: experts and slots come and go.

    Example: `counterpoint serve -c mixture.yaml --port 8000`
    """
    from serving import endpoint
    from serving.config import LOOPBACK

    if emit is not None:
        _emit(config, _listening(config_of(config), host, port, open_), emit)
        return

    def reload() -> None:
        try:
            again = _listening(config_of(config), host, port, open_)
            prepare(again)
            say(endpoint.reload(again))
        except CounterpointError as error:
            say(f"not reloaded: {error}")

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    mixture = _listening(config_of(config), host, port, open_)
    prepare(mixture)
    address = endpoint.start(mixture)
    if not mixture.serving.keys:
        beyond = mixture.serving.host not in LOOPBACK
        say("it asks for no key: " + ("everyone who reaches it may use its experts" if beyond else "it listens on loopback only"))
    say(f"{mixture.name} listens at {address}/v1 with {', '.join(expert.name for expert in mixture.experts)}; Ctrl-C ends it")
    try:
        endpoint.wait_for_end(on_hangup=reload)
    finally:
        say("ending")
        endpoint.stop()


@app.command()
def chat(
    config: ConfigOption = None,
    port: Annotated[int | None, typer.Option(help="Port of the endpoint.")] = None,
    page_port: Annotated[int, typer.Option(help="Port of the page.")] = 8501,
    keep: Annotated[
        bool, typer.Option(help="Without serving.store, keep conversations, batches and feedback in the user's own file.")
    ] = True,
) -> None:
    """Start the endpoint and the chat page, and print the page's address.

    The page also shows the runs that `eval run` left in `runs`, where the mixture names no other folder.

    Example: `counterpoint chat`
    """
    from serving import endpoint
    from serving.page import check_streamlit, running_page

    mixture = _for_page(_listening(config_of(config), None, port), keep)
    endpoint.check_port("127.0.0.1", page_port)
    prepare(mixture)
    check_streamlit()
    address = endpoint.start(mixture)
    try:
        with running_page(address, mixture.name, page_port) as page:
            say(f"the page is at http://127.0.0.1:{page_port}, the endpoint at {address}/v1; Ctrl-C ends both")
            endpoint.wait_for_end(page)
            say("ending")
    finally:
        endpoint.stop()


cli_pool.register(app)
cli_migrate.register(app)


def _emit(path: Path | None, mixture: Any, output: Path) -> None:
    """Write a config for Ray's own `serve`.

    Raises:
        CounterpointError: There is no mixture's file to name, or the output cannot be written.
    """
    import yaml

    from serving.deploy import serve_config

    if path is None:
        raise CounterpointError("--emit names a mixture's YAML in the file: give it by -c")
    made = yaml.safe_dump(serve_config(path, mixture.serving.host, mixture.serving.port), sort_keys=False)
    try:
        output.write_text(made, encoding="utf-8")
    except OSError as error:
        raise CounterpointError(f"cannot write {output}: {error.strerror or error}") from error
    say(f"{output}: `serve run {output}` or `serve deploy {output}`")


def _for_page(config: Any, keep: bool) -> Any:
    """A mixture with what the page wants: a place for conversations, and a folder of runs where there is one."""
    from serving.store import default_url

    changes: dict[str, Any] = {"store": config.serving.store or (default_url() if keep else None)}
    if config.serving.runs is None and Path("runs").is_dir():
        changes["runs"] = str(Path("runs").absolute())
    return config.model_copy(update={"serving": config.serving.model_copy(update=changes)})


def _listening(config: Any, host: str | None, port: int | None, open_: bool = False) -> Any:
    """A mixture with the address that was asked for.

    Raises:
        CounterpointError: It would listen beyond loopback without keys.
    """
    from serving.config import LOOPBACK

    changes: dict[str, Any] = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    serving = config.serving.model_copy(update=changes | ({"open": True} if open_ else {}))
    if serving.host not in LOOPBACK and not serving.keys and not serving.open:
        raise CounterpointError(
            f"without keys the endpoint listens on loopback only, not on {serving.host}: set serving.keys and make keys by "
            "`counterpoint keys create`, or say --open where something else guards it"
        )
    return config.model_copy(update={"serving": serving})


if __name__ == "__main__":
    main()
