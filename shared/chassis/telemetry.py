"""Traces and the closed list of the machinery's metrics. No key, id or name of anybody in a span or a label."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager

from opentelemetry import context, propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, Span, SpanKind
from prometheus_client import Counter, Gauge, Histogram

MOST_LINKS = 32
"""Links a batch span carries; a link per record would cost more than the record (7 microseconds each)."""

EVENTS = Counter("consume_events_total", "Records by outcome (applied, dead). Rising dead: read the dead letters.", ["group", "topic", "outcome"])
BATCH_SECONDS = Histogram(
    "consume_batch_seconds", "Time from the first look at a batch to its commit. High: look at the database first.", ["group", "topic"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)  # fmt: skip
EVENT_AGE = Histogram(
    "consume_event_age_seconds", "Age of a batch's oldest record (broker time) at commit. High: lag; add workers.", ["group", "topic"],
    buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600),
)  # fmt: skip
LAG = Gauge("consume_lag_records", "Records not yet applied. Rising: add workers or read readiness.", ["group", "topic", "partition"])
FENCED = Counter("consume_fenced_total", "Batches given up because another process was ahead. A few per rebalance are normal.", ["group", "topic"])
REBALANCES = Counter("consume_rebalances_total", "Assignments of partitions to this process.", ["group", "topic"])
RETRIES = Counter("consume_retries_total", "Batches tried again after a passing error. Rising: the database is in trouble.", ["group", "topic"])
HALTED = Gauge("consume_halted_partitions", "Partitions that stand still until a person decides. Not 0: page.", ["group", "topic", "reason"])
REFUSED = Gauge("service_refused", "1 while the process refuses to work for this reason; readiness says what to mend. Not 0: page.", ["reason"])
DEAD_LETTERS = Counter("dead_letters_total", "Records set aside, by reason. Rising: hocvu dead-letters list.", ["group", "topic", "reason"])
DEAD_LETTERS_OPEN = Gauge(
    "dead_letters_open", "Records set aside that wait for a clerk; every worker tells the same. Not 0: hocvu dead-letters list.", ["group", "reason"]
)
OUTBOX_PENDING = Gauge("outbox_pending", "Events not yet published, as last seen by the relay.")
OUTBOX_AGE = Gauge("outbox_oldest_unpublished_seconds", "Age of the oldest unpublished event. High: broker or relay in trouble.")
RELAYED = Counter("outbox_relayed_total", "Events published by this process.", ["topic"])
RELAY_TAKEOVERS = Counter("outbox_relay_takeovers_total", "Times this process became the relay.")

_tracer = trace.get_tracer("hocvu")


def configure(service: str, endpoint: str | None, ratio: float) -> None:
    """Send traces to an OTLP/HTTP endpoint; without one spans cost next to nothing. Call once, from `main`."""
    if endpoint is None:
        return
    # Half a second of imports that a process without traces need not pay.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    provider = TracerProvider(resource=Resource.create({"service.name": service}), sampler=ParentBased(TraceIdRatioBased(ratio)))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    trace.set_tracer_provider(provider)


def batch_span(name: str, kind: SpanKind, attributes: Mapping[str, str | int], parents: Iterable[str]) -> Span:
    """A span for a whole batch that links to the traces its records came with; it adopts none of them."""
    links = []
    for parent in parents:
        found = trace.get_current_span(propagate.extract({"traceparent": parent}, context=context.Context())).get_span_context()
        if found.is_valid:
            links.append(Link(found))
        if len(links) == MOST_LINKS:
            break
    return _tracer.start_span(name, kind=kind, attributes=dict(attributes), links=links)


def request_span(name: str, parent: str | None) -> AbstractContextManager[Span]:
    """A span for a request, under the trace its caller gave; also where no traces are kept, so that the caller's goes on.

    Args:
        name: of the few there are, never with an id in it.
        parent: W3C text; what is none begins a new trace.
    """
    given = propagate.extract({"traceparent": parent} if parent else {}, context=context.Context())
    return _tracer.start_as_current_span(name, context=given, kind=SpanKind.SERVER, record_exception=False)


def traceparent() -> str | None:
    """The current trace context as W3C text; it is stored with what is announced, so that the relay continues it."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent")
