"""The pool of connections, and what counts as a transaction."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from shared.chassis.errors import Transient, UnsafeSettings

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

TAKEOVER_S = 10.0
"""Default of the setting `takeover_s`, seconds."""

LOCKS_KEPT = 1.5
"""A process that is frozen inside a transaction holds its locks this many times `takeover_s`; who takes its partitions over waits that long."""

_SETTINGS = """
SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit
"""

_LOSING = ("off", "local")
"""With these values a committed row can be lost in a crash, or when a standby takes over (202 of 56,678 were, with synchronous_commit off)."""


async def create_pool(dsn: str, *, size: int, name: str = "hocvu", takeover_s: float = TAKEOVER_S) -> Pool:
    """Open the pool. A server that is not there is waited for by the caller, who sees OSError.

    Args:
        dsn: address of the database.
        size: most connections.
        name: who connects, for those who look at the server (`application_name`).
        takeover_s: after this silence others take over, seconds.

    Raises:
        UnsafeSettings: the server could lose committed rows.
    """
    pool = await open_pool(dsn, size=size, name=name, takeover_s=takeover_s)
    try:
        async with pool.acquire(timeout=ACQUIRE_TIMEOUT_S):
            return pool
    except BaseException:
        pool.terminate()
        raise


async def open_pool(dsn: str, *, size: int, name: str = "hocvu", takeover_s: float = TAKEOVER_S) -> Pool:
    """A pool that connects when somebody needs a connection; arguments as for `create_pool`.

    Every new connection looks at the server's settings first: while they are unsafe, nobody gets one (`UnsafeSettings`).
    """
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size,
        init=_insist,
        command_timeout=COMMAND_TIMEOUT_S,
        timeout=ACQUIRE_TIMEOUT_S,
        max_inactive_connection_lifetime=300,
        # Batches differ in size by orders of magnitude; a plan made for the first one must not stay for all.
        server_settings={
            "plan_cache_mode": "force_custom_plan",
            "jit": "off",
            "application_name": name,
            "idle_in_transaction_session_timeout": f"{takeover_s * LOCKS_KEPT:.0f}s",
        },
    )


def insist_on_durability(settings: Mapping[str, str] | asyncpg.Record) -> None:
    """Refuse settings under which a committed row can be lost.

    Args:
        settings: values of fsync, full_page_writes and synchronous_commit.

    Raises:
        UnsafeSettings: with what to mend.
    """
    unsafe = {name: value for name, value in settings.items() if value in _LOSING}
    if unsafe:
        told = ", ".join(f"{name}={value}" for name, value in sorted(unsafe.items()))
        raise UnsafeSettings(f"the PostgreSQL server runs with {told}, so committed data can be lost; set it to on")


@asynccontextmanager
async def connection(pool: Pool) -> AsyncIterator[Tx]:
    """A connection of the pool.

    Raises:
        Transient: there is none to be had. Why does not matter here: the server is away or full, the database is closed or
            being put back from a backup, the password is being changed; no record is to blame, and all of it passes.
    """
    try:
        found = await pool.acquire(timeout=ACQUIRE_TIMEOUT_S)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise Transient(f"no connection to the database ({type(error).__name__})") from error
    try:
        yield found
    finally:
        await pool.release(found)


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Tx]:
    """A connection in a transaction that commits when the block ends and rolls back when it raises.

    Raises:
        Transient: no connection is to be had.
    """
    async with connection(pool) as found, found.transaction():
        yield found


async def look_at_settings(pool: Pool) -> None:
    """Look whether the settings are still safe; when they are not, every connection is given up, and new ones are refused.

    A change of the server reaches connections that stand, so it is seen here. A change of the role or the database reaches
    new ones only, which refuse it; those that stand keep the safe values they began with.

    Raises:
        UnsafeSettings: with what to mend.
        Transient: the server cannot be asked.
    """
    try:
        async with connection(pool) as found:
            await _insist(found)
    except UnsafeSettings:
        await pool.expire_connections()
        raise


async def _insist(connection: "Tx | asyncpg.Connection[asyncpg.Record]") -> None:
    row = await connection.fetchrow(_SETTINGS)
    insist_on_durability(row or {})
