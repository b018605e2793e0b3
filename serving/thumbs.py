"""What people thought of each expert's answers: figures only, of all keys."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, select

from serving import tables
from serving.store import Store

MOST = 2000
"""Opinions that are looked at, the latest."""


def thumbs_json(store: Store | None) -> dict[str, Any] | None:
    """Mean feedback on the answers for which each expert was the router's first choice; None where nothing is kept.

    Args:
        store: Where feedback and traces are, or None.

    Example:
        >>> thumbs_json(None) is None
        True
    """
    if store is None:
        return None
    given, traces = tables.feedback.c, tables.traces.c
    same = and_(given.owner == traces.owner, given.request_id == traces.request_id)
    wanted = select(given.score, traces.body).join_from(tables.feedback, tables.traces, same).order_by(given.at.desc()).limit(MOST)
    found: dict[str, list[float]] = {}
    with store.database.reading() as connection:
        for score, body in connection.execute(wanted):
            if asked := body.get("route", {}).get("experts"):
                found.setdefault(asked[0], []).append(score)
    return {name: {"answers": len(scores), "mean": round(sum(scores) / len(scores), 4)} for name, scores in sorted(found.items())}
