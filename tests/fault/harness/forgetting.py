"""Give a damaged system a clean slate without starting its servers anew: nobody remembers what was offered before.

Tables of what happened are emptied, registers and offices stay, readers stand behind the last record. The topics keep their
past, and nobody reads it again; only a rebuild from the topics would, so none is asked for after this.
"""

import asyncio
from collections.abc import Mapping

from aiokafka import TopicPartition

from deploy.local.layout import SERVICES
from tests.fault.harness.system import System
from tests.fault.harness.topic_reader import TopicReader

KEPT = ("schema_migration", "territory_unit", "course", "register_version", "recipient", "consumed_offset", "lease")
"""Tables that stay as they are."""

_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> ALL($1::text[])"

_STAND = "UPDATE consumed_offset SET next_offset = $3 WHERE topic = $1 AND partition = $2"


async def forget(system: System, reader: TopicReader) -> None:
    """Kill the services, empty what they know, start them again; a reader that has read nothing yet overlooks the past as well."""
    for process in system.processes.values():
        if process.alive:
            process.wake()
            process.kill()
    await system.heal(services=False)
    # Before anybody writes again: what a publisher says first is said of the new life.
    ends = await reader.begin_at_the_ends()
    await asyncio.gather(*(_empty(system, service, ends) for service in SERVICES))
    for mail in system.mails.glob("*.eml"):
        mail.unlink()
    system.start_services()


async def _empty(system: System, service: str, ends: Mapping[TopicPartition, int]) -> None:
    async with system.database(service) as connection, connection.transaction():
        tables = [row[0] for row in await connection.fetch(_TABLES, list(KEPT))]
        await connection.execute(f"TRUNCATE {', '.join(tables)}")
        await connection.executemany(_STAND, [(place.topic, place.partition, end) for place, end in ends.items()])
