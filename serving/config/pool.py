"""How experts share the machine, as a config says it."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from experts.pool import PoolSettings
from serving.config.base import Section


class PoolConfig(Section):
    """How local experts share the machine."""

    slots: PositiveInt = 1
    """Slots, each with GPUs of its own or a share of the CPU."""
    max_slots: PositiveInt | None = None
    """Slots to grow to while calls wait long, where the cluster can grow; null is no more than slots."""
    batch: PositiveInt = 64
    """Calls that an engine runs at once."""
    max_wait_s: PositiveFloat | None = None
    """An accepted call starts within so many seconds, others are refused with 429; null accepts all."""
    awake_gb: PositiveFloat | None = None
    """Gigabytes of a slot for engines that are awake; null is one engine at a time."""
    asleep_gb: NonNegativeFloat = 0.0
    """Gigabytes of host memory for engines that sleep in a slot; 0 ends engines instead, as on the CPU."""
    sleep_level: Literal[1, 2] = 1
    """vLLM's level of sleep: 1 keeps the weights in host memory, 2 on disk only."""
    prefetch: bool = True
    """Whether the next engine's weights are read while the current one decodes."""
    replicas: PositiveInt = 1
    """Slots that may hold the same engine at once."""
    quantum: PositiveFloat = 16.0
    """Length of a visit, in swap times, after which others that wait come first."""
    rule: Literal["counterpoint", "llama-swap", "lru", "fifo"] = "counterpoint"
    """How a slot chooses its next engine."""
    placement: bool = False
    """Whether engines are given slots of their own by what was asked lately, anew every minute."""

    @model_validator(mode="after")
    def _growing(self) -> PoolConfig:
        if self.max_slots is not None and self.max_slots < self.slots:
            raise ValueError(f"max_slots must not be below slots, not {self.max_slots} below {self.slots}")
        return self

    def build(self) -> PoolSettings:
        """Make the pool's settings."""
        return PoolSettings(
            slots=self.slots,
            max_slots=self.max_slots,
            batch=self.batch,
            max_wait_s=self.max_wait_s,
            awake_bytes=None if self.awake_gb is None else int(self.awake_gb * 1e9),
            asleep_bytes=int(self.asleep_gb * 1e9),
            sleep_level=self.sleep_level,
            prefetch=self.prefetch,
            replicas=self.replicas,
            quantum=self.quantum,
            rule=self.rule,
            placement=self.placement,
        )
