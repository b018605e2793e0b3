"""A file of JSON lines that a crash cannot spoil: every line is whole or gone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self

from data.records import CounterpointError


class JournalError(CounterpointError):
    """A journal that cannot be read or written."""


class JournalBusy(JournalError):
    """A journal that another run is writing."""


class Journal:
    """Append objects to a file, each flushed to the disk before it counts as written.

    A line torn by a crash is cut off when the file is opened again.

    Args:
        path: The file.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "out.jsonl"
        >>> with Journal(path) as journal:
        ...     journal.add({"a": 1})
        >>> _ = path.write_text(path.read_text() + '{"a": 2')
        >>> with Journal(path) as journal:
        ...     journal.rows
        [{'a': 1}]
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
        except OSError as error:
            raise JournalError(f"cannot write {self.path}: {error.strerror or error}") from error
        try:
            _lock(self._file)
            self._read()
        except BlockingIOError as error:
            self._file.close()
            raise JournalBusy(f"another run is writing {self.path}: wait for it, or name another file") from error
        except ValueError as error:
            self._file.close()
            raise JournalError(f"{self.path} is there and is not the work of an earlier run: {error}") from error
        return self

    def _read(self) -> None:
        """Read the rows, and cut off a line that a crash has torn."""
        self._file.seek(0)
        *whole, tail = self._file.read().split(b"\n")
        rows = [json.loads(line) for line in whole]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("a line is no object")
        if tail and _parses(tail):  # complete but for its line feed
            rows.append(json.loads(tail))
            self._file.write(b"\n")
        elif tail:
            if not (rows and tail.startswith(b"{")):
                raise ValueError("its only line is no JSON")
            self._file.truncate(sum(len(line) + 1 for line in whole))
        self.rows = rows

    def drop(self, unwanted: Callable[[dict[str, Any]], bool]) -> None:
        """Take rows out of the file; it is replaced as a whole, so a crash leaves the old or the new one."""
        kept = [row for row in self.rows if not unwanted(row)]
        if len(kept) == len(self.rows):
            return
        fresh = self.path.with_name(f"{self.path.name}.new")
        fresh.write_bytes(b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in kept))
        fresh.replace(self.path)
        self._file.close()
        self._file = self.path.open("a+b")
        _lock(self._file)
        self.rows = kept

    def add(self, row: dict[str, Any]) -> None:
        """Write one object.

        Raises:
            JournalError: The disk is full or the file is gone.
        """
        try:
            self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise JournalError(f"cannot write {self.path}: {error.strerror or error}; what is there stays, run again to go on") from error

    def __exit__(self, *_: object) -> None:
        self._file.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the whole rows of a journal that nobody need be writing.

    Raises:
        JournalError: It is absent, or a line is no object.
    """
    try:
        *whole, tail = path.read_bytes().split(b"\n")
        rows = [json.loads(line) for line in [*whole, *([tail] if _parses(tail) else [])]]
    except OSError as error:
        raise JournalError(f"nothing at {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise JournalError(f"{path} is no file of JSON lines: {error}") from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise JournalError(f"{path} is no file of JSON lines: wanted an object a line")
    return rows


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock file, so that one process at a time does what it stands for; the lock goes with the process.

    Raises:
        JournalBusy: Another holds it.
        JournalError: The file cannot be made.
    """
    try:
        file = path.open("ab")
    except OSError as error:
        raise JournalError(f"cannot write {path}: {error.strerror or error}") from error
    with file:
        try:
            _lock(file)
        except BlockingIOError as error:
            raise JournalBusy(f"another process holds {path}") from error
        yield


def _lock(file: BinaryIO) -> None:
    """Keep a second run from writing the same file; the lock goes with the process."""
    try:
        import fcntl
    except ImportError:  # Windows, where only the client is offered
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _parses(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
