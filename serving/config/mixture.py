"""A whole mixture."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt, field_validator, model_validator

from serving.config.aggregator import AggregatorConfig
from serving.config.base import CONFIG, Section
from serving.config.experts import ExpertConfig
from serving.config.pool import PoolConfig
from serving.config.router import RouterConfig
from serving.config.serving import ServingConfig


class MixtureConfig(Section):
    """A whole mixture."""

    version: PositiveInt
    name: str = "counterpoint"
    """The `model` that clients ask for."""
    experts: Annotated[list[ExpertConfig], Field(min_length=1)]
    router: RouterConfig | None = None
    """None asks the experts in their order, all equally likely to be right."""
    aggregator: AggregatorConfig = AggregatorConfig()
    pool: PoolConfig = PoolConfig()
    serving: ServingConfig = ServingConfig()

    @field_validator("version")
    @classmethod
    def _newest(cls, version: int) -> int:
        if version != CONFIG.newest:
            raise ValueError(f"wanted {CONFIG.newest}, not {version}")
        return version

    @model_validator(mode="after")
    def _consistent(self) -> MixtureConfig:
        names = [expert.name for expert in self.experts]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two experts are called {twice[0]!r}")
        if self.name in names:
            raise ValueError(f"the mixture and an expert are both called {self.name!r}")
        for expert in self.experts:
            base = next((other for other in self.experts if other.name == expert.base), None)
            if expert.base is not None and (base is None or base.model is None):
                raise ValueError(f"expert {expert.name!r}: base must be an expert with a model of its own, not {expert.base!r}")
        if all(expert.role == "constant" for expert in self.experts):
            raise ValueError("every expert is constant: at least one must answer other questions")
        if unknown := [name for name in self.aggregator.experts if name not in names]:
            raise ValueError(f"aggregator: no expert is called {unknown[0]!r}; there are {', '.join(names)}")
        return self
