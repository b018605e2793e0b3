"""What an evaluation run asks, and of which systems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data.records import Sampling
from data.skills import Task
from serving.config import MixtureConfig


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a benchmark.

    Attributes:
        benchmark: The benchmark's name.
        task: What is asked, and how answers are graded; its id is unique in the run.
        own_id: Its id in the benchmark.
    """

    benchmark: str
    task: Task
    own_id: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does; the same plan gives the same figures.

    Attributes:
        config: The mixture.
        questions: What is asked.
        systems: Each system's name and its section `aggregator`, as in a config.
        sampling: Limits and randomness of each answer.
        sampled: Whether the best single expert is sampled as often as the first system calls.
        alone: Whether every expert is also asked alone, which the baselines need.
        seed: Seed of samples and resampling.
        allow_code: Whether programs that experts wrote are run, in the sandbox.
        judge: The expert that compares answers with a reference, or None.
        about: What is noted of the run besides: sources, versions, weights.
    """

    config: MixtureConfig
    questions: tuple[Question, ...]
    systems: tuple[tuple[str, Mapping[str, Any]], ...]
    sampling: Sampling = field(default_factory=Sampling)
    sampled: bool = True
    alone: bool = True
    seed: int = 0
    allow_code: bool = False
    judge: str | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
