"""A witness inside each worker: it notes every record that is applied, in the transaction that applies it.

The services know copies by their content, so a record that is applied twice leaves their tables as they were: exactness by
a second guard hides that the first one failed. Here it shows, as it would in a service that adds one per record.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from deploy.local.layout import SERVICES
from shared.chassis.applying import Applying, Item
from shared.chassis.database import Tx
from shared.chassis.dead_letters import DeadLetter
from tests.fault.harness.findings import Finding, finding

if TYPE_CHECKING:
    from tests.fault.harness.system import System

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

WATCH = f"{__name__}:watch"
"""What is called in a process that shall have a witness."""

_TABLE = "CREATE TABLE IF NOT EXISTS witness (topic text NOT NULL, partition int NOT NULL, record_offset bigint NOT NULL)"

_NOTE = "INSERT INTO witness (topic, partition, record_offset) VALUES ($1, $2, $3)"

_TWICE = "SELECT topic, partition, record_offset, count(*) FROM witness GROUP BY 1, 2, 3 HAVING count(*) > 1 ORDER BY 1, 2, 3"

_FORGET = "DELETE FROM witness WHERE topic = $1"

_FORGET_SINCE = """
WITH gone AS (DELETE FROM witness WHERE topic = $1 AND partition = $2 AND record_offset >= $3 RETURNING 1) SELECT count(*) FROM gone
"""

_SEEN_SINCE = "SELECT count(*) FROM witness WHERE topic = $1 AND partition = $2 AND record_offset >= $3"


async def install(connection: Connection, role: str) -> None:
    """Make the witness's table in a service's database, for the service's role to write."""
    await connection.execute(_TABLE)
    await connection.execute(f'ALTER TABLE witness OWNER TO "{role}"')


def watch() -> None:
    """Let every worker of this process have a witness; call before crash points are armed, of which it must be none."""
    apply, note = Applying.apply, asyncpg.Connection.executemany

    async def witnessed(self: Applying, items: Sequence[Item], tx: Tx) -> list[DeadLetter]:
        letters = await apply(self, items, tx)
        # The pool's proxy stands before the connection; a call on the proxy would be a crash point.
        await note(tx._con, _NOTE, [(item.record.topic, item.record.partition, item.record.offset) for item in items])  # type: ignore[attr-defined]
        return letters

    Applying.apply = witnessed  # type: ignore[method-assign]


async def forget(connection: Connection, topic: str) -> None:
    """What was seen of a topic may be applied again: another topic has its name."""
    await connection.execute(_FORGET, topic)


async def forget_since(connection: Connection, topic: str, partition: int, first: int) -> int:
    """What was seen of a partition from an offset on may be applied again, because it is replayed; how many records that are."""
    return int(await connection.fetchval(_FORGET_SINCE, topic, partition, first))


async def seen_since(connection: Connection, topic: str, partition: int, first: int) -> int:
    """How many records of a partition were applied from an offset on."""
    return int(await connection.fetchval(_SEEN_SINCE, topic, partition, first))


async def check(system: "System") -> list[Finding]:
    """I2 as the witnesses saw it, topic by topic."""
    found: list[Finding] = []
    for service in SERVICES:
        async with system.database(service) as connection:
            rows = await connection.fetch(_TWICE)
        for topic in sorted({row["topic"] for row in rows}):
            twice = (f"{row['partition']}/{row['record_offset']} {row['count']} times" for row in rows if row["topic"] == topic)
            found += finding("I2", "double", f"record of {topic} was applied more than once by {service}", twice)
    return found
