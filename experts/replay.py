"""Experts that answer from a score table: what a real model once said, byte for byte."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from data.records import Answer, Call, Delta, Done, Usage
from data.scores import read_scores
from experts.base import EngineError, Event, ExpertSpec


class ReplayEngine:
    """Give back recorded answers.

    Args:
        specs: The experts; `model` is the path of the score table, which needs a column `response` or `prediction`, and
            `options["as"]` the expert's name in it, where that differs.
    """

    def __init__(self, specs: Sequence[ExpertSpec]) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self._recorded: Mapping[tuple[str, str], Answer] | None = None

    @property
    def memory_bytes(self) -> int:
        """Bytes of the recorded texts."""
        return sum(len(a.text.encode()) for a in self._recorded.values()) if self._recorded else 0

    async def start(self) -> None:
        """Read the tables."""
        recorded: dict[tuple[str, str], Answer] = {}
        for spec in self.specs.values():
            table = read_scores(Path(spec.model))
            column = next((name for name in ("response", "prediction") if name in table.columns), None)
            if column is None:
                raise EngineError(f"{spec.model} holds no answers: it has neither a column response nor prediction")
            name = spec.options.get("as", spec.name)
            rows = table[table["expert"] == name]
            if rows.empty:
                raise EngineError(f"{spec.model} has no answers of {name!r}; it has {', '.join(sorted(table['expert'].unique()))}")
            for row in rows.to_dict("records"):
                tokens = [int(row[c]) if row.get(c) == row.get(c) and row.get(c) is not None else 0 for c in ("prompt_tokens", "completion_tokens")]
                usage = Usage(*tokens, spec.cost_usd(*tokens), calls=1)
                text = row[column] if isinstance(row[column], str) else ""
                recorded[spec.name, row["query"]] = Answer(text, spec.name, usage)
        self._recorded = recorded

    async def generate(self, calls: Sequence[Call]) -> AsyncIterator[Event]:
        """Give the recorded answer of every call."""
        if self._recorded is None:
            raise EngineError("the replay engine is not running: start it first")
        for call in calls:
            start = time.monotonic()
            query = next((m.content for m in reversed(call.messages) if m.role == "user"), "")
            answer = self._recorded.get((call.expert, query))
            if answer is None:
                shown = query if len(query) <= 60 else query[:57] + "..."
                yield Done(call.id, Answer.failed(call.expert, f"no recorded answer to {shown!r}", time.monotonic() - start))
                continue
            yield Delta(call.id, answer.text)
            yield Done(call.id, answer)

    async def sleep(self, level: int = 1) -> None:
        """Nothing to give back worth the reading again."""

    async def wake(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Forget the tables."""
        self._recorded = None
