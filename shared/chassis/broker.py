"""What the broker says of a topic: which one it is, where its partitions begin and end, whether records are left of a span."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared.chassis.errors import Transient
from shared.chassis.stops import Extent
from shared.chassis.topic_identity import identify

LOOK_S = 15.0
"""Longest wait for the broker's answers, seconds; a network that is slow by seconds must not stop a partition."""

ANSWER_S = 5.0
"""A broker's answer is waited for so much longer than `takeover_s`, seconds: what a broker holds back for that long by
design, as it does with who joins a group, must not seem to be silence."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A topic as the broker has it.

    Attributes:
        topic_id: which topic has this name now.
        partitions: how many it has.
        extents: by partition, of those that were asked for and exist.
    """

    topic_id: UUID
    partitions: int
    extents: Mapping[int, Extent]


async def look(consumer: AIOKafkaConsumer, topic: str, partitions: Iterable[int] | None = None, within: float = LOOK_S) -> Sight | None:
    """Ask for a topic and for partitions of it (None: all); None when there is no such topic.

    Raises:
        Transient: the broker does not answer, or not yet.
    """
    try:
        async with asyncio.timeout(within):
            if partitions is None:
                found = await identify(consumer._client, topic)
                partitions = range(found.partitions) if found is not None else ()
            # A topic that was made again may have fewer partitions than those we read.
            known = consumer.partitions_for_topic(topic)
            places = [TopicPartition(topic, partition) for partition in partitions if known is None or partition in known]
            # At once, because each waits behind a fetch that may hang at the broker for a while.
            asked = asyncio.gather(consumer.beginning_offsets(places), consumer.end_offsets(places))
            try:
                found = await identify(consumer._client, topic)
                begins, ends = await asked if found is not None else ({}, {})
            finally:
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)
    except (KafkaError, TimeoutError) as error:
        raise Transient(f"the broker does not tell where {topic} begins and ends: {error!r}") from error
    if found is None:
        return None
    extents = {place.partition: Extent(begins[place], ends[place]) for place in places if place.partition < found.partitions}
    return Sight(found.topic_id, found.partitions, extents)


async def without_records(consumer: AIOKafkaConsumer, topic: str, spans: Mapping[int, tuple[int, int]]) -> list[int]:
    """Which of these spans (first offset, offset after the last), by partition, hold markers of transactions and nothing else.

    Read by a consumer of its own, so that nothing that is on its way to the caller's handlers can be mistaken for a hole.

    Raises:
        Transient: the broker does not answer, or a span has been deleted.
    """
    servers = [f"{host}:{port}" for host, port, _ in consumer._client.hosts]
    reader = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="none", enable_auto_commit=False)
    places = {TopicPartition(topic, partition): span for partition, span in spans.items()}
    empty = set(places)
    try:
        async with asyncio.timeout(LOOK_S):
            await reader.start()
            reader.assign(list(places))
            for place, (first, _) in places.items():
                reader.seek(place, first)
            reading = set(places)
            while reading:
                for place, records in (await reader.getmany(*reading, timeout_ms=100)).items():
                    if records[0].offset < places[place][1]:
                        empty.discard(place)
                reading = {place for place in reading & empty if await reader.position(place) < places[place][1]}
    except (KafkaError, TimeoutError) as error:
        raise Transient(f"the broker does not show a span of {topic}: {error!r}") from error
    finally:
        await reader.stop()
    return sorted(place.partition for place in empty)
