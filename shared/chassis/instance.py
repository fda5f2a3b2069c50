"""The name of a process that outlives it. Two processes under one name would take the partitions from each other for ever.

Who has the name holds an advisory lock in the database, on a connection of its own. A process that is killed gives it
back at once, because its connection ends with it, so that its successor need not wait as for a lease.

Where a connection was lost on the way, the server may not have noticed, and a session without a client holds the name. A
process knows its own former session and ends it; any other one is ended by whoever wants the name once it has been silent
for far longer than a holder ever is.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg

from shared.chassis.errors import NameTaken, Transient

CONNECT_S = 5.0
"""Longest wait for the connection, and for an answer on it, seconds."""

SILENT_S = 15.0
"""Who has said nothing on the connection of a name for so long has no name any more, seconds; a holder speaks every five."""

_TAKE = """
SELECT pg_try_advisory_lock(hashtextextended('instance ' || $1, 0)), pid, backend_start
FROM pg_stat_activity WHERE pid = pg_backend_pid()
"""

# A pid is given to others later, and so is told apart by when its session began.
_END = """
SELECT pg_terminate_backend(pid, $5) FROM pg_stat_activity
WHERE usename = current_user AND datname = current_database() AND application_name = left($1, 63) AND pid <> pg_backend_pid()
  AND ((pid, backend_start) = ($2, $3) OR state_change < clock_timestamp() - make_interval(secs => $4))
"""


@dataclass(frozen=True)
class _Session:
    """A session of the server: number of its process, and when it began."""

    pid: int
    began: datetime


_NONE = _Session(0, datetime(1970, 1, 1, tzinfo=UTC))


class InstanceName:
    """A name and the connection that holds it. Every service has a database of its own, so names of two services never meet."""

    def __init__(self, dsn: str, name: str) -> None:
        self._dsn = dsn
        self._name = name
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._told = f"hocvu-name-{name}"
        self._session = _NONE
        """Of the connection there is, or was last."""

    async def hold(self) -> None:
        """Take the name, or see that we still have it. Call it again and again; a lost connection is made anew.

        Raises:
            NameTaken: another process has it.
            Transient: there is no connection to be had.
            OSError, asyncpg.PostgresError, asyncpg.InterfaceError: the one there was is lost.
        """
        if self._connection is not None:
            try:
                await self._connection.execute("SELECT 1", timeout=CONNECT_S)
            except Exception:
                self._connection.terminate()
                self._connection = None
                raise
            return
        try:
            connection = await asyncpg.connect(self._dsn, timeout=CONNECT_S, server_settings={"application_name": self._told})
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise Transient(f"no connection to the database ({type(error).__name__})") from error
        try:
            former, ended_ms = self._session, int(CONNECT_S * 1000)
            await connection.execute(_END, self._told, former.pid, former.began, SILENT_S, ended_ms, timeout=2 * CONNECT_S)
            ((ours, pid, began),) = await connection.fetch(_TAKE, self._name, timeout=CONNECT_S)
        except BaseException:
            connection.terminate()
            raise
        if not ours:
            connection.terminate()
            raise NameTaken(f"another process works under the name {self._name}; give every worker a name of its own (setting instance)")
        self._connection, self._session = connection, _Session(pid, began)

    async def release(self) -> None:
        """Give the name back."""
        if self._connection is None:
            return
        connection, self._connection = self._connection, None
        try:
            await connection.execute("SELECT pg_advisory_unlock_all()", timeout=CONNECT_S)
        finally:
            connection.terminate()
