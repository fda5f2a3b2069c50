"""Set a record aside with everything that is needed to read it, mend it and put it back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.chassis import outbox
from shared.chassis.database import Pool, Tx, connection
from shared.contracts.topics import REFUSED_RECORD_BYTES, Topic


class RawRecord(Protocol):
    """One Kafka record as aiokafka hands it out, which ships no types."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """Names and values; a value may be missing."""


DETAIL_LENGTH = 1000
"""Longest detail that is kept, characters."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record and why it was set aside. `detail` holds no values of fields."""

    record: RawRecord
    reason: str
    detail: str


_INSERT = """
WITH header AS (
    SELECT letter, array_agg(name ORDER BY place) AS names, array_agg(value ORDER BY place) AS vals
    FROM unnest($10::int[], $11::text[], $12::bytea[]) WITH ORDINALITY AS one (letter, name, value, place)
    GROUP BY letter
)
INSERT INTO dead_letter (
    consumer_group, topic, partition, record_offset, reason, detail, event_type, key, value, header_names, header_values, era
)
SELECT $1, $2, letter.partition, record_offset, reason, detail, event_type, key, value,
       coalesce(header.names, '{}'), coalesce(header.vals, '{}'), coalesce(consumed.era, 0)
FROM unnest($3::int[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::bytea[], $9::bytea[]) WITH ORDINALITY
    AS letter (partition, record_offset, reason, detail, event_type, key, value, number)
LEFT JOIN header ON header.letter = letter.number
LEFT JOIN consumed_offset AS consumed
    ON consumed.consumer_group = $1 AND consumed.topic = $2 AND consumed.partition = letter.partition
ORDER BY letter.number
ON CONFLICT ON CONSTRAINT dead_letter_position DO NOTHING
"""
"""One statement however many there are: a person may let thousands be set aside at once."""


async def set_aside(tx: Tx, topic: Topic, group: str, letters: Sequence[DeadLetter]) -> None:
    """Keep the records in the database and announce them on `<topic>-<group>-dlq`, in the transaction that passes them.

    The bytes of the dead letter's key and value are the original ones; the reason and the position stand in the headers
    `dlq_reason`, `dlq_detail`, `dlq_topic`, `dlq_partition`, `dlq_offset` after the original headers. A header without a
    value is kept as an empty one, a name that is not UTF-8 with its bytes written out. Of a record that is larger than a
    topic takes (compressed it may have been small) the topic gets neither key, value nor headers but `dlq_bytes`, their
    size; the table keeps it whole.
    """
    if not letters:
        return
    columns = zip(*(_row(letter) for letter in letters), strict=True)
    headers = [(number, _storable(name), value or b"") for number, letter in enumerate(letters, 1) for name, value in letter.record.headers]
    of, names, values = zip(*headers, strict=True) if headers else ((), (), ())
    await tx.execute(_INSERT, group, topic.name, *columns, of, names, values)
    target = topic.dead_letters(group).name
    await outbox.set_aside(
        tx,
        [
            (target, letter.record.key, _headers(letter), letter.record.value) if _fits(letter.record) else (target, None, _headers(letter), b"")
            for letter in letters
        ],
    )


_RECENT = """
SELECT letter.partition, letter.record_offset
FROM unnest($3::int[], $4::bigint[], $5::bigint[]) AS span (partition, first, after)
JOIN consumed_offset AS consumed ON consumed.consumer_group = $1 AND consumed.topic = $2 AND consumed.partition = span.partition
JOIN dead_letter AS letter ON letter.consumer_group = $1 AND letter.topic = $2 AND letter.partition = span.partition
    AND letter.era = consumed.era AND letter.record_offset >= span.first AND letter.record_offset < span.after
"""


async def recent(pool: Pool, group: str, topic: str, spans: Mapping[int, tuple[int, int]]) -> dict[int, set[int]]:
    """Offsets that were set aside, by partition, in the spans (first, after) of offsets."""
    partitions = sorted(spans)
    first, after = [spans[partition][0] for partition in partitions], [spans[partition][1] for partition in partitions]
    found: dict[int, set[int]] = {partition: set() for partition in partitions}
    async with connection(pool) as tx:
        for row in await tx.fetch(_RECENT, group, topic, partitions, first, after):
            found[row["partition"]].add(row["record_offset"])
    return found


