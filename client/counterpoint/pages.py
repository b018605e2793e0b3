"""Pages of lists, and records that are read field by field."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list; it can be looped over.

    Attributes:
        items: What is on it.
        has_more: Whether the list goes on after the last of them.
    """

    items: tuple[T, ...]
    has_more: bool

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


def page_of(read: Callable[[Any], T]) -> Callable[[Any], Page[T]]:
    """Read a list of the wire's form, each entry by `read`."""
    return lambda body: Page(tuple(read(each) for each in body["data"]), bool(body["has_more"]))


def taken(record: Callable[..., T], body: Mapping[str, Any], **read: Any) -> T:
    """Make a record of the fields of its name; those that are read already are given.

    Example:
        >>> taken(Page, {"items": (), "has_more": False, "newer": "fields are left out"})
        Page(items=(), has_more=False)
    """
    names = (entry.name for entry in fields(record) if entry.name not in read)  # type: ignore[arg-type]
    return record(**read, **{name: body[name] for name in names})


def listed(limit: int, after: str | None, **more: str | None) -> dict[str, Any]:
    """The query of a list."""
    given = {"after": after, **more}
    return {"params": {"limit": limit} | {name: value for name, value in given.items() if value is not None}}
