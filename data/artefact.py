"""How what was fitted is kept: a folder of JSON and safetensors, with a version and a checksum; nothing in it runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.records import CounterpointError

Parts = tuple[dict[str, Any], dict[str, np.ndarray]]
"""What goes into JSON, and the arrays."""


def nested(name: str, parts: Parts) -> Parts:
    """Parts of one thing inside another: its arrays get a prefix.

    Example:
        >>> nested("base", ({"kind": "knn"}, {"mean": np.zeros(2)}))[1].keys()
        dict_keys(['base.mean'])
    """
    return parts[0], {f"{name}.{key}": array for key, array in parts[1].items()}


def inner(name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of one thing inside another, under their own names."""
    return {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}


def write_artefact(folder: Path, parts: Parts, what: str, version: int, error: type[CounterpointError]) -> None:
    """Write `<what>.json` and `weights.safetensors`.

    Args:
        folder: The artefact's folder.
        parts: What it holds.
        what: What it is, such as `router`.
        version: Version of its format.
        error: What is raised.

    Raises:
        CounterpointError: The folder cannot be written, or the parts are no JSON; of the class `error`.
    """
    from safetensors.numpy import save

    weights = save({name: np.ascontiguousarray(array) for name, array in parts[1].items()})
    head = {"version": version, **parts[0]}
    try:
        head["sha256"] = _checksum(head, weights)
        text = (json.dumps(head, ensure_ascii=False, indent=1) + "\n").encode()
    except (TypeError, ValueError) as fault:  # a setting that is no JSON, or half a character
        raise error(f"the {what} cannot be written as JSON: {fault}") from fault
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "weights.safetensors").write_bytes(weights)
        (folder / f"{what}.json").write_bytes(text)
    except OSError as fault:
        raise error(f"cannot write the {what} to {folder}: {fault.strerror or fault}") from fault


def read_artefact(folder: Path, what: str, versions: Sequence[int], error: type[CounterpointError]) -> Parts:
    """Read and check the parts of an artefact.

    Args:
        folder: The artefact's folder.
        what: What it is.
        versions: Versions that are read, the newest first.
        error: What is raised.

    Raises:
        CounterpointError: It is absent, damaged, or of another version; of the class `error`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = folder / f"{what}.json"
    try:
        head = json.loads(path.read_text(encoding="utf-8"))
        weights = (folder / "weights.safetensors").read_bytes()
    except OSError as fault:
        name = Path(fault.filename or "").name
        raise error(f"no {what} in {folder}: {name} cannot be read; make one by `counterpoint {what} fit`") from fault
    except (ValueError, RecursionError) as fault:
        raise error(f"{path} is no JSON: {fault}") from fault
    if not isinstance(head, dict):
        raise error(f"{path} is damaged: wanted an object, not {type(head).__name__}")
    if head.get("version") not in versions:
        known = " and ".join(map(str, versions))
        raise error(f"the {what} in {folder} has version {head.get('version')}, this program reads {known}")
    if _checksum(head, weights) != head.get("sha256"):
        raise error(f"the {what} in {folder} is damaged: its checksum is not the one in {what}.json")
    try:
        return head, load(weights)
    except SafetensorError as fault:
        raise error(f"the weights of the {what} in {folder} cannot be read: {fault}") from fault


def _checksum(head: dict[str, Any], weights: bytes) -> str:
    """The checksum of both files, as far as they can be damaged without notice."""
    rest = {name: value for name, value in head.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode() + weights).hexdigest()
