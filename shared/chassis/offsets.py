"""Offsets as rows beside the effect: moved by compare-and-set in the same transaction, so that whoever is late changes nothing.

Kafka's own committed offsets are information for lag tools. These rows are the truth: they commit or vanish together
with the effect, they are restored together with it from a backup, and a process that was frozen and woke up finds them
moved (two owners at once counted 263 of 4,000 records twice without them, none with them).
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from shared.chassis.database import Pool, Tx, connection, transaction
from shared.chassis.errors import Fenced
from shared.chassis.stops import Place

_READ = """
SELECT partition, next_offset, topic_id, cut_back_to, bad_until FROM consumed_offset
WHERE consumer_group = $1 AND topic = $2
"""


async def read(pool: Pool, group: str, topic: str) -> dict[int, Place]:
    """Where every partition of a topic stands; a partition that was never begun is missing."""
    async with connection(pool) as tx:
        rows = await tx.fetch(_READ, group, topic)
    return {row["partition"]: Place(row["next_offset"], row["topic_id"], row["cut_back_to"], row["bad_until"]) for row in rows}


_ALONE = "SELECT pg_advisory_xact_lock(hashtextextended('begin ' || $1 || ' ' || $2, 0))"

_ANY = "SELECT EXISTS (SELECT 1 FROM consumed_offset WHERE consumer_group = $1 AND topic = $2)"

_BEGIN = """
INSERT INTO consumed_offset (consumer_group, topic, partition, next_offset, first_offset, topic_id)
SELECT $1, $2, partition, first, first, $5 FROM unnest($3::int[], $4::bigint[]) AS begun (partition, first)
ORDER BY partition
ON CONFLICT DO NOTHING
"""


async def begin_topic(pool: Pool, group: str, topic: str, topic_id: UUID, firsts: Mapping[int, int]) -> None:
    """Begin all partitions of a topic that the group has never read, each at the first offset the broker has at this moment.

    That records are missing before it is lawful here and never again: whoever comes to a topic late was not there
    before. If another process has begun the topic meanwhile, nothing is changed.
    """
    async with transaction(pool) as tx:
        await tx.execute(_ALONE, group, topic)
        if not await tx.fetchval(_ANY, group, topic):
            await tx.execute(_BEGIN, group, topic, list(firsts), list(firsts.values()), topic_id)


async def begin_partitions(pool: Pool, group: str, topic: str, topic_id: UUID | None, partitions: Sequence[int]) -> None:
    """Begin partitions that a topic has got since the group began it: at 0, because the group was there before they were."""
    async with connection(pool) as tx:
        await tx.execute(_BEGIN, group, topic, list(partitions), [0] * len(partitions), topic_id)


_ADOPT = """
UPDATE consumed_offset SET topic_id = $4
WHERE consumer_group = $1 AND topic = $2 AND partition = ANY($3::int[]) AND topic_id IS NULL
"""


async def adopt(pool: Pool, group: str, topic: str, partitions: Sequence[int], topic_id: UUID) -> None:
    """Note the topic's id in rows from before ids were noted."""
    async with connection(pool) as tx:
        await tx.execute(_ADOPT, group, topic, list(partitions), topic_id)


_CUT_BACK = """
UPDATE consumed_offset SET cut_back_to = least(cut_back_to, $4)
WHERE consumer_group = $1 AND topic = $2 AND partition = $3 AND next_offset > $4
"""


async def note_cut_back(pool: Pool, group: str, topic: str, partition: int, end: int) -> None:
    """Note where a log ended behind what was applied: it grows again, and then nothing else would show it."""
    async with connection(pool) as tx:
        await tx.execute(_CUT_BACK, group, topic, partition, end)


_ADVANCE = """
UPDATE consumed_offset AS consumed SET next_offset = move.after, moved_at = now()
FROM (
    SELECT partition, before, after FROM unnest($3::int[], $4::bigint[], $5::bigint[]) AS move (partition, before, after)
    ORDER BY partition
) AS move
WHERE consumed.consumer_group = $1 AND consumed.topic = $2
  AND consumed.partition = move.partition AND consumed.next_offset = move.before
RETURNING consumed.partition
"""


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
    rows = await tx.fetch(_ADVANCE, group, topic, partitions, before, after)
    if len(rows) != len(partitions):
        raise Fenced(f"offset rows of {topic} were moved by another process")
