"""Offsets as rows beside the effect: moved by compare-and-set in the same transaction, so that whoever is late changes nothing.

Kafka's own committed offsets are information for lag tools. These rows are the truth: they commit or vanish together
with the effect, they are restored together with it from a backup, and a process that was frozen and woke up finds them
moved (operations.md A3: two owners at once counted 263 of 4,000 records twice without them, none with them).
"""

from collections.abc import Mapping, Sequence

from shared.chassis.database import Pool, Tx
from shared.chassis.errors import Fenced

_READ = """
SELECT partition, next_offset FROM consumed_offset
WHERE consumer_group = $1 AND topic = $2 AND partition = ANY($3::int[])
"""

_START = """
INSERT INTO consumed_offset (consumer_group, topic, partition, next_offset)
SELECT $1, $2, partition, 0 FROM unnest($3::int[]) AS partition
ORDER BY partition
ON CONFLICT DO NOTHING
"""

_ADVANCE = """
UPDATE consumed_offset AS consumed SET next_offset = move.after, moved_at = now()
FROM (
    SELECT partition, before, after FROM unnest($3::int[], $4::bigint[], $5::bigint[]) AS move (partition, before, after)
    ORDER BY partition
) AS move
WHERE consumed.consumer_group = $1 AND consumed.topic = $2
  AND consumed.partition = move.partition AND consumed.next_offset = move.before
"""


async def read(pool: Pool, group: str, topic: str, partitions: Sequence[int]) -> dict[int, int]:
    """The next offset to apply, by partition; 0 for a partition that was never consumed."""
    async with pool.acquire() as connection:
        await connection.execute(_START, group, topic, sorted(partitions))
        rows = await connection.fetch(_READ, group, topic, list(partitions))
    return {row["partition"]: row["next_offset"] for row in rows}


async def advance(tx: Tx, group: str, topic: str, moves: Mapping[int, tuple[int, int]]) -> None:
    """Move partitions from the offset we stood at to the one after the last record.

    Locks the rows until the transaction ends, so call it first: whoever comes second waits here and then fails here.

    Args:
        tx: the transaction of the effect.
        group: consumer group.
        topic: topic name.
        moves: by partition, (where we stood, where we stand after).

    Raises:
        Fenced: a row does not stand where we stood.
    """
    partitions = sorted(moves)
    before = [moves[partition][0] for partition in partitions]
    after = [moves[partition][1] for partition in partitions]
    done = await tx.execute(_ADVANCE, group, topic, partitions, before, after)
    if int(done.rpartition(" ")[2]) != len(partitions):
        raise Fenced(f"offset rows of {topic} were moved by another process")
