"""An `Ask` that keeps who was asked what, in which wave of calls that ran together."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from aggregator.checks import Writer
from data.records import Answer, Message, Usage


@dataclass(frozen=True)
class Asked:
    """One call, with the number of the wave that it ran in."""

    expert: str
    messages: tuple[Message, ...]
    final: bool
    sampling: dict[str, object]
    wave: int


class Recording(Writer):
    """What is said to a call is up to `says`; None is a failure."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Asked] = []
        self.drafts: list[Answer] = []
        self.wave = self.open = 0

    def draft(self, answer: Answer) -> None:
        self.drafts.append(answer)

    def reply(self, call: Asked) -> str | None:
        """What the call, the last of those kept, is answered with."""
        return "words"

    async def __call__(self, expert: str, messages: Sequence[Message], *, final: bool = False, **sampling: object) -> Answer:
        self.wave += self.open == 0
        self.open += 1
        self.asked.append(Asked(expert, tuple(messages), final, sampling, self.wave))
        said = self.reply(self.asked[-1])
        await asyncio.sleep(0)
        self.open -= 1
        return Answer.failed(expert, "out of memory") if said is None else Answer(said, expert, Usage(7, 5, 0.5, 1))
