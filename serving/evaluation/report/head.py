"""The head of a report: what was run, on what, with what."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from serving.evaluation.report.blocks import Block, Table, unmeasured
from serving.evaluation.report.board import Board


def config_hash(config: Any) -> str:
    """A short hash of a config, whatever the order of its keys.

    Example:
        >>> config_hash({"a": 1, "b": 2}) == config_hash({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(config, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()[:16]


def head(board: Board) -> list[Block]:
    """The run's name, date, command, config, versions, state of the code, seeds, machine, and its benchmarks."""
    data, about = board.data, board.data.about
    rows = [
        ("run", data.name),
        ("date", datetime.fromtimestamp(data.created, UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("command", _told(about.get("command"))),
        ("config", f"SHA-256 {config_hash(about['config'])}..., whole in run.json" if about.get("config") else _told(None)),
        ("code", _code(about.get("git"))),
        ("versions", _told(about.get("versions"))),
        ("machine", _told(about.get("machine"))),
        ("seeds", _told(about.get("seeds", about.get("seed")))),
        ("experts", ", ".join(data.experts)),
        ("questions", f"{len(board.ids)}"),
    ]
    return [Table(("what", "is"), tuple(rows), left=2), *_benchmarks(board)]


def _benchmarks(board: Board) -> list[Block]:
    told = {str(one.get("name")): one for one in about} if isinstance(about := board.data.about.get("benchmarks"), list) else {}
    counted = {name: int((board.benchmarks == name).sum()) for name in dict.fromkeys(board.benchmarks)}
    weights = board.data.about.get("weights") or {}
    rows = []
    for name in dict.fromkeys([*told, *counted]):
        one = told.get(name, {})
        dropped, version, source = (_told(one.get(key)) for key in ("dropped", "version", "source"))
        weight = f"{weights[name]:g}" if name in weights else "not given"
        rows.append((name, version, source, str(counted.get(name, 0)), dropped, weight))
    if not rows:
        return [unmeasured("Benchmarks", "the run does not name any")]
    columns = ("benchmark", "version", "source", "questions", "dropped", "weight")
    caption = "Dropped are questions that the loader left out, such as those that also stand in another split."
    return [Table(columns, tuple(rows), caption, left=3)]


def _code(git: Any) -> str:
    if not isinstance(git, Mapping):
        return "not known: the run was not made in a git repository"
    return f"git {git.get('commit', 'commit not known')}{', with changes that are not committed' if git.get('dirty') else ''}"


def _told(value: Any) -> str:
    if value is None or value in ({}, []):
        return "not recorded"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_told(each)}" for name, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
