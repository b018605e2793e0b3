"""What people may see of the router: what it has learned, a map of its questions, whether today's questions are still like those."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from router import Router, restore_router
from router.landscape import Landscape, Point
from router.profile import answers_of, fitted, means_of, parts_of, profile_of, questions_of
from serving.drift import drift_json
from serving.thumbs import thumbs_json

if TYPE_CHECKING:
    from serving.gateway import Gateway

FRESH_S = 60.0
"""Seconds after which drift is measured anew."""
_NONE = "the mixture has no router: all experts count as equally likely to be right"


class Outlook:
    """Tell of the router that a gateway goes by now; what takes long is worked out once for each router, beside the event loop.

    Args:
        gateway: The gateway; a reload may give it another router.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._drawing, self._comparing = asyncio.Lock(), asyncio.Lock()
        self._known: tuple[Router, dict[str, Any], Landscape | None] | None = None
        self._drift: tuple[Router, float, dict[str, Any]] | None = None

    async def described(self) -> dict[str, Any]:
        """The mixture's router, its profile, its map, what drift the traffic shows and what people thought of the answers."""
        pipeline = self._gateway.pipeline
        if (router := pipeline.router) is None:
            nothing = dict.fromkeys(("router", "profile", "map", "drift"))
            return nothing | {"note": _NONE, "experts": list(pipeline.pool), "tried": ["equal"], "feedback": await self._thumbs()}
        told, _ = await self._of(router)
        config = self._gateway.config.router
        name = {"name": "" if config is None else Path(config.path).name}
        today = {"drift": await self._drifted(router), "feedback": await self._thumbs()}
        return {**told, "router": name | told["router"], **today}

    async def tried(self, text: str) -> dict[str, Any]:
        """How each router scores a text, and where it lies on the map.

        Args:
            text: Any text; it is not kept.
        """
        pipeline = self._gateway.pipeline
        if (router := pipeline.router) is None:
            share = round(1.0 / len(pipeline.pool.specs), 4)
            entry = {"name": "equal", "kind": "equal", "baseline": True, "scores": dict.fromkeys(pipeline.pool, share), "reasons": []}
            return {"note": _NONE, "routers": [entry], "place": None, "nearest": []}
        _, landscape = await self._of(router)
        place = None if landscape is None else landscape.place(text)
        near = [] if landscape is None else landscape.nearest(text)
        nearest = [{"similarity": close, "point": number, **_point_json(point)} for close, point, number in near]
        where = None if place is None else {"x": place[0], "y": place[1]}
        return {"routers": _scored(router, text), "place": where, "nearest": nearest}

    async def _of(self, router: Router) -> tuple[dict[str, Any], Landscape | None]:
        async with self._drawing:
            if self._known is None or self._known[0] is not router:
                self._known = (router, *await asyncio.to_thread(_described, router))
            return self._known[1:]

    async def _thumbs(self) -> dict[str, Any] | None:
        return await asyncio.to_thread(thumbs_json, self._gateway.door.store)

    async def _drifted(self, router: Router) -> dict[str, Any]:
        async with self._comparing:
            if self._drift is None or self._drift[0] is not router or time.monotonic() - self._drift[1] > FRESH_S:
                told = await asyncio.to_thread(drift_json, router, self._gateway.door.store)
                self._drift = (router, time.monotonic(), told)
            return self._drift[2]


def _described(router: Router) -> tuple[dict[str, Any], Landscape | None]:
    base, profile, landscape = fitted(router), profile_of(router), Landscape.of_router(router)
    facts = {
        "kind": router.kind,
        "base": None if base is router else base.kind,
        "members": [part.kind for part in parts_of(router)][1:],
        "encoder": getattr(base, "encoder", None),
        "questions": questions_of(router),
        "answers": answers_of(router),
        "means": None if (means := means_of(router)) is None else _numbers(dict(zip(base.experts_, means.tolist(), strict=True))),
    }
    table = profile and {
        "by": profile.by,
        "rows": list(profile.rows),
        "experts": list(profile.experts),
        "quality": [[None if np.isnan(cell) else round(float(cell), 4) for cell in row] for row in profile.quality],
        "questions": None if profile.questions is None else list(profile.questions),
        "of": profile.of,
    }
    drawn = landscape and {
        "of": landscape.of,
        "total": landscape.total,
        "points": [_point_json(point) for point in landscape.points],
    }
    tried = [entry["name"] for entry in _scored(router, "")]
    return {"router": facts, "experts": list(router.experts_), "profile": table, "map": drawn, "tried": tried}, landscape


def _point_json(point: Point) -> dict[str, Any]:
    return {**asdict(point), "right": list(point.right)}


def _scored(router: Router, text: str) -> list[dict[str, Any]]:
    """What the mixture's router says of a text, then a stack's members before calibration, then the baselines."""
    base = fitted(router)
    own = dict(zip(router.experts_, router.scores([text])[0].tolist(), strict=True))
    rows: list[dict[str, Any]] = [
        {"name": "mixture", "kind": router.kind, "baseline": False, "scores": _numbers(own), "reasons": list(router.reasons(text))}
    ]
    members = [*parts_of(router)][1:]
    vector = base.vectors([text])[0] if members else None  # type: ignore[attr-defined]
    for member in members:
        scores = np.clip(member._score(vector), 0, 1).tolist()  # type: ignore[attr-defined]
        row = dict(zip(base.experts_, scores, strict=True))
        name = {"name": f"mixture/{member.kind}", "kind": member.kind, "baseline": False}
        rows.append({**name, "scores": _numbers(row), "reasons": list(member._reasons(vector, base.experts_))})  # type: ignore[attr-defined]
    for kind, scores in _baselines(router, text).items():
        rows.append({"name": kind, "kind": kind, "baseline": True, "scores": _numbers(scores), "reasons": []})
    return rows


def _baselines(router: Router, text: str) -> dict[str, dict[str, float]]:
    """The baselines that need no artefact of their own: chance, and the experts' means where the router holds them."""
    experts, means = fitted(router).experts_, means_of(router)
    head = {"experts": experts, "settings": {}, "state": {}}
    made = {"random": restore_router(head | {"kind": "random"}, {})}
    if means is not None:
        made["best-single"] = restore_router(head | {"kind": "best-single"}, {"mean": means})
    return {kind: dict(zip(experts, each.scores([text])[0].tolist(), strict=True)) for kind, each in made.items()}


def _numbers(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(score), 4) for name, score in scores.items()}
