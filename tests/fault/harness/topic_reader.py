"""Everything that stands on the topics, read to the end whenever asked, straight from the brokers."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared.contracts.topics import (
    ASSESSMENT_EVENTS,
    ENROLLMENT_EVENTS,
    FIGURES,
    OUTCOME_FACTS,
    PLATFORM_EVENTS,
    REGISTRY_EVENTS,
    REPORT_EVENTS,
    Topic,
)
from tests.fault.harness.brokers import partitions

DEAD_LETTERS = PLATFORM_EVENTS.dead_letters("enrollment")

READ = (PLATFORM_EVENTS, ENROLLMENT_EVENTS, REGISTRY_EVENTS, OUTCOME_FACTS, ASSESSMENT_EVENTS, REPORT_EVENTS, FIGURES, DEAD_LETTERS)
"""What is read."""

CATCH_UP_S = 30.0
"""Longest time to read to the ends, seconds; a partition without a leader has no end."""


@dataclass(slots=True)
class Key:
    """What was seen of one key of a compacted topic: the last record, and the highest version of any."""

    last_version: int = 0
    highest_version: int = 0
    last: dict[str, Any] = field(default_factory=dict)


class TopicReader:
    """Reads on from where it stopped; keeps per key what the checker needs.

    Attributes:
        records: how many were read.
        partitions: of each topic; it may have more than it was made with.
        next_after_last: by (topic, partition) the offset behind the last record; markers of transactions are no records.
        keys: by topic and key, of compacted topics.
        outcome_facts: fact ids on `outcome-facts`.
        dead_letters: reasons on the dead-letter topic, by position of the record that was set aside.
        reports: (report id, version) on `report-events`.
    """

    def __init__(self, bootstrap_servers: Sequence[str]) -> None:
        self._bootstrap_servers = list(bootstrap_servers)
        self._consumer: AIOKafkaConsumer | None = None
        self._positions: dict[TopicPartition, int] = {}
        self.records = 0
        self.partitions = {topic.name: topic.partitions for topic in READ}
        self.next_after_last: dict[tuple[str, int], int] = {}
        self.keys: defaultdict[str, dict[str, Key]] = defaultdict(dict)
        self.outcome_facts: set[str] = set()
        self.dead_letters: dict[tuple[int, int], str] = {}
        self.reports: set[tuple[str, int]] = set()

    async def catch_up(self, topics: Iterable[Topic] = READ) -> None:
        """Read these topics to the ends they have now. May be called again after an error.

        Raises:
            KafkaError: a broker does not do it.
            OSError: no broker is there, or it takes too long.
        """
        try:
            async with asyncio.timeout(CATCH_UP_S):
                await self._read(await self._connected(), self._places(topics))
        except (KafkaError, TimeoutError, OSError):
            await self.close()
            raise

    async def _read(self, consumer: AIOKafkaConsumer, places: Sequence[TopicPartition]) -> None:
        ends = await consumer.end_offsets(places)
        while behind := [place for place in places if await consumer.position(place) < ends[place]]:
            for place, records in (await consumer.getmany(*behind, timeout_ms=100)).items():
                self.records += len(records)
                for record in records:
                    self._see(record)
                if records:
                    self.next_after_last[place.topic, place.partition] = records[-1].offset + 1
                    self._positions[place] = records[-1].offset + 1

    async def firsts(self) -> dict[tuple[str, int], int]:
        """The offset of the first record that each partition still has."""
        consumer = await self._connected()
        return {(place.topic, place.partition): first for place, first in (await consumer.beginning_offsets(list(self._positions))).items()}

    async def begin_at_the_ends(self) -> dict[TopicPartition, int]:
        """Overlook what stands there now; the ends."""
        consumer = await self._connected()
        ends: dict[TopicPartition, int] = await consumer.end_offsets(list(self._positions))
        for place, end in ends.items():
            consumer.seek(place, end)
            self._positions[place] = end
        return ends

    async def begin_again(self, topic: Topic) -> None:
        """Read a topic from its first record, because it was deleted and made again; what was read before stays known."""
        await self.close()
        for place in [place for place in self._positions if place.topic == topic.name]:
            del self._positions[place]
            self.next_after_last.pop((place.topic, place.partition), None)

    async def close(self) -> None:
        """Give the connection back; what was read stays known."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with suppress(KafkaError, TimeoutError, OSError):
                await consumer.stop()

    async def _connected(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            self.partitions = await partitions(self._bootstrap_servers)
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._bootstrap_servers, enable_auto_commit=False, auto_offset_reset="earliest",
                fetch_max_wait_ms=50, max_partition_fetch_bytes=16 * 1_048_576, request_timeout_ms=10_000,
            )  # fmt: skip
            await consumer.start()
            self._consumer = consumer
            places = self._places(READ)
            consumer.assign(places)
            for place in places:
                consumer.seek(place, self._positions.setdefault(place, 0))
        return self._consumer

    def _places(self, topics: Iterable[Topic]) -> list[TopicPartition]:
        return [TopicPartition(topic.name, partition) for topic in topics for partition in range(self.partitions[topic.name])]

    def _see(self, record: Any) -> None:
        if record.topic == PLATFORM_EVENTS.name:
            return
        if record.topic == DEAD_LETTERS.name:
            headers = dict(record.headers)
            self.dead_letters[int(headers["dlq_partition"]), int(headers["dlq_offset"])] = headers["dlq_reason"].decode()
            return
        data = json.loads(record.value)
        if record.topic == OUTCOME_FACTS.name:
            self.outcome_facts.add(data["fact_id"])
        elif record.topic == REPORT_EVENTS.name:
            self.reports.add((data["report_id"], data["version"]))
        else:
            seen = self.keys[record.topic].setdefault(record.key.decode(), Key())
            seen.last, seen.last_version = data, data["version"]
            seen.highest_version = max(seen.highest_version, data["version"])
