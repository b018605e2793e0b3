"""The commands that train, measure, compare and tend routers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data.records import CounterpointError

if TYPE_CHECKING:
    import pandas as pd

    from router import Router
    from serving.evaluation.routing import Measured

app = typer.Typer(help="Train, measure, compare and tend routers.", no_args_is_help=True)

ScoresOption = Annotated[Path, typer.Option("--scores", help="Score table: .parquet, .jsonl or .csv.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Folder of the artefact.")]
FolderArgument = Annotated[Path, typer.Argument(help="Folder of the artefact.")]
ExpertOption = Annotated[str, typer.Option("--expert", help="Name of the expert.")]
EncoderOption = Annotated[str | None, typer.Option(help="Text encoders, joined by +: static, style, tfidf, all-MiniLM-L6-v2, …")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command("fit")
def fit(
    scores: ScoresOption,
    output: OutputOption,
    kind: Annotated[str, typer.Option(help="Kind of router; see `router kinds`.")] = "stack",
    split: Annotated[list[str] | None, typer.Option(help="Splits to learn from; train where the table has splits.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Experts of the table to leave out.")] = None,
    encoder: EncoderOption = None,
    seed: Annotated[int | None, typer.Option(help="Seed, for kinds that draw.")] = None,
    texts: Annotated[bool, typer.Option(help="Keep the training questions in the artefact, to explain routes by them.")] = True,
    descriptions: Annotated[Path | None, typer.Option(help="YAML of experts and what they are good at, for kind description.")] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="A setting of the kind, as name=value.")] = None,
) -> None:
    """Fit a router on a score table.

    Example: `counterpoint router fit --scores scores.parquet --split train --split tune -o router`
    """
    from data.scores import count_leaked, read_scores, rows_of
    from router import KINDS
    from serving.show import console, notes, progress_bars

    made = _settings(kind, encoder, seed, texts, descriptions, setting or [])
    table = left_out(read_scores(scores), exclude)
    splits = split or (["train"] if "split" in table.columns else None)
    rows = rows_of(table, splits)
    if splits and (leaked := count_leaked(table, splits)):
        notes.print(f"left out {leaked} questions of {', '.join(splits)} whose text also stands in test")
    with progress_bars() as tick:
        router = KINDS[kind](**made).fit(rows, lambda done, total: tick("texts", done, total))
    router.save(output)
    console.print(f"{kind} router of {len(router.experts_)} experts, fitted on {rows['query_id'].nunique()} questions, in {output}")


def _settings(
    kind: str, encoder: str | None, seed: int | None, texts: bool, descriptions: Path | None, pairs: Sequence[str]
) -> dict[str, Any]:
    """The settings of a kind, from the options; what it does not have is refused.

    Raises:
        CounterpointError: There is no such kind or setting, or a value does not fit.
    """
    from typing import get_type_hints

    import yaml

    from data.encoders import NAMES
    from router import KINDS
    from serving.settings import fitting

    if kind not in KINDS:
        raise CounterpointError(f"no router is called {kind!r}; there are {', '.join(KINDS)}")
    known = {name: hint for name, hint in get_type_hints(KINDS[kind].__init__).items() if name != "return"}
    made: dict[str, Any] = {}
    for pair in pairs:
        name, given, value = pair.partition("=")
        if not given:
            raise CounterpointError(f"--set wants name=value, not {pair!r}")
        try:
            made[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise CounterpointError(f"--set {name}: {value!r} cannot be read as a value") from error
    made |= {name: value for name, value in (("encoder", encoder), ("seed", seed)) if value is not None}
    if isinstance(made.get("encoder"), str):  # a folder is found again from anywhere
        parts = made["encoder"].split("+")
        made["encoder"] = "+".join(str(Path(part).resolve()) if part not in NAMES and Path(part).is_dir() else part for part in parts)
    if "seed" in made and not (isinstance(made["seed"], int) and 0 <= made["seed"] < 2**32):
        raise CounterpointError(f"the seed must be a whole number from 0 to {2**32 - 1}, not {made['seed']!r}")
    if not texts and "texts" in known:
        made["texts"] = False
    if descriptions is not None:
        made["descriptions"] = _descriptions(descriptions)
    return fitting(f"the {kind} router", known, made, "--set ")


def _descriptions(path: Path) -> dict[str, str]:
    """Read what experts are good at.

    Raises:
        CounterpointError: The file is absent, no YAML, or no mapping of texts.
    """
    import yaml

    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CounterpointError(f"the descriptions in {path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(read, dict) or not all(isinstance(part, str) for pair in read.items() for part in pair):
        raise CounterpointError(f"{path} holds no descriptions: wanted a mapping of experts and texts")
    return read


def left_out(table: pd.DataFrame, names: Sequence[str] | None) -> pd.DataFrame:
    """A score table without some of its experts.

    Raises:
        CounterpointError: One of them is not there, or no other.
    """
    there = list(dict.fromkeys(table["expert"]))
    if unknown := [name for name in names or () if name not in there]:
        raise CounterpointError(f"--exclude: no expert is called {unknown[0]!r}; the score table has {', '.join(there)}")
    rows = table[~table["expert"].isin(names or ())].reset_index(drop=True)
    if rows.empty:
        raise CounterpointError("--exclude leaves no expert")
    return rows


@app.command("eval")
def evaluate(
    folder: FolderArgument,
    scores: ScoresOption,
    split: Annotated[list[str] | None, typer.Option(help="Splits to measure on; test where the table has splits.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a router's first choice on a score table, beside the baselines.

    Example: `counterpoint router eval router --scores scores.parquet --split test`
    """
    from data.scores import read_scores, rows_of
    from router import load_router
    from serving.evaluation.routing import Bench, report_json
    from serving.show import console, progress_bars

    router = load_router(folder)
    table = read_scores(scores)
    known = table[table["expert"].isin(router.experts_)].reset_index(drop=True)
    if known.empty:
        there = ", ".join(dict.fromkeys(table["expert"]))
        raise CounterpointError(f"the router knows {', '.join(router.experts_)}, the score table {there}: none in common")
    bench = Bench.of(known, None, split) if "split" in known.columns else Bench(rows_of(known, split), None)
    with progress_bars() as tick:
        measured = bench.measure(router.kind, router, tick)
        baselines = bench.baselines()
    if as_json:
        print(json.dumps(report_json(measured, baselines), indent=1))  # noqa: T201
        return
    _print(_table([*baselines.values(), measured], f"{len(measured.right)} questions of {scores.name}"))
    for name, other in baselines.items():
        console.print(_versus(measured, other, name))


