"""The one function that creates every subscriber, with every setting that could lose a record written out.

FastStream's defaults acknowledge before the handler runs and start new groups at `latest`; both lose records
(STYLE 5.1). Here: manual acknowledgement, `earliest`, batches, raw records (nothing is decoded where one bad header
would fail a whole batch), large fetches.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.kafka.message import FAKE_CONSUMER
from faststream.kafka.prometheus import KafkaPrometheusMiddleware
from faststream.kafka.subscriber.usecase import BatchSubscriber
from prometheus_client import REGISTRY

from shared.chassis import telemetry
from shared.chassis.consume import BatchConsumer
from shared.chassis.dead_letters import RawRecord

log = logging.getLogger(__name__)

FETCH_BYTES = 16 * 1_048_576
"""Most bytes per partition and fetch: a whole batch of 10,000 events and more."""

BATCH_TIMEOUT_MS = 20
"""How long a poll waits for records, milliseconds. What has arrived is the batch: small when live, large when behind."""

SESSION_TIMEOUT_MS = 10_000
"""A process that is silent this long loses its partitions, milliseconds."""

LAG_EVERY_S = 2.0
"""Pause between two looks at the ends of the partitions, seconds."""


def create_broker(bootstrap_servers: Sequence[str], *, with_metrics: bool = True) -> KafkaBroker:
    """A broker object that never logs per record; FastStream does not split a comma-separated string, so a list it is.

    FastStream's own metrics can be registered once per process; a test that makes several brokers goes without.
    """
    return KafkaBroker(
        list(bootstrap_servers),
        logger=None,
        apply_types=False,
        graceful_timeout=8.0,
        allow_auto_create_topics=False,
        middlewares=[KafkaPrometheusMiddleware(registry=REGISTRY, metrics_prefix="faststream")] if with_metrics else [],
    )


def subscribe(broker: KafkaBroker, consumer: BatchConsumer, max_batch: int) -> BatchSubscriber:
    """Attach a batch consumer to its topic. Every subscriber of the house is made here."""
    listener = _Listener(consumer)
    subscriber = broker.subscriber(
        consumer.topic.name,
        group_id=consumer.group,
        batch=True,
        max_records=max_batch,
        batch_timeout_ms=BATCH_TIMEOUT_MS,
        ack_policy=AckPolicy.MANUAL,
        auto_offset_reset="earliest",
        # Everything in a log is committed to the database it came from, so an aborted copy is true as well; waiting for
        # transaction markers would only let a hanging relay stop its readers (decision 0009).
        isolation_level="read_uncommitted",
        session_timeout_ms=SESSION_TIMEOUT_MS,
        heartbeat_interval_ms=1_000,
        fetch_max_wait_ms=100,
        fetch_max_bytes=4 * FETCH_BYTES,
        max_partition_fetch_bytes=FETCH_BYTES,
        listener=listener,
        parser=_parse,
        decoder=_raw,
        no_reply=True,
    )
    listener.subscriber = subscriber

    # FastStream builds a pydantic model of the annotations; there is nothing to validate here.
    async def on_batch(records: Any) -> None:  # noqa: ANN401
        consumer.consumer = subscriber.consumer
        await consumer.on_records(records)

    subscriber(on_batch)
    return subscriber


async def watch_lag(consumer: BatchConsumer, stop: asyncio.Event) -> None:
    """Measure how far the positions are behind the ends of the partitions, for readiness and metrics."""
    while not stop.is_set():
        with suppress(KafkaError, OSError, TimeoutError):
            await consumer.measure_lag()
            for partition, lag in consumer.progress.lag.items():
                telemetry.LAG.labels(consumer.group, consumer.topic.name, partition).set(lag)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LAG_EVERY_S)


class _Listener(ConsumerRebalanceListener):
    """Hands assignments to the consumer. What it raises would be swallowed by aiokafka, so the fence is the guarantee."""

    def __init__(self, consumer: BatchConsumer) -> None:
        self._consumer = consumer
        self.subscriber: object = None

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._consumer.revoked()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._consumer.consumer = getattr(self.subscriber, "consumer", None)
        try:
            await self._consumer.assigned(place.partition for place in assigned)
        except Exception as error:  # noqa: BLE001  (positions stay unknown; the first batch reads the rows again)
            self._consumer.progress.joined = True
            log.warning("offset rows could not be read on assignment", extra={"error": type(error).__name__})


async def _parse(records: tuple[RawRecord, ...]) -> KafkaMessage:
    """A message around the raw records; headers are left alone, because one that is not UTF-8 must not fail the batch."""
    first, last = records[0], records[-1]
    return KafkaMessage(
        raw_message=records,
        body=b"",
        headers={},
        message_id=f"{first.offset}-{last.offset}-{first.timestamp}",
        correlation_id=f"{first.topic}-{first.partition}-{first.offset}",
        consumer=FAKE_CONSUMER,  # nothing is acknowledged through FastStream
    )


async def _raw(message: KafkaMessage) -> "object":
    return message.raw_message
