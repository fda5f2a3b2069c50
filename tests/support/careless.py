"""The machinery with one guard removed each: what the fault tests' controls run, and what must fail."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from shared.chassis import offsets, outbox
from shared.chassis.consume import BatchConsumer
from shared.chassis.database import Tx
from shared.chassis.errors import Fenced
from shared.chassis.relay import Relay


class Unfenced(BatchConsumer):
    """Trusts Kafka's committed offsets; the offset rows fence nobody."""

    async def _transact(self, items: Sequence[Any]) -> None:
        guarded = offsets.advance
        offsets.advance = _let_everybody_pass
        try:
            await super()._transact(items)
        finally:
            offsets.advance = guarded

    async def _resume(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            place = TopicPartition(self.topic.name, partition)
            with suppress(KafkaError, ValueError):
                self._positions[partition] = await self._live().committed(place) or 0
                self._live().seek(place, self._positions[partition])

    def _before(self, partition: int, first: int) -> int:
        return self._standing.get(partition, 0)


async def _let_everybody_pass(tx: Tx, group: str, topic: str, moves: Mapping[int, tuple[int, int]]) -> None:
    return


class LooksUpItsPlaceLate(BatchConsumer):
    """Asks the fence with where the partition stands by now instead of where the records in hand belong."""

    def _before(self, partition: int, first: int) -> int:
        if partition not in self._positions:
            raise Fenced(f"partition {partition} is no longer ours")
        return self._positions[partition]


class AcknowledgesFirst(BatchConsumer):
    """Moves on before the effect is committed, as an acknowledgement before the handler does."""

    async def _apply_or_split(self, items: list[Any]) -> list[list[Any]]:
        try:
            await self._transact(items)
        except Exception:  # noqa: BLE001  # this is the bug
            for item in items:
                self._positions[item.record.partition] = item.record.offset + 1
        return []

    async def _reread(self, partitions: Any) -> None:
        return


class ForgetsFirst(Relay):
    """Deletes rows before the broker has them."""

    async def _publish_batch(self, producer: AIOKafkaProducer) -> int:
        async with self._pool.acquire() as connection:
            rows = await outbox.pending(connection, 100)
            await outbox.published(connection, [row.seq for row in rows])
        if not rows:
            return 0
        async with asyncio.timeout(5):
            await producer.begin_transaction()
            for row in rows:
                await producer.send_and_wait(row.topic, key=row.key, value=row.value, partition=row.partition, headers=row.headers)
            await producer.commit_transaction()
        return len(rows)
