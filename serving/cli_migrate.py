"""The command that converts what an older program wrote."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from data.records import CounterpointError
from serving.cli_common import JsonOption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(migrate)


def migrate(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH...",
            help="Mixtures' YAML, folders of routers and combiners, score tables, stores' files or URLs.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="A mixture's YAML, as if it were a PATH.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")] = False,
    backup: Annotated[bool, typer.Option("--backup/--no-backup", help="Keep a copy of what was there beside it.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Convert in place what an older version wrote; what is of this version is left alone.

    A mixture's YAML brings along what it names: its router, combiner, recorded answers and store. Each thing is converted whole or
    not at all. Programs read the version before their own, too; what is older is converted by this command. Stop the endpoint before
    its store is converted. The copy of a store holds texts and keys: delete it once the new one works.

    Example: `counterpoint migrate -c mixture.yaml --dry-run`

    Example: `counterpoint migrate artefacts/router scores.parquet sqlite:////var/lib/counterpoint/store.db`
    """
    from serving.migrate import migrate as run

    places = [*([] if config is None else [str(config)]), *(paths or [])]
    if not places:
        raise CounterpointError("name what to convert: a mixture by -c, or paths of artefacts, score tables and stores")
    items = run(places, dry_run=dry_run, backup=backup)
    if as_json:
        print(json.dumps([item.json() for item in items], ensure_ascii=False, indent=1))  # noqa: T201
    for item in items:
        if item.error is not None:
            print(f"counterpoint: {item.line()}", file=sys.stderr)  # noqa: T201
        elif not as_json:
            print(item.line())  # noqa: T201
    if any(item.error is not None for item in items):
        raise typer.Exit(2)
