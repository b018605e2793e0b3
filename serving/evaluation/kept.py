"""A pool whose answers are kept on the disk by what was asked, so that no call is made twice, in this run or a later one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from data.records import Answer, Call, CounterpointError, Message, Sampling, Usage
from experts.base import ExpertSpec
from experts.pool import PoolSettings
from serving.evaluation.aggregation import PoolOnce
from serving.evaluation.resumed import mark_of
from serving.journal import Journal

_PLAIN = ("text", "expert", "finish_reason", "latency_s")


class KeptPool(PoolOnce):
    """Ask experts once what is asked in the same words, and keep what they say in a journal.

    What failed is not kept, and is asked again by the next run.

    Args:
        specs: The experts, in the mixture's order.
        settings: How they share the machine.
        journal: Where answers are kept, open.
        live: Whether experts are asked what the journal does not tell; else such a call fails.

    Raises:
        CounterpointError: The journal holds something else.
    """

    def __init__(self, specs: Sequence[ExpertSpec], settings: PoolSettings | None, journal: Journal, *, live: bool = True) -> None:
        super().__init__(specs, settings)
        self.live = live
        self.made = 0
        """Calls that were made, and not found in the journal."""
        self._journal = journal
        try:
            self._kept = {row["call"]: answer_of(row["answer"]) for row in journal.rows}
        except (KeyError, TypeError, ValueError) as error:
            raise CounterpointError(f"{journal.path} holds no answers of an evaluation run: name another folder") from error
        self._marks = {spec.name: mark_of(replace(spec, price=(0.0, 0.0), timeout_s=0.0)) for spec in specs}

    def call_mark(self, expert: str, messages: Sequence[Message], sampling: Sampling) -> str:
        """What tells a call apart: the expert's own settings, the conversation, the sampling."""
        return mark_of(expert, self._marks[expert], tuple(messages), sampling)

    async def start(self) -> None:
        """Start the experts, where they may be asked."""
        if self.live:
            await super().start()

    async def _fresh(self, call: Call) -> Answer:
        mark = self.call_mark(call.expert, call.messages, call.sampling)
        if mark in self._kept:
            return self._kept[mark]
        if not self.live:
            return Answer.failed(call.expert, "not recorded: this call was not made in the run that is replayed")
        self.made += 1
        answer = await super()._fresh(call)
        if answer.error is None:
            self._kept[mark] = answer
            await asyncio.shield(asyncio.to_thread(self._journal.add, {"call": mark, "answer": kept_of(answer)}))
        return answer


def kept_of(answer: Answer) -> dict[str, Any]:
    """An expert's answer as JSON."""
    return {name: getattr(answer, name) for name in _PLAIN} | {"usage": asdict(answer.usage), "logprobs": [*answer.logprobs]}


def answer_of(row: Mapping[str, Any]) -> Answer:
    """An answer from what `kept_of` made.

    Example:
        >>> answer = Answer("4", "a", Usage(3, 1, calls=1), logprobs=(("A", -0.1),))
        >>> answer_of(kept_of(answer)) == answer
        True
    """
    logprobs = tuple((str(word), float(value)) for word, value in row["logprobs"])
    return Answer(**{name: row[name] for name in _PLAIN}, usage=Usage(**row["usage"]), logprobs=logprobs)
