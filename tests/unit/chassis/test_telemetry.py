"""A batch span links to the traces its records came with, and knows nothing of anybody."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from shared.chassis import telemetry

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "_tracer", provider.get_tracer("test"))
    return exporter


def test_a_batch_span_links_and_adopts_nobody(spans: InMemorySpanExporter) -> None:
    parents = [f"00-{TRACE}-b7ad6b7169203331-01", "not a trace", f"00-{'1' * 32}-{'2' * 16}-01"]
    telemetry.batch_span("process loaves", SpanKind.CONSUMER, {"messaging.batch.message_count": 3}, parents).end()
    (span,) = spans.get_finished_spans()
    assert [format(link.context.trace_id, "032x") for link in span.links] == [TRACE, "1" * 32]
    assert span.parent is None
    assert dict(span.attributes or {}) == {"messaging.batch.message_count": 3}


def test_a_batch_of_thousands_carries_a_few_links_only(spans: InMemorySpanExporter) -> None:
    parents = [f"00-{number:032x}-b7ad6b7169203331-01" for number in range(1, 1000)]
    telemetry.batch_span("process loaves", SpanKind.CONSUMER, {}, parents).end()
    (span,) = spans.get_finished_spans()
    assert len(span.links) == telemetry.MOST_LINKS
