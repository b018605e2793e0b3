"""Texts deleted wherever they are: in the store, and in the journals of batches beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data.records import CounterpointError
from serving.store import PAGE, Store, default_url
from serving.tables import Batch


class ForgetError(CounterpointError):
    """What cannot be forgotten yet."""


def forget_key(store: Store, owner: str, journals: Path, *, running: bool = False) -> dict[str, int]:
    """Delete all that a key has said and kept; the key and what it has spent stay.

    Args:
        store: The store.
        owner: The key's id.
        journals: Folder of the journals of running batches.
        running: Whether batches under way go, too: right only while no endpoint runs, which would file their answers later.

    Returns:
        How many rows of each table went, and how many `journals`.

    Raises:
        ForgetError: A batch of the key is under way, and `running` is not set; or a journal cannot be deleted.
    """
    at_work = [batch.id for batch in under_way(store, owner)]
    if at_work and not running:
        raise ForgetError(
            f"batches under way: {len(at_work)}, such as {at_work[0]}: have whoever holds the key cancel them, "
            "or stop the endpoint and say --running"
        )
    files = [path for batch in _batches(store, owner) for path in files_of(journals, batch.id)]
    for path in files:  # first: the rows are what leads to them
        _delete(path)
    gone = store.kept(owner)
    store.forget(owner)
    return gone | {"journals": len(files)}


def expire_journals(store: Store, journals: Path, before: float) -> int:
    """Delete journals older than a time that no running batch needs, as a crash may leave them, and give their number.

    Args:
        store: The store.
        journals: Their folder.
        before: Seconds since 1970.

    Raises:
        ForgetError: One cannot be deleted.
    """
    old = [path for path in files_of(journals, "batch_*") if path.stat().st_mtime < before]
    if not old:
        return 0
    needed = {path for key in store.keys() for batch in under_way(store, key["id"]) for path in files_of(journals, batch.id)}
    old = [path for path in old if path not in needed]
    for path in old:
        _delete(path)
    return len(old)


def journals_of(url: str | None) -> Path:
    """Where a store's journals of running batches are: beside its file, or in the user's own folder."""
    file = _file(url or default_url()) or _file(default_url())
    assert file is not None
    return file.parent / "batches"


def files_of(folder: Path, id: str) -> list[Path]:
    """The files of a batch under way, or of those that a pattern means."""
    return [path for ending in ("in.jsonl", "out.jsonl", "lock") for path in sorted(folder.glob(f"{id}.{ending}"))]


def copies_of(url: str) -> list[Path]:
    """Copies of a store that `counterpoint migrate` left beside it: they hold what is deleted later."""
    file = _file(url)
    return [] if file is None else sorted(file.parent.glob(f"{file.name}.v*.bak*"))


def under_way(store: Store, owner: str) -> list[Batch]:
    """The batches of a key that have not ended."""
    return list(_batches(store, owner, running=True))


def _batches(store: Store, owner: str, *, running: bool = False) -> Iterator[Batch]:
    """All batches of a key, or those under way."""
    after: str | None = None
    while page := store.batches(owner, PAGE, after, running=running):
        yield from page
        after = page[-1].id


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ForgetError(f"cannot delete {path}: {error.strerror or error}") from error


def _file(url: str) -> Path | None:
    """The file of a store, or None where it is on a server."""
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None
