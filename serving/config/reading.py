"""Read a mixture's YAML, and say in one line what is wrong with it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from data.records import CounterpointError
from serving.config.base import CONFIG, ConfigError, resolve_path
from serving.config.mixture import MixtureConfig


def load_config(path: Path) -> MixtureConfig:
    """Read a mixture's YAML; paths in it become absolute, from the YAML's folder or, after `package:`, from ours.

    Raises:
        ConfigError: The file is absent, no YAML, or says something that does not fit; one line, with the place.
    """
    raw = read_mapping(path)
    if "version" in raw:  # without one it is refused below
        raw = {**CONFIG.read(raw, raw["version"], path), "version": CONFIG.newest}
    try:
        config = MixtureConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_line(error, raw)}") from error
    made = _absolute(config, path.resolve().parent)
    try:
        made.aggregator.build()
    except CounterpointError as error:
        raise ConfigError(f"{path}: aggregator: {error}") from error
    return made


def read_mapping(path: Path) -> dict[str, Any]:
    """Read the mapping of a mixture's YAML, whatever its version.

    Raises:
        ConfigError: The file is absent, no YAML, or no mapping.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"no config at {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: wanted a mapping with version, experts and so on, not {type(raw).__name__}")
    return raw


def _first_line(error: ValidationError, raw: dict[str, Any]) -> str:
    first = error.errors()[0]
    place = ".".join(_named(raw, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        near = difflib.get_close_matches(key, _keys_at(first["loc"][:-1]), n=1)
        message = "no such key" + (f"; did you mean {near[0]}?" if near else f"; there are {', '.join(_keys_at(first['loc'][:-1]))}")
    elif first["type"] != "value_error" and first["type"] != "missing":
        message = f"{message}, not {first['input']!r}"
    more = len(error.errors()) - 1
    return f"{place + ': ' if place else ''}{message}" + (f" (and {more} more)" if more else "")


def _named(raw: Any, location: tuple[int | str, ...]) -> list[str]:
    """The place of an error, with experts by their names."""
    names: list[str] = []
    for part in location:
        if isinstance(raw, dict) and part in raw:
            raw = raw[part]
        elif isinstance(raw, list) and isinstance(part, int):
            raw = raw[part]
        else:
            raw = None
        names.append(str(raw["name"]) if isinstance(part, int) and isinstance(raw, dict) and "name" in raw else str(part))
    return names


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    model: Any = MixtureConfig
    for part in location:
        if isinstance(part, str):
            annotation = model.model_fields[part].annotation
            inner = [a for a in (annotation, *getattr(annotation, "__args__", ())) if isinstance(a, type) and issubclass(a, BaseModel)]
            if not inner:
                return []
            model = inner[0]
    return list(model.model_fields)


def _absolute(config: MixtureConfig, folder: Path) -> MixtureConfig:
    experts = []
    for expert in config.experts:
        changes: dict[str, Any] = {}
        if expert.adapter is not None:
            adapter = resolve_path(expert.adapter, folder)
            if not (adapter / "adapter_config.json").is_file():
                raise ConfigError(f"experts.{expert.name}.adapter: no LoRA adapter at {adapter}")
            changes["adapter"] = str(adapter)
        local = expert.model is not None and (expert.model.startswith((".", "/", "~", "package:")) or (folder / expert.model).exists())
        if local and expert.model is not None and expert.engine not in ("openai", "litellm", "scripted"):
            model = resolve_path(expert.model, folder)
            if not model.exists():
                raise ConfigError(f"experts.{expert.name}.model: nothing at {model}")
            changes["model"] = str(model)
        experts.append(expert.model_copy(update=changes))
    update: dict[str, Any] = {"experts": experts}
    if config.router is not None:
        update["router"] = config.router.model_copy(update={"path": str(resolve_path(config.router.path, folder))})
    update["aggregator"] = config.aggregator.absolute(folder)
    if config.serving.runs is not None:
        update["serving"] = config.serving.model_copy(update={"runs": str(resolve_path(config.serving.runs, folder))})
    if config.serving.log not in (None, "json", "text"):
        log = resolve_path(config.serving.log, folder)
        if not log.parent.is_dir():
            raise ConfigError(f"serving.log: no folder at {log.parent}; wanted json, text, or a file in a folder that is there")
        update["serving"] = update.get("serving", config.serving).model_copy(update={"log": str(log)})
    if config.serving.cache is not None:
        update["serving"] = update.get("serving", config.serving).model_copy(update={"cache": config.serving.cache.absolute(folder)})
    return config.model_copy(update=update)
