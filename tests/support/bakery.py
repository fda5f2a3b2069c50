"""A bakery that uses the chassis: loaves are baked, counted and sold. No learner in it, and an effect that shows every double."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from pydantic import Field

from shared.chassis.clock import now
from shared.chassis.consume import Subscription
from shared.chassis.database import Tx
from shared.chassis.decode import Received, Refused
from shared.chassis.outbox import Announcement, announce
from shared.chassis.topics import ensure_topics
from shared.contracts.decoding import decoder
from shared.contracts.envelope import Contract, EventType
from shared.contracts.topics import Topic

SCHEMA = "CREATE TABLE baked (loaf text PRIMARY KEY, times int NOT NULL)"
"""`times` is added to by every application, so a record that is applied twice shows."""

_COUNT = """
INSERT INTO baked (loaf, times) SELECT loaf, count(*) FROM unnest($1::text[]) AS loaf GROUP BY loaf ORDER BY loaf
ON CONFLICT (loaf) DO UPDATE SET times = baked.times + excluded.times
"""

NO_MIGRATIONS = Path("no such folder")


class Loaf(Contract):
    """A loaf."""

    loaf: str
    grams: int = Field(default=500, ge=1)


@dataclass(frozen=True)
class Bakery:
    """Topics and event types of one test."""

    group: str
    loaves: Topic
    sales: Topic
    baked: EventType[Loaf]

    def subscription(self, *, sell: bool = True) -> Subscription:
        return Subscription(self.loaves, {self.baked: self.on_baked if sell else self.on_baked_quietly})

    async def on_baked(self, records: Sequence[Received[Loaf]], tx: Tx) -> Sequence[Refused]:
        refused = await self.on_baked_quietly(records, tx)
        await announce(
            tx,
            [
                Announcement(self.sales, "bakery.loaf.sold.v1", f"sold-{one.data.loaf}", "/bakery", one.data.loaf, one.data.loaf, b"{}", now())
                for one in records
                if not _too_light(one)
            ],
        )
        return refused

    async def on_baked_quietly(self, records: Sequence[Received[Loaf]], tx: Tx) -> Sequence[Refused]:
        if any(one.data.grams == 13 for one in records):  # the loaf on which the baker always stumbles
            raise ZeroDivisionError
        await tx.execute(_COUNT, [one.data.loaf for one in records if not _too_light(one)])
        return [Refused(one, "too_light", "a loaf has 10 grams at least") for one in records if _too_light(one)]


def _too_light(one: Received[Loaf]) -> bool:
    return one.data.grams == 9


async def open_bakery(bootstrap_servers: Sequence[str], partitions: int = 3, name: str | None = None) -> Bakery:
    """A bakery with topics of its own."""
    run = name or secrets.token_hex(4)
    group = f"bakery-{run}"
    loaves = Topic(f"loaves-{run}", "bakers", "loaf", "loaf", partitions, "delete", None, (group,), "Loaves.", 8 * 1_048_576)
    sales = Topic(f"sales-{run}", "bakery", "loaf", "loaf", partitions, "compact", None, (), "Sales.")
    await ensure_topics(bootstrap_servers, [loaves, sales, loaves.dead_letters(group)], 1)
    return Bakery(group, loaves, sales, EventType("bakery.loaf.baked.v1", Loaf, loaves.name, "A loaf was baked.", decoder(Loaf)))


def headers(number: int, **other: bytes) -> list[tuple[str, bytes]]:
    """Headers of a loaf; `type=b"…"` and the like replace attributes."""
    found = {"specversion": b"1.0", "type": b"bakery.loaf.baked.v1", "source": b"/ovens/1", "id": b"%d" % number} | other
    return [(f"ce_{name}", value) for name, value in found.items()] + [("content-type", b"application/json")]


def loaf(number: int, **fields: int) -> bytes:
    more = "".join(f', "{name}": {value}' for name, value in fields.items())
    return f'{{"loaf": "loaf-{number}"{more}}}'.encode()


async def bake(
    bootstrap_servers: Sequence[str], topic: Topic, records: Sequence[tuple[list[tuple[str, bytes]], bytes | None]], partition: int | None = None
) -> None:
    """Put records on the topic, in order; without a partition spread by number."""
    producer = AIOKafkaProducer(
        bootstrap_servers=list(bootstrap_servers), acks="all", max_batch_size=262_144, max_request_size=8 * 1_048_576, compression_type="lz4"
    )
    await producer.start()
    try:
        for number, (found, value) in enumerate(records):
            target = number % topic.partitions if partition is None else partition
            await producer.send(topic.name, value=value, key=b"%d" % number, headers=found, partition=target)
        await producer.flush()
    finally:
        await producer.stop()


async def read(bootstrap_servers: Sequence[str], topic: str, partitions: int) -> list[Any]:
    """Everything that stands on a topic, in offset order per partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=list(bootstrap_servers), auto_offset_reset="earliest", max_partition_fetch_bytes=16 * 1_048_576)
    await consumer.start()
    try:
        places = [TopicPartition(topic, partition) for partition in range(partitions)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        found: list[Any] = []
        while any([await consumer.position(place) < ends[place] for place in places]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                found.extend(batch)
        return found
    finally:
        await consumer.stop()
        await asyncio.sleep(0)
