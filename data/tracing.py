"""Spans of OpenTelemetry, for whoever collects them; where nobody does, nothing is imported and next to nothing done."""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from data.records import CounterpointError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PREFIX = "counterpoint."
"""Before each attribute's name."""
SEND_MS = 1_000
"""Milliseconds between two sendings, unless OTEL_BSP_SCHEDULE_DELAY says otherwise: a slot that is ended loses what waits."""


class TracingError(CounterpointError):
    """Spans that cannot be sent, because what sends them is not installed."""


class Span:
    """A step of a request: this one is kept by nobody.

    Attributes of spans are figures and names. What was asked and answered, errors' texts and keys' secrets never are.

    Attributes:
        traceparent: What steps in other processes name as their parent (W3C Trace Context); None where nobody keeps the span.
        trace_id: The trace's name, or None.
    """

    __slots__ = ()
    traceparent: str | None = None
    trace_id: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None) -> None:
        return None

    def set(self, **attributes: object) -> None:
        """Add attributes; those that are None are left out."""

    def fail(self, error: str) -> None:
        """Say what kind of error it ended in."""


class _Kept(Span):
    """A step that is sent when it ends, and the parent of what begins within it."""

    __slots__ = ("_span", "_token", "trace_id", "traceparent")

    def __init__(
        self, name: str, context: Context | None, attributes: dict[str, object], *, server: bool, start_ns: int | None = None
    ) -> None:
        from opentelemetry.trace import SpanKind

        assert _tracer is not None
        kind = SpanKind.SERVER if server else SpanKind.INTERNAL
        self._span = _tracer.start_span(name, context, kind, _named(attributes), start_time=start_ns)
        told = self._span.get_span_context()
        self.trace_id = f"{told.trace_id:032x}"
        self.traceparent = f"00-{self.trace_id}-{told.span_id:016x}-{told.trace_flags:02x}"

    def __enter__(self) -> Self:
        from opentelemetry import context, trace

        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None) -> None:
        from opentelemetry import context

        context.detach(self._token)
        if kind is not None:
            self.fail(kind.__name__)  # its text may quote a prompt
        self._span.end()

    def set(self, **attributes: object) -> None:
        """Add attributes; those that are None are left out."""
        self._span.set_attributes(_named(attributes))

    def fail(self, error: str) -> None:
        """Say what kind of error it ended in."""
        from opentelemetry.trace import Status, StatusCode

        self._span.set_status(Status(StatusCode.ERROR, error))
        self.set(error=error)


_NOTHING = Span()
_tracer: Tracer | None = None
_provider: TracerProvider | None = None
_otlp: str | None = None


def span(name: str, *, parent: str | None = None, root: bool = False, server: bool = False, **attributes: object) -> Span:
    """Begin a step, to be entered by `with`.

    Args:
        name: The step's name.
        parent: The `traceparent` of the step in another process that it belongs to; one that is none is passed over.
        root: Whether it begins a trace of its own, whatever surrounds it.
        server: Whether it answers somebody outside.
        attributes: Figures and names.

    Example:
        >>> with span("route", kind="stack") as told:
        ...     told.set(chosen=("a", "b"))
        >>> told.traceparent is None
        True
    """
    if _tracer is None:
        return _NOTHING
    return _Kept(name, _context(parent, root), attributes, server=server)


def record(name: str, parent: str | None, start_ns: int, *, error: str | None = None, **attributes: object) -> None:
    """Send a step that ends now.

    Args:
        name: The step's name.
        parent: The `traceparent` of the step that it belongs to.
        start_ns: When it began, in nanoseconds since 1970.
        error: What kind of error it ended in.
        attributes: Figures and names.
    """
    if _tracer is None or parent is None:
        return
    with _Kept(name, _context(parent, False), attributes, server=False, start_ns=start_ns) as told:
        if error is not None:
            told.fail(error)


def start(otlp: str | None = None) -> None:
    """Send spans from now on, where an address is given here or by OpenTelemetry's own variables; theirs counts more.

    The second time does nothing.

    Args:
        otlp: Where a collector takes OTLP over HTTP, such as http://127.0.0.1:4318.

    Raises:
        TracingError: Wanted, but what sends is not installed.
    """
    global _otlp
    variables = [name for name in (ENDPOINT, TRACES_ENDPOINT) if os.environ.get(name)]
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER", "otlp") not in ("", "otlp")
    if _tracer is not None or off or not (otlp or variables):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        wanted = "serving.otlp" if otlp else variables[0]
        raise TracingError(f"{wanted} wants spans sent: pip install 'counterpoint-server[otel]'") from error
    own = {} if os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "") else _SERVICE
    provider = TracerProvider(resource=Resource.create(own))
    exporter = OTLPSpanExporter() if variables else OTLPSpanExporter(f"{str(otlp).rstrip('/')}/v1/traces")
    delay = None if os.environ.get("OTEL_BSP_SCHEDULE_DELAY") else SEND_MS
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=delay))
    _otlp = None if variables else otlp
    use(provider)


_SERVICE = {"service.name": "counterpoint"}


def use(provider: TracerProvider) -> None:
    """Send spans by a provider that somebody else has set up."""
    global _tracer, _provider
    _tracer, _provider = provider.get_tracer("counterpoint"), provider


def stop() -> None:
    """Send what waits, and no more from now on."""
    global _tracer, _provider, _otlp
    if _provider is not None:
        _provider.shutdown()
    _tracer, _provider, _otlp = None, None, None


def variables() -> dict[str, str]:
    """Variables by which a process that we start sends its spans to the same place; those of our own environment it has anyway."""
    return {} if _otlp is None else {ENDPOINT: _otlp}


def now_ns() -> int:
    """Now, in nanoseconds since 1970."""
    return time.time_ns()


def _context(parent: str | None, root: bool) -> Context | None:
    if root or parent is not None:
        from opentelemetry.context import Context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        return TraceContextTextMapPropagator().extract({"traceparent": parent} if parent else {}, Context())
    return None


def _named(attributes: dict[str, object]) -> dict[str, Any]:
    return {PREFIX + name: value for name, value in attributes.items() if value is not None}
