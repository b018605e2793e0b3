"""PostgreSQL as the place of a store: how connections to it are opened, and what keeps its transactions apart."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.engine import URL

CONNECT_S = 10
"""Seconds that a connection may take to be made, unless the URL says otherwise (`?connect_timeout=`)."""
READS: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
"""A connection that reads sees one state of the database, as in SQLite."""
WRITES: dict[str, Any] = {"isolation_level": "READ COMMITTED"}
"""One that writes sees, statement by statement, what the others have committed: who waited for a row's lock must not go by what was
before. It is said whatever the server's default."""
ALONE = int.from_bytes(b"counterp")
"""Number of the lock that blocks take which no other process may be in."""


def server_engine(url: URL, *, busy_s: float, json_serializer: Any) -> Engine:
    """Make the engine. Its connections wait no longer than `busy_s` for a lock, and flush what they commit whatever the server's default.

    Args:
        url: Where the server is.
        busy_s: Seconds that a statement waits for another's lock, and a thread for a free connection.
        json_serializer: Turns values into JSON.

    Raises:
        ImportError: psycopg is not installed.
    """
    timeout = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_S}
    engine = create_engine(
        url,
        hide_parameters=True,
        json_serializer=json_serializer,
        pool_pre_ping=True,  # a server that was restarted meanwhile is no error
        pool_size=8,
        max_overflow=24,
        pool_timeout=busy_s,
        connect_args={"client_encoding": "utf8", **timeout},
    )

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, false)", (f"{busy_s * 1000:.0f}ms",))
            flushes = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
            cursor.execute(flushes)  # a server with replicas may ask for more than `on`, and keeps that
        connection.commit()

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def executed(_: object, __: object, statement: str, parameters: Any, ___: object, many: bool) -> tuple[str, Any]:
        return statement, [_storable(row) for row in parameters] if many else _storable(parameters)

    return engine


def wait_to_be_alone(connection: Connection) -> None:
    """Wait until no other transaction has said the same, and keep the others waiting until this one ends."""
    connection.execute(select(func.pg_advisory_xact_lock(ALONE)))


def encoding(connection: Connection) -> str:
    """The name of the database's encoding, such as `UTF8`."""
    return str(connection.exec_driver_sql("SHOW server_encoding").scalar_one())


def reason(error: BaseException) -> str:
    """What the server says in its first line: the lines after it may quote the row."""
    return str(getattr(getattr(error, "diag", None), "message_primary", None) or error)


def _storable(row: Any) -> Any:
    r"""Values that PostgreSQL takes: its texts hold no NUL, which JSON may bring and SQLite keeps.

    Example:
        >>> _storable({"title": "a\0b", "content": b"\0"})
        {'title': 'a�b', 'content': b'\x00'}
    """
    if not isinstance(row, dict):
        return row
    return {name: value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value for name, value in row.items()}
