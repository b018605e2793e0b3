"""What an engine does for each call, told to whoever follows the request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from data import tracing
from data.records import Call, Done
from experts.base import Event


def traced(events: AsyncIterator[Event], calls: Sequence[Call]) -> AsyncIterator[Event]:
    """The events of an engine, with a span for each call that somebody follows.

    Args:
        events: What the engine writes.
        calls: What it was asked.
    """
    return _traced(events, calls) if any(call.traceparent is not None for call in calls) else events


async def _traced(events: AsyncIterator[Event], calls: Sequence[Call]) -> AsyncIterator[Event]:
    began, left, why = tracing.now_ns(), {call.id: call for call in calls}, "abandoned"
    try:
        async with aclosing(events):  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, Done) and (call := left.pop(event.call_id, None)) is not None:
                    answer = event.answer
                    error = None if answer.error is None else answer.error_code or "failed"
                    tracing.record(
                        "slot.generate",
                        call.traceparent,
                        began,
                        error=error,
                        expert=call.expert,
                        tokens=answer.usage.completion_tokens,
                        finish_reason=answer.finish_reason,
                    )
                yield event
    except Exception as error:
        why = type(error).__name__
        raise
    finally:
        for call in left.values():
            tracing.record("slot.generate", call.traceparent, began, error=why, expert=call.expert)
