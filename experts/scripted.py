"""An expert that follows a script: for docs, demonstrations and tests, with faults on demand."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from data.records import Answer, Call, Delta, Done, TokenLogprob, ToolCall, Usage
from experts.base import EngineDied, EngineError, Event, ExpertSpec
from experts.choices import logprobs_of
from experts.extras import call_id
from experts.remote import Put, together


class ScriptedEngine:
    """Answer by the first rule whose pattern is found in the last message.

    The rules stand in `options["script"]`, a list of objects: `match` (a regular expression), and `say` (the answer), `call` (a tool,
    as `{name, arguments}`, or a list of them; passed over where no tool may be called), `fail` (the error), or `die` (the
    engine ends; in a slot, with all its calls); optional `delay_s` (seconds before the first word), `pause_s` (seconds after each
    word) and `logprobs` (log-probabilities of choices, such as `{A: -0.1, B: -2.4}`). Without a rule that fits, it echoes.
    Where log-probabilities of its words are wanted, they are 0: a script is sure of them.

    Example:
        >>> spec = ExpertSpec("a", "-", "scripted", options={"script": [{"match": "capital", "say": "Paris"}]})
        >>> async def ask(question):
        ...     engine = ScriptedEngine([spec])
        ...     await engine.start()
        ...     call = Call("1", "a", (Message("user", question),))
        ...     return [event.answer.text async for event in engine.generate([call]) if isinstance(event, Done)]
        >>> from data.records import Message
        >>> asyncio.run(ask("What is the capital of France?"))
        ['Paris']
    """

    def __init__(self, specs: Sequence[ExpertSpec]) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self._awake = False
        self._in_slot = any(spec.needs_slot for spec in specs)
        self._ended = asyncio.Event()
        for spec in specs:
            for rule in spec.options.get("script", []):
                if not isinstance(rule, dict) or "match" not in rule or not ({"say", "call", "fail", "die"} & set(rule)):
                    raise EngineError(f"a rule of {spec.name!r} needs match, and say, call, fail or die; it is {rule!r}")
                if not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in _calls(rule)):
                    raise EngineError(
                        f"the call of a rule of {spec.name!r} is {{name, arguments}}, or a list of them; it is {rule['call']!r}"
                    )
                told = rule.get("logprobs", {})
                if not isinstance(told, dict) or not all(isinstance(value, int | float) for value in told.values()):
                    raise EngineError(f"the logprobs of a rule of {spec.name!r} give each choice a number; they are {told!r}")

    @property
    def memory_bytes(self) -> int:
        """What `options["memory_bytes"]` says, while awake."""
        return sum(int(spec.options.get("memory_bytes", 0)) for spec in self.specs.values()) if self._awake else 0

    async def start(self) -> None:
        """Be ready after `options["start_s"]` seconds."""
        await asyncio.sleep(max((float(spec.options.get("start_s", 0)) for spec in self.specs.values()), default=0.0))
        self._awake, self._ended = True, asyncio.Event()

    async def _answer(self, call: Call, put: Put) -> None:
        spec, start = self.specs[call.expert], time.monotonic()
        text = call.messages[-1].content if call.messages else ""
        calls = bool(call.sampling.tools) and call.sampling.tool_choice != "none"
        rules = [rule for rule in spec.options.get("script", []) if calls or "call" not in rule]
        rule: dict[str, Any] = next((rule for rule in rules if re.search(rule["match"], text)), {"say": text})
        ended = self._ended if self._in_slot else asyncio.Event()
        await _pause(float(rule.get("delay_s", 0)), ended, call.expert)
        if "die" in rule:
            await self.stop()
            raise EngineDied(f"the engine of {call.expert!r} died")
        if "fail" in rule:
            put(Done(call.id, Answer.failed(call.expert, rule["fail"], time.monotonic() - start)))
            return
        words = re.findall(r"\S+\s*", rule.get("say", ""))
        kept = words[: spec.limit(call.sampling)]
        for word in kept:
            put(Delta(call.id, word))
            await _pause(float(rule.get("pause_s", 0)), ended, call.expert)
        usage = Usage(len(text.split()), len(kept), spec.cost_usd(len(text.split()), len(kept)), calls=1)
        reason = "stop" if len(kept) == len(words) else "length"
        known: dict[str, float] = rule.get("logprobs", {})
        answer = Answer("".join(kept).strip(), call.expert, usage, reason, time.monotonic() - start)
        wanted = tuple(ToolCall(call_id(call.id, at), one["name"], _text(one.get("arguments", {}))) for at, one in enumerate(_calls(rule)))
        most = call.sampling.top_logprobs
        sure = () if most is None else tuple(TokenLogprob(word, 0.0, ((word, 0.0),)[:most]) for word in kept)
        told = logprobs_of(call.sampling.choices, known.items())
        put(Done(call.id, replace(answer, logprobs=told, tool_calls=wanted, tokens=sure)))

    async def generate(self, calls: Sequence[Call]) -> AsyncIterator[Event]:
        """Answer all calls at once."""
        if not self._awake:
            raise EngineDied("the scripted engine is not running: start it first")
        async for event in together(calls, self._answer):
            yield event

    async def sleep(self, level: int = 1) -> None:
        """Give the memory back."""
        self._awake = False

    async def wake(self) -> None:
        """Take it again."""
        self._awake = True

    async def stop(self) -> None:
        """End; in a slot, calls that run end in `EngineDied`."""
        self._awake = False
        self._ended.set()


def _calls(rule: dict[str, Any]) -> list[Any]:
    """The tools that a rule calls."""
    called = rule.get("call", [])
    return called if isinstance(called, list) else [called]


def _text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


async def _pause(seconds: float, ended: asyncio.Event, expert: str) -> None:
    """Wait, unless the engine ends meanwhile.

    Raises:
        EngineDied: It has.
    """
    if seconds > 0:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await ended.wait()
    else:
        await asyncio.sleep(0)
    if ended.is_set():
        raise EngineDied(f"the engine of {expert!r} died")
