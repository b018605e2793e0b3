"""What an older program wrote, converted in place: configs, artefacts, score tables and stores, each whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from aggregator.artefact import COMBINER
from data.artefact import Parts, read_artefact, replace_artefact, version_of
from data.records import CounterpointError
from data.scores import FORMATS, TABLE, read_version, write_scores
from data.versions import Format, flush_folder, write_whole
from router.artefact import ROUTER
from serving.config import ASSETS, CONFIG, read_mapping, resolve_path
from serving.rewriting import rewrite

ARTEFACTS: tuple[Format[Parts], ...] = (ROUTER, COMBINER)
Kind = Literal["config", "router", "combiner", "score table", "store"]


class MigrateError(CounterpointError):
    """Something that cannot be converted."""


@dataclass(frozen=True, slots=True)
class Item:
    """What became of one thing that carries a version.

    Attributes:
        kind: What it is; None where that cannot be told.
        path: Where it is.
        found: The version that it had; None where it is refused.
        newest: The version that this program writes; None where it is refused.
        did: What was done, or would be.
        backup: Where it is as it was, or None.
        error: Why it is refused, or None.
    """

    kind: Kind | None
    path: str
    found: int | None
    newest: int | None
    did: Literal["current", "converted", "would be converted", "refused"]
    backup: str | None = None
    error: str | None = None

    def line(self) -> str:
        """What was done, in one line."""
        if self.error is not None:
            return f"{self.path}: refused: {self.error}"
        kept = f"; as it was: {self.backup}" if self.backup else ""
        change = f"version {self.found}" if self.did == "current" else f"version {self.found} to {self.newest}"
        return f"{self.kind} {self.path}: {change}, {self.did}{kept}"

    def json(self) -> dict[str, Any]:
        """The same as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Work:
    """One thing's versions, and how it is converted.

    Attributes:
        found: Version that it has.
        newest: Version that it gets.
        convert: Converts it, after a copy to the path that it is given; None makes no copy.
    """

    found: int
    newest: int
    convert: Callable[[Path | None], None]


def migrate(places: Sequence[str], *, dry_run: bool = False, backup: bool = True) -> list[Item]:
    """Convert to the newest version what needs it; a mixture's YAML brings along what it names.

    Each thing is converted whole or not at all, whenever the process ends, and what is refused keeps no other from being converted.
    What has the newest version already is left alone.

    Args:
        places: Paths, and URLs of stores.
        dry_run: Whether to say only what would be done.
        backup: Whether a copy of what was there is kept beside it.
    """
    items: list[Item] = []
    for place in dict.fromkeys(named for given in places for named in _with_named(given)):
        kind: Kind | None = None
        try:
            kind = _kind(place)
            items.append(_one(kind, place, dry_run, backup))
        except CounterpointError as error:
            items.append(Item(kind, _shown(place), None, None, "refused", error=str(error)))
        except OSError as error:
            reason = f"it cannot be read or written: {error.strerror or error}"
            items.append(Item(kind, _shown(place), None, None, "refused", error=reason))
    return items


def _one(kind: Kind, place: str, dry_run: bool, backup: bool) -> Item:
    works: dict[Kind, Callable[[], _Work]] = {
        "config": lambda: _config(Path(place)),
        "router": lambda: _artefact(Path(place), ROUTER),
        "combiner": lambda: _artefact(Path(place), COMBINER),
        "score table": lambda: _table(Path(place)),
        "store": lambda: _store(place, backup),
    }
    work = works[kind]()
    if work.found == work.newest:
        return Item(kind, _shown(place), work.found, work.newest, "current")
    if dry_run:
        return Item(kind, _shown(place), work.found, work.newest, "would be converted")
    file = _file_of(place)
    copy = _free(file, work.found) if backup and file is not None else None
    work.convert(copy)
    return Item(kind, _shown(place), work.found, work.newest, "converted", None if copy is None else str(copy))


# Kinds


def _config(path: Path) -> _Work:
    raw = read_mapping(path)
    found = CONFIG.known(raw.get("version"), path)
    new = {**CONFIG.convert(raw, found, path), "version": CONFIG.newest}
    text = rewrite(path.read_text(encoding="utf-8"), new).encode()

    def convert(copy: Path | None) -> None:
        _copy_file(path, copy)
        write_whole(path.resolve(), text)

    return _Work(found, CONFIG.newest, convert)


