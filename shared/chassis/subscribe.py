"""The one function that creates every subscriber, with every setting that could lose a record written out.

FastStream's defaults acknowledge before the handler runs and start new groups at `latest`; both lose records.
Here: manual acknowledgement, `earliest`, batches, raw records (nothing is decoded where one bad header
would fail a whole batch), large fetches.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError, UnknownMemberIdError, kafka_errors
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.kafka.message import FAKE_CONSUMER
from faststream.kafka.prometheus import KafkaPrometheusMiddleware
from faststream.kafka.subscriber.usecase import BatchSubscriber
from prometheus_client import REGISTRY

from shared.chassis import telemetry, unpacking
from shared.chassis.broker import ANSWER_S
from shared.chassis.consume import BatchConsumer
from shared.chassis.database import TAKEOVER_S
from shared.chassis.dead_letters import RawRecord
from shared.chassis.errors import is_transient
from shared.chassis.header_names import read_every_name

log = logging.getLogger(__name__)

FETCH_BYTES = 16 * 1_048_576
"""Most bytes of a fetch: a whole batch of 10,000 events and more, and no more than a thin line brings before the broker
seems to be silent. A single record batch that is larger comes all the same."""

BATCH_TIMEOUT_MS = 20
"""How long a poll waits for records, milliseconds. What has arrived is the batch: small when live, large when behind."""

HEARTBEATS = 10
"""Heartbeats in the time after which a silent process loses its partitions."""

FENCED_INSTANCE_ID = 82
"""Kafka error code: another process has joined under our instance name, so our member id is not ours any more."""

PATIENCE = 0.25
"""Share of the time after which a silent process loses its partitions that reading its places may take on assignment."""

LAG_EVERY_S = 2.0
"""Pause between two looks at the ends of the partitions, seconds."""


def create_broker(bootstrap_servers: Sequence[str], *, name: str = "hocvu", takeover_s: float = TAKEOVER_S, with_metrics: bool = True) -> KafkaBroker:
    """A broker object that never logs per record; FastStream does not split a comma-separated string, so a list it is.

    Args:
        bootstrap_servers: brokers to ask first.
        name: who connects, for those who look at the broker (`client.id`).
        takeover_s: a process that is silent this long loses its partitions, seconds; a broker has a little longer to answer.
        with_metrics: FastStream's own metrics can be registered once per process; a test that makes several brokers goes without.
    """
    read_every_name()
    unpacking.bound()
    return KafkaBroker(
        list(bootstrap_servers),
        client_id=name,
        request_timeout_ms=int((takeover_s + ANSWER_S) * 1000),
        logger=None,
        apply_types=False,
        graceful_timeout=7.0,
        allow_auto_create_topics=False,
        middlewares=[KafkaPrometheusMiddleware(registry=REGISTRY, metrics_prefix="faststream")] if with_metrics else [],
    )


def subscribe(
    broker: KafkaBroker, consumer: BatchConsumer, max_batch: int, takeover_s: float = TAKEOVER_S, instance: str | None = None
) -> BatchSubscriber:
    """Attach a batch consumer to its topic. Every subscriber of the house is made here.

    Args:
        broker: as made by `create_broker`.
        consumer: what is done with the records.
        max_batch: most records in one batch.
        takeover_s: a process that is silent this long loses its partitions, seconds.
        instance: name of this process that outlives it. A member with a name does not leave when it stops: if it is back
            within `takeover_s`, it goes on with its partitions, and nobody else notices. None: a new member each time.
    """
    listener = _Listener(consumer, takeover_s * PATIENCE)
    subscriber = broker.subscriber(
        consumer.topic.name,
        group_id=consumer.group,
        batch=True,
        max_records=max_batch,
        batch_timeout_ms=BATCH_TIMEOUT_MS,
        group_instance_id=_instance_id(instance, consumer.topic.name),
        ack_policy=AckPolicy.MANUAL,
        auto_offset_reset="earliest",
        # Everything in a log is committed to the database it came from, so an aborted copy is true as well; waiting for
        # transaction markers would only let a hanging relay stop its readers (decision 0009).
        isolation_level="read_uncommitted",
        session_timeout_ms=int(takeover_s * 1000),
        heartbeat_interval_ms=int(takeover_s * 1000 / HEARTBEATS),
        fetch_max_wait_ms=100,
        fetch_max_bytes=FETCH_BYTES,
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


def _instance_id(instance: str | None, topic: str) -> str | None:
    """The member's name in its group, in which a process has a member per topic."""
    if instance is None:
        return None
    # aiokafka 0.14 does not know this answer and would ask the same for ever. What it means is what this one means:
    # forget the member id and join again. Of two processes under one name the name's own lock decides (instance.py).
    kafka_errors[FENCED_INSTANCE_ID] = UnknownMemberIdError
    return f"{instance}-{topic}"


async def watch_lag(consumer: BatchConsumer, stop: asyncio.Event) -> None:
    """Look after the places: how far behind they are, for readiness and metrics, and whether their logs still go on there."""
    told: set[int] = set()
    while not stop.is_set():
        try:
            await consumer.look_after()
            lags = consumer.progress.lag
            for partition, lag in lags.items():
                telemetry.LAG.labels(consumer.group, consumer.topic.name, partition).set(lag)
            for partition in told - lags.keys():  # another process tells of it now
                telemetry.LAG.remove(consumer.group, consumer.topic.name, str(partition))
            told = set(lags)
        except Exception as error:
            # Readiness tells that the ends are not known; whatever it was, the next look starts from the rows.
            if not isinstance(error, KafkaError) and not is_transient(error):
                log.exception("places could not be looked at")
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LAG_EVERY_S)


class _Listener(ConsumerRebalanceListener):
    """Hands assignments to the consumer. What it raises would be swallowed by aiokafka, so the fence is the guarantee."""

    def __init__(self, consumer: BatchConsumer, patience_s: float) -> None:
        self._consumer = consumer
        self._patience_s = patience_s
        self.subscriber: object = None

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._consumer.revoked()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._consumer.consumer = getattr(self.subscriber, "consumer", None)
        try:
            # No heartbeat is sent while the group waits for us; there is more time at the first batch, or at the next look.
            async with asyncio.timeout(self._patience_s):
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
