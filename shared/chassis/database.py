"""The pool of connections, and what counts as a transaction."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from shared.chassis.errors import UnsafeSettings

if TYPE_CHECKING:
    Tx: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
    """A connection inside a transaction that somebody else opens and commits."""
    Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
else:
    Tx = asyncpg.pool.PoolConnectionProxy
    Pool = asyncpg.Pool

COMMAND_TIMEOUT_S = 60
"""Longest wait for one statement, seconds: longer than any batch takes, shorter than a person's patience."""

ACQUIRE_TIMEOUT_S = 10
"""Longest wait for a free connection, seconds."""

IDLE_IN_TRANSACTION = "15s"
"""A process that is frozen inside a transaction holds its locks no longer than this; who takes its partitions over waits that long."""

DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
"""Server settings without which a committed row can be lost in a crash (202 of 56,678 were, with synchronous_commit off)."""


async def create_pool(dsn: str, *, size: int) -> Pool:
    """Open the pool. A server that is not there is waited for by the caller, who sees OSError.

    Raises:
        UnsafeSettings: the server could lose committed rows.
    """
    pool = await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=size,
        command_timeout=COMMAND_TIMEOUT_S,
        timeout=ACQUIRE_TIMEOUT_S,
        max_inactive_connection_lifetime=300,
        # Batches differ in size by orders of magnitude; a plan made for the first one must not stay for all.
        server_settings={
            "plan_cache_mode": "force_custom_plan",
            "jit": "off",
            "application_name": "hocvu",
            "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION,
        },
    )
    async with pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
        await _insist_on_durability(connection)
    return pool


async def _insist_on_durability(connection: Tx) -> None:
    rows = await connection.fetch("SELECT name, setting FROM pg_settings WHERE name = ANY($1::text[])", list(DURABLE))
    unsafe = {row["name"]: row["setting"] for row in rows if row["setting"] in ("off", "local")}
    if unsafe:
        told = ", ".join(f"{name}={value}" for name, value in sorted(unsafe.items()))
        raise UnsafeSettings(f"the PostgreSQL server runs with {told}; set it to on, or committed data can be lost")


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Tx]:
    """A connection in a transaction that commits when the block ends and rolls back when it raises."""
    async with pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection, connection.transaction():
        yield connection
