"""Drive enrollment's real handler over a topic in this process, with the guards or without: one consumer, one fresh database."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer

from deploy.local import kafka, postgres
from deploy.local.layout import Layout
from services.enrollment import handlers
from services.enrollment.persons.domain import Pseudonyms
from shared.chassis import offsets, outbox
from shared.chassis.clock import now
from shared.chassis.consume import BatchConsumer, Subscription
from shared.chassis.database import Pool, Tx, create_pool
from shared.chassis.migrations import migrate
from shared.chassis.outbox import Announcement
from shared.chassis.relay import Relay
from shared.chassis.subscribe import create_broker, subscribe
from shared.chassis.topics import ensure_topics
from shared.contracts import platform
from shared.contracts.topics import Topic

MAX_BATCH = 5000
"""As in deploy/settings.env."""

ROUNDS = 3
"""Drives of each kind that is compared; they take turns, so that a minute in which the machine is slow counts for both."""


@dataclass(frozen=True, slots=True)
class Driven:
    """What a run gave: seconds until everything was applied and published, the oldest good record at its commit, dead letters."""

    seconds: float
    oldest_s: float
    dead_letters: int


class Watched(BatchConsumer):
    """Counts what was applied and how old it was."""

    applied = 0
    oldest_s = 0.0

    async def _transact(self, items: Sequence[Any]) -> None:
        await super()._transact(items)
        self.applied += len(items)
        self.oldest_s = max(self.oldest_s, time.time() - min(item.record.timestamp for item in items) / 1000)


class Bare(Watched):
    """Without the guards: no offset row, no outbox. Offsets are Kafka's, events go to the broker after the commit, unsaved."""

    def __init__(self, *told: Any, producer: AIOKafkaProducer) -> None:
        super().__init__(*told)
        self._producer = producer
        self._announced: list[Announcement] = []

    async def _keep(self, _: Tx, announcements: Sequence[Announcement]) -> None:
        self._announced.extend(announcements)

    async def _transact(self, items: Sequence[Any]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(handlers, "announce", self._keep)
            patch.setattr(offsets, "advance", _let_everybody_pass)
            await super()._transact(items)
        announced, self._announced = self._announced, []
        rows = [outbox._row(one, []) for one in announced]
        sent = [
            await self._producer.send(topic, key=key, value=value, partition=partition, headers=outbox._unpack(packed))
            for topic, partition, key, packed, value in rows
        ]
        await asyncio.gather(*sent)


async def _let_everybody_pass(tx: Tx, group: str, topic: str, moves: Mapping[int, tuple[int, int]]) -> None:
    """What the offset rows are replaced with in a bare run."""


async def drive(layout: Layout, topic: Topic, records: int, *, guarded: bool = True, joined: asyncio.Event | None = None) -> Driven:
    """Apply the first records of a topic.

    Args:
        layout: a running broker and database.
        topic: where they stand; of the shape of `platform-events`.
        records: how many; the clock stops when they are applied and what they announced is published.
        guarded: False leaves offset row and outbox away.
        joined: set when the consumer has its partitions, for who wants to send only then.
    """
    servers = layout.bootstrap_servers(kafka.nodes(layout))
    async with _database(layout) as pool:
        producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True, compression_type="lz4", max_batch_size=262_144)
        await producer.start()
        stop = asyncio.Event()
        group = f"bench-{secrets.token_hex(4)}"
        await ensure_topics(servers, [topic.dead_letters(group)], 1)
        relay = Relay(pool, servers, group)
        handler = handlers.on_platform_facts(Pseudonyms(bytes(32)), (), now)
        subscription = Subscription(topic, dict.fromkeys(platform.FACTS, handler))
        consumer: Watched = (
            Watched(subscription, group, pool, relay.wake) if guarded else Bare(subscription, group, pool, lambda: None, producer=producer)
        )
        broker = create_broker(servers, with_metrics=False)
        subscribe(broker, consumer, MAX_BATCH)
        relaying = asyncio.create_task(relay.run(stop)) if guarded else None
        started = time.monotonic()
        await broker.start()
        while consumer.applied < records:
            await asyncio.sleep(0.01)
            if joined is not None and consumer.progress.joined:
                joined.set()
        consumer.stopping = True
        await broker.stop()
        while guarded and await pool.fetchval("SELECT EXISTS (SELECT FROM outbox)"):  # noqa: ASYNC110  (the relay empties it)
            await asyncio.sleep(0.01)
        seconds = time.monotonic() - started
        stop.set()
        if relaying is not None:
            await relaying
        await producer.stop()
        return Driven(seconds, consumer.oldest_s, int(await pool.fetchval("SELECT count(*) FROM dead_letter")))


@asynccontextmanager
async def _database(layout: Layout) -> AsyncIterator[Pool]:
    """A fresh database with enrollment's tables."""
    name = f"bench_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(postgres.dsn(layout))
    await admin.execute(f'CREATE DATABASE "{name}"')
    await migrate(postgres.dsn(layout, name), "enrollment", Path("services/enrollment/migrations"))
    pool = await create_pool(postgres.dsn(layout, name), size=8)
    try:
        yield pool
    finally:
        await pool.close()
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await admin.close()