@app.command("compare")
def compare(
    scores: ScoresOption,
    kind: Annotated[list[str] | None, typer.Option(help="Only these kinds; may be given several times.")] = None,
    fit_split: Annotated[list[str] | None, typer.Option("--fit-split", help="Splits to fit on; train and tune.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Splits to measure on; test.")] = None,
    encoder: EncoderOption = None,
    descriptions: Annotated[Path | None, typer.Option(help="YAML of experts and what they are good at.")] = None,
    figure: Annotated[Path, typer.Option(help="Where the figure goes, as PNG and SVG.")] = Path("routers.png"),
    as_json: JsonOption = False,
) -> None:
    """Fit all kinds of routers on a score table, measure them beside the baselines, mark ties and draw the figure.

    A table without splits is divided by a hash of each question, 70 to 30.

    Example: `counterpoint router compare --scores scores.parquet --figure routers.png`
    """
    from data.scores import count_leaked, read_scores
    from router import KINDS, EmbeddingRouter, RouterError
    from serving.evaluation.figure import write_figure
    from serving.evaluation.routing import Bench, report_json
    from serving.show import console, notes, progress_bars

    kinds = list(dict.fromkeys(kind)) if kind else [name for name, made in KINDS.items() if issubclass(made, EmbeddingRouter)]
    settings = {name: _settings(name, encoder, None, True, descriptions if name == "description" else None, []) for name in kinds}
    table = read_scores(scores)
    bench = Bench.of(table, fit_split, split)
    if "split" in table.columns and (leaked := count_leaked(table, fit_split or ["train", "tune"])):
        notes.print(f"left out {leaked} questions to fit on whose text also stands in test")
    measured = []
    with progress_bars() as tick:
        baselines = bench.baselines()
        for name in kinds:
            try:
                measured.append(bench.fit(name, settings[name], tick))
            except RouterError as error:  # such as no categories for the category router
                notes.print(f"{name}: left out, {error}")
    if not measured:
        raise CounterpointError("no kind could be fitted on this table")
    if as_json:
        print(json.dumps({each.name: report_json(each, baselines) for each in measured}, indent=1))  # noqa: T201
    else:
        _print(_table([*baselines.values(), *measured], f"{len(measured[0].right)} questions of {scores.name}", best_of=measured))
    files = write_figure([*baselines.values(), *measured], figure)  # after the numbers, which a path that cannot be written must not cost
    if not as_json:
        console.print(f"Figure: {', '.join(map(str, files))}")


