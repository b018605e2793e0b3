"""Other projects' files into score tables, and a router's choices out as a RouterArena prediction file."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from data.converters.embedllm import read_embedllm
from data.converters.llmrouterbench import read_llmrouterbench, write_llmrouterbench
from data.converters.routerarena import Choice, read_routerarena, write_routerarena
from data.converters.routerbench import read_routerbench
from data.converters.routerdc import read_routerdc
from data.scores import ScoreTableError, check_scores

CONVERTERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "embedllm": read_embedllm,
    "llmrouterbench": read_llmrouterbench,
    "routerarena": read_routerarena,
    "routerbench": read_routerbench,
    "routerdc": read_routerdc,
}
"""Every format that can be read, by its name: a file or a folder becomes the rows of a score table."""


def convert(kind: str, path: Path) -> pd.DataFrame:
    """Read another project's file or folder as a score table.

    Args:
        kind: The format, one of `CONVERTERS`.
        path: The file, or the folder of files.

    Returns:
        A checked score table; a query that an expert has no score for has no row with it.

    Raises:
        ScoreTableError: The kind is unknown, or what is wrong, in which file, row and column; rows count from 1, after a header.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "mine.json"
        ...     write_routerarena([Choice("AIME_1", "2 + 2?", "small", response="4", score=1.0)], path)
        ...     convert("routerarena", path)[["query_id", "expert", "score", "category"]].to_dict("records")
        [{'query_id': 'AIME_1', 'expert': 'small', 'score': 1.0, 'category': 'AIME'}]
    """
    if kind not in CONVERTERS:
        raise ScoreTableError(f"no converter is called {kind!r}; there are {', '.join(CONVERTERS)}")
    return check_scores(CONVERTERS[kind](path), str(path))


__all__ = ["CONVERTERS", "Choice", "convert", "write_llmrouterbench", "write_routerarena"]