_LAST_OPEN = """
SELECT letter.partition, max(letter.record_offset) AS record_offset
FROM dead_letter AS letter JOIN consumed_offset AS consumed USING (consumer_group, topic, partition, era)
WHERE letter.consumer_group = $1 AND letter.topic = $2 AND letter.partition = ANY($3::int[]) AND letter.state = 'open'
GROUP BY letter.partition
"""


async def last_open(pool: Pool, group: str, topic: str, partitions: Sequence[int]) -> dict[int, int]:
    """Offset of the last open dead letter of each of these partitions that has one."""
    async with connection(pool) as tx:
        return {row["partition"]: row["record_offset"] for row in await tx.fetch(_LAST_OPEN, group, topic, list(partitions))}


# What a clerk has mended of it goes: the record was applied as it came.
_SETTLE_APPLIED = """
WITH applied AS (
    UPDATE dead_letter AS letter
    SET state = 'redriven', settled_at = now(), settled_by = $5,
        edited_at = NULL, edited_by = NULL, edited_value = NULL, edited_header_names = NULL, edited_header_values = NULL
    FROM unnest($3::int[], $4::bigint[]) AS place (partition, record_offset)
    JOIN consumed_offset AS consumed ON consumed.consumer_group = $1 AND consumed.topic = $2 AND consumed.partition = place.partition
    WHERE letter.consumer_group = $1 AND letter.topic = $2 AND letter.partition = place.partition AND letter.era = consumed.era
        AND letter.record_offset = place.record_offset AND letter.state = 'open'
    RETURNING dead_letter_id
)
INSERT INTO dead_letter_act (dead_letter_id, act, done_by, outcome) SELECT dead_letter_id, 'redrive', $5, 'redriven' FROM applied
"""

REPLAY = "replay"
"""Who settles a letter whose record was read again and applied."""


async def settle_applied(tx: Tx, group: str, topic: str, places: Sequence[tuple[int, int]]) -> None:
    """Settle the letters at these places (partition, offset): their records were read again and are applied now.

    A service that has learned a type applies on a replay what it set aside before. Left open, the letter would say that the
    record is in no figure, and whoever makes the figures again would leave it out.
    """
    partitions, record_offsets = zip(*places, strict=True)
    await tx.execute(_SETTLE_APPLIED, group, topic, partitions, record_offsets, REPLAY)


def event_type(record: RawRecord) -> str | None:
    """The CloudEvents type of a record, if it has a readable one."""
    for name, value in record.headers:
        if name == "ce_type":
            text = (value or b"").decode("utf-8", "replace")
            return text if len(text) <= 200 and text.isprintable() else None
    return None


def _row(letter: DeadLetter) -> tuple[object, ...]:
    record = letter.record
    return (
        record.partition, record.offset, letter.reason, letter.detail[:DETAIL_LENGTH], event_type(record), record.key, record.value,
    )  # fmt: skip


def _size(record: RawRecord) -> int:
    return len(record.key or b"") + len(record.value or b"") + sum(len(name) * 4 + len(value or b"") for name, value in record.headers)


def _fits(record: RawRecord) -> bool:
    return _size(record) <= REFUSED_RECORD_BYTES


def _fitting(record: RawRecord) -> list[tuple[str, bytes]]:
    if _fits(record):
        return [(_readable(name), value or b"") for name, value in record.headers]
    return [("dlq_bytes", str(_size(record)).encode())]


def _readable(name: str) -> str:
    """The name as it came; a byte that is no text is written out in hexadecimal."""
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _storable(name: str) -> str:
    return _readable(name).replace("\x00", "�")


def _headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    record = letter.record
    return [
        *_fitting(record),
        ("dlq_reason", letter.reason.encode()),
        ("dlq_detail", letter.detail[:DETAIL_LENGTH].encode()),
        ("dlq_topic", record.topic.encode()),
        ("dlq_partition", str(record.partition).encode()),
        ("dlq_offset", str(record.offset).encode()),
    ]