def _print(table: Any) -> None:
    """Print a table that is wider than most; what is piped has no edge to keep."""
    from serving.show import console

    if not console.is_terminal:
        console.width = 160
    console.print(table)


def _table(rows: Sequence[Measured], title: str, best_of: Sequence[Measured] = ()) -> Any:
    """One row a router: accuracy, interval, regrets, calibration, time; ties with the best one are marked."""
    from rich.table import Table

    from router import metrics

    best = max(best_of, key=lambda each: each.accuracy.mean, default=None)
    oracle = next((each for each in rows if each.name == "oracle"), None)
    two = rows[-1].truth.shape[1] == 2
    costs = rows[-1].costs is not None
    heads = ["router", "accuracy", "95% interval", *(["with the best"] if best else []), "to oracle", "hits", "calib. error"]
    heads += [*(["APGR", "CPT 50%", "CPT 80%"] if two else []), *(["cost", "AIQ"] if costs else []), "ms", "fit s"]
    table = Table(title=f"{title}; accuracy, regret and calibration error in percent points", title_justify="left")
    for head in heads:
        table.add_column(head, justify="left" if head in ("router", "with the best") else "right", overflow="fold")
    for each in rows:
        accuracy = each.accuracy
        cells = [each.name, f"{100 * accuracy.mean:.2f}", f"{100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}"]
        if best:
            gap = each.versus(best)
            same = "best" if each is best else "tie" if gap.tie else f"{100 * gap.mean:+.1f}"
            cells.append(same if each in best_of or each.name not in ("oracle", "category-oracle") else "")
        knows = each.name in ("random", "best-single", "category-oracle", "oracle")
        cells.append("" if oracle is None else f"{100 * oracle.versus(each).mean:.1f}")
        cells.append("" if each.name == "random" else f"{100 * metrics.hit_rate(each.predicted, each.truth):.1f}")
        cells.append("" if knows else f"{100 * each.ece:.1f}")
        if two:
            cells += ["" if each.name == "random" else f"{value:.3f}" for value in each.two_experts().values()]
            cells += [""] * (3 if each.name == "random" else 0)
            cells = cells[: 6 + bool(best) + 3]
        if costs:
            aiq = each.aiq()
            cells += [f"{each.cost:.6f}", "" if aiq is None else f"{aiq:.4f}"]
        cells += ["" if knows else f"{each.latency_ms:.2f}", "" if each.fit_s != each.fit_s else f"{each.fit_s:.1f}"]
        table.add_row(*cells)
    return table


def _versus(measured: Measured, other: Measured, name: str) -> str:
    gap = measured.versus(other)
    verdict = ", a tie" if gap.tie else ""
    return f"{measured.name} - {name}: {100 * gap.mean:+.2f} points [{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]{verdict}"


