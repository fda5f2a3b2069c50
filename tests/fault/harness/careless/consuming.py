"""Guards of consuming taken away. Each is a bug that somebody made in a consumer that looked right.

Offset rows are written under every bug, so that a harness sees how far it is.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any
from unittest import mock
from uuid import uuid4

from faststream.kafka import KafkaBroker

from shared.chassis import broker, dead_letters, offsets, service, stops
from shared.chassis.applying import Applying, Item
from shared.chassis.consume import BatchConsumer
from shared.chassis.database import Tx, transaction
from shared.chassis.dead_letters import DeadLetter, RawRecord
from shared.chassis.errors import Fenced, is_transient
from shared.chassis.stops import Place
from shared.chassis.subscribe import _Listener, _parse, _raw
from shared.contracts.topics import Topic
from tests.support.careless import Unfenced

_MOVE = """
UPDATE consumed_offset AS consumed SET next_offset = move.after, moved_at = now()
FROM unnest($3::int[], $4::bigint[]) AS move (partition, after)
WHERE consumed.consumer_group = $1 AND consumed.topic = $2 AND consumed.partition = move.partition
"""


class TrustsKafka(Unfenced):
    """Goes on where Kafka says; the offset rows bind nobody."""

    async def _transact(self, items: Sequence[Any]) -> None:
        await BatchConsumer._transact(self, items)


async def _move(tx: Tx, group: str, topic: str, moves: Mapping[int, tuple[int, int]]) -> None:
    await tx.execute(_MOVE, group, topic, list(moves), [after for _, after in moves.values()])


def _ends(items: Sequence[Item]) -> dict[int, tuple[int, int]]:
    """By partition, the offsets of the first record and the one after the last."""
    found = {}
    for partition, group in groupby(items, lambda item: item.record.partition):
        run = [item.record.offset for item in group]
        found[partition] = run[0], run[-1] + 1
    return found


def without_offset_rows() -> None:
    """The offset rows fence nobody: consumers trust what Kafka keeps."""
    mock.patch.object(service, "BatchConsumer", TrustsKafka).start()
    mock.patch.object(offsets, "advance", _move).start()


class AcknowledgesFirst(TrustsKafka):
    """Tells Kafka that a batch is done, and then does it."""

    async def _transact(self, items: Sequence[Item]) -> None:
        await self._tell_kafka({partition: after for partition, (_, after) in _ends(items).items()})
        await super()._transact(items)


def acknowledging_first() -> None:
    """Offsets are committed to Kafka before the transaction of the effect."""
    without_offset_rows()
    mock.patch.object(service, "BatchConsumer", AcknowledgesFirst).start()


class Plain(BatchConsumer):
    """A handler as FastStream's first page shows it: it does its work, and when that fails it raises."""

    async def on_records(self, records: Sequence[RawRecord]) -> None:
        items = [self._applying.read(record) for record in records]
        try:
            async with transaction(self._pool) as tx:
                letters = await self._applying.apply(items, tx)
                await dead_letters.set_aside(tx, self.topic, self.group, letters)
        finally:
            async with transaction(self._pool) as tx:
                await _move(tx, self.group, self.topic.name, _ends(items))
        self._committed()

    async def assigned(self, partitions: Iterable[int]) -> None:
        self.progress.joined = True

    async def look_after(self) -> None:
        self.progress.measured_at = time.monotonic()


def _subscribe_as_it_comes(at: KafkaBroker, consumer: BatchConsumer, max_batch: int, takeover_s: float, instance: str | None) -> None:
    parsed = at.subscriber(
        consumer.topic.name, group_id=consumer.group, batch=True, max_records=max_batch, auto_offset_reset="earliest",
        session_timeout_ms=int(takeover_s * 1000), heartbeat_interval_ms=200, group_instance_id=f"{instance}-{consumer.topic.name}",
        listener=_Listener(consumer, 1), parser=_parse, decoder=_raw, no_reply=True,
    )  # fmt: skip

    async def on_batch(records: Any) -> None:
        await consumer.on_records(records)

    parsed(on_batch)


def default_acknowledgement() -> None:
    """FastStream's defaults: acknowledged when a record is handed out, whatever comes of it."""
    mock.patch.object(service, "BatchConsumer", Plain).start()
    mock.patch.object(service, "subscribe", _subscribe_as_it_comes).start()


class BeginsAtTheEnd(BatchConsumer):
    """A group that is new begins where the log ends at that moment."""

    async def _begun(self, partitions: Sequence[int]) -> Mapping[int, Place] | None:
        if not await offsets.read(self._pool, self.group, self.topic.name):
            seen = await broker.look(self._live(), self.topic.name)
            assert seen is not None
            ends = {partition: extent.end for partition, extent in seen.extents.items()}
            await offsets.begin_topic(self._pool, self.group, self.topic.name, seen.topic_id, ends)
        return await super()._begun(partitions)


def latest() -> None:
    """`latest` instead of `earliest`."""
    mock.patch.object(service, "BatchConsumer", BeginsAtTheEnd).start()


class SkipsBadBatches(BatchConsumer):
    """A batch that cannot be applied is logged, and the next one is taken."""

    async def _apply_or_split(self, items: list[Item]) -> list[list[Item]]:
        try:
            await self._transact(items)
        except Fenced:
            raise
        except Exception as error:
            if is_transient(error):
                raise
            moves = {partition: (self._before(partition, first), after) for partition, (first, after) in _ends(items).items()}
            async with transaction(self._pool) as tx:
                await offsets.advance(tx, self.group, self.topic.name, moves)
            for partition, (_, after) in moves.items():
                self._standing[partition] = self._positions[partition] = after
        return []


def skipping_bad_batches() -> None:
    """One bad record takes its whole batch with it."""
    mock.patch.object(service, "BatchConsumer", SkipsBadBatches).start()


class SetsAsideLater(BatchConsumer):
    """Dead letters have a transaction of their own, after that of the batch."""

    async def _transact(self, items: Sequence[Item]) -> None:
        told: list[tuple[Topic, str, Sequence[DeadLetter]]] = []
        set_aside = dead_letters.set_aside

        async def later(tx: Tx, topic: Topic, group: str, letters: Sequence[DeadLetter]) -> None:
            told.append((topic, group, letters))

        with mock.patch.object(dead_letters, "set_aside", later):
            await super()._transact(items)
        async with transaction(self._pool) as tx:
            for topic, group, letters in told:
                await set_aside(tx, topic, group, letters)


def setting_aside_later() -> None:
    """A dead letter is not in the transaction that passes its record."""
    mock.patch.object(service, "BatchConsumer", SetsAsideLater).start()


def without_stops() -> None:
    """Offset rows are never compared with the logs: a consumer goes on wherever the broker lets it."""
    mock.patch.object(stops, "lost", return_value=None).start()


def new_id_for_each_redrive() -> None:
    """What is redriven counts as a new event."""
    read = Applying.read

    def renamed(self: Applying, record: RawRecord, taken_over_at: int = 0) -> Item:
        item = read(self, record, taken_over_at)
        if item.event is not None:
            item.event = replace(item.event, id=str(uuid4()))
        return item

    mock.patch.object(Applying, "read", renamed).start()
