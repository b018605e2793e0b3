"""The pool at one moment, as plain figures that can travel: what the dashboards show."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experts.stats import WAIT_BOUNDS_S, Waits

if TYPE_CHECKING:
    from experts.costs import Measured
    from experts.pool import ExpertPool
    from experts.queues import Group, Slot

COUNTERS = ("loads", "wakes", "calls", "failed", "refused", "late", "retried", "deaths", "plans")
"""What is counted since the pool was started."""


def snapshot(pool: ExpertPool) -> dict[str, Any]:
    """Give a pool's figures, as JSON can hold them; counters and waits are since it was started, ages are in seconds.

    Args:
        pool: The pool.
    """
    stats, scheduler, now = pool.stats, pool.scheduler, time.monotonic()
    names = {key: [spec.name for spec in pool.specs.values() if spec.engine_key == key] for key in scheduler.groups}
    waiting, running, oldest = pool.waiting(), _running(pool), _oldest(pool)
    resident = pool.resident
    experts = {
        name: {
            "waiting": waiting[name],
            "oldest_wait_s": round(max(0.0, now - oldest[name]), 3) if name in oldest else 0.0,
            "running": running[name],
            "tokens": stats.tokens[name],
            "answered": stats.answered[name],
            "failures": stats.failures[name],
            "waits": _waits([_classes(stats.waits.get(name, Waits()))], stats.max_wait_s),
            "resident": name in resident,
            "broken": pool.is_broken(name),
        }
        for name in pool
    }
    slots = [_slot(slot, names, stats.bytes, now) for slot in scheduler.slots.values()]
    held = {key for slot in scheduler.slots.values() for key in (*slot.awake, *slot.asleep)}
    cold = [_title(names[key]) for key in scheduler.groups if key not in held]
    return {
        "at": time.time(),
        "slots": slots,
        "tiers": {tier: sum(slot[f"{tier}_bytes"] for slot in slots) for tier in ("awake", "asleep")},
        "budgets": {"awake": pool.settings.awake_bytes, "asleep": pool.settings.asleep_bytes},
        "cold": cold,
        "engines": [_engine(group, names[key], stats.bytes.get(key)) for key, group in scheduler.groups.items()],
        "experts": experts,
        "broken": [name for name, figures in experts.items() if figures["broken"]],
        "waits": _waits([_classes(part) for part in (Waits(), *stats.waits.values())], stats.max_wait_s),
        "wait_bounds_s": [*WAIT_BOUNDS_S],
        "longest_wait_s": round(stats.max_wait_s, 4),
        "counters": {name: getattr(stats, name) for name in COUNTERS}
        | {"swaps": stats.loads + stats.wakes, "swap_s": round(stats.load_s, 3), "busy_s": round(stats.busy_s, 3)},
        "max_wait_s": pool.settings.max_wait_s,
    }


def together(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Join the figures of several pools that serve one mixture; what an expert has done in several of them adds up.

    Args:
        parts: What `snapshot` gave of each, one or more; the first one's budgets and limits are told.
    """
    first = parts[0]
    longest = max(part["longest_wait_s"] for part in parts)
    experts: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for part in parts for name in part["experts"]):
        same = [part["experts"][name] for part in parts if name in part["experts"]]
        sums = {figure: sum(each[figure] for each in same) for figure in ("waiting", "running", "tokens", "answered", "failures")}
        experts[name] = sums | {
            "oldest_wait_s": max(each["oldest_wait_s"] for each in same),
            "waits": _waits([each["waits"] for each in same], longest),
            "resident": any(each["resident"] for each in same),
            "broken": all(each["broken"] for each in same),
        }
    counters = {name: sum(part["counters"][name] for part in parts) for name in first["counters"]}
    return first | {
        "slots": [slot for part in parts for slot in part["slots"]],
        "tiers": {tier: sum(part["tiers"][tier] for part in parts) for tier in first["tiers"]},
        "cold": [engine for part in parts for engine in part["cold"]],
        "engines": [engine for part in parts for engine in part["engines"]],
        "experts": experts,
        "broken": [name for name, figures in experts.items() if figures["broken"]],
        "waits": _waits([part["waits"] for part in parts], longest),
        "longest_wait_s": longest,
        "counters": counters,
    }


