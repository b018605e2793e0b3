"""Experts that answer from a score table: what a real model once said, byte for byte."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

from data.recorded import Recorded
from data.records import Answer, Call, Delta, Done
from data.scores import experts_of, read_scores
from experts.base import EngineError, Event, ExpertSpec
from experts.choices import logprobs_of


class ReplayEngine:
    """Give back recorded answers.

    Args:
        specs: The experts; `model` is the path of the score table, which needs a column `response` or `prediction` and may have
            one of `logprobs`, and `options["as"]` the expert's name in it, where that differs.
    """

    def __init__(self, specs: Sequence[ExpertSpec]) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self._recorded: dict[str, Recorded] = {}

    @property
    def memory_bytes(self) -> int:
        """Bytes of the tables on disk, which are in memory while the engine runs."""
        return sum(Path(self.specs[name].model).stat().st_size for name in self._recorded)

    async def start(self) -> None:
        """Read the tables."""
        for spec in self.specs.values():
            table = read_scores(Path(spec.model))
            name = spec.options.get("as", spec.name)
            rows = table[table["expert"] == name]
            if rows.empty:
                raise EngineError(f"{spec.model} has no answers of {name!r}; it has {', '.join(experts_of(table))}")
            self._recorded[spec.name] = Recorded(rows.assign(expert=spec.name))

    async def generate(self, calls: Sequence[Call]) -> AsyncIterator[Event]:
        """Give the recorded answer of every call."""
        if not self._recorded:
            raise EngineError("the replay engine is not running: start it first")
        for call in calls:
            query = next((m.content for m in reversed(call.messages) if m.role == "user"), "")
            id = self._recorded[call.expert].id_of(query)
            if id is None and call.sampling.choices:  # the instruction below a question is no part of what was recorded
                id = self._recorded[call.expert].id_of(query.rpartition("\n\n")[0])
            if id is None:
                shown = query if len(query) <= 60 else query[:57] + "..."
                yield Done(call.id, Answer.failed(call.expert, f"no recorded answer to {shown!r}"))
                continue
            answer = self._recorded[call.expert].answer(id, call.expert)
            answer = replace(answer, logprobs=logprobs_of(call.sampling.choices, answer.logprobs))
            yield Delta(call.id, answer.text)
            yield Done(call.id, answer)

    async def sleep(self, level: int = 1) -> None:
        """Nothing to give back worth the reading again."""

    async def wake(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Forget the tables."""
        self._recorded = {}
