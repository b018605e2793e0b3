"""Opening a database: its file, its connections, and its tables at the newest version."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from math import isfinite
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError

from data.records import CounterpointError
from data.versions import flush_folder
from serving import postgresql

MIGRATIONS = Path(__file__).parent / "migrations"
"""One module a version of the tables, in alembic's form: `revision`, a whole number as text, `down_revision`, `upgrade()`."""
BUSY_S = 30.0
"""Seconds that a write waits for another process's write."""


class StoreError(CounterpointError):
    """A store that cannot be opened, read or written."""


class Database:
    """Connections that read, and such that write: in SQLite one at a time, in PostgreSQL several, each with the rows that it locks.

    Args:
        url: `sqlite:///` and a path, or PostgreSQL's.
        migrations: Folder of the versions.
        before: Called with the version that is there, while nobody writes, before it is converted; with it, tables of any older
            version are converted, without it only those of the version before the newest.

    Raises:
        StoreError: It cannot be opened, is no store, or of another version.
    """

    def __init__(self, url: str, migrations: Path = MIGRATIONS, before: Callable[[str], None] | None = None) -> None:
        self.url = _read_url(url)
        self.name = self.url.render_as_string(hide_password=True)
        self.one_writer = threading.Lock()
        """SQLite has one writer anyway; threads that queue here never wait too long for its lock."""
        self._counting, self._under_way, self._closed = threading.Lock(), 0, False
        with one_line(self.name):
            if self.in_file:
                _make_file(Path(str(self.url.database)))
            self.engine = _engine(self.url)
            try:
                self._migrate(migrations, before)
            except BaseException:
                self.engine.dispose()
                raise

    @property
    def in_file(self) -> bool:
        """Whether it is a file, of SQLite; else it is on a server."""
        return self.url.get_backend_name() == "sqlite"

    def close(self) -> None:
        """Close the connections; those that threads still use are closed when the last of them is done."""
        with self._counting:
            self._closed, last = True, not self._under_way
        if last:
            self.engine.dispose()

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with self._counting:
            self._under_way += 1
        try:
            with self.engine.connect() as connection:
                yield connection
        finally:
            with self._counting:
                self._under_way -= 1
                last = self._closed and not self._under_way
            if last:
                self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state of the database.

        Raises:
            StoreError: The database fails.
        """
        with one_line(self.name), self._connected() as connection:
            yield connection if self.in_file else connection.execution_options(**postgresql.READS)

    @contextmanager
    def writing(self, *, foreign_keys: bool = True, alone: bool = False) -> Iterator[Connection]:
        """A connection whose writes are on the disk when the block ends, or undone when it raises.

        What is read in the block and must still be so when it is written needs a lock, `with_for_update`: SQLite has one writer and
        needs none, PostgreSQL does.

        Args:
            foreign_keys: Whether SQLite looks after them.
            alone: Whether nobody else, in any process, is in such a block meanwhile; for what changes rows of several owners.

        Raises:
            StoreError: The database fails, or a row breaks a rule of the tables.
        """
        options = {"counterpoint_writes": True, "counterpoint_foreign_keys": foreign_keys} if self.in_file else postgresql.WRITES
        with one_line(self.name), self.one_writer if self.in_file else nullcontext(), self._connected() as connection:
            connection = connection.execution_options(**options)
            with connection.begin():
                if alone and not self.in_file:
                    postgresql.wait_to_be_alone(connection)
                yield connection

    def empty_log(self) -> None:
        """Have SQLite's write-ahead log, which still holds what was deleted, written to the file and emptied."""
        if self.in_file:
            with one_line(self.name), closing(sqlite3.connect(str(self.url.database), timeout=BUSY_S)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _migrate(self, folder: Path, before: Callable[[str], None] | None) -> None:
        """Bring the tables to the newest version, all steps or none."""
        from alembic.migration import MigrationContext
        from alembic.operations import Operations
        from alembic.script import ScriptDirectory

        script = ScriptDirectory(folder, version_locations=[folder])
        known = [revision.revision for revision in script.walk_revisions()]
        newest = known[0]
        with self.writing(foreign_keys=False, alone=True) as connection:  # altering a table in SQLite drops and remakes it
            if not self.in_file and (encoding := postgresql.encoding(connection)) != "UTF8":
                raise StoreError(f"the store {self.name} is in a database of encoding {encoding}: make it with ENCODING 'UTF8'")
            context = MigrationContext.configure(connection)
            version = context.get_current_revision()
            if version == newest:
                return
            if version is None and (there := inspect(connection).get_table_names()):
                raise StoreError(f"{self.name} is no store of Counterpoint: it has other tables, such as {there[0]!r}")
            if version is not None:
                check_version(self.name, version, known)
                if before is not None:
                    before(version)
                elif version not in known[:2]:
                    raise StoreError(
                        f"the store {self.name} has version {version}, and this Counterpoint reads {known[0]} and {known[1]}: "
                        f"convert it by `counterpoint migrate {self.name}`"
                    )
            with Operations.context(context):
                for revision in reversed([*script.iterate_revisions(newest, version or "base")]):
                    revision.module.upgrade()
            context.stamp(script, newest)
            if self.in_file and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first()):
                raise StoreError(f"the store {self.name} cannot be brought to version {newest}: {broken[0]} names keys that are gone")


