"""The figures of the pool and of the endpoint in Prometheus form."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from experts.shared import SharedPool
from experts.stats import WAIT_BOUNDS_S

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from experts.pool import ExpertPool
    from serving.figures import Figures


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


class FiguresCollector:
    """Give what an endpoint's process has counted to Prometheus whenever it asks.

    Args:
        figures: What it has counted.
    """

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """Yield every figure, as it is now."""
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        figures = self._figures
        requests = CounterMetricFamily("counterpoint_requests", "Requests that have ended.", labels=["path", "status", "model"])
        for labels, count in figures.requests.items():
            requests.add_metric(labels, count)
        yield requests
        for metric, text, label, groups in (
            ("request", "Seconds that requests took.", "path", figures.seconds),
            ("first_token", "Seconds from a request for a stream to its first token.", "model", figures.first_token),
            ("aggregation", "Seconds that aggregators took, with the calls that they made.", "kind", figures.aggregation),
        ):
            took = HistogramMetricFamily(f"counterpoint_{metric}_seconds", text, labels=[label])
            for name, seconds in groups.items():
                took.add_metric([name], buckets=seconds.classes(), sum_value=seconds.sum_s)
            yield took
        for metric, text, label, counts in (
            ("prompt_tokens", "Tokens that an expert has read.", "expert", figures.prompt_tokens),
            ("completion_tokens", "Tokens that an expert has written for requests.", "expert", figures.completion_tokens),
            ("spent_usd", "US dollars that calls of an expert have cost.", "expert", figures.usd),
            ("requests_refused", "Requests that ended in an error, by its kind.", "reason", figures.refused),
        ):
            family = CounterMetricFamily(f"counterpoint_{metric}", text, labels=[label])
            for name, value in counts.items():
                family.add_metric([name], value)
            yield family
        yield GaugeMetricFamily("counterpoint_requests_running", "Requests that are being answered.", value=figures.running)


class _Gathered:
    """Families of several processes as one."""

    def __init__(self, gathered: Sequence[Sequence[Metric]]) -> None:
        self._gathered = gathered

    def collect(self) -> Iterator[Metric]:
        """Yield each family once; samples of the same labels are added up."""
        from prometheus_client.metrics_core import Metric

        families: dict[str, Metric] = {}
        values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
        for family in (each for process in self._gathered for each in process):
            families.setdefault(family.name, family)
            sums = values.setdefault(family.name, {})
            for sample in family.samples:
                key = sample.name, tuple(sample.labels.items())
                sums[key] = sums.get(key, 0.0) + sample.value
        for name, family in families.items():
            whole = Metric(name, family.documentation, family.type)
            for (sample_name, labels), value in values[name].items():
                whole.add_sample(sample_name, dict(labels), value)
            yield whole


def samples(pool: ExpertPool | SharedPool | None, figures: Figures | None = None) -> list[Metric]:
    """The figures of this process, for `exposition` here or, since they can be pickled, in another process.

    Args:
        pool: Its pool; of one that gateways share, what runs in this process. None where there is none.
        figures: What it has counted as an endpoint; None where it is none.
    """
    here = pool.local if isinstance(pool, SharedPool) else pool
    of_pool = [] if here is None else [*PoolCollector(here).collect(), *_tasks()]
    return [*of_pool, *(FiguresCollector(figures).collect() if figures else ())]


def _tasks() -> Iterator[Metric]:
    """The tasks of this process's event loop; nothing where none runs."""
    from prometheus_client.metrics_core import GaugeMetricFamily

    with suppress(RuntimeError):
        text = "Asyncio tasks that have not ended, in the gateways and the shared pool."
        yield GaugeMetricFamily("counterpoint_tasks", text, value=len(asyncio.all_tasks()))


def exposition(*gathered: Sequence[Metric]) -> tuple[bytes, str]:
    """The figures of one or several processes as text, and the text's content type.

    Args:
        gathered: Each process's own, as `samples` gives them; each is given once, so that nothing is counted twice.
    """
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Gathered(gathered))
    return generate_latest(registry), CONTENT_TYPE_LATEST
