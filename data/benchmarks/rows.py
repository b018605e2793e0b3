"""The rows of a benchmark in its source's own columns: from files here, or from the model hub by `datasets`."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data.benchmarks.specs import Spec
from data.records import CounterpointError

FORMATS = (".jsonl", ".json", ".parquet", ".csv", ".arrow")


class BenchmarkError(CounterpointError):
    """A benchmark that cannot be read or used; the text says how to get it, or names file, line and column."""


_SPLITS = {"train", "validation", "dev", "test", "eval", "prompt"}
Row = tuple[str, str, Mapping[str, Any]]
"""Where a row stands, its configuration, and its cells."""


def rows(spec: Spec, split: str, path: Path | None) -> Iterator[Row]:
    """Read the rows of one split.

    Args:
        spec: The benchmark.
        split: The source's name of the split.
        path: A file, a folder of files or one that `datasets` saved; None is the model hub.

    Raises:
        BenchmarkError: They cannot be read; one line says what to do.
    """
    if path is None:
        yield from _of_hub(spec, split)
        return
    if not path.exists():
        raise BenchmarkError(f"{spec.name}: nothing at {path}; {way(spec)}")
    for file, config in _files(spec, split, path):
        yield from ((place, config, row) for place, row in read(file))


def way(spec: Spec) -> str:
    """Say in one line how to get a benchmark."""
    page = f"https://huggingface.co/datasets/{spec.hub}"
    accept = f"accept its terms at {page} and log in (hf auth login); " if spec.gated else ""
    config = f" {spec.configs[0]}" if len(spec.configs) == 1 else ""
    return (
        f"{accept}with the extra counterpoint-server[benchmarks] it is read from the hub, else download {spec.hub}{config} ({page}) "
        f"and give the folder as the path"
    )


def has(spec: Spec, split: str, path: Path | None) -> bool:
    """Tell whether a split is there at all: a single file holds one only."""
    return path is None or (path.is_dir() and bool(_found(spec, split, path)))


def _found(spec: Spec, split: str, folder: Path) -> list[tuple[Path, str]]:
    """The files of a split, each with its configuration: both stand in a file's name or in its folders'."""
    if (folder / "state.json").exists():  # `Dataset.save_to_disk`: one split, whose name stands nowhere
        return [(file, "") for file in sorted(folder.glob("*.arrow"))]
    found = []
    for file in sorted(one for one in folder.rglob("*") if one.suffix in FORMATS and one.is_file()):
        if file.name in ("dataset_info.json", "dataset_dict.json", "state.json"):
            continue
        parts = [*file.relative_to(folder).parts[:-1], file.stem]
        words = {word for part in parts for word in re.split(r"[-_.]", part)}
        config = next((one for one in spec.configs if any(re.match(rf"{re.escape(one)}(?:[-_]|$)", part) for part in parts)), "")
        if split in words or (config and not words & _SPLITS):
            found.append((file, config))
    return [pair for pair in found if pair[1]] or found  # those of other configurations lie beside


def _files(spec: Spec, split: str, path: Path) -> list[tuple[Path, str]]:
    if path.is_file():
        if path.suffix not in FORMATS:
            raise BenchmarkError(f"{spec.name}: wanted a file ending in {', '.join(FORMATS)}, not {path}")
        return [(path, next((one for one in spec.configs if one == path.stem), ""))]
    if not (found := _found(spec, split, path)):
        raise BenchmarkError(f"{spec.name}: no file of the split {split!r} below {path} (such as {split}.jsonl); {way(spec)}")
    return found


def read(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read the rows of a file, each with its place.

    Raises:
        BenchmarkError: The file or a line is not what its ending says.
    """
    try:
        if path.suffix == ".jsonl":
            yield from _lines(path)
        elif path.suffix == ".json":
            yield from _json(path)
        else:
            yield from _table(path)
    except (OSError, UnicodeDecodeError) as error:
        raise BenchmarkError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if line.strip():
            place = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise BenchmarkError(f"{place}: no JSON: {error}") from error
            yield place, _object(row, place)


def _json(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    text = path.read_text(encoding="utf-8-sig")
    try:
        whole = json.loads(text)
    except ValueError:
        yield from _lines(path)  # JSON lines under the other name
        return
    if isinstance(whole, dict):  # the usual wrappings of a list
        whole = next((whole[name] for name in ("examples", "data", "rows") if isinstance(whole.get(name), list)), [whole])
    for number, row in enumerate(whole if isinstance(whole, list) else [whole], start=1):
        yield f"{path}, row {number}", _object(row, f"{path}, row {number}")


def _object(row: object, place: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise BenchmarkError(f"{place}: wanted an object, not {type(row).__name__}")
    return row


def _table(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".csv":
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
            made: list[dict[str, Any]] = frame.to_dict("records")  # type: ignore[assignment]
        elif path.suffix == ".parquet":
            made = pq.read_table(path).to_pylist()
        else:  # what `datasets` saves
            with pa.memory_map(str(path)) as source:
                made = pa.ipc.open_stream(source).read_all().to_pylist()
    except (ValueError, pa.ArrowException) as error:
        raise BenchmarkError(f"{path} cannot be read as {path.suffix[1:]}: {str(error).splitlines()[0]}") from error
    yield from ((f"{path}, row {number}", row) for number, row in enumerate(made, start=1))


def _of_hub(spec: Spec, split: str) -> Iterator[Row]:
    if importlib.util.find_spec("datasets") is None:
        raise BenchmarkError(f"{spec.name}: the library datasets is not installed; {way(spec)}")
    import datasets

    for config in spec.configs or ("",):
        try:
            if spec.converted:  # a loading script is never run
                files = f"hf://datasets/{spec.hub}@refs%2Fconvert%2Fparquet/{config}/{split}/*.parquet"
                found = datasets.load_dataset("parquet", data_files=files, split="train")
            else:
                found = datasets.load_dataset(spec.hub, config or None, split=split)
        except Exception as error:  # the network, the hub, its terms: each library beneath has errors of its own
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:160]
            raise BenchmarkError(f"{spec.name}: {reason}; {way(spec)}") from error
        where = f"{spec.hub}{f' {config}' if config else ''} {split}"
        yield from ((f"{where}, row {number}", config, row) for number, row in enumerate(found, start=1))
