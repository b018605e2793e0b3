"""Opening a database: its file, its connections, and its tables at the newest version."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError

from data.records import CounterpointError

MIGRATIONS = Path(__file__).parent / "migrations"
"""One module a version of the tables, in alembic's form: `revision`, `down_revision`, `upgrade()`."""
BUSY_S = 30.0
"""Seconds that a write waits for another process's write."""


class StoreError(CounterpointError):
    """A store that cannot be opened, read or written."""


class Database:
    """Connections that read, and one at a time that writes.

    Args:
        url: `sqlite:///` and a path, or PostgreSQL's.
        migrations: Folder of the versions.

    Raises:
        StoreError: It cannot be opened, is no store, or a newer version of Counterpoint has written it.
    """

    def __init__(self, url: str, migrations: Path = MIGRATIONS) -> None:
        self.url = _read_url(url)
        self.name = self.url.render_as_string(hide_password=True)
        self.one_writer = threading.Lock()
        """SQLite has one writer anyway; threads that queue here never wait too long for its lock."""
        with self._one_line():
            if self.url.get_backend_name() == "sqlite":
                _make_file(Path(str(self.url.database)))
            self.engine = _engine(self.url)
            try:
                self._migrate(migrations)
            except BaseException:
                self.engine.dispose()
                raise

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state of the database.

        Raises:
            StoreError: The database fails.
        """
        with self._one_line(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, *, foreign_keys: bool = True) -> Iterator[Connection]:
        """A connection whose writes are on the disk when the block ends, or undone when it raises.

        Raises:
            StoreError: The database fails, or a row breaks a rule of the tables.
        """
        with self._one_line(), self.one_writer, self.engine.connect() as connection:
            connection = connection.execution_options(counterpoint_writes=True, counterpoint_foreign_keys=foreign_keys)
            with connection.begin():
                yield connection

    def empty_log(self) -> None:
        """Have SQLite's write-ahead log, which still holds what was deleted, written to the file and emptied."""
        if self.url.get_backend_name() == "sqlite":
            with self._one_line(), closing(sqlite3.connect(str(self.url.database), timeout=BUSY_S)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            text = " ".join(str(error.orig).split())
            known = "no key has this id" if "foreign key" in text.lower() else text
            raise StoreError(f"the store {self.name} refuses a row: {known}") from error
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            reason = error.orig if isinstance(error, DBAPIError) else error.strerror or error if isinstance(error, OSError) else error
            raise StoreError(f"the store {self.name} cannot be used: {' '.join(str(reason).split())}") from error

    def _migrate(self, folder: Path) -> None:
        """Bring the tables to the newest version, all steps or none."""
        from alembic.migration import MigrationContext
        from alembic.operations import Operations
        from alembic.script import ScriptDirectory

        script = ScriptDirectory(folder, version_locations=[folder])
        newest = script.get_current_head()
        assert newest is not None
        with self.writing(foreign_keys=False) as connection:  # altering a table in SQLite drops and remakes it
            context = MigrationContext.configure(connection)
            version = context.get_current_revision()
            if version == newest:
                return
            if version is None and (there := inspect(connection).get_table_names()):
                raise StoreError(f"{self.name} is no store of Counterpoint: it has other tables, such as {there[0]!r}")
            if version is not None and version not in {revision.revision for revision in script.walk_revisions()}:
                raise StoreError(
                    f"the store {self.name} has version {version}, and this Counterpoint knows versions up to {newest}: "
                    "upgrade counterpoint-server, or name another store"
                )
            with Operations.context(context):
                for revision in reversed([*script.iterate_revisions(newest, version or "base")]):
                    revision.module.upgrade()
            context.stamp(script, newest)
            if connection.dialect.name == "sqlite" and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first()):
                raise StoreError(f"the store {self.name} cannot be brought to version {newest}: {broken[0]} names keys that are gone")


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
            return create_engine(url, hide_parameters=True, pool_pre_ping=True)
        except ModuleNotFoundError as error:
            raise StoreError("a store in PostgreSQL needs psycopg: install counterpoint-server[postgres]") from error
    engine = create_engine(url, hide_parameters=True, pool_size=8, max_overflow=-1, connect_args={"timeout": BUSY_S})

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
