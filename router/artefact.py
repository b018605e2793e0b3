"""How a fitted router is kept."""

from __future__ import annotations

from pathlib import Path

from data import artefact
from data.artefact import Parts
from data.records import CounterpointError
from data.versions import Format


class RouterError(CounterpointError):
    """A router that cannot be fitted, saved, loaded or used as it stands."""


ROUTER: Format[Parts] = Format("router", RouterError)
"""Versions of a router's artefact."""


def write_artefact(folder: Path, parts: Parts) -> None:
    """Write `router.json` and `weights.safetensors`.

    Raises:
        RouterError: The folder cannot be written.
    """
    artefact.write_artefact(folder, parts, ROUTER)


def read_artefact(folder: Path) -> Parts:
    """Read and check the parts of a router's artefact.

    Raises:
        RouterError: It is absent, damaged, or of a version that this program does not read.
    """
    return artefact.read_artefact(folder, ROUTER)


@ROUTER.step
def _to_2(parts: Parts) -> Parts:
    """Turn what version 1 wrote (knn and linear) into what version 2 reads."""
    head, arrays = parts
    state = dict(head["state"])
    settings = {name: state.pop(name) for name in ("k", "temperature", "prior") if name in state} | {"encoder": head["encoder"]}
    if head["kind"] == "linear":  # it was a logistic regression then
        state = {"penalty": 0.0, "logistic": True}
    return head | {"settings": settings, "state": state, "features": {}, "calibration": [1.0, 0.0]}, arrays
