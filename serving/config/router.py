"""The router and its policy, as a config names them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from router.budget import Limits
from router.policy import Cascade, CountingPolicy, EntropyGate, FixedK, Mass, Recruit, SelfSample
from router.preference import Preference
from serving.config.base import Section


class LimitsConfig(Section):
    """Hard budgets of one request."""

    usd: PositiveFloat | None = None
    """US dollars, all its experts together, at the most that their calls can cost."""
    latency_s: PositiveFloat | None = None
    """Seconds that each of its experts is known to take."""
    size_b: PositiveFloat | None = None
    """Billions of parameters, all its experts together."""

    def build(self) -> Limits:
        """Make the limits."""
        return Limits(**{name: amount for name, amount in self.model_dump().items() if amount is not None})


class PolicyConfig(Section):
    """How scores become a choice."""

    kind: Literal["top-k", "mass", "entropy", "cascade", "self", "recruit"] = "top-k"
    k: Annotated[int, Field(ge=1, le=32)] = 3
    """Experts asked (top-k, entropy), samples (self, recruit)."""
    null_score: Annotated[float, Field(ge=0, le=1)] = 0.0
    """top-k: experts that score below this are not asked, except for the best."""
    mass: Annotated[float, Field(gt=0, le=1)] = 0.9
    k_min: Annotated[int, Field(ge=1, le=32)] = 1
    k_max: Annotated[int, Field(ge=1, le=32)] = 3
    """mass, cascade: most experts."""
    gate: Annotated[float, Field(ge=0, le=1)] = 0.9
    """entropy: above it k experts are asked, below it one."""
    floor: Annotated[float, Field(ge=0, le=1)] = 0.5
    """cascade: predicted probability that is good enough."""
    first: Annotated[int, Field(ge=1, le=32)] = 1
    """cascade: experts asked at once."""
    agreement: Annotated[float, Field(ge=0, le=1)] = 0.6
    """cascade: share of the weight that the leading answer needs."""
    objective: dict[Literal["price", "size", "latency", "age"], NonNegativeFloat] = Field(default_factory=dict)
    """Weights against quality; a term is the expert's share of the largest in the pool."""
    sticky: NonNegativeFloat = 0.0
    """Predicted gain below which a conversation stays with its experts."""
    resident_within: NonNegativeFloat = 0.0
    """Predicted loss accepted for an expert that is loaded; routes then depend on what others asked."""
    limits: LimitsConfig = LimitsConfig()

    @model_validator(mode="after")
    def _ordered(self) -> PolicyConfig:
        if self.k_min > self.k_max:
            raise ValueError(f"k_min must not be above k_max, not {self.k_min} above {self.k_max}")
        return self

    def build(self) -> CountingPolicy:
        """Make the policy."""
        preference = Preference({str(term): weight for term, weight in self.objective.items()}, self.sticky, self.resident_within)
        shared: dict[str, Any] = {"preference": preference, "limits": self.limits.build()}
        match self.kind:
            case "top-k":
                return FixedK(self.k, self.null_score, **shared)
            case "mass":
                return Mass(self.mass, self.k_min, self.k_max, **shared)
            case "entropy":
                return EntropyGate(self.gate, self.k, **shared)
            case "cascade":
                return Cascade(self.floor, self.first, self.agreement, self.k_max, **shared)
            case "self":
                return SelfSample(self.k, **shared)
            case "recruit":
                return Recruit(self.k, **shared)


class TokensConfig(Section):
    """Limits of an expert's answer by how hard the router thinks the question, where the caller gives none."""

    easy: PositiveInt
    """Tokens where the best expert is sure to be right."""
    hard: PositiveInt
    """Tokens where it is sure to be wrong; what lies between is in proportion."""


class RouterConfig(Section):
    """Where the fitted router is, and how its scores become a choice."""

    path: str
    policy: PolicyConfig = PolicyConfig()
    max_tokens: TokensConfig | None = None
    """Limits of answers by difficulty, where the caller gives none; null is each expert's own."""
