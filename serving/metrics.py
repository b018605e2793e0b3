"""The pool's figures in Prometheus form."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from experts.stats import WAIT_BOUNDS_S

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from experts.pool import ExpertPool


class PoolCollector:
    """Give a pool's figures to Prometheus whenever it asks.

    Args:
        pool: The pool.
    """

    def __init__(self, pool: ExpertPool) -> None:
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        """Yield every figure, as it is now."""
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        pool, stats, now = self._pool, self._pool.stats, time.monotonic()
        names = {key: [spec.name for spec in pool.specs.values() if spec.engine_key == key] for key in pool.scheduler.groups}

        queue = GaugeMetricFamily("counterpoint_queue_calls", "Calls that wait for an expert.", labels=["expert"])
        waiting = pool.waiting()
        for name in pool:
            queue.add_metric([name], waiting[name])
        yield queue
        oldest = GaugeMetricFamily(
            "counterpoint_queue_oldest_seconds", "Seconds that an engine's oldest call has waited.", labels=["engine"]
        )
        for key, group in pool.scheduler.groups.items():
            oldest.add_metric([_engine(names[key])], max(0.0, now - group.oldest) if group.waiting else 0.0)
        yield oldest

        for metric, text, values in (
            ("tokens", "Tokens that an expert has generated.", stats.tokens),
            ("answers", "Calls that an expert has answered.", stats.answered),
            ("failures", "Calls of an expert that ended in an error.", stats.failures),
        ):
            family = CounterMetricFamily(f"counterpoint_{metric}", text, labels=["expert"])
            for name in pool:
                family.add_metric([name], values[name])
            yield family
        waits = HistogramMetricFamily("counterpoint_wait_seconds", "Seconds from a call's arrival to its start.", labels=["expert"])
        for name, histogram in stats.waits.items():
            total, buckets = 0, []
            for bound, count in zip([*map(str, WAIT_BOUNDS_S), "+Inf"], histogram.counts, strict=True):
                total += count
                buckets.append((bound, total))
            waits.add_metric([name], buckets=buckets, sum_value=histogram.sum_s)
        yield waits

        yield CounterMetricFamily("counterpoint_loads", "Cold starts of engines in slots.", value=stats.loads)
        yield CounterMetricFamily("counterpoint_wakes", "Wakes of engines that slept.", value=stats.wakes)
        yield CounterMetricFamily("counterpoint_swap_seconds", "Seconds that cold starts and wakes took.", value=stats.load_s)
        yield CounterMetricFamily(
            "counterpoint_refused", "Calls refused on arrival, because they would start too late.", value=stats.refused
        )
        yield CounterMetricFamily("counterpoint_late", "Accepted calls that could not start in time.", value=stats.late)
        yield CounterMetricFamily("counterpoint_retried", "Calls given to an engine again after a death.", value=stats.retried)
        yield CounterMetricFamily("counterpoint_deaths", "Engines and slots that ended under their calls.", value=stats.deaths)

        tiers = GaugeMetricFamily("counterpoint_tier_bytes", "Bytes of a slot's engines, by tier.", labels=["slot", "tier"])
        slots = GaugeMetricFamily("counterpoint_slot_running", "Calls that run in a slot.", labels=["slot"])
        held = GaugeMetricFamily(
            "counterpoint_engine_awake", "Whether an engine is awake in a slot (1) or on its way (0.5).", labels=["slot", "engine"]
        )
        for id, slot in pool.scheduler.slots.items():
            slots.add_metric([str(id)], slot.running)
            for key, stay in slot.awake.items():
                held.add_metric([str(id), _engine(names.get(key, [key]))], 0.5 if stay.loading else 1.0)
            bytes = {"awake": 0, "asleep": 0}
            for tier, keys in (("awake", slot.awake), ("asleep", slot.asleep)):
                bytes[tier] = sum(stats.bytes.get(key, 0) for key in keys)
                tiers.add_metric([str(id), tier], bytes[tier])
        yield from (tiers, slots, held)


def _engine(names: list[str]) -> str:
    """An engine by its experts' names."""
    return "+".join(names)


def exposition(pool: ExpertPool) -> tuple[bytes, str]:
    """A pool's figures as text, and the text's content type."""
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(PoolCollector(pool))
    return generate_latest(registry), CONTENT_TYPE_LATEST
