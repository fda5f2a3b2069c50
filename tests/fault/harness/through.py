"""Wait until everything that was offered has gone its whole way; exactly, and without a pause to be sure.

The way has one direction. A service whose readers have applied everything and whose outbox is empty writes nothing more, so
the ends of its topics stand still from then on. Looking along the way in that order, and at each outbox before the topics it
feeds, one pass that finds nothing waiting is proof. Offsets are compared with the last *record* of a partition: what a
transaction leaves behind it is no record and is never applied.
"""

import asyncio
import time
from collections.abc import Sequence

import asyncpg
from aiokafka.errors import KafkaError

from shared.contracts.topics import (
    ASSESSMENT_EVENTS,
    ENROLLMENT_EVENTS,
    OUTCOME_FACTS,
    PLATFORM_EVENTS,
    REGISTRY_EVENTS,
    REPORT_EVENTS,
    Topic,
)
from tests.fault.harness.system import System
from tests.fault.harness.topic_reader import TopicReader

THROUGH_S = 120.0
"""Longest wait for everything to be through, seconds."""

_PAUSE_S = 0.05

_OFFSETS = "SELECT partition, next_offset FROM consumed_offset WHERE consumer_group = $1 AND topic = $2"

_WAITING = "SELECT count(*) FROM outbox"

_UNPUBLISHED = "SELECT count(*) FROM figure_change"


class NotThrough(AssertionError):
    """Something still waits although nothing disturbs it any more."""


async def until_through(system: System, reader: TopicReader, within: float = THROUGH_S) -> None:
    """Wait until nothing waits anywhere.

    Raises:
        NotThrough: with the place where it stands.
    """
    deadline = time.monotonic() + within
    while True:
        try:
            waits = await _look(system, reader)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, KafkaError) as error:
            waits = f"a server does not answer ({type(error).__name__}: {error})"
        if waits is None:
            return
        if time.monotonic() > deadline:
            raise NotThrough(f"not through after {within:.0f} s: {waits}")
        await asyncio.sleep(_PAUSE_S)


async def _look(system: System, reader: TopicReader) -> str | None:
    """The first place on the way where something waits; None when everything is through."""
    for service, topics in (
        ("enrollment", [PLATFORM_EVENTS]),
        ("assessment", [OUTCOME_FACTS]),
        ("reporting", [REGISTRY_EVENTS, ENROLLMENT_EVENTS, ASSESSMENT_EVENTS]),
        ("notifications", [REPORT_EVENTS]),
    ):
        # Facts that came over HTTP wait in enrollment's outbox before they stand on its own topic.
        if service == "enrollment" and (waits := await _outbox(system, service)):
            return waits
        if waits := await behind(system, reader, service, topics) or await _outbox(system, service):
            return waits
    return None


async def _outbox(system: System, service: str) -> str | None:
    async with system.database(service) as connection:
        if service == "reporting" and (marks := await connection.fetchval(_UNPUBLISHED)):
            return f"{marks} changed cells are not published yet"
        waiting = await connection.fetchval(_WAITING)
    return f"{waiting} events wait in the outbox of {service}" if waiting else None


async def behind(system: System, reader: TopicReader, service: str, topics: Sequence[Topic]) -> str | None:
    """The first partition of these topics of which a service has not applied every record; None when there is none."""
    await reader.catch_up(topics)
    async with system.database(service) as connection:
        for topic in topics:
            stands = {row[0]: row[1] for row in await connection.fetch(_OFFSETS, service, topic.name)}
            for partition in range(reader.partitions[topic.name]):
                end = reader.next_after_last.get((topic.name, partition), 0)
                if stands.get(partition, 0) < end:
                    return f"{service} stands at {stands.get(partition, 0)} of {end} of {topic.name}/{partition}"
    return None
