"""What outlives the process: keys, spend, feedback, traces, files, batches, conversations."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from math import isfinite
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import ColumnElement, Connection, Delete, Select, Table, Update, delete, exists, func, insert, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from serving import tables
from serving.database import MIGRATIONS, Database, StoreError
from serving.tables import Batch, Conversation, Feedback, Spend, StoredFile, StoredTrace

NANO = 10**9
"""Money is kept in billionths of a dollar: whole numbers add up exactly."""
RUNNING = ("validating", "in_progress", "finalizing", "cancelling")
"""States of a batch that still needs its files."""
SPENT = ("usd_nano", "prompt_tokens", "completion_tokens", "requests")
"""Sums of what a key has used."""
FORGOTTEN = (tables.feedback, tables.traces, tables.files, tables.batches, tables.conversations)
"""Tables of what a key has said and kept."""
PAGE = 100
"""Rows that a list gives unless told."""

T = TypeVar("T")


class BudgetError(StoreError):
    """A budget that cannot hold a request.

    Attributes:
        left_usd: US dollars that are neither spent nor held.
    """

    def __init__(self, message: str, left_usd: float) -> None:
        super().__init__(message)
        self.left_usd = left_usd


class Store:
    """The lasting state, in SQLite or PostgreSQL; any number of threads may use one store.

    Rows belong to keys. Every method that reads or changes them takes the key's id first, as `owner`, and sees no other key's rows: an
    id of somebody else's is as unknown as one that nobody has. What a method has written when it returns is on the disk.

    The file of SQLite is readable by its owner only, and what is deleted is overwritten. Several processes may share it.
    PostgreSQL, by a URL such as `postgresql://user:password@host/name` and with the extra `postgres`, takes the same code; who may read
    it and when what is deleted is overwritten is the server's matter, and a NUL in a title, a comment or a file's name becomes U+FFFD.

    Args:
        url: `sqlite:///` and a path, or PostgreSQL's.
        migrations: Folder of the versions.

    Raises:
        StoreError: It cannot be opened, is no store, or a newer version of Counterpoint has written it.

    Example:
        >>> import tempfile
        >>> with Store(f"sqlite:///{tempfile.mkdtemp()}/store.db") as store:
        ...     store.add_key("k1", name="me", salt=b"", digest=b"")
        ...     store.save_conversation("k1", "c1", "Hello", [{"role": "user", "content": "Hello"}])
        ...     store.conversation("k1", "c1").title, store.conversation("k2", "c1")
        ('Hello', None)
    """

    def __init__(self, url: str, *, migrations: Path = MIGRATIONS) -> None:
        self._database = Database(url, migrations)
        self._reading, self._writing = self._database.reading, self._database.writing
        self.key_changes = 0
        """Goes up when this process has changed a key."""

    @property
    def database(self) -> Database:
        """The database, for what asks it in ways of its own."""
        return self._database

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Keys

    def add_key(self, id: str, **columns: Any) -> None:
        """Add a key; columns as in `tables.keys`, those without a value here take none.

        Raises:
            StoreError: The id is taken.
        """
        row: dict[str, Any] = {"denied_experts": [], "admin": False, "defaults": {}, "created_at": time.time()} | columns
        if "budget_usd" in row:
            budget = row.pop("budget_usd")
            row["budget_nano"] = None if budget is None else _nano(budget)
        with self._writing() as connection:
            connection.execute(insert(tables.keys).values(id=id, **row))
        self._key_changed()

    def key(self, id: str) -> dict[str, Any] | None:
        """A key's columns, its budget as `budget_usd`."""
        with self._reading() as connection:
            row = connection.execute(select(tables.keys).where(tables.keys.c.id == id)).one_or_none()
        return None if row is None else _key(row._asdict())

    def keys(self) -> list[dict[str, Any]]:
        """All keys, oldest first."""
        with self._reading() as connection:
            return [_key(row._asdict()) for row in connection.execute(select(tables.keys).order_by(tables.keys.c.created_at))]

    def revoke_key(self, id: str, at: float | None = None) -> bool:
        """Mark a key as revoked, and say whether there is one; a key that is revoked stays as it was."""
        with self._writing() as connection:
            found = connection.execute(select(tables.keys.c.id).where(tables.keys.c.id == id)).one_or_none()
            fresh = update(tables.keys).where(tables.keys.c.id == id, tables.keys.c.revoked_at.is_(None))
            connection.execute(fresh.values(revoked_at=time.time() if at is None else at))
        self._key_changed()
        return found is not None

    def _key_changed(self) -> None:
        with self._database.one_writer:
            self.key_changes += 1

    # Money and tokens

    def hold(self, owner: str, id: str, usd: float, at: float | None = None) -> None:
        """Set aside what a request can cost at most. Holds and spend of a key never pass its budget, whoever asks at the same time.

        A hold that is never settled, because the process ended, goes on counting: what may have been spent is taken as spent
        (`book_holds` turns it into spend).

        Args:
            owner: The key.
            id: Name of the hold, unique for the key.
            usd: US dollars, rounded up to a billionth.
            at: When, in seconds since 1970.

        Raises:
            BudgetError: The budget cannot hold it.
        """
        with self._writing() as connection:
            # the key's row is locked, so that of those who ask at the same time each sees what the one before has set aside
            budget = select(tables.keys.c.budget_nano).where(tables.keys.c.id == owner).with_for_update(key_share=True)
            left: int | None = connection.execute(budget).scalar_one_or_none()
            if left is not None:
                left -= self._total(connection, owner, tables.spend, tables.holds)
                if _nano(usd) > left:
                    raise BudgetError(f"wanted ${usd:.6f}, ${max(0, left) / NANO:.6f} is left", max(0, left) / NANO)
            row = {"owner": owner, "id": id, "usd_nano": _nano(usd), "at": time.time() if at is None else at}
            connection.execute(insert(tables.holds).values(**row))

    def settle(self, owner: str, used: Spend, hold: str | None = None, at: float | None = None) -> bool:
        """Add to what a key has spent, in place of what was held.

        Args:
            owner: The key.
            used: What was used.
            hold: Name of the hold that this settles.
            at: When, in seconds since 1970; its UTC day gets it.

        Returns:
            Whether it was added: a hold is settled once.
        """
        with self._writing() as connection:
            if hold is not None and not connection.execute(_delete(tables.holds, owner, tables.holds.c.id == hold)).rowcount:
                return False
            self._book(connection, owner, used, time.time() if at is None else at)
        return True

    @staticmethod
    def _book(connection: Connection, owner: str, used: Spend, at: float) -> None:
        """Add to what a key has spent on the UTC day of a time."""
        columns = asdict(used)
        sums = {"usd_nano": _nano(columns.pop("usd")), **columns}
        add = _upsert(connection, tables.spend).values(owner=owner, day=datetime.fromtimestamp(at, UTC).date().isoformat(), **sums)
        columns_now = {name: tables.spend.c[name] + add.excluded[name] for name in sums}
        connection.execute(add.on_conflict_do_update(index_elements=["owner", "day"], set_=columns_now))

    def release(self, owner: str, hold: str) -> bool:
        """Give up a hold of a request that was never begun, and say whether there was one."""
        return bool(self._drop(tables.holds, owner, tables.holds.c.id == hold))

    def book_holds(self, before: float) -> int:
        """Turn holds older than a time, whose process has ended before it could settle them, into spend; give their number.

        Args:
            before: Seconds since 1970, long enough ago that no request is still under way.
        """
        holds = tables.holds.c
        with self._reading() as connection:
            old = connection.execute(select(holds.owner, holds.id, holds.usd_nano, holds.at).where(holds.at < before)).all()
        return sum(self.settle(row.owner, Spend(row.usd_nano / NANO, requests=1), row.id, row.at) for row in old)

    def held(self, owner: str) -> float:
        """US dollars that requests under way may still cost."""
        with self._reading() as connection:
            return self._total(connection, owner, tables.holds) / NANO

    def spend(self, owner: str) -> Spend:
        """What a key has used in all."""
        sums = [func.coalesce(func.sum(tables.spend.c[name]), 0) for name in SPENT]
        with self._reading() as connection:
            return _spend(connection.execute(_select(tables.spend, owner, columns=tuple(sums))).one())

    def spend_by_day(self, owner: str) -> dict[str, Spend]:
        """What a key has used on each UTC day, such as `2026-01-31`, in order."""
        with self._reading() as connection:
            columns = tuple(tables.spend.c[name] for name in ("day", *SPENT))
            rows = connection.execute(_select(tables.spend, owner, columns=columns).order_by(tables.spend.c.day)).all()
        return {day: _spend(sums) for day, *sums in rows}

    @staticmethod
    def _total(connection: Connection, owner: str, *of: Table) -> int:
        """What the rows of a key come to, in one statement: between two, a hold could become spend and be in neither."""
        sums = [_select(table, owner, columns=(func.coalesce(func.sum(table.c.usd_nano), 0),)).scalar_subquery() for table in of]
        return sum(map(int, connection.execute(select(*sums)).one()))

    # Feedback

    def add_feedback(self, owner: str, request_id: str, score: float, comment: str | None = None, at: float | None = None) -> None:
        """Keep what somebody thought of an answer, in place of what they thought of it before.

        Raises:
            StoreError: The score is not from 0 to 1.
        """
        if not 0 <= score <= 1:
            raise StoreError(f"score must be from 0 to 1, not {score}")
        self._put(tables.feedback, owner, request_id=request_id, score=score, comment=comment, at=time.time() if at is None else at)

    def feedback(self, owner: str, request_id: str) -> Feedback | None:
        """What was thought of one answer."""
        return self._one(Feedback, tables.feedback, owner, tables.feedback.c.request_id == request_id)

    def feedbacks(self, owner: str, limit: int = PAGE, after: str | None = None) -> list[Feedback]:
        """What was thought, newest first, from after a request's on."""
        return self._page(Feedback, tables.feedback, owner, ("at", "request_id"), limit, after)

    # Traces

    def add_trace(self, owner: str, request_id: str, body: Mapping[str, Any], *, text: bool, at: float | None = None) -> None:
        """Keep how an answer came about; `text` says whether the body holds what was asked and answered."""
        self._put(tables.traces, owner, request_id=request_id, at=time.time() if at is None else at, body=dict(body), text=text)

    def trace(self, owner: str, request_id: str) -> StoredTrace | None:
        """How one answer came about."""
        return self._one(StoredTrace, tables.traces, owner, tables.traces.c.request_id == request_id)

    def traces(self, owner: str, limit: int = PAGE, after: str | None = None) -> list[StoredTrace]:
        """Traces, newest first, from after a request's on."""
        return self._page(StoredTrace, tables.traces, owner, ("at", "request_id"), limit, after)

    # Files

    def add_file(self, owner: str, id: str, filename: str, purpose: str, content: bytes, created_at: int | None = None) -> StoredFile:
        """Keep a file."""
        made = StoredFile(id, filename, purpose, len(content), int(time.time()) if created_at is None else created_at)
        self._put(tables.files, owner, **asdict(made), content=content)
        return made

    def file(self, owner: str, id: str) -> StoredFile | None:
        """A file, without its content."""
        return self._one(StoredFile, tables.files, owner, tables.files.c.id == id)

    def file_content(self, owner: str, id: str) -> bytes | None:
        """A file's content."""
        with self._reading() as connection:
            found = _select(tables.files, owner, tables.files.c.id == id, columns=(tables.files.c.content,))
            content: bytes | None = connection.execute(found).scalar_one_or_none()
        return content

    def file_bytes(self, owner: str) -> int:
        """Bytes that all files of a key take."""
        with self._reading() as connection:
            sums = (func.coalesce(func.sum(tables.files.c.bytes), 0),)
            return int(connection.execute(_select(tables.files, owner, columns=sums)).scalar_one())

    def files(self, owner: str, limit: int = PAGE, after: str | None = None, purpose: str | None = None) -> list[StoredFile]:
        """Files, newest first, from after a file on."""
        where = () if purpose is None else (tables.files.c.purpose == purpose,)
        return self._page(StoredFile, tables.files, owner, ("created_at", "id"), limit, after, *where)

    def delete_file(self, owner: str, id: str) -> bool:
        """Delete a file, and say whether there was one."""
        return bool(self._drop(tables.files, owner, tables.files.c.id == id))

    # Batches

    def save_batch(self, owner: str, batch: Batch) -> None:
        """Keep a batch, in place of the one with its id."""
        self._put(tables.batches, owner, **asdict(batch))

    def change_batch(self, owner: str, id: str, *, running: bool = False, **changes: Any) -> Batch | None:
        """Change some fields of a batch, and give it back; None where there is none. `running` leaves one that has ended as it is.

        Raises:
            StoreError: A batch has no such field.
        """
        known = [entry.name for entry in fields(Batch) if entry.name != "id"]
        if unknown := [name for name in changes if name not in known]:
            raise StoreError(f"a batch has no field {unknown[0]!r}; there are {', '.join(known)}")
        with self._writing() as connection:
            if changes:
                which = [tables.batches.c.id == id, *([tables.batches.c.status.in_(RUNNING)] if running else [])]
                connection.execute(_update(tables.batches, owner, *which).values(**changes))
        return self.batch(owner, id)

    def end_batch(self, owner: str, id: str, used: Spend, *, held: bool, status: str, **changes: Any) -> bool:
        """Change a batch that runs to one that has ended, and book what it took: both or neither.

        Args:
            owner: The key.
            id: The batch.
            used: What it took.
            held: Whether a hold of its id was set aside; one that is gone has been booked.
            status: How it ended.
            changes: Its other fields, as in `change_batch`.

        Returns:
            Whether it ran until now.
        """
        with self._writing() as connection:
            which = (tables.batches.c.id == id, tables.batches.c.status.in_(RUNNING))
            if not connection.execute(_update(tables.batches, owner, *which).values(status=status, **changes)).rowcount:
                return False
            if connection.execute(_delete(tables.holds, owner, tables.holds.c.id == id)).rowcount or not held:
                self._book(connection, owner, used, time.time())
        return True

    def batch(self, owner: str, id: str) -> Batch | None:
        """One batch."""
        return self._one(Batch, tables.batches, owner, tables.batches.c.id == id)

    def batches(self, owner: str, limit: int = PAGE, after: str | None = None, *, running: bool = False) -> list[Batch]:
        """Batches, newest first, from after a batch on; `running` leaves out those that have ended."""
        where = (tables.batches.c.status.in_(RUNNING),) if running else ()
        return self._page(Batch, tables.batches, owner, ("created_at", "id"), limit, after, *where)

    # Conversations

    def save_conversation(self, owner: str, id: str, title: str, messages: list[dict[str, Any]], at: float | None = None) -> None:
        """Keep a conversation, in place of the one with its id."""
        self._put(tables.conversations, owner, id=id, title=title, messages=messages, updated_at=time.time() if at is None else at)

    def conversation(self, owner: str, id: str) -> Conversation | None:
        """One conversation."""
        return self._one(Conversation, tables.conversations, owner, tables.conversations.c.id == id)

    def conversations(self, owner: str, limit: int = PAGE, after: str | None = None) -> list[Conversation]:
        """Conversations, the one that changed last first, from after one on."""
        return self._page(Conversation, tables.conversations, owner, ("updated_at", "id"), limit, after)

    def delete_conversation(self, owner: str, id: str) -> bool:
        """Delete a conversation, and say whether there was one."""
        return bool(self._drop(tables.conversations, owner, tables.conversations.c.id == id))

    # Forgetting

    def kept(self, owner: str) -> dict[str, int]:
        """How many rows of each table `forget` would delete."""
        with self._reading() as connection:
            counts = {table: _select(table, owner, columns=(func.count(),)) for table in FORGOTTEN}
            return {table.name: int(connection.execute(count).scalar_one()) for table, count in counts.items()}

    def forget(self, owner: str) -> int:
        """Delete all that a key has said and kept, and give the number of rows. The key itself stays, and so does what it has spent."""
        with self._writing(alone=True) as connection:
            gone = sum(connection.execute(_delete(table, owner)).rowcount for table in FORGOTTEN)
        self._database.empty_log()
        return gone

    def expire(self, before: float) -> int:
        """Delete everybody's texts older than a time, and give the number of rows that lost some.

        Traces, conversations, files and batches that have ended go; of feedback the comment goes and the score stays. Batches that
        still run stay, and so do their files.

        Args:
            before: Seconds since 1970.
        """
        files, batches, feedback = tables.files.c, tables.batches.c, tables.feedback.c
        named = files.id.in_([batches.input_file_id, batches.output_file_id, batches.error_file_id])
        needed = exists().where(batches.owner == files.owner, batches.status.in_(RUNNING), named)
        ended = func.coalesce(batches.completed_at, batches.failed_at, batches.expired_at, batches.cancelled_at, batches.created_at)
        changes: list[Delete | Update] = [
            delete(tables.traces).where(tables.traces.c.at < before),
            delete(tables.conversations).where(tables.conversations.c.updated_at < before),
            delete(tables.files).where(files.created_at < before, ~needed),
            delete(tables.batches).where(ended < before, batches.status.not_in(RUNNING)),
            update(tables.feedback).where(feedback.at < before, feedback.comment.is_not(None)).values(comment=None),
        ]
        with self._writing(alone=True) as connection:
            gone = sum(connection.execute(change).rowcount for change in changes)
        self._database.empty_log()
        return gone

    # Rows of owners

    def _one(self, record: type[T], table: Table, owner: str, where: ColumnElement[bool]) -> T | None:
        """The record that fits."""
        with self._reading() as connection:
            row = connection.execute(_select(table, owner, where, columns=_columns(record, table))).one_or_none()
        return None if row is None else record(**row._asdict())

    def _page(
        self, record: type[T], table: Table, owner: str, order: tuple[str, str], limit: int, after: str | None, *where: ColumnElement[bool]
    ) -> list[T]:
        """Records, newest first; `order` is the columns of time and id. After an id that is not there, none."""
        time_column, id_column = table.c[order[0]], table.c[order[1]]
        wanted = _select(table, owner, *where, columns=_columns(record, table))
        if after is not None:
            mark = _select(table, owner, id_column == after, columns=(time_column, id_column))
            wanted = wanted.where(tuple_(time_column, id_column) < mark.scalar_subquery())
        wanted = wanted.order_by(time_column.desc(), id_column.desc()).limit(limit)
        with self._reading() as connection:
            return [record(**row._asdict()) for row in connection.execute(wanted)]

    def _put(self, table: Table, owner: str, **columns: Any) -> None:
        """Write a row in place of the owner's row with the same id."""
        with self._writing() as connection:
            put = _upsert(connection, table).values(owner=owner, **columns)
            ids = [column.name for column in table.primary_key]
            connection.execute(put.on_conflict_do_update(index_elements=ids, set_={name: put.excluded[name] for name in columns}))

    def _drop(self, table: Table, owner: str, *where: ColumnElement[bool]) -> int:
        with self._writing() as connection:
            return connection.execute(_delete(table, owner, *where)).rowcount


