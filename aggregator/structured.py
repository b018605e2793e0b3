"""Answers that are JSON or calls of tools: equal ones are counted together, and one of them is given whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from aggregator.base import Aggregator, AggregatorError, Ask, degraded, is_usable, none_usable, usable
from data.records import Answer, Request, Route, Usage


def canonical(answer: Answer) -> str:
    """What an answer says, written so that equal JSON and equal calls of tools are equal texts; prose stays as it is.

    Example:
        >>> canonical(Answer('{"b": 1.0, "a": [true]}', "x")) == canonical(Answer('{"a":[true],"b":1}', "y"))
        True
        >>> canonical(Answer("It is 4.", "x"))
        'It is 4.'
    """
    if answer.tool_calls:
        calls = [{"name": call.name, "arguments": _read(call.arguments)} for call in answer.tool_calls]
        return form_of({"tool_calls": calls} | ({"text": answer.text.strip()} if answer.text.strip() else {}))
    value = _read(answer.text.strip())
    return value if isinstance(value, str) else form_of(value)


def _read(text: str) -> Any:
    try:
        value = json.loads(text)
        return text if isinstance(value, str) else _plain(value)  # here, where what nests too deep is told
    except (ValueError, RecursionError):
        return text


def _plain(value: Any) -> Any:
    """A value whose whole numbers are all written alike."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def form_of(value: Any) -> str:
    """A value of JSON as text, the same for equal ones.

    Example:
        >>> form_of({"b": 1.0, "a": True})
        '{"a":true,"b":1}'
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))


def whole(answer: Answer, answers: Sequence[Answer], support: Sequence[tuple[str, float]]) -> Answer:
    """One of the answers as it is, as the aggregate's: free of further usage, and marked where others failed."""
    ordered = tuple(sorted(support, key=lambda pair: -pair[1]))
    return replace(answer, usage=Usage(), latency_s=0.0, degraded=degraded(answers), support=ordered)


class Structured(Aggregator):
    """Count equal answers together by the route's weights, and give the heaviest one's own, whole: its text, its calls, its tokens.

    JSON is equal whatever the order of its keys and the form of its whole numbers, calls of tools by their names and arguments.
    Ties go to the route's order.

    Example:
        >>> import asyncio
        >>> route = Route(("a", "b", "c"), (0.4, 0.3, 0.3), "a", {})
        >>> said = [Answer('{"n": 5}', "a"), Answer('{"n": 4}', "b"), Answer('{"n": 4.0}', "c")]
        >>> asyncio.run(Structured().aggregate(Request("r", ()), said, route, None)).text
        '{"n": 4}'
    """

    kind: ClassVar[str] = "structured"

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        """Give the answer with most weight behind it."""
        if not usable(answers):
            return none_usable(answers)
        groups: dict[str, list[tuple[Answer, float]]] = {}
        for at, answer in enumerate(answers):
            if is_usable(answer):
                groups.setdefault(canonical(answer), []).append((answer, route.weights[at] if at < len(route.weights) else 0.0))
        support = {form: round(sum(weight for _, weight in group), 9) for form, group in groups.items()}
        heaviest = {form: max(group, key=lambda pair: pair[1])[0] for form, group in groups.items()}  # max keeps the first of equals
        best = max(support, key=lambda form: support[form])
        shown = [(form if heaviest[form].tool_calls else heaviest[form].text, weight) for form, weight in support.items()]
        return whole(heaviest[best], answers, shown)


class Choosing(Aggregator):
    """Another aggregator, over answers that are JSON or calls of tools: it sees what they say, and what it chooses is given whole.

    Args:
        inner: An aggregator that asks nobody.

    Raises:
        AggregatorError: It would write an answer of its own.
    """

    kind: ClassVar[str] = "structured"

    def __init__(self, inner: Aggregator) -> None:
        if not inner.replays:
            raise AggregatorError(
                f"the aggregator {inner.kind!r} writes answers of its own, which fit no schema and call no tools; "
                "leave it out, or name one that chooses, such as structured or vote"
            )
        self.inner = inner
        self.kind = inner.kind  # type: ignore[misc]

    def is_called(self, kind: str) -> bool:
        """Whether a kind is the inner aggregator's."""
        return self.inner.is_called(kind)

    def learn(self, request_id: str, reward: float) -> bool:
        """Let the inner aggregator learn."""
        return self.inner.learn(request_id, reward)

    def more(self, request: Request, answers: Sequence[Answer], route: Route, final: Answer) -> int:
        """Ask as many more as the inner aggregator wants."""
        return self.inner.more(request, answers, route, final)

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        """Give whole what the inner aggregator chooses; where that is none of the answers, what most weight is behind."""
        forms = [canonical(answer) if is_usable(answer) else answer.text for answer in answers]
        shown = [replace(answer, text=form, tool_calls=()) for answer, form in zip(answers, forms, strict=True)]
        final = await self.inner.aggregate(request, shown, route, ask)
        if final.error is not None or not usable(answers):
            return final
        same = [answer for answer, form in zip(answers, forms, strict=True) if form == final.text and is_usable(answer)]
        if not same:
            return await Structured().aggregate(request, answers, route, ask)
        return whole(next((answer for answer in same if answer.expert == final.expert), same[0]), answers, final.support)
