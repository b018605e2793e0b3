"""The aggregator, as a config names it."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

from aggregator import Aggregator, defended, make_aggregator, settings_of
from aggregator.defences import defence_settings
from data.records import CounterpointError
from serving.config.base import resolve_path
from serving.settings import fitting

EXPERT_SETTINGS = ("expert", "judge", "proposers", "divider")
"""Settings of aggregators that name experts."""
PATH_SETTINGS = ("path", "memory", "forbidden")
"""Settings of aggregators and defences that are paths."""


class _Kind(BaseModel, ABC):
    """A kind of something with settings of its own beside it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str

    def settings(self) -> dict[str, Any]:
        """The kind's own settings.

        Raises:
            ValueError: One is unknown, or missing, or does not fit.
        """
        try:
            owner, known = self._known_settings()
            made = fitting(owner, {name: entry.annotation for name, entry in known.items()}, self.model_extra or {})
        except CounterpointError as error:
            raise ValueError(str(error)) from error
        if missing := [name for name, entry in known.items() if entry.default is entry.empty and name not in made]:
            raise ValueError(f"{owner} needs {', '.join(missing)}")
        return made

    @abstractmethod
    def _known_settings(self) -> tuple[str, dict[str, inspect.Parameter]]:
        """What it is called in errors, and the settings that it takes."""

    def absolute(self, folder: Path) -> Self:
        """The same with paths from a folder."""
        paths = {name: value for name, value in (self.model_extra or {}).items() if name in PATH_SETTINGS and isinstance(value, str)}
        return type(self)(**self.model_dump() | {name: str(resolve_path(value, folder)) for name, value in paths.items()})


class DefenceConfig(_Kind):
    """What stands around an aggregator in case an expert lies."""

    @model_validator(mode="after")
    def _known(self) -> DefenceConfig:
        self.settings()
        return self

    def _known_settings(self) -> tuple[str, dict[str, inspect.Parameter]]:
        return f"the defence {self.kind!r}", defence_settings(self.kind)


class AggregatorConfig(_Kind):
    """Which aggregator makes one answer of several; its own settings stand beside its kind."""

    kind: str = "weighted"
    primary_first: bool = False
    """Whether the primary's words are streamed as they come, and corrected where the combined answer differs."""
    defence: DefenceConfig | None = None
    """What stands around it in case an expert lies."""

    @model_validator(mode="after")
    def _known(self) -> AggregatorConfig:
        self.settings()
        return self

    def _known_settings(self) -> tuple[str, dict[str, inspect.Parameter]]:
        return f"the aggregator {self.kind!r}", settings_of(self.kind)

    def build(self) -> Aggregator:
        """Make the aggregator.

        Raises:
            AggregatorError: A setting is out of its range, or an artefact cannot be read.
        """
        made = make_aggregator(self.kind, **self.settings())
        return made if self.defence is None else defended(made, self.defence.kind, **self.defence.settings())

    def absolute(self, folder: Path) -> Self:
        """The same with paths from a folder, the defence's too."""
        made = super().absolute(folder)
        return made if made.defence is None else made.model_copy(update={"defence": made.defence.absolute(folder)})

    @property
    def experts(self) -> list[str]:
        """Experts that its settings name."""
        named = [self.settings().get(name) for name in EXPERT_SETTINGS]
        return [name for entry in named for name in ([entry] if isinstance(entry, str) else entry or ())]
