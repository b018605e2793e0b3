"""Lines of a stream, cut at line feeds only: JSON may hold the other characters that Unicode counts as line ends."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator


def lines(pieces: Iterable[str]) -> Iterator[str]:
    r"""Join pieces of text and yield whole lines.

    Example:
        >>> list(lines(["a\nb", "c\n", "d"]))
        ['a', 'bc', 'd']
    """
    rest = ""
    for piece in pieces:
        *whole, rest = (rest + piece).split("\n")
        yield from whole
    if rest:
        yield rest


async def async_lines(pieces: AsyncIterable[str]) -> AsyncIterator[str]:
    """Do the same for pieces that come asynchronously."""
    rest = ""
    async for piece in pieces:
        *whole, rest = (rest + piece).split("\n")
        for line in whole:
            yield line
    if rest:
        yield rest
