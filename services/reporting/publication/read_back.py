"""Read back what subscribers of `figures` hold, as far as the tables may not know of it (decision 0011)."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from shared.chassis.errors import Transient
from shared.contracts.reporting import FIGURE_PUBLISHED, Figure
from shared.contracts.topics import FIGURES

log = logging.getLogger(__name__)

MARGIN = timedelta(minutes=1)
"""How far the clocks of brokers and services may be apart."""

_ANSWER_MS = 10_000
"""Longest wait for an answer of the broker, milliseconds."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What subscribers hold of a cell: the version of its last record, the highest of any, and the period's first day."""

    last_version: int
    highest_version: int
    period_from: date


async def read_back(bootstrap_servers: Sequence[str], since: datetime) -> dict[str, Seen]:
    """The cells that were published since about this moment, by name.

    Raises:
        Transient: the broker is away.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=list(bootstrap_servers), group_id=None, enable_auto_commit=False, auto_offset_reset="earliest",
        request_timeout_ms=_ANSWER_MS, isolation_level="read_uncommitted",
    )  # fmt: skip
    try:
        await consumer.start()
        return await _read(consumer, since)
    except (KafkaError, OSError) as error:
        raise Transient(f"what was published cannot be read back ({type(error).__name__})") from error
    finally:
        await consumer.stop()


async def _read(consumer: AIOKafkaConsumer, since: datetime) -> dict[str, Seen]:
    places = [TopicPartition(FIGURES.name, partition) for partition in range(FIGURES.partitions)]
    consumer.assign(places)
    ends = await consumer.end_offsets(places)
    at_ms = int((since - MARGIN).timestamp() * 1000)
    for place, found in (await consumer.offsets_for_times(dict.fromkeys(places, at_ms))).items():
        consumer.seek(place, ends[place] if found is None else found.offset)
    seen: dict[str, Seen] = {}
    while any([await consumer.position(place) < ends[place] for place in places]):
        for records in (await consumer.getmany(timeout_ms=500)).values():
            for record in records:
                if (told := _told(record.value)) is None:
                    continue
                before = seen.get(told.cell)
                highest = max(told.version, before.highest_version) if before else told.version
                seen[told.cell] = Seen(told.version, highest, told.period_from)
    return seen


def _told(value: bytes | None) -> Figure | None:
    """What a record says; None for a tombstone and for what no publisher of ours has written, which is nobody's cell."""
    if value is None:
        return None
    try:
        return FIGURE_PUBLISHED.decode(value)
    except ValidationError:
        log.error("a record of the topic cannot be read", extra={"topic": FIGURES.name})  # noqa: TRY400  (its text may hold values)
        return None
