"""How a fitted combiner is kept."""

from __future__ import annotations

from aggregator.base import AggregatorError
from data.artefact import Parts
from data.versions import Format

COMBINER: Format[Parts] = Format("combiner", AggregatorError)
"""Versions of a combiner's artefact, whatever its kind."""
