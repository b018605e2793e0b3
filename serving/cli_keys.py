"""The commands that make, list and revoke API keys, and forget what was said with them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data.records import CounterpointError
from serving.cli_common import JsonOption, say

if TYPE_CHECKING:
    from serving.keys import Key
    from serving.store import Store

app = typer.Typer(help="Make, list and revoke API keys; forget what was said with one.", no_args_is_help=True)

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="COUNTERPOINT_STORE",
        help="Where keys are kept: sqlite:///PATH or postgresql://...; without it, store.db in the user's data folder.",
    ),
]


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What people call the key.")],
    allow: Annotated[list[str] | None, typer.Option(metavar="EXPERT", help="Only these experts; may be given several times.")] = None,
    deny: Annotated[list[str] | None, typer.Option(metavar="EXPERT", help="Not these experts; may be given several times.")] = None,
    requests_per_minute: Annotated[float | None, typer.Option(help="Most requests in a minute.")] = None,
    tokens_per_minute: Annotated[float | None, typer.Option(help="Most tokens in a minute, read and written.")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="Most that it may spend in all, in US dollars.")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="May do what only those who run the endpoint may.")] = False,
    expires: Annotated[str | None, typer.Option(help="When it ends: a date such as 2027-01-31, or a time from now such as 30d.")] = None,
    default: Annotated[
        list[str] | None,
        typer.Option(metavar="OPTION=VALUE", help="Option for requests that do not set it, such as k=2; may be given several times."),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key, and print its secret, once.

    Example: `counterpoint keys create reports --budget-usd 5 --requests-per-minute 60 --expires 30d`

    Example: `counterpoint keys create intern --allow general --deny remote --default k=1 --json`
    """
    options = _options(default or [])
    ends = None if expires is None else _time(expires)
    with _store(store) as opened:
        from serving.keys import Keys

        key, secret = Keys(opened).create(
            name,
            allowed_experts=allow or None,
            denied_experts=deny or (),
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            budget_usd=budget_usd,
            admin=admin,
            expires=ends,
            defaults=options,
        )
    if as_json:
        print(json.dumps(_json(key) | {"secret": secret}, ensure_ascii=False, indent=1))  # noqa: T201
        return
    say(f"key {key.id} for {key.name}; its secret is shown this once:")
    print(secret)  # noqa: T201