@app.command("kinds")
def kinds() -> None:
    """List the kinds of routers."""
    from router import KINDS
    from serving.show import console

    for name, made in KINDS.items():
        console.print(f"{name:<16} {(made.__doc__ or '').splitlines()[0]}")


@app.command("add")
def add(
    folder: FolderArgument,
    output: OutputOption,
    expert: ExpertOption,
    scores: Annotated[Path | None, typer.Option("--scores", help="Score table with the expert's answers to probe questions.")] = None,
    description: Annotated[str | None, typer.Option(help="What it is good at, where there are no probes.")] = None,
    descriptions: Annotated[Path | None, typer.Option(help="YAML of the other experts and what they are good at.")] = None,
) -> None:
    """Add an expert to a fitted router, from probe questions or a description; the others stay as they are.

    Example: `counterpoint router add router --expert new --scores probes.parquet -o router-2`
    """
    from data.scores import read_scores
    from serving.show import console

    if (scores is None) == (description is None):
        raise CounterpointError("an expert is added either from --scores or from --description")
    living = _living(folder)
    if scores is not None:
        living.join(expert, read_scores(scores))
    else:
        living.join_described(expert, str(description), {} if descriptions is None else _descriptions(descriptions))
    living.save(output)
    console.print(f"router of {len(living.experts_)} experts, {expert} among them, in {output}")


@app.command("remove")
def remove(folder: FolderArgument, output: OutputOption, expert: ExpertOption) -> None:
    """Remove an expert from a fitted router; no route that did not involve it changes.

    Example: `counterpoint router remove router --expert old -o router-2`
    """
    from serving.show import console

    living = _living(folder)
    living.leave(expert)
    living.save(output)
    console.print(f"router of {len(living.experts_)} experts, {expert} no longer among them, in {output}")


@app.command("feedback")
def feedback(
    folder: FolderArgument,
    output: OutputOption,
    ratings: Annotated[Path, typer.Option("--ratings", help="Ratings: columns query, expert and score from 0 to 1.")],
    rate: Annotated[float | None, typer.Option(help="How far one rating moves an expert; the router's own, else 0.3.")] = None,
) -> None:
    """Take ratings of answers: each moves the expert that gave the answer, within bounds, and no other.

    Example: `counterpoint router feedback router --ratings ratings.jsonl -o router-2`
    """
    from data.scores import read_ratings
    from serving.show import console, progress_bars

    table = read_ratings(ratings)
    living = _living(folder)
    if living.frozen:
        raise CounterpointError(f"the router in {folder} is frozen: it takes no ratings")
    if rate is not None:
        living.rate = rate
    unknown = sorted(set(table["expert"]) - set(living.experts_))
    if unknown:
        raise CounterpointError(f"{ratings}: no expert is called {unknown[0]!r}; the router has {', '.join(living.experts_)}")
    with progress_bars() as tick:
        rows = zip(table["query"], table["expert"], table["score"], strict=True)
        for at, (query, expert, score) in enumerate(rows, start=1):
            living.rate_answer(query, expert, score)
            tick("ratings", at, len(table))
    living.save(output)
    console.print(f"{len(table)} ratings taken, the router is in {output}")


