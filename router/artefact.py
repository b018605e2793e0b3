"""How a fitted router is kept: a folder of JSON and safetensors, with a version and a checksum; nothing in it runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from data.records import CounterpointError

FORMAT_VERSION = 2

Parts = tuple[dict[str, Any], dict[str, np.ndarray]]
"""What goes into JSON, and the arrays."""


class RouterError(CounterpointError):
    """A router that cannot be fitted, saved, loaded or used as it stands."""


def nested(name: str, parts: Parts) -> Parts:
    """Parts of a router inside another one: its arrays get a prefix.

    Example:
        >>> nested("base", ({"kind": "knn"}, {"mean": np.zeros(2)}))[1].keys()
        dict_keys(['base.mean'])
    """
    return parts[0], {f"{name}.{key}": array for key, array in parts[1].items()}


def inner(name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a router inside another one, under their own names."""
    return {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}


def write_artefact(folder: Path, parts: Parts) -> None:
    """Write `router.json` and `weights.safetensors`.

    Raises:
        RouterError: The folder cannot be written.
    """
    from safetensors.numpy import save

    weights = save({name: np.ascontiguousarray(array) for name, array in parts[1].items()})
    head = {"version": FORMAT_VERSION, **parts[0]}
    try:
        head["sha256"] = _checksum(head, weights)
        text = (json.dumps(head, ensure_ascii=False, indent=1) + "\n").encode()
    except (TypeError, ValueError) as error:  # a setting that is no JSON, or half a character
        raise RouterError(f"the router cannot be written as JSON: {error}") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "weights.safetensors").write_bytes(weights)
        (folder / "router.json").write_bytes(text)
    except OSError as error:
        raise RouterError(f"cannot write the router to {folder}: {error.strerror or error}") from error


def read_artefact(folder: Path) -> Parts:
    """Read and check the parts of a router's artefact.

    Raises:
        RouterError: It is absent, damaged, or of a version that this program does not read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        head = json.loads((folder / "router.json").read_text(encoding="utf-8"))
        weights = (folder / "weights.safetensors").read_bytes()
    except OSError as error:
        name = Path(error.filename or "").name
        raise RouterError(f"no router in {folder}: {name} cannot be read; make one by `counterpoint router fit`") from error
    except ValueError as error:
        raise RouterError(f"{folder / 'router.json'} is no JSON: {error}") from error
    if not isinstance(head, dict):
        raise RouterError(f"{folder / 'router.json'} is damaged: wanted an object, not {type(head).__name__}")
    if head.get("version") not in (1, FORMAT_VERSION):
        raise RouterError(f"the router in {folder} has version {head.get('version')}, this program reads {FORMAT_VERSION} and 1")
    if _checksum(head, weights) != head.get("sha256"):
        raise RouterError(f"the router in {folder} is damaged: its checksum is not the one in router.json")
    try:
        arrays = load(weights)
    except SafetensorError as error:
        raise RouterError(f"the weights of the router in {folder} cannot be read: {error}") from error
    return (head if head["version"] == FORMAT_VERSION else _upgraded(head)), arrays


def _upgraded(head: dict[str, Any]) -> dict[str, Any]:
    """Turn what version 1 wrote (knn and linear) into what this version reads."""
    state = dict(head["state"])
    settings = {name: state.pop(name) for name in ("k", "temperature", "prior") if name in state} | {"encoder": head["encoder"]}
    if head["kind"] == "linear":  # it was a logistic regression then
        state = {"penalty": 0.0, "logistic": True}
    return head | {"settings": settings, "state": state, "features": {}, "calibration": [1.0, 0.0]}


def _checksum(head: dict[str, Any], weights: bytes) -> str:
    """The checksum of both files, as far as they can be damaged without notice."""
    rest = {name: value for name, value in head.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode() + weights).hexdigest()
