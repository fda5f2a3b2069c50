"""Make all figures again from the topics, beside live traffic, compare, and switch in one transaction.

The rebuild runs the very handlers that run live, on tables of their own (schema `rebuild`). When it has caught up, it
keeps live folds waiting for a moment, reads the last records, applies what was redriven, compares document by document
and cell by cell, and swaps the tables. The live consumers' offset rows are not touched: both sides stand at the same
offsets at that moment.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from rich.progress import Progress

from services.reporting.figures import store
from services.reporting.figures.handlers import Folding
from shared.chassis.database import Pool, Tx
from shared.chassis.dead_letters import RawRecord
from shared.chassis.decode import decode
from shared.chassis.letters.store import redriven
from shared.chassis.migrations import find
from shared.contracts.assessment import ENTITIES as COMPLETIONS
from shared.contracts.enrollment import ENTITIES, REGISTERS
from shared.contracts.envelope import by_name
from shared.contracts.topics import ASSESSMENT_EVENTS, ENROLLMENT_EVENTS, REGISTRY_EVENTS

TABLES = ("person_document", "figure", "awaiting", "territory_unit", "course", "register_version", "figure_change")
"""What is made again."""

MIGRATIONS = Path(__file__).parent / "migrations"
"""How the tables come to be."""

BATCH = 5000
"""Records in one transaction of the rebuild."""

CLOSE = 2000
"""The rebuild may keep live folds waiting once it is at most this many records behind."""

_SET_ASIDE = """
SELECT topic, partition, record_offset FROM public.dead_letter JOIN public.consumed_offset USING (consumer_group, topic, partition, era)
WHERE consumer_group = 'reporting'
"""

_TYPES = by_name(ENTITIES, REGISTERS, COMPLETIONS)
_TOPICS = (REGISTRY_EVENTS, ENROLLMENT_EVENTS, ASSESSMENT_EVENTS)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild found: digests of documents and figures, live before and made again."""

    live: str
    rebuilt: str
    records: int
    seconds: float

    @property
    def equal(self) -> bool:
        """Whether the figures that stood were byte for byte those that come from the topics."""
        return self.live == self.rebuilt


