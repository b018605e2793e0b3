"""How what was fitted is kept: a folder of JSON and safetensors, with a version and a checksum; nothing in it runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from data.versions import Format, write_whole

Parts = tuple[dict[str, Any], dict[str, np.ndarray]]
"""What goes into JSON, and the arrays."""
WEIGHTS = "weights.safetensors"
"""The file of the arrays, unless the JSON names another under `weights`."""
OURS = ("version", "weights", "sha256")
"""What the JSON holds of the file itself."""


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


def write_artefact(folder: Path, parts: Parts, form: Format[Parts]) -> None:
    """Write `<what>.json` and `weights.safetensors`.

    Args:
        folder: The artefact's folder.
        parts: What it holds.
        form: What it is, such as a router.

    Raises:
        CounterpointError: The folder cannot be written, or the parts are no JSON; of the form's class.
    """
    weights = _weights(parts)
    text = _text(parts[0], form, weights, {})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS).write_bytes(weights)
        (folder / f"{form.what}.json").write_bytes(text)
        _drop_others(folder, WEIGHTS)
    except OSError as fault:
        raise form.error(f"cannot write the {form.what} to {folder}: {fault.strerror or fault}") from fault


def replace_artefact(folder: Path, parts: Parts, form: Format[Parts]) -> None:
    """Write an artefact in place of the one in a folder: a crash leaves one or the other, whole.

    Arrays that changed go into a new file, named by its content; the JSON, which names it, is replaced last and in one step.

    Raises:
        CounterpointError: The folder cannot be written, or the parts are no JSON; of the form's class.
    """
    weights, path = _weights(parts), folder / f"{form.what}.json"
    try:
        before = folder / _named(json.loads(path.read_text(encoding="utf-8")))
        same = before.read_bytes() == weights
        name = before.name if same else f"weights-{hashlib.sha256(weights).hexdigest()[:12]}.safetensors"
        text = _text(parts[0], form, weights, {} if name == WEIGHTS else {"weights": name})
        if not same:
            write_whole(folder / name, weights, before)
        write_whole(path, text)
        _drop_others(folder, name)
    except OSError as fault:
        raise form.error(f"cannot write the {form.what} to {folder}: {fault.strerror or fault}") from fault


def read_artefact(folder: Path, form: Format[Parts], *, any_version: bool = False) -> Parts:
    """Read and check the parts of an artefact, as the newest version has them.

    Args:
        folder: The artefact's folder.
        form: What it is.
        any_version: Whether versions are read that are older than the one before the newest.

    Raises:
        CounterpointError: It is absent, damaged, or of another version; of the form's class.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = folder / f"{form.what}.json"
    try:
        head = json.loads(path.read_text(encoding="utf-8"))
        weights = (folder / _named(head)).read_bytes()
    except OSError as fault:
        name = Path(fault.filename or "").name
        raise form.error(f"no {form.what} in {folder}: {name} cannot be read; make one by `counterpoint {form.what} fit`") from fault
    except (ValueError, RecursionError) as fault:
        raise form.error(f"{path} is no JSON: {fault}") from fault
    if not isinstance(head, dict):
        raise form.error(f"{path} is damaged: wanted an object, not {type(head).__name__}")
    version = (form.known if any_version else form.readable)(head.get("version"), folder)
    if _checksum(head, weights) != head.get("sha256"):
        raise form.error(f"the {form.what} in {folder} is damaged: its checksum is not the one in {form.what}.json")
    try:
        parts = (head, load(weights))
    except SafetensorError as fault:
        raise form.error(f"the weights of the {form.what} in {folder} cannot be read: {fault}") from fault
    return form.convert(parts, version, folder)


def version_of(folder: Path, form: Format[Parts]) -> int:
    """The version of an artefact.

    Raises:
        CounterpointError: It is absent or damaged, or a newer program has written it; of the form's class.
    """
    read_artefact(folder, form, any_version=True)  # what is damaged has no version
    version: int = json.loads((folder / f"{form.what}.json").read_text(encoding="utf-8"))["version"]
    return version


def _named(head: Any) -> str:
    """The name of the file of the arrays; never a path out of the folder."""
    name = head.get("weights", WEIGHTS) if isinstance(head, dict) else WEIGHTS
    return name if isinstance(name, str) and Path(name).name == name else WEIGHTS


def _drop_others(folder: Path, name: str) -> None:
    """Delete files of arrays that the JSON does not name, such as one that a crash has left."""
    for path in (folder / WEIGHTS, *folder.glob("weights-*.safetensors")):
        if path.name != name:
            path.unlink(missing_ok=True)


def _weights(parts: Parts) -> bytes:
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(array) for name, array in parts[1].items()})


def _text(head: dict[str, Any], form: Format[Parts], weights: bytes, more: dict[str, str]) -> bytes:
    """The JSON of an artefact.

    Raises:
        CounterpointError: The parts are no JSON; of the form's class.
    """
    head = {"version": form.newest, **{name: value for name, value in head.items() if name not in OURS}, **more}
    try:
        head["sha256"] = _checksum(head, weights)
        return (json.dumps(head, ensure_ascii=False, indent=1) + "\n").encode()
    except (TypeError, ValueError) as fault:  # a setting that is no JSON, or half a character
        raise form.error(f"the {form.what} cannot be written as JSON: {fault}") from fault


def _checksum(head: dict[str, Any], weights: bytes) -> str:
    """The checksum of both files, as far as they can be damaged without notice."""
    rest = {name: value for name, value in head.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode() + weights).hexdigest()