def _running(pool: ExpertPool) -> Counter[str]:
    """Calls that run, by expert."""
    waiting = pool.waiting()
    return Counter(each.call.expert for each in pool._waiting.values()) - waiting


def _oldest(pool: ExpertPool) -> dict[str, float]:
    """When the call arrived that has waited longest for its start, by expert; engines know it for all their experts together only."""
    found: dict[str, float] = {}
    for each in pool._waiting.values():
        if each.job.started is None and each.engine in pool.scheduler.groups:
            found[each.call.expert] = min(each.job.arrived, found.get(each.call.expert, each.job.arrived))
    return found


def _slot(slot: Slot, names: dict[str, list[str]], bytes: dict[str, int], now: float) -> dict[str, Any]:
    awake = [
        {
            "engine": _title(names.get(key, ())),
            "experts": names.get(key, []),
            "loading": stay.loading,
            "ending": not stay.open,
            "running": stay.running,
            "since_s": round(max(0.0, now - stay.since), 3),
            "bytes": bytes.get(key),
        }
        for key, stay in slot.awake.items()
    ]
    asleep = [{"engine": _title(names.get(key, ())), "experts": names.get(key, []), "bytes": bytes.get(key)} for key in slot.asleep]
    return {
        "id": str(slot.id),
        "running": slot.running,
        "leaving": slot.leaving,
        "awake": awake,
        "asleep": asleep,
        "next": None if slot.headed is None else _title(names.get(slot.headed, ())),
        "awake_bytes": sum(engine["bytes"] or 0 for engine in awake if not engine["loading"]),
        "asleep_bytes": sum(engine["bytes"] or 0 for engine in asleep),
    }


def _engine(group: Group, experts: list[str], bytes: int | None) -> dict[str, Any]:
    return {
        "engine": _title(experts),
        "experts": experts,
        "lanes": group.lanes,
        "bytes": bytes,
        "waiting": group.waiting,
        "expected": group.expected,
        "load_s": _measured(group.load),
        "wake_s": _measured(group.wake),
        "service_s": _measured(group.service),
    }


def _measured(seconds: Measured) -> float | None:
    """What was measured; None where nothing was, for a guess is no figure."""
    return round(seconds.value, 3) if seconds.seen else None


def _title(experts: Sequence[str]) -> str:
    """An engine by its experts' names; its own may be a path."""
    return "+".join(experts) or "(removed)"


def _classes(waits: Waits) -> dict[str, Any]:
    return {"counts": waits.counts, "sum_s": waits.sum_s}


def _waits(parts: Sequence[dict[str, Any]], longest: float) -> dict[str, Any]:
    counts = [sum(column) for column in zip(*(part["counts"] for part in parts), strict=True)]
    return {
        "counts": counts,
        "sum_s": round(sum(part["sum_s"] for part in parts), 4),
        "count": sum(counts),
        "p50_s": quantile(counts, 0.5, longest),
        "p95_s": quantile(counts, 0.95, longest),
    }


def quantile(counts: Sequence[int], share: float, longest: float) -> float | None:
    """Estimate a quantile of waits that are counted in classes; None where there are none.

    Args:
        counts: Waits in each class of `WAIT_BOUNDS_S`, last those above all.
        share: From 0 to 1.
        longest: The longest wait of all, which no estimate passes.

    Source:
        Prometheus' `histogram_quantile`: waits are taken to lie evenly in their class.

    Example:
        >>> counts = [0] * 15
        >>> counts[5] = 10  # ten waits between 0.5 and 1 s
        >>> quantile(counts, 0.5, longest=0.9), quantile(counts, 0.95, longest=0.9)
        (0.75, 0.9)
    """
    rank, below = share * sum(counts), 0
    for at, count in enumerate(counts):
        if count and below + count >= rank:
            low = WAIT_BOUNDS_S[at - 1] if at else 0.0
            high = WAIT_BOUNDS_S[at] if at < len(WAIT_BOUNDS_S) else longest
            return round(min(low + (high - low) * (rank - below) / count, longest), 4)
        below += count
    return None