@app.command("drift")
def drift(
    folder: FolderArgument,
    before: Annotated[Path, typer.Option("--before", help="Score table of questions like those it was fitted on.")],
    now: Annotated[Path, typer.Option("--now", help="Score table of questions of today.")],
    split: Annotated[str | None, typer.Option(help="Split of both tables to look at.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell whether questions, choices and accuracy are still those that the router was fitted for.

    Example: `counterpoint router drift router --before scores.parquet --now today.jsonl`
    """
    from dataclasses import asdict

    from data.scores import read_scores, rows_of
    from router import load_router
    from router.drift import measure_drift
    from serving.show import console

    router = load_router(folder)
    old, new = (rows_of(read_scores(path), [split] if split else None) for path in (before, now))
    found = measure_drift(router, old, new)
    if as_json:
        print(json.dumps(asdict(found) | {"moved": found.moved}, indent=1))  # noqa: T201
        return
    for line in found.lines():
        console.print(line)


@app.command("export")
def export(
    folder: FolderArgument,
    scores: ScoresOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="The prediction file.")],
    split: Annotated[list[str] | None, typer.Option(help="Splits to route; all rows without it.")] = None,
) -> None:
    """Write a router's first choices as a RouterArena prediction file, with the recorded answers where the table has them.

    Example: `counterpoint router export router --scores scores.parquet -o predictions.json`
    """
    from data.converters import Choice, write_routerarena
    from data.scores import read_scores, rows_of
    from router import load_router
    from serving.show import console, progress_bars

    router = load_router(folder)
    rows = rows_of(read_scores(scores), split)
    cells = {(row["query_id"], row["expert"]): row for row in rows.to_dict("records")}
    queries = rows.drop_duplicates("query_id")
    choices = []
    with progress_bars() as tick:
        for query_id, query in zip(queries["query_id"], queries["query"], strict=True):
            there = [at for at, name in enumerate(router.experts_) if (query_id, name) in cells]
            if not there:
                raise CounterpointError(f"query {query_id!r} has no row of an expert that the router knows")
            predicted = router.scores([query])[0]
            cell = cells[query_id, router.experts_[max(there, key=lambda at: predicted[at])]]
            known = {name: value for name, value in cell.items() if value == value and value is not None}  # NaN is not itself
            choices.append(
                Choice(
                    query_id,
                    query,
                    cell["expert"],
                    response=known.get("response"),
                    prompt_tokens=int(known.get("prompt_tokens", 0)),
                    completion_tokens=int(known.get("completion_tokens", 0)),
                    cost=known.get("cost"),
                    score=known.get("score"),
                )
            )
            tick("questions", len(choices), len(queries))
    write_routerarena(choices, output)
    console.print(f"{len(choices)} choices in {output}")


@app.command("annotate")
def annotate(
    scores: ScoresOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="The score table with its new column.")],
    expert: Annotated[str, typer.Option("--expert", help="The expert that names the skills.")],
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The mixture's YAML.")] = None,
    rounds: Annotated[int, typer.Option(help="Times that each question is asked; keywords named once only are dropped.", min=1)] = 5,
) -> None:
    """Let an LLM name the skills that each question needs, for the kind skill: writes the column `keywords`.

    Example: `counterpoint router annotate --scores scores.parquet --expert general -o annotated.parquet`
    """
    import asyncio

    from data.scores import FORMATS, read_scores, write_scores
    from experts.pool import ExpertPool
    from serving.annotate import annotate as run
    from serving.config import expert_specs, load_config
    from serving.demo import demo_config
    from serving.show import console, notes, progress_bars

    mixture = demo_config() if config is None else load_config(config)
    specs = [spec for spec in expert_specs(mixture) if spec.name == expert]
    if not specs:
        raise CounterpointError(f"no expert is called {expert!r}; the mixture has {', '.join(each.name for each in mixture.experts)}")
    table = read_scores(scores)
    if output.suffix not in FORMATS:  # before the work, not after it
        raise CounterpointError(f"cannot write {output}: wanted a file ending in {', '.join(FORMATS)}")

    async def work(tick: Any) -> Any:
        async with ExpertPool(specs) as pool:
            return await run(pool, expert, table, rounds, lambda done, total: tick("questions", done, total))

    with progress_bars() as tick:
        annotated = asyncio.run(work(tick))
    write_scores(annotated, output)
    found = annotated.drop_duplicates("query_id")["keywords"]
    if (found == "").all():
        notes.print(f"{expert} named no keyword, or none twice: it may be too small to follow the form; skill then learns from categories")
    console.print(f"{(found != '').sum()} of {len(found)} questions have keywords, in {output}")


def _living(folder: Path) -> Any:
    from router import LivingRouter, load_router

    router: Router = load_router(folder)
    return router if isinstance(router, LivingRouter) else LivingRouter(router)
