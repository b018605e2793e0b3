"""Lines of the log: one JSON object each, or a text for people."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from pathlib import Path

from data.records import CounterpointError

KINDS = ("json", "text")
"""What `serving.log` may say besides a path: lines of these forms go to stderr."""
MODE = 0o640
"""Who may read the file: its owner, and the owner's group."""
LOGGER = logging.getLogger("serving")
"""Above the loggers of all our modules in this package."""


def open_log(where: str | None) -> None:
    """Write the endpoint's lines from now on; what was set before ends.

    Args:
        where: `json` or `text` to stderr, else the path of a file that JSON lines are appended to, or None: no lines but warnings.

    Raises:
        CounterpointError: The file cannot be written.
    """
    for handler in [each for each in LOGGER.handlers if isinstance(each, (_Stderr, WatchedFileHandler))]:
        LOGGER.removeHandler(handler)
        handler.close()
    LOGGER.setLevel(logging.WARNING if where is None else logging.INFO)
    if where is None:
        return
    made: logging.Handler = _Stderr()
    if where not in KINDS:
        try:
            made = _File(Path(where), encoding="utf-8")
        except OSError as error:
            raise CounterpointError(f"serving.log: cannot write {where}: {error.strerror}") from error
    made.setFormatter(TextLines() if where == "text" else JSONLines())
    LOGGER.addHandler(made)


class _Stderr(logging.Handler):
    """Writes to what stderr is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        sys.stderr.write(self.format(record) + "\n")
        sys.stderr.flush()


class _File(WatchedFileHandler):
    """Writes each line at the end of a file, whoever else does, and begins it again where logrotate has moved it away."""

    def _open(self) -> TextIOWrapper:
        return TextIOWrapper(
            os.fdopen(os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, MODE), "ab"), encoding=self.encoding
        )


class JSONLines(logging.Formatter):
    """One JSON object a line: time, level, event and, of a request, its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a line; of an exception its kind and place, for its text may quote a prompt."""
        told = {"time": _time(record), "level": record.levelname, "logger": record.name, "event": record.getMessage()}
        return json.dumps(told | getattr(record, "fields", {}) | _fault(record))


class TextLines(logging.Formatter):
    """One line for people: time, level, event and `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a line; of an exception its kind and place, for its text may quote a prompt."""
        fields = getattr(record, "fields", {}) | _fault(record)
        pairs = [f"{name}={','.join(map(str, value)) if isinstance(value, list) else value}" for name, value in fields.items()]
        return " ".join([_time(record), record.levelname, *(_on_one_line(part) for part in (record.getMessage(), *pairs))])


def _on_one_line(text: str) -> str:
    r"""A text as it stands, or escaped where it would break the line or act on a terminal: a path may hold anything.

    Example:
        >>> _on_one_line("path=/v1/models"), _on_one_line("path=/a\nb")
        ('path=/v1/models', '"path=/a\\nb"')
    """
    return text if text.isprintable() else json.dumps(text)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _fault(record: logging.LogRecord) -> dict[str, object]:
    if record.exc_info is None or record.exc_info[1] is None:
        return {}
    error = record.exc_info[1]
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    return {"fault": type(error).__name__, "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]}