def _artefact(folder: Path, form: Format[Parts]) -> _Work:
    found, parts = version_of(folder, form), read_artefact(folder, form, any_version=True)

    def convert(copy: Path | None) -> None:
        if copy is not None:
            part = copy.with_name(f".{copy.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(folder, part)
            part.rename(copy)
            flush_folder(copy.parent)
        replace_artefact(folder.resolve(), parts, form)

    return _Work(found, form.newest, convert)


def _table(path: Path) -> _Work:
    table, version = read_version(path)
    found = TABLE.known(version, path)
    if missing := [name for name in ("query", "expert", "score") if name not in table.columns]:  # ratings have no query_id
        raise MigrateError(f"it is no score table: it has no column {missing[0]!r}")
    new = TABLE.convert(table, found, path)

    def convert(copy: Path | None) -> None:
        _copy_file(path, copy)
        part = path.with_name(f".{path.stem}.part{path.suffix}")
        try:
            write_scores(new, part)
            write_whole(path.resolve(), part.read_bytes())
        finally:
            part.unlink(missing_ok=True)

    return _Work(found, TABLE.newest, convert)


def _store(place: str, backup: bool) -> _Work:
    try:
        from serving import database
    except ModuleNotFoundError as error:
        raise MigrateError(f"a store needs {error.name}: install counterpoint-server[serve]") from error
    url, file = _url(place), _file_of(place)
    found, newest = database.versions_of(url, database.MIGRATIONS)

    def convert(copy: Path | None) -> None:
        if backup and file is None:
            raise MigrateError("a store in PostgreSQL is not copied: make a copy by pg_dump, then say --no-backup")

        def before(_: str) -> None:
            if file is not None and copy is not None:
                database.copy_sqlite(file, copy)

        database.Database(url, database.MIGRATIONS, before).close()

    return _Work(int(found), int(newest), convert)


# Places


def _with_named(place: str) -> Iterator[str]:
    """A place, and what it names or holds: a mixture's artefacts, tables and store, an artefact's inner ones."""
    path = Path(place)
    if _is_url(place) or path.suffix not in (".yaml", ".yml"):
        yield place
        if not _is_url(place) and path.is_dir():
            yield from (str(inner.parent) for form in ARTEFACTS for inner in sorted(path.glob(f"*/{form.what}.json")) if _form(path))
        return
    yield place
    with suppress(CounterpointError, LookupError, TypeError, AttributeError):  # what does not fit is told where the config is converted
        raw = read_mapping(path)
        raw = CONFIG.convert(raw, CONFIG.known(raw.get("version"), path), path)
        for named in _named(raw):
            inside = resolve_path(named, path.resolve().parent)
            if inside.exists() and not inside.is_relative_to(ASSETS):
                yield from _with_named(str(inside))
        serving = raw.get("serving") or {}
        if (url := serving.get("store")) is None and serving.get("keys"):
            from serving.store import default_url

            url = default_url()
        if url is not None and ((file := _file_of(url)) is None or file.exists()):  # one that was never opened has no version
            yield url


def _named(raw: dict[str, Any]) -> Iterator[str]:
    """The paths of artefacts and tables in a config of the newest version."""
    aggregator = raw.get("aggregator") or {}
    for part in (raw.get("router") or {}, aggregator, aggregator.get("defence") or {}):
        if isinstance(path := part.get("path"), str):
            yield path
    yield from (expert["model"] for expert in raw.get("experts") or () if expert.get("engine") == "replay")


def _kind(place: str) -> Kind:
    """What stands at a place.

    Raises:
        MigrateError: Nothing that carries a version.
    """
    if _is_url(place):
        return "store"
    path = Path(place)
    if not path.exists():
        raise MigrateError("nothing is there")
    if path.is_dir() and (form := _form(path)) is not None:
        return "router" if form is ROUTER else "combiner"
    if path.is_file():
        if path.suffix in (".yaml", ".yml"):
            return "config"
        if path.suffix in FORMATS:
            return "score table"
        with path.open("rb") as file:
            if file.read(16) == b"SQLite format 3\0":
                return "store"
    raise MigrateError("it carries no version: wanted a mixture's YAML, a router's or combiner's folder, a score table, or a store")


def _form(folder: Path) -> Format[Parts] | None:
    return next((form for form in ARTEFACTS if (folder / f"{form.what}.json").is_file()), None)


def _is_url(place: str) -> bool:
    return re.match(r"[a-z][a-z0-9+]*://", place) is not None


def _url(place: str) -> str:
    return place if _is_url(place) else f"sqlite:///{place}"


def _file_of(place: str) -> Path | None:
    """The file or folder at a place; None for a database's server."""
    if not _is_url(place):
        return Path(place).resolve()
    return Path(place.removeprefix("sqlite:///")).expanduser().resolve() if place.startswith("sqlite:///") else None


def _shown(place: str) -> str:
    """A place without its password."""
    return re.sub(r"(://[^/@:]*):[^/]*@", r"\1:***@", place)


def _free(path: Path, version: int) -> Path:
    """A name beside a path that nothing has yet."""
    first, number = path.with_name(f"{path.name}.v{version}.bak"), 2
    free = first
    while free.exists():
        free, number = path.with_name(f"{first.name}.{number}"), number + 1
    return free


def _copy_file(path: Path, copy: Path | None) -> None:
    """Copy a file, whole or not at all, with its permissions."""
    if copy is not None:
        part = copy.with_name(f".{copy.name}.part")
        shutil.copy2(path, part)
        os.replace(part, copy)
        flush_folder(copy.parent)
