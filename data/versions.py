"""Versions of what is kept on disk: the newest program reads the version before its own, and converts what is older."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from data.records import CounterpointError

Content = TypeVar("Content")


@dataclass(frozen=True, slots=True)
class Format(Generic[Content]):
    """One kind of file, and how each of its versions becomes the next.

    The newest version is one above the number of steps: whoever changes what is written adds the step that converts what was
    written before.

    Attributes:
        what: What people call it, such as `router`.
        error: What is raised.
        steps: Conversions, the first from version 1 to version 2; `step` adds one.

    Example:
        >>> cake: Format[dict[str, int]] = Format("cake", CounterpointError)
        >>> @cake.step
        ... def to_2(content):
        ...     return {"eggs": content["egg"]}
        >>> cake.newest, cake.read({"egg": 3}, 1, Path("cake.json"))
        (2, {'eggs': 3})
        >>> cake.read({}, 3, Path("c.json"))
        Traceback (most recent call last):
        ...
        data.records.CounterpointError: the cake in c.json has version 3, and this Counterpoint reads up to 2: upgrade counterpoint-server
    """

    what: str
    error: type[CounterpointError]
    steps: list[Callable[[Content], Content]] = field(default_factory=list)

    @property
    def newest(self) -> int:
        """The version that is written."""
        return 1 + len(self.steps)

    def step(self, convert: Callable[[Content], Content]) -> Callable[[Content], Content]:
        """Add the conversion of the newest version into the next, which is then the newest."""
        self.steps.append(convert)
        return convert

    def known(self, version: object, path: Path) -> int:
        """A version that can be converted, if not read.

        Raises:
            CounterpointError: It is no version, or a newer program's; of the class `error`.
        """
        place = f"the {self.what} in {path} has version {version}"
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise self.error(f"{place}, and wanted is a whole number up to {self.newest}")
        if version > self.newest:
            raise self.error(f"{place}, and this Counterpoint reads up to {self.newest}: upgrade counterpoint-server")
        return version

    def readable(self, version: object, path: Path) -> int:
        """A version that is read as it stands: the newest, or the one before.

        Raises:
            CounterpointError: It is no version, newer, or older; of the class `error`.
        """
        found = self.known(version, path)
        if found < self.newest - 1:
            raise self.error(
                f"the {self.what} in {path} has version {found}, and this Counterpoint reads {self.newest} and {self.newest - 1}: "
                f"convert it by `counterpoint migrate {path}`"
            )
        return found

    def read(self, content: Content, version: object, path: Path) -> Content:
        """Give content of a readable version as the newest has it.

        Raises:
            CounterpointError: The version is not read, or the content does not fit it; of the class `error`.
        """
        return self.convert(content, self.readable(version, path), path)

    def convert(self, content: Content, version: int, path: Path) -> Content:
        """Bring content of any known version to the newest.

        Raises:
            CounterpointError: The content does not fit its version; of the class `error`.
        """
        for number in range(version, self.newest):
            try:
                content = self.steps[number - 1](content)
            except (LookupError, TypeError, ValueError, AttributeError) as fault:
                place = f"the {self.what} in {path} cannot be converted from version {number} to {number + 1}"
                raise self.error(f"{place}: {type(fault).__name__}: {fault}") from fault
        return content


def write_whole(path: Path, content: bytes, like: Path | None = None) -> None:
    """Write a file so that a crash leaves either what was there or all that is new.

    Args:
        path: The file.
        content: What it will hold.
        like: File whose owner and permissions it gets; None is the one that is there.

    Raises:
        OSError: It cannot be written.
    """
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _make_like(Path(name), like or path)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
    flush_folder(path.parent)


def _make_like(path: Path, other: Path) -> None:
    """Give a file another's owner, where the system lets us, and its permissions."""
    if other.exists():
        known = other.stat()
        if hasattr(os, "chown"):
            with suppress(OSError):
                os.chown(path, known.st_uid, known.st_gid)
        os.chmod(path, known.st_mode & 0o7777)
    else:
        os.chmod(path, 0o644)


def flush_folder(folder: Path) -> None:
    """Have the names in a folder written to the disk, where the system can."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
