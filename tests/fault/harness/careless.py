"""Guards taken away from a whole service: functions that a nursery calls in a child before it runs the service."""

from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

from shared.chassis import offsets, service
from shared.chassis.consume import BatchConsumer
from shared.chassis.database import Tx
from tests.support.careless import Unfenced

_MOVE = """
UPDATE consumed_offset AS consumed SET next_offset = move.after, moved_at = now()
FROM unnest($3::int[], $4::bigint[]) AS move (partition, after)
WHERE consumed.consumer_group = $1 AND consumed.topic = $2 AND consumed.partition = move.partition
"""


class TrustsKafka(Unfenced):
    """Goes on where Kafka says; the offset rows are written, so that a harness can see how far it is, and bind nobody."""

    async def _transact(self, items: Sequence[Any]) -> None:
        await BatchConsumer._transact(self, items)


async def _move(tx: Tx, group: str, topic: str, moves: Mapping[int, tuple[int, int]]) -> None:
    await tx.execute(_MOVE, group, topic, list(moves), [after for _, after in moves.values()])


def without_offset_rows() -> None:
    """The offset rows fence nobody: consumers trust what Kafka keeps."""
    mock.patch.object(service, "BatchConsumer", TrustsKafka).start()
    mock.patch.object(offsets, "advance", _move).start()
