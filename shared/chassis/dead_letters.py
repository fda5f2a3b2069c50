"""Set a record aside with everything that is needed to read it, mend it and put it back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.chassis import outbox
from shared.chassis.database import Tx
from shared.contracts.topics import Topic


class RawRecord(Protocol):
    """One Kafka record as aiokafka hands it out, which ships no types."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


DETAIL_LENGTH = 1000
"""Longest detail that is kept, characters."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record and why it was set aside. `detail` holds no values of fields."""

    record: RawRecord
    reason: str
    detail: str


_INSERT = """
INSERT INTO dead_letter (
    consumer_group, topic, partition, record_offset, reason, detail, event_type, key, value, header_names, header_values
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT ON CONSTRAINT dead_letter_position DO NOTHING
"""


async def set_aside(tx: Tx, topic: Topic, group: str, letters: Sequence[DeadLetter]) -> None:
    """Keep the records in the database and announce them on `<topic>-<group>-dlq`, in the transaction that passes them.

    The bytes of the dead letter's key and value are the original ones; the reason and the position stand in the headers
    `dlq_reason`, `dlq_detail`, `dlq_topic`, `dlq_partition`, `dlq_offset` after the original headers.
    """
    if not letters:
        return
    # executemany is one round trip; dead letters are few (the fuse sees to it).
    await tx.executemany(_INSERT, [_row(group, letter) for letter in letters])
    target = topic.dead_letters(group).name
    await outbox.set_aside(tx, [(target, letter.record.key, _headers(letter), letter.record.value) for letter in letters])


def event_type(record: RawRecord) -> str | None:
    """The CloudEvents type of a record, if it has a readable one."""
    for name, value in record.headers:
        if name == "ce_type":
            text = value.decode("utf-8", "replace")
            return text if len(text) <= 200 and text.isprintable() else None
    return None


def _row(group: str, letter: DeadLetter) -> tuple[object, ...]:
    record = letter.record
    return (
        group, record.topic, record.partition, record.offset, letter.reason, letter.detail[:DETAIL_LENGTH], event_type(record),
        record.key, record.value, [_storable(name) for name, _ in record.headers], [value for _, value in record.headers],
    )  # fmt: skip


def _storable(name: str) -> str:
    return name.replace("\x00", "�")


def _headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    record = letter.record
    return [
        *((name, value) for name, value in record.headers),
        ("dlq_reason", letter.reason.encode()),
        ("dlq_detail", letter.detail[:DETAIL_LENGTH].encode()),
        ("dlq_topic", record.topic.encode()),
        ("dlq_partition", str(record.partition).encode()),
        ("dlq_offset", str(record.offset).encode()),
    ]
