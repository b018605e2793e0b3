"""How a fitted router is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data import artefact
from data.artefact import Parts
from data.records import CounterpointError

FORMAT_VERSION = 2


class RouterError(CounterpointError):
    """A router that cannot be fitted, saved, loaded or used as it stands."""


def write_artefact(folder: Path, parts: Parts) -> None:
    """Write `router.json` and `weights.safetensors`.

    Raises:
        RouterError: The folder cannot be written.
    """
    artefact.write_artefact(folder, parts, "router", FORMAT_VERSION, RouterError)


def read_artefact(folder: Path) -> Parts:
    """Read and check the parts of a router's artefact.

    Raises:
        RouterError: It is absent, damaged, or of a version that this program does not read.
    """
    head, arrays = artefact.read_artefact(folder, "router", (FORMAT_VERSION, 1), RouterError)
    return (head if head["version"] == FORMAT_VERSION else _upgraded(head)), arrays


def _upgraded(head: dict[str, Any]) -> dict[str, Any]:
    """Turn what version 1 wrote (knn and linear) into what this version reads."""
    state = dict(head["state"])
    settings = {name: state.pop(name) for name in ("k", "temperature", "prior") if name in state} | {"encoder": head["encoder"]}
    if head["kind"] == "linear":  # it was a logistic regression then
        state = {"penalty": 0.0, "logistic": True}
    return head | {"settings": settings, "state": state, "features": {}, "calibration": [1.0, 0.0]}
