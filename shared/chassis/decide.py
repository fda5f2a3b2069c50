"""What a person decides about a partition that stands still. Nothing here happens by itself, and every decision is noted.

A worker that runs goes on within seconds after a decision; it need not be started again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from aiokafka import AIOKafkaConsumer

from shared.chassis import broker, offsets, stops
from shared.chassis.broker import Sight
from shared.chassis.database import Pool, Tx, transaction
from shared.chassis.stops import Extent, Place, Stop


class NothingToDecide(Exception):
    """The partition does not stand still for a reason that this decision is about."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One partition that goes on.

    Attributes:
        partition: which.
        told: why it stood still.
        before: the next offset before the decision.
        after: the next offset now; for bad records, the offset before which all of them may be set aside.
    """

    partition: int
    told: str
    before: int
    after: int


_MOVE = """
UPDATE consumed_offset
SET next_offset = $5, topic_id = $6, cut_back_to = NULL, bad_until = 0, era = era + ($5 < next_offset)::int, moved_at = now()
WHERE consumer_group = $1 AND topic = $2 AND partition = $3 AND next_offset = $4
"""

_SET_ASIDE_UNTIL = "UPDATE consumed_offset SET bad_until = $5 WHERE consumer_group = $1 AND topic = $2 AND partition = $3 AND next_offset = $4"

_NOTE = """
INSERT INTO halt_decision (
    consumer_group, topic, partition, reason, told, offset_before, offset_after, topic_id_before, topic_id_after, decided_by, why
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""


@dataclass(frozen=True, slots=True)
class Decider:
    """Who decides, about what, and why.

    Attributes:
        pool: the service's database.
        servers: brokers to ask first.
        group: consumer group.
        topic: name of the topic.
        by: the person.
        why: their reason, kept for whoever asks later.
    """

    pool: Pool
    servers: Sequence[str]
    group: str
    topic: str
    by: str
    why: str

    async def accept_loss(self, partition: int | None = None) -> list[Decision]:
        """Go on where records were lost: at the first record there is, or at the first that was never seen.

        - Deleted by retention: at the first offset the broker has. What was between is lost.
        - A topic that was made again: at its first offset, under its new id. Nothing of the new topic is skipped.
        - A log that was cut back: where it was cut. Nothing that was written since is skipped.

        Args:
            partition: which; None: every partition of the topic that stands still for such a reason.

        Raises:
            NothingToDecide: nothing was lost, or a worker moved the partition meanwhile.
            Transient: the broker does not answer.
        """
        seen, rows = await self._look()
        chosen = sorted(rows) if partition is None else [partition]
        stopped = {one: stop for one in chosen if one in rows and (stop := self._lost(one, rows[one], seen)) is not None}
        if not stopped:
            raise NothingToDecide(f"nothing of {self._where(partition)} is lost; nothing was changed")
        decided = []
        async with transaction(self.pool) as tx:
            for one, stop in stopped.items():
                extent = seen.extents.get(one, Extent(0, 0))
                row, cut = rows[one], rows[one].cut_back_to
                after = min(extent.end, row.next_offset if cut is None else cut) if stop.reason == "topic_was_cut_back" else extent.begin
                if await tx.execute(_MOVE, self.group, self.topic, one, row.next_offset, after, seen.topic_id) != "UPDATE 1":
                    raise NothingToDecide(f"{self._where(one)} was moved by a worker meanwhile; nothing was changed")
                await self._note(tx, one, row, stop, after, seen.topic_id)
                decided.append(Decision(one, stop.sentence, row.next_offset, after))
        return decided

    async def accept_bad(self, partition: int) -> Decision:
        """Let all bad records that are on the partition now be set aside, however many they are; later ones count again.

        Raises:
            NothingToDecide: the group has never read the partition, records are lost there, or a worker moved it meanwhile.
            Transient: the broker does not answer.
        """
        seen, rows = await self._look()
        if partition not in rows or partition not in seen.extents:
            raise NothingToDecide(f"{self.group} does not read {self._where(partition)}; nothing was changed")
        row, until, stop = rows[partition], seen.extents[partition].end, stops.fuse_blown(self.topic, partition)
        lost = self._lost(partition, row, seen)
        if lost is not None:
            raise NothingToDecide(f"{lost.sentence}; decide on that first, nothing was changed")
        async with transaction(self.pool) as tx:
            if await tx.execute(_SET_ASIDE_UNTIL, self.group, self.topic, partition, row.next_offset, until) != "UPDATE 1":
                raise NothingToDecide(f"{self._where(partition)} was moved by a worker meanwhile; nothing was changed")
            await self._note(tx, partition, row, stop, until, seen.topic_id)
        return Decision(partition, stop.sentence, row.next_offset, until)

    async def _look(self) -> tuple[Sight, dict[int, Place]]:
        # The rows first: a worker may be moving them, and an end that is older than its row would look like a loss.
        rows = await offsets.read(self.pool, self.group, self.topic)
        consumer = AIOKafkaConsumer(bootstrap_servers=list(self.servers), enable_auto_commit=False)
        try:
            await consumer.start()
            seen = await broker.look(consumer, self.topic)
        finally:
            await consumer.stop()
        if seen is None:
            raise NothingToDecide(f"{stops.gone(self.topic).sentence}; create it first")
        return seen, rows

    def _lost(self, partition: int, row: Place, seen: Sight) -> Stop | None:
        return stops.lost(self.topic, partition, row, seen.topic_id, seen.extents.get(partition, Extent(0, 0)))

    def _where(self, partition: int | None) -> str:
        return self.topic if partition is None else f"partition {partition} of {self.topic}"

    async def _note(self, tx: Tx, partition: int, row: Place, stop: Stop, after: int, topic_id: UUID) -> None:
        await tx.execute(
            _NOTE, self.group, self.topic, partition, stop.reason, stop.sentence, row.next_offset, after, row.topic_id, topic_id, self.by, self.why
        )
