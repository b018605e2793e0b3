"""Under which licence each expert's weights come, and what its terms ask for, told before anything is downloaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experts.base import EngineError, ExpertSpec
from experts.models import PACKAGED, resolve
from serving.config import MixtureConfig, expert_specs
from serving.terms import terms_of

UNKNOWN = "unknown"
WITHOUT_WEIGHTS = ("scripted", "replay")
TITLES = (
    (r"Apache License\s+Version 2\.0", "Apache-2.0"),
    (r"\bMIT License\b|Permission is hereby granted, free of charge", "MIT"),
    (r"Redistribution and use in source and binary forms", "BSD"),
)
"""Licences that are known by their words; others go by the first line of their file."""
MOST = 65_536
"""Characters of a file that are looked at."""


@dataclass(frozen=True, slots=True)
class Licence:
    """The licence of one expert's weights.

    Attributes:
        name: What it is called, `unknown` where nothing tells; empty where there are no weights.
        source: What told: `config`, `README.md`, the name of the licence's file, `package`, another expert's name; or None.
    """

    name: str
    source: str | None


@dataclass(frozen=True, slots=True)
class Warned:
    """Terms to read.

    Attributes:
        experts: Experts whose weights come under them.
        model: Their model.
        terms: What the terms are called.
        says: What to mind, in one sentence.
        url: Where they stand.
        here: Whether the weights are here already.
    """

    experts: tuple[str, ...]
    model: str
    terms: str
    says: str
    url: str
    here: bool

    def line(self) -> str:
        """The warning, in one line."""
        read = "see" if self.here else "not downloaded yet, so first read"
        return f"{', '.join(self.experts)}: {self.model} comes under the {self.terms}: {self.says}; {read} {self.url}"


def licences_of(config: MixtureConfig, specs: Sequence[ExpertSpec]) -> dict[str, Licence]:
    """The licence of each expert, by its name: the config's word, else what lies beside the weights; an adapter's is its base's else."""
    given = {expert.name: expert.licence for expert in config.experts}
    base = {expert.name: expert.base for expert in config.experts}
    found: dict[str, Licence] = {}
    for spec in sorted(specs, key=lambda spec: spec.adapter is not None):  # bases first
        if given[spec.name]:
            found[spec.name] = Licence(given[spec.name], "config")
        elif spec.adapter is not None:
            own = _beside(Path(spec.adapter))
            above = found[str(base[spec.name])]
            found[spec.name] = own or (above if above.source is None else Licence(above.name, str(base[spec.name])))
        elif spec.engine in WITHOUT_WEIGHTS:
            found[spec.name] = Licence("", None)
        else:
            found[spec.name] = _of_model(spec) or Licence(UNKNOWN, None)
    return found


def warnings_of(specs: Sequence[ExpertSpec], licences: dict[str, Licence]) -> list[Warned]:
    """The special terms of the experts' weights, each once for all experts on a model. Remote experts' weights are others' to mind."""
    found: dict[tuple[str, str], Warned] = {}
    for spec in specs:
        if spec.engine in (*WITHOUT_WEIGHTS, "openai", "litellm"):
            continue
        licence = licences[spec.name]
        if (known := terms_of(_name(spec.model), "" if licence.name == UNKNOWN else licence.name)) is None:
            continue
        terms, told = known
        doubt = f", by its name, though its licence is given as {licence.name}" if told == "model" and licence.source is not None else ""
        before = found.get((spec.model, terms.name))
        experts = (*before.experts, spec.name) if before is not None else (spec.name,)
        found[spec.model, terms.name] = Warned(experts, spec.model, terms.name + doubt, terms.says, terms.url, _folder(spec) is not None)
    return list(found.values())


def before_download(config: MixtureConfig) -> list[str]:
    """A line for each model with special terms that is not here yet."""
    specs = expert_specs(config)
    return [each.line() for each in warnings_of(specs, licences_of(config, specs)) if not each.here]


def _name(model: str) -> str:
    """A model's id, or the last part of its path: folders above it may be called anything."""
    return Path(model).name if Path(model).is_dir() else model


def _folder(spec: ExpertSpec) -> Path | None:
    """Where the weights are, or None: nothing is downloaded or converted for this."""
    try:
        return resolve(spec.model, spec.revision, fetch=False)
    except EngineError:
        return None


def _of_model(spec: ExpertSpec) -> Licence | None:
    name = spec.model.removeprefix("packaged:")
    if name != spec.model:
        return Licence(PACKAGED[name].licence, "package") if name in PACKAGED else None
    if spec.engine in ("openai", "litellm") or (folder := _folder(spec)) is None:
        return None
    return _beside(folder)


def _beside(folder: Path) -> Licence | None:
    """What a folder of weights tells: the head of its README.md, else the file of its licence."""
    card = folder / "README.md"
    if card.is_file() and (name := _of_card(_text(card))):
        return Licence(name, "README.md")
    for file in sorted(folder.glob("*")):
        if re.fullmatch(r"(licen[cs]e|copying)([-._].*)?", file.name, re.IGNORECASE) and file.is_file() and (name := _of_text(_text(file))):
            return Licence(name, file.name)
    return None


def _of_card(text: str) -> str:
    r"""The licence in the head of a model card.

    Example:
        >>> _of_card("---\nlicense: other\nlicense_name: qwen-research\n---\n# A model")
        'qwen-research'
    """
    head = re.match(r"\ufeff?---\s*\n(.*?)\n---", text, re.DOTALL)
    try:
        told: Any = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError:
        return ""
    if not isinstance(told, dict):
        return ""
    licence = told.get("license") or told.get("licence") or ""
    if licence == "other" and told.get("license_name"):
        licence = told["license_name"]
    return ", ".join(map(str, licence)) if isinstance(licence, list) else str(licence)


def _of_text(text: str) -> str:
    """The licence that a text is, by its words or its first line."""
    for words, name in TITLES:
        if re.search(words, text[:2000]):
            return name
    return next((plain[:80] for line in text.splitlines() if (plain := line.strip(" \t#*=-"))), "")


def _text(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(MOST)