def check_version(name: str, version: str, known: list[str]) -> None:
    """Refuse a version that a newer program has written.

    Raises:
        StoreError: It is not among the known ones, the newest of which comes first.
    """
    if version not in known:
        raise StoreError(
            f"the store {name} has version {version}, and this Counterpoint knows versions up to {known[0]}: "
            "upgrade counterpoint-server, or name another store"
        )


def versions_of(url: str, migrations: Path = MIGRATIONS) -> tuple[str, str]:
    """The version of a store's tables, and the newest, without changing anything.

    Raises:
        StoreError: There is no store, or a newer version of Counterpoint has written it.
    """
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    read = _read_url(url)
    name = read.render_as_string(hide_password=True)
    known = [revision.revision for revision in ScriptDirectory(migrations, version_locations=[migrations]).walk_revisions()]
    if read.get_backend_name() == "sqlite" and not Path(str(read.database)).is_file():
        raise StoreError(f"no store at {read.database}")
    with one_line(name):
        engine = _engine(read)
        try:
            with engine.connect() as connection:
                version = MigrationContext.configure(connection).get_current_revision()
        finally:
            engine.dispose()
    if version is None:
        raise StoreError(f"{name} is no store of Counterpoint: its tables have no version")
    check_version(name, version, known)
    return version, known[0]


def copy_sqlite(path: Path, target: Path) -> None:
    """Copy a store's file as it is at one moment, while others may use it; a crash leaves no half copy.

    Raises:
        OSError: The copy cannot be written.
        sqlite3.Error: The file cannot be read.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))
        with closing(sqlite3.connect(path, timeout=BUSY_S)) as source, closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    flush_folder(target.parent)


@contextmanager
def one_line(name: str) -> Iterator[None]:
    """Turn what a database raises into one line that names the store.

    Raises:
        StoreError: The database fails, or refuses a row.
    """
    try:
        yield
    except IntegrityError as error:
        text = " ".join(postgresql.reason(error.orig or error).split())
        known = "no key has this id" if "foreign key" in text.lower() else text
        raise StoreError(f"the store {name} refuses a row: {known}") from error
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error.strerror or error if isinstance(error, OSError) else error
        reason = postgresql.reason(cause) if isinstance(cause, BaseException) else str(cause)
        raise StoreError(f"the store {name} cannot be used: {' '.join(reason.split())}") from error


def _read_url(url: str) -> URL:
    """Read a store's URL; the path of a file becomes absolute."""
    try:
        read = make_url(url)
    except ArgumentError as error:
        raise StoreError(f"wanted a URL such as sqlite:///store.db, not {url!r}") from error
    match read.drivername:
        case "sqlite" if read.database and read.database != ":memory:":
            return read.set(database=str(Path(read.database).expanduser().resolve()))
        case "sqlite":
            raise StoreError("a store in memory would not last: wanted sqlite:/// and the path of a file")
        case "postgresql" | "postgresql+psycopg":
            return read.set(drivername="postgresql+psycopg")
    raise StoreError(f"a store is kept by sqlite or postgresql, not {read.drivername!r}")


def _make_file(path: Path) -> None:
    """Make the file for its owner's eyes only, and turn on the write-ahead log, which stays on."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    ends = time.monotonic() + BUSY_S
    while True:
        try:
            with closing(sqlite3.connect(path, timeout=BUSY_S)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:  # SQLite does not wait here while another process does the same
            if "locked" not in str(error) or time.monotonic() > ends:
                raise
            time.sleep(0.01)


def _engine(url: URL) -> Engine:
    """Make the engine; SQLite's connections flush what they commit, and begin what writes as writers."""
    if url.get_backend_name() != "sqlite":
        try:
            return postgresql.server_engine(url, busy_s=BUSY_S, json_serializer=_json)
        except ImportError as error:
            raise StoreError("a store in PostgreSQL needs psycopg: install counterpoint-server[postgres]") from error
    engine = create_engine(url, hide_parameters=True, json_serializer=_json, pool_size=8, max_overflow=-1, connect_args={"timeout": BUSY_S})

    @event.listens_for(engine, "connect")
    def connected(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # Python's module would begin transactions of its own
        for pragma in ("synchronous=FULL", "secure_delete=ON", "fullfsync=ON", "checkpoint_fullfsync=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def began(connection: Connection) -> None:
        options = connection.get_execution_options()
        connection.exec_driver_sql(f"PRAGMA foreign_keys={'ON' if options.get('counterpoint_foreign_keys', True) else 'OFF'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("counterpoint_writes") else "BEGIN")

    return engine


def _json(value: Any) -> str:
    """A value as JSON, for which a number that is none is null; PostgreSQL refuses what Python writes for it.

    Example:
        >>> _json({"a": [1.5, float("nan")]})
        '{"a": [1.5, null]}'
    """
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    match value:
        case dict():
            return {name: _finite(each) for name, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
        case float() if not isfinite(value):
            return None
    return value
