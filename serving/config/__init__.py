"""The config: one YAML a mixture, checked before anything starts."""

from serving.config.aggregator import AggregatorConfig
from serving.config.base import ASSETS, CONFIG, ConfigError, resolve_path
from serving.config.experts import ExpertConfig
from serving.config.mixture import MixtureConfig
from serving.config.pool import PoolConfig
from serving.config.reading import load_config, read_mapping
from serving.config.router import PolicyConfig, RouterConfig
from serving.config.serving import LOOPBACK, CacheConfig, ServingConfig
from serving.config.specs import cards_of, expert_specs

__all__ = [
    "ASSETS",
    "CONFIG",
    "LOOPBACK",
    "AggregatorConfig",
    "CacheConfig",
    "ConfigError",
    "ExpertConfig",
    "MixtureConfig",
    "PolicyConfig",
    "PoolConfig",
    "RouterConfig",
    "ServingConfig",
    "cards_of",
    "expert_specs",
    "load_config",
    "read_mapping",
    "resolve_path",
]
