"""Announce events in the transaction that makes them true. The relay publishes them; nothing else can reach a producer."""

import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from shared.chassis import telemetry
from shared.chassis.database import Tx
from shared.contracts import envelope
from shared.contracts.topics import Topic

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[tuple[str, bytes]]).decode

_COLUMNS = ("topic", "partition", "key", "headers", "value")


@dataclass(frozen=True, slots=True)
class Announcement:
    """One event to be published.

    Attributes:
        topic: where to.
        type: CloudEvents `type`.
        id: CloudEvents `id`; the same event must always get the same one.
        source: CloudEvents `source`.
        key: record key; on a compacted topic the identity of the entity.
        partition_key: what decides the partition; None lets the producer's default partitioner take the key, as a
            stranger's producer would.
        data: JSON bytes.
        time: CloudEvents `time`.
        subject: CloudEvents `subject`.
    """

    topic: Topic
    type: str
    id: str
    source: str
    key: str
    partition_key: str | None
    data: bytes
    time: datetime
    subject: str | None = None


def partition_of(partition_key: str, partitions: int) -> int:
    """The partition of a key on a topic that is not partitioned by its record key (CRC32, as librdkafka's `consistent`)."""
    return zlib.crc32(partition_key.encode()) % partitions


async def announce(tx: Tx, announcements: Sequence[Announcement]) -> None:
    """Write events to the outbox, in order, in one COPY. They become visible when `tx` commits, or never."""
    if not announcements:
        return
    parent = telemetry.traceparent()
    trace = [("traceparent", parent.encode())] if parent else []
    await tx.copy_records_to_table("outbox", columns=_COLUMNS, records=[_row(announcement, trace) for announcement in announcements])


def _row(announcement: Announcement, trace: list[tuple[str, bytes]]) -> tuple[str, int | None, bytes, bytes, bytes]:
    found = envelope.headers(
        announcement.type, event_id=announcement.id, source=announcement.source, time=announcement.time, subject=announcement.subject
    )
    partition = None
    if announcement.partition_key is not None:
        partition = partition_of(announcement.partition_key, announcement.topic.partitions)
    headers = [(name, value.encode()) for name, value in found.items()]
    return announcement.topic.name, partition, announcement.key.encode(), _pack(headers + trace), announcement.data


@dataclass(frozen=True, slots=True)
class Pending:
    """One row of the outbox, as the relay reads it."""

    seq: int
    topic: str
    partition: int | None
    key: bytes | None
    headers: list[tuple[str, bytes]]
    value: bytes | None


_PENDING = """
SELECT seq, topic, partition, key, headers, value
FROM (
    SELECT *, sum(octet_length(headers) + coalesce(octet_length(value), 0)) OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING) AS bytes
    FROM (SELECT * FROM outbox ORDER BY seq LIMIT $1) AS oldest
) AS added
WHERE bytes - octet_length(headers) - coalesce(octet_length(value), 0) < $2
ORDER BY seq
"""

_PUBLISHED = "DELETE FROM outbox WHERE seq = ANY($1::bigint[])"

_STATE = """
SELECT count(*) AS pending, coalesce(extract(epoch FROM clock_timestamp() - min(recorded_at)), 0)::float AS age
FROM (SELECT recorded_at FROM outbox ORDER BY seq LIMIT 10000) AS oldest
"""


async def pending(tx: Tx, limit: int, most_bytes: int = sys.maxsize) -> list[Pending]:
    """The oldest rows. Rows of one key stand in version order, because their entity was locked when they were written.

    Args:
        tx: where to read.
        limit: most rows.
        most_bytes: the row with which they exceed this is the last; so there is always one, however large.
    """
    rows = await tx.fetch(_PENDING, limit, most_bytes)
    return [Pending(row["seq"], row["topic"], row["partition"], row["key"], _unpack(row["headers"]), row["value"]) for row in rows]


_WAITS = "SELECT EXISTS (SELECT FROM outbox WHERE topic = $1)"


async def waits(tx: Tx, topic: Topic) -> bool:
    """Whether an event of this topic is not yet published."""
    return bool(await tx.fetchval(_WAITS, topic.name))


async def published(tx: Tx, sequence: Sequence[int]) -> None:
    """Forget rows that the broker has."""
    await tx.execute(_PUBLISHED, list(sequence))


async def state(tx: Tx) -> tuple[int, float]:
    """How many rows wait (counted up to 10,000) and for how many seconds the oldest has."""
    row = await tx.fetchrow(_STATE)
    return (row["pending"], row["age"]) if row else (0, 0.0)


async def set_aside(tx: Tx, rows: Sequence[tuple[str, bytes | None, list[tuple[str, bytes]], bytes | None]]) -> None:
    """Write raw records (topic, key, headers, value) to the outbox; used for dead letters."""
    await tx.copy_records_to_table(
        "outbox", columns=_COLUMNS, records=[(topic, None, key, _pack(headers), value) for topic, key, headers, value in rows]
    )
