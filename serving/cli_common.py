"""What commands share: the config, weights that are there before anything starts, and words beside the output."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from data.records import CounterpointError

T = TypeVar("T")

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="The mixture's YAML; without it, the mixture that ships.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def config_of(path: Path | None) -> Any:
    """The mixture of a file, or the one that ships."""
    from serving.config import load_config
    from serving.demo import demo_config

    return demo_config() if path is None else load_config(path)


def run_until_done(work: Coroutine[Any, Any, T]) -> T:
    """Run work to its end."""
    return asyncio.run(work)


@contextmanager
def kept() -> Iterator[None]:
    """Tell whoever stops a job that it can go on."""
    try:
        yield
    except KeyboardInterrupt:
        say("stopped; what was finished is kept, run it again to go on")
        raise


def say(line: str) -> None:
    """Tell something beside the output."""
    from serving.show import notes

    notes.print(line, markup=False)


def prepare(config: Any) -> None:
    """Convert or download the weights of local experts before anything starts, so that a slot never waits for it unseen."""
    from experts.models import resolve
    from serving.config import expert_specs
    from serving.licences import before_download

    for line in before_download(config):
        say(line)
    for model, revision in dict.fromkeys((s.model, s.revision) for s in expert_specs(config) if s.engine in ("vllm", "transformers")):
        resolve(model, revision, say)


def kinds_of(given: list[str] | None) -> dict[str, dict[str, Any]]:
    """Kinds of aggregators with their settings, by name.

    Raises:
        CounterpointError: One is no kind, or is there twice.
    """
    import yaml

    from serving.config import AggregatorConfig

    made: dict[str, dict[str, Any]] = {}
    for text in given or ["best", "vote", "weighted"]:
        name, _, settings = text.partition("=")
        try:
            read = yaml.safe_load(settings) if settings else {}
        except yaml.YAMLError as error:
            raise CounterpointError(f"{name}: {settings!r} is no mapping of settings") from error
        if not isinstance(read, dict) or name in made:
            raise CounterpointError(f"wanted NAME or NAME={{settings}}, each NAME once, not {text!r}")
        made[name] = {"kind": name} | read
        try:
            AggregatorConfig(**made[name]).build()
        except ValueError as error:
            raise CounterpointError(f"{name}: {str(error).partition('Value error, ')[2].partition(' [')[0] or error}") from error
    return made