async def rebuild(pool: Pool, bootstrap_servers: Sequence[str], progress: Progress | None = None) -> Rebuilt:
    """Make everything again and switch to it.

    Raises:
        asyncpg.LockNotAvailableError: another rebuild is at work.
    """
    started = time.monotonic()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=list(bootstrap_servers),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=16 * 1_048_576,
    )
    await consumer.start()
    try:
        places = [TopicPartition(topic.name, partition) for topic in _TOPICS for partition in range(topic.partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        async with pool.acquire() as connection:
            await _prepare(connection)
            work = _Work(consumer, connection, progress)
            while await work.behind() > CLOSE:
                await work.apply(await work.targets())
            async with connection.transaction():
                await connection.execute("SET LOCAL search_path TO rebuild, public")
                # Reading the last records and comparing may take longer than a batch ever does.
                await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                await store.alone(connection)
                await work.apply(await work.targets())
                await work.apply_redriven()
                live, made = await _digest(connection, "public"), await _digest(connection, "rebuild")
                await _switch(connection)
            return Rebuilt(live, made, work.records, time.monotonic() - started)
    finally:
        await consumer.stop()


class _Work:
    """Reads up to where the live figures are and folds into the tables of the rebuild."""

    def __init__(self, consumer: AIOKafkaConsumer, connection: Tx, progress: Progress | None) -> None:
        self._consumer = consumer
        self._connection = connection
        self._progress = progress
        self._task = progress.add_task("making figures again") if progress else None
        self._folding = Folding()
        self._at: dict[TopicPartition, int] = {}
        self._dead: set[tuple[str, int, int]] = set()
        self.records = 0

    async def targets(self) -> dict[TopicPartition, int]:
        """How far the live figures are, by partition."""
        rows = await self._connection.fetch("SELECT topic, partition, next_offset FROM public.consumed_offset WHERE consumer_group = 'reporting'")
        return {TopicPartition(row["topic"], row["partition"]): row["next_offset"] for row in rows}

    async def behind(self) -> int:
        """Records between us and the live figures."""
        targets = await self.targets()
        done, there = sum(self._at.values()), sum(targets.values())
        if self._progress and self._task is not None:
            self._progress.update(self._task, completed=done, total=max(there, 1))
        return there - done

    async def apply(self, targets: dict[TopicPartition, int]) -> None:
        """Read and fold everything before these offsets."""
        rows = await self._connection.fetch(_SET_ASIDE)
        self._dead = {(row["topic"], row["partition"], row["record_offset"]) for row in rows}
        for place in targets:
            self._consumer.resume(place)
        missing = {place for place, after in targets.items() if self._at.get(place, 0) < after}
        while missing:
            batch: list[RawRecord] = []
            for place, records in (await self._consumer.getmany(timeout_ms=200, max_records=BATCH)).items():
                wanted = [record for record in records if record.offset < targets.get(place, 0)]
                if len(wanted) < len(records):
                    self._consumer.seek(place, targets.get(place, 0))
                batch.extend(wanted)
            # What was set aside is in no figure; what was applied after all comes last.
            await self._fold([record for record in batch if (record.topic, record.partition, record.offset) not in self._dead])
            for place in list(missing):
                # Compaction and markers leave holes, so the fetch position counts, not the last record.
                self._at[place] = min(await self._consumer.position(place), targets[place])
                if self._at[place] >= targets[place]:
                    missing.discard(place)
                    self._consumer.pause(place)

    async def apply_redriven(self) -> None:
        """Fold what was set aside and applied after all, as it was mended. Live folds must wait, or one more could come."""
        async for records in redriven(self._connection, "reporting", [topic.name for topic in _TOPICS]):
            await self._fold(records)

    async def _fold(self, records: Sequence[RawRecord]) -> None:
        # A record that only this code refuses must stop the rebuild, so no except here.
        events = [event for record in records if (event := decode(record, _TYPES)) is not None]
        self.records += len(records)
        registers = [event for event in events if event.topic == REGISTRY_EVENTS.name]
        entities = [event for event in events if event.topic != REGISTRY_EVENTS.name]
        async with self._connection.transaction():
            await self._connection.execute("SET LOCAL search_path TO rebuild, public")
            if registers:
                await self._folding.on_register(registers, self._connection)  # type: ignore[arg-type]  # types of the catalogue
            if entities:
                await self._folding.on_entities(entities, self._connection)  # type: ignore[arg-type]  # types of the catalogue


async def _prepare(connection: Tx) -> None:
    """Empty tables of the same shape beside the live ones."""
    if not await connection.fetchval("SELECT pg_try_advisory_lock(hashtext('rebuild'))"):
        raise asyncpg.LockNotAvailableError("another rebuild is at work")
    async with connection.transaction():
        await connection.execute("DROP SCHEMA IF EXISTS rebuild CASCADE")
        await connection.execute("CREATE SCHEMA rebuild")
        # The migrations themselves, so that constraints and indexes keep their names through the exchange.
        await connection.execute("SET LOCAL search_path TO rebuild")
        for migration in find("reporting", MIGRATIONS):
            await connection.execute(migration.sql)


async def _switch(connection: Tx) -> None:
    """Put the new tables in place of the old ones; readers see either all old or all new."""
    # The register version must differ from what any process has in memory, so that every process reads the registers again.
    await connection.execute("UPDATE rebuild.register_version SET version = 1 + (SELECT version FROM public.register_version)")
    for table in TABLES:
        await connection.execute(f"DROP TABLE public.{table}")
        await connection.execute(f"ALTER TABLE rebuild.{table} SET SCHEMA public")
    await connection.execute("DROP SCHEMA rebuild CASCADE")


_DOCUMENTS = {
    "public": "SELECT person_ref, document FROM public.person_document WHERE document <> '' ORDER BY person_ref",
    "rebuild": "SELECT person_ref, document FROM rebuild.person_document WHERE document <> '' ORDER BY person_ref",
}

_FIGURES = {
    "public": """
        SELECT node, indicator, course_set, day, n_all, n_cit, n_stu, n_pub, n_ent, n_ungrouped FROM public.figure
        WHERE (n_all, n_cit, n_stu, n_pub, n_ent, n_ungrouped) <> (0, 0, 0, 0, 0, 0) ORDER BY node, indicator, course_set, day
    """,
    "rebuild": """
        SELECT node, indicator, course_set, day, n_all, n_cit, n_stu, n_pub, n_ent, n_ungrouped FROM rebuild.figure
        WHERE (n_all, n_cit, n_stu, n_pub, n_ent, n_ungrouped) <> (0, 0, 0, 0, 0, 0) ORDER BY node, indicator, course_set, day
    """,
}


async def _digest(connection: Tx, schema: str) -> str:
    """SHA-256 over all documents and all figures that are not zero, in key order, as COPY writes them."""
    digest = hashlib.sha256()

    async def take(data: bytes) -> None:
        digest.update(data)

    # Live folds wait meanwhile, so the rows are not made into values of ours.
    await connection.copy_from_query(_DOCUMENTS[schema], output=take)
    await connection.copy_from_query(_FIGURES[schema], output=take)
    return digest.hexdigest()