def default_url() -> str:
    """The store of this user, in XDG's data folder.

    Example:
        >>> default_url().startswith("sqlite:///"), default_url().endswith("counterpoint/store.db")
        (True, True)
    """
    base = os.environ.get("XDG_DATA_HOME")
    return f"sqlite:///{(Path(base) if base else Path.home() / '.local' / 'share') / 'counterpoint' / 'store.db'}"


def _of(table: Table, owner: str) -> ColumnElement[bool]:
    """The condition that keeps owners apart; the three functions below put it into every statement on rows of owners."""
    return table.c.owner == owner


def _select(table: Table, owner: str, *where: ColumnElement[bool], columns: tuple[Any, ...] = ()) -> Select[Any]:
    return select(*(columns or (table,))).where(_of(table, owner), *where)


def _update(table: Table, owner: str, *where: ColumnElement[bool]) -> Update:
    return update(table).where(_of(table, owner), *where)


def _delete(table: Table, owner: str, *where: ColumnElement[bool]) -> Delete:
    return delete(table).where(_of(table, owner), *where)


def _columns(record: type[Any], table: Table) -> tuple[Any, ...]:
    return tuple(table.c[entry.name] for entry in fields(record))


def _upsert(connection: Connection, table: Table) -> Any:
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def _key(row: Mapping[str, Any]) -> dict[str, Any]:
    columns = dict(row)
    budget = columns.pop("budget_nano")
    return columns | {"budget_usd": None if budget is None else budget / NANO}


def _spend(sums: Sequence[int]) -> Spend:
    usd_nano, *counts = map(int, sums)  # PostgreSQL sums whole numbers to decimals
    return Spend(usd_nano / NANO, *counts)


def _nano(usd: float) -> int:
    """Dollars as billionths, rounded up.

    Example:
        >>> _nano(0.1 + 0.2), _nano(1e-11), _nano(2.5)
        (300000000, 1, 2500000000)
    """
    if not (isfinite(usd) and usd >= 0):
        raise StoreError(f"an amount of money must be 0 or more, not {usd}")
    return int((Decimal(repr(round(float(usd), 12))) * NANO).to_integral_value(ROUND_CEILING))  # 0.1 + 0.2 is no billionth above 0.3
