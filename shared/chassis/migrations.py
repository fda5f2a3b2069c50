"""Bring a database from how it is to how it should be: plain SQL files, in order, each once, each in a transaction.

Decision 0008 says why this is fifty lines of ours and not a migration library.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

CHASSIS = Path(__file__).parent / "migrations"
"""Tables of the machinery; they come before the service's own."""

_LOCK = 7_262_023_110_405
"""Advisory lock of the runner, an arbitrary constant."""

_POLL_S = 0.1
"""Pause between attempts at the lock. It is polled, because a blocked waiter deadlocks with CREATE INDEX CONCURRENTLY."""

_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migration (
    room text NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT schema_migration_pk PRIMARY KEY (room, name)
)
"""


class EditedMigration(Exception):
    """A migration file that was applied before has other content now; write a new file instead."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. `room` keeps the chassis's numbers apart from the service's."""

    room: str
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Digest of the file's text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def find(room: str, folder: Path) -> list[Migration]:
    """The migrations of a folder in the order of their numbers."""
    return [Migration(room, path.name, path.read_text("utf-8")) for path in sorted(folder.glob("[0-9]*.sql"))]


async def migrate(dsn: str, service: str, folder: Path) -> list[str]:
    """Apply what is missing. Several runners at once are fine; a killed one leaves nothing half done.

    Returns:
        Names of the files applied now.

    Raises:
        EditedMigration: an applied file was changed.
    """
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):  # noqa: ASYNC110  # held by another process
            await asyncio.sleep(_POLL_S)
        await connection.execute(_LEDGER)
        return await _apply(connection, [*find("chassis", CHASSIS), *find(service, folder)])
    finally:
        await connection.close()


async def _apply(connection: "asyncpg.Connection[asyncpg.Record]", migrations: Sequence[Migration]) -> list[str]:
    rows = await connection.fetch("SELECT room, name, sha256 FROM schema_migration")
    known = {(row["room"], row["name"]): row["sha256"] for row in rows}
    applied = []
    for migration in migrations:
        before = known.get((migration.room, migration.name))
        if before is None:
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(
                    "INSERT INTO schema_migration (room, name, sha256) VALUES ($1, $2, $3)",
                    migration.room, migration.name, migration.sha256,
                )  # fmt: skip
            applied.append(f"{migration.room}/{migration.name}")
        elif before != migration.sha256:
            raise EditedMigration(f"{migration.room}/{migration.name} was changed after it had been applied; write a new file instead")
    return applied