@app.command("list")
def list_(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the keys with their limits and what they have spent. Secrets cannot be listed.

    Example: `counterpoint keys list --json`
    """
    with _store(store) as opened:
        from serving.keys import Keys

        rows = [(key, opened.spend(key.id), opened.held(key.id)) for key in Keys(opened).list()]
    if as_json:
        listed = [_json(key) | {"spend": asdict(spend), "held_usd": held} for key, spend, held in rows]
        print(json.dumps(listed, ensure_ascii=False, indent=1))  # noqa: T201
        return
    from rich.markup import escape
    from rich.table import Table

    from serving.show import console

    if not rows:
        console.print("no keys yet; `counterpoint keys create NAME` makes one")
        return
    shown = Table("id", "name", "state", "experts", "a minute", "spent", box=None, pad_edge=False)
    for key, spend, _ in rows:
        budget = "" if key.budget_usd is None else f" of ${key.budget_usd:g}"
        money = f"${spend.usd:.4f}{budget}"
        shown.add_row(key.id, escape(key.name), _state(key), escape(_experts(key)), _rates(key), money)
    console.print(shown)


@app.command("revoke")
def revoke(id: Annotated[str, typer.Argument(help="The key's id, as `list` shows it.")], store: StoreOption = None) -> None:
    """End a key. A running endpoint turns it away within seconds.

    Example: `counterpoint keys revoke 0aB3dE6gH9kL`
    """
    with _store(store) as opened:
        from serving.keys import Keys

        Keys(opened).revoke(id)
    say(f"key {id} is revoked")


@app.command("forget")
def forget(
    name: Annotated[str, typer.Argument(metavar="NAME_OR_ID", help="Name or id of the key; `local` is whoever needs none.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether it is meant.")] = False,
    running: Annotated[
        bool, typer.Option("--running", help="Also batches under way, their spend unbooked; only while no endpoint runs.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete all that was said with a key: traces, feedback, conversations, files and batches, with their texts.

    The key stays, revoked or not, and so does what it has spent, by day, in dollars, tokens and requests: its budget goes on counting.
    Copies that `counterpoint migrate` or you made of the store are not touched.

    Example: `counterpoint keys forget reports --yes`
    """
    with _store(store) as opened:
        from serving.forgetting import copies_of, forget_key, journals_of
        from serving.keys import Keys
        from serving.store import default_url

        key = Keys(opened).named(name)
        rows = {table: count for table, count in opened.kept(key.id).items() if count}
        if not yes:
            if as_json or not sys.stdin.isatty():
                raise CounterpointError(f"forgetting {key.name} ({key.id}) cannot be undone: say --yes")
            said = ", ".join(f"{table} {count}" for table, count in rows.items()) or "nothing"
            if not typer.confirm(f"delete {said} of {key.name} ({key.id}) for good?"):
                raise typer.Exit(1)
        url = default_url() if store is None else store
        gone = forget_key(opened, key.id, journals_of(url), running=running)
        spend, copies = opened.spend(key.id), [str(path) for path in copies_of(url)]
    if as_json:
        told = {"id": key.id, "name": key.name, "deleted": gone, "kept": {"key": True, "spend": asdict(spend)}, "copies": copies}
        print(json.dumps(told, ensure_ascii=False, indent=1))  # noqa: T201
        return
    say(f"deleted of {key.name} ({key.id}): " + (", ".join(f"{what} {count}" for what, count in gone.items() if count) or "nothing"))
    say(f"kept: the key, and what it has spent (${spend.usd:.4f}, requests {spend.requests}), because its budget goes on counting")
    for copy in copies:
        say(f"still holds what is deleted here: {copy}")


@contextmanager
def _store(url: str | None) -> Iterator[Store]:
    try:
        from serving.store import Store, default_url
    except ModuleNotFoundError as error:
        raise CounterpointError(f"keys need {error.name}: install counterpoint-server[serve]") from error
    with Store(default_url() if url is None else url) as opened:
        yield opened


def _json(key: Key) -> dict[str, Any]:
    """A key as JSON, times as text."""
    shown = asdict(key)
    return shown | {name: _text(shown[name]) for name in ("created_at", "expires_at", "revoked_at")}


def _text(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _state(key: Key) -> str:
    if key.revoked_at is not None:
        return "revoked"
    now = datetime.now(UTC).timestamp()
    if not key.valid(now):
        return "expired"
    return "open" if key.expires_at is None else f"until {datetime.fromtimestamp(key.expires_at, UTC):%Y-%m-%d}"


def _experts(key: Key) -> str:
    allowed = "all" if key.allowed_experts is None else ", ".join(key.allowed_experts)
    return allowed + (f" but {', '.join(key.denied_experts)}" if key.denied_experts else "")


def _rates(key: Key) -> str:
    rates = ((key.requests_per_minute, "requests"), (key.tokens_per_minute, "tokens"))
    return ", ".join(f"{rate:g} {unit}" for rate, unit in rates if rate is not None) or "no limit"


def _time(text: str) -> datetime:
    """A time from now on, or a date or time; in UTC where it has no zone.

    Example:
        >>> _time("2027-01-31").isoformat()
        '2027-01-31T00:00:00+00:00'
    """
    try:
        if found := re.fullmatch(r"(\d{1,6})([mhdw])", text):
            return datetime.now(UTC) + timedelta(**{UNITS[found[2]]: int(found[1])})
        read = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise CounterpointError(
            f"--expires wants a date such as 2027-01-31, or a time from now such as 12h or 30d, not {text!r}"
        ) from error
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def _options(pairs: list[str]) -> dict[str, Any]:
    """Options as the body's `counterpoint` object would hold them."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise CounterpointError(f"--default wants OPTION=VALUE, such as k=2, not {pair!r}")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    if options:
        from pydantic import ValidationError

        from serving.protocol import Options

        try:
            Options.model_validate(options)
        except ValidationError as error:
            first = error.errors()[0]
            raise CounterpointError(f"--default {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return options
