"""What all sections of a config are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from data.records import CounterpointError
from data.versions import Format

ASSETS = Path(__file__).parent.parent / "assets"
"""What `package:` paths start from: the demo's adapters, router, scores and mixture."""


class ConfigError(CounterpointError):
    """A config that cannot be used; the text says where, what was wanted and what came."""


CONFIG: Format[dict[str, Any]] = Format("config", ConfigError)
"""Versions of a mixture's YAML, as the mapping that it holds."""


class Section(BaseModel):
    """A part of a config; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def resolve_path(path: str, folder: Path) -> Path:
    """Make a config's path absolute.

    Example:
        >>> resolve_path("router", Path("/srv/mixture")).as_posix()
        '/srv/mixture/router'
    """
    if path.startswith("package:"):
        return ASSETS / path.removeprefix("package:")
    return (folder / Path(path).expanduser()).resolve()
