"""The pool of connections, and what counts as a transaction.

A server that has fallen silent says nothing, so nothing is ever asked of it twice: a statement without an answer costs
its connection, which is cut off, and whoever comes next gets a new one.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import asyncpg

from shared.chassis.clock import next_version, now
from shared.chassis.errors import Transient, UnsafeSettings

if TYPE_CHECKING:
    Tx: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
    """A connection inside a transaction that somebody else opens and commits."""
    Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
else:
    Tx = asyncpg.pool.PoolConnectionProxy
    Pool = asyncpg.Pool

COMMAND_TIMEOUT_S = 60.0
"""Longest wait of a command for one statement, seconds: a recount reads more at once than a batch does."""

STATEMENT_TAKEOVERS = 3
"""A worker waits this many times `takeover_s` for one statement: far longer than any batch takes."""

LEAST_STATEMENT_S = 5.0
"""However short `takeover_s` is, a worker waits this long for one statement, seconds."""

RELEASE_S = 2.0
"""Longest time a connection may take to be made fit for the next, seconds; then it is thrown away."""

ACQUIRE_TIMEOUT_S = 10
"""Longest wait for a free connection, seconds."""

TAKEOVER_S = 10.0
"""Default of the setting `takeover_s`, seconds."""

Isolation: TypeAlias = Literal["read_committed", "repeatable_read", "serializable"]

LOCKS_KEPT = 1.5
"""A process that is frozen inside a transaction holds its locks this many times `takeover_s`; who takes its partitions over waits that long."""

PROBES = 3
"""So many questions of the network layer without an answer, spread over `takeover_s`, and the other side is gone."""

_SETTINGS = """
SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit
"""

_LOSING = ("off", "local")
"""With these values a committed row can be lost in a crash, or when a standby takes over (202 of 56,678 were, with synchronous_commit off)."""


def statement_limit(takeover_s: float) -> float:
    """Longest wait of a worker for one statement, seconds."""
    return max(LEAST_STATEMENT_S, STATEMENT_TAKEOVERS * takeover_s)


class _Link(asyncpg.Connection):
    """A connection that is cut off when a statement on it timed out or was given up.

    asyncpg would ask the server over a second connection to cancel the statement and wait for that, and for the rollback
    behind it; a silent server keeps it waiting each time. The server rolls back by itself once the connection is gone.

    Attributes:
        opened_at: version (decision 0002) of the moment in which it was opened.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  (asyncpg's own arguments)
        super().__init__(*args, **kwargs)
        self.opened_at = next_version(None, now())

    def _cancel_current_command(self, *_: object) -> None:
        # Not at once: the protocol still has to tell whoever waits.
        asyncio.get_running_loop().call_soon(self.terminate)


def opened_at(tx: Tx) -> int:
    """Version of the moment in which the connection of a transaction was opened.

    A database that is put back to an earlier moment takes its connections with it. So whatever a lost database made true
    was made true before this moment (decision 0011).
    """
    return int(tx.opened_at)  # type: ignore[attr-defined]  # the pool's proxy hands on what its connection has


async def create_pool(dsn: str, *, size: int, name: str = "hocvu", takeover_s: float = TAKEOVER_S, statement_s: float = COMMAND_TIMEOUT_S) -> Pool:
    """Open the pool. A server that is not there is waited for by the caller, who sees OSError.

    Args:
        dsn: address of the database.
        size: most connections.
        name: who connects, for those who look at the server (`application_name`).
        takeover_s: after this silence others take over, seconds; a server drops a client that is gone after as long.
        statement_s: longest wait for one statement, seconds.

    Raises:
        UnsafeSettings: the server could lose committed rows.
    """
    pool = await open_pool(dsn, size=size, name=name, takeover_s=takeover_s, statement_s=statement_s)
    try:
        async with pool.acquire(timeout=ACQUIRE_TIMEOUT_S):
            return pool
    except BaseException:
        pool.terminate()
        raise


async def open_pool(dsn: str, *, size: int, name: str = "hocvu", takeover_s: float = TAKEOVER_S, statement_s: float = COMMAND_TIMEOUT_S) -> Pool:
    """A pool that connects when somebody needs a connection; arguments as for `create_pool`.

    Every new connection looks at the server's settings first: while they are unsafe, nobody gets one (`UnsafeSettings`).
    """

    async def begin(link: "asyncpg.Connection[asyncpg.Record]") -> None:
        _mind_silence(link, takeover_s)
        await _insist(link)

    silence_ms, silence_s = f"{takeover_s * 1000:.0f}", f"{max(1, takeover_s / PROBES):.0f}"
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size,
        init=begin,
        connection_class=_Link,
        command_timeout=statement_s,
        timeout=ACQUIRE_TIMEOUT_S,
        max_inactive_connection_lifetime=300,
        # Batches differ in size by orders of magnitude; a plan made for the first one must not stay for all.
        server_settings={
            "plan_cache_mode": "force_custom_plan",
            "jit": "off",
            "application_name": name,
            "idle_in_transaction_session_timeout": f"{takeover_s * LOCKS_KEPT:.0f}s",
            # Whatever the database or the role has for a default: the statements are written for this one.
            "default_transaction_isolation": "read committed",
            # A statement whose client is gone stops and gives its locks back, also one that only waits.
            "client_connection_check_interval": f"{silence_ms}ms",
            "tcp_user_timeout": silence_ms,
            "tcp_keepalives_idle": silence_s,
            "tcp_keepalives_interval": silence_s,
            "tcp_keepalives_count": str(PROBES),
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
async def connection(pool: Pool, within: float = ACQUIRE_TIMEOUT_S) -> AsyncIterator[Tx]:
    """A connection of the pool. Giving it back never fails and never takes long: what was done with it is done.

    Args:
        pool: where from.
        within: longest wait for it, seconds.

    Raises:
        Transient: there is none to be had. Why does not matter here: the server is away or full, the database is closed or
            being put back from a backup, the password is being changed; no record is to blame, and all of it passes.
    """
    try:
        found = await pool.acquire(timeout=within)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise Transient(f"no connection to the database ({type(error).__name__})") from error
    try:
        yield found
    except TimeoutError:
        # The connections that lie idle go the same way; whoever took one next would wait as long.
        await pool.expire_connections()
        raise
    finally:
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            await pool.release(found, timeout=RELEASE_S)


@asynccontextmanager
async def transaction(pool: Pool, isolation: Isolation | None = None) -> AsyncIterator[Tx]:
    """A connection in a transaction that commits when the block ends and rolls back when it raises.

    Args:
        pool: where from.
        isolation: another level than read committed.

    Raises:
        Transient: no connection is to be had.
        UnsafeSettings: what is committed now could be lost; nothing was.
    """
    async with connection(pool) as found, found.transaction(isolation=isolation):
        yield found
        # Last: whoever is answered after the commit believes it, and a look every few seconds comes too late for them.
        await _insist(found)


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


def _mind_silence(link: "asyncpg.Connection[asyncpg.Record]", takeover_s: float) -> None:
    """Let the network layer give a connection up on which nothing is acknowledged; a connection within the machine needs none of it."""
    transport: asyncio.BaseTransport = link._transport  # type: ignore[attr-defined]  # there is no other way to the socket
    found = transport.get_extra_info("socket")
    if found is None or found.family == socket.AF_UNIX:
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    pause = max(1, round(takeover_s / PROBES))
    for option, value in {
        "TCP_KEEPIDLE": pause, "TCP_KEEPINTVL": pause, "TCP_KEEPCNT": PROBES, "TCP_USER_TIMEOUT": round(takeover_s * 1000),
    }.items():  # fmt: skip
        if hasattr(socket, option):  # not every system has all of them
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


async def _insist(connection: "Tx | asyncpg.Connection[asyncpg.Record]") -> None:
    row = await connection.fetchrow(_SETTINGS)
    insist_on_durability(row or {})
