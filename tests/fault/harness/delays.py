"""I13: how long after it was sent each record was applied, seen from outside: records as they come, offset rows as they move."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.contracts.topics import PLATFORM_EVENTS
from tests.fault.harness.brokers import partitions
from tests.fault.harness.ledger import LEDGER_HEADER
from tests.fault.harness.system import System
from tests.support.waiting import eventually

LOOK_S = 0.05
"""Pause between two looks at the offset rows, seconds: so much later than in truth a record may seem to be applied."""

APPLIED_S = 60.0
"""Longest wait for what was sent to be applied, seconds."""

_STANDS = "SELECT partition, next_offset FROM consumed_offset WHERE topic = $1"


class Delays:
    """What was seen of `platform-events` since it was made.

    Attributes:
        seconds: by the mark of an offer the time from being sent to being applied; of several copies the longest.
    """

    def __init__(self) -> None:
        self.seconds: dict[bytes, float] = {}
        self._waiting: dict[tuple[int, int], tuple[bytes, float]] = {}

    def comes(self, partition: int, offset: int, mark: bytes, sent_at: float) -> None:
        """A record stands on the topic."""
        self._waiting[partition, offset] = mark, sent_at

    def stands(self, rows: dict[int, int], at: float) -> None:
        """So far enrollment has come."""
        for (partition, offset), (mark, sent_at) in list(self._waiting.items()):
            if offset < rows.get(partition, 0):
                del self._waiting[partition, offset]
                self.seconds[mark] = max(self.seconds.get(mark, 0.0), at - sent_at)

    async def all_applied(self) -> bool:
        """Whether nothing waits."""
        await asyncio.sleep(0)
        return not self._waiting


@asynccontextmanager
async def measured(system: System) -> AsyncIterator[Delays]:
    """Measure what is sent within the block; at its end everything has been applied."""
    delays = Delays()
    consumer = AIOKafkaConsumer(bootstrap_servers=system.bootstrap_servers, enable_auto_commit=False, fetch_max_wait_ms=20)
    await consumer.start()
    try:
        count = (await partitions(system.bootstrap_servers))[PLATFORM_EVENTS.name]
        places = [TopicPartition(PLATFORM_EVENTS.name, partition) for partition in range(count)]
        consumer.assign(places)
        await consumer.seek_to_end(*places)
        tasks = [asyncio.create_task(_records(consumer, delays)), asyncio.create_task(_rows(system, delays))]
        try:
            yield delays
            await eventually(delays.all_applied, APPLIED_S)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        await consumer.stop()


async def _records(consumer: AIOKafkaConsumer, delays: Delays) -> None:
    while True:
        for records in (await consumer.getmany(timeout_ms=50)).values():
            for record in records:
                mark = dict(record.headers).get(LEDGER_HEADER, b"")
                delays.comes(record.partition, record.offset, mark, record.timestamp / 1000)


async def _rows(system: System, delays: Delays) -> None:
    async with system.database("enrollment") as connection:
        while True:
            rows = await connection.fetch(_STANDS, PLATFORM_EVENTS.name)
            delays.stands({row[0]: row[1] for row in rows}, time.time())
            await asyncio.sleep(LOOK_S)
