"""The name of a process that outlives it. Two processes under one name would take the partitions from each other for ever.

Who has the name holds an advisory lock in the database, on a connection of its own. A process that is killed gives it
back at once, because its connection ends with it, so that its successor need not wait as for a lease. A process whose
connection was lost on the way may find that the server has not noticed and its own former session holds the name: it ends that.
"""

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from shared.chassis.errors import NameTaken, Transient

CONNECT_S = 5.0
"""Longest wait for the connection, and for an answer on it, seconds."""

_TAKE = """
SELECT pg_try_advisory_lock(hashtextextended('instance ' || $1, 0)), pid, backend_start
FROM pg_stat_activity WHERE pid = pg_backend_pid()
"""

# A pid is given to others later, and so is told apart by when its session began.
_END = "SELECT pg_terminate_backend(pid, $3) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2"


@dataclass(frozen=True)
class _Session:
    """A session of the server: number of its process, and when it began."""

    pid: int
    began: datetime


class InstanceName:
    """A name and the connection that holds it. Every service has a database of its own, so names of two services never meet."""

    def __init__(self, dsn: str, name: str) -> None:
        self._dsn = dsn
        self._name = name
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._session: _Session | None = None
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
            connection = await asyncpg.connect(self._dsn, timeout=CONNECT_S, server_settings={"application_name": f"hocvu-name-{self._name}"})
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise Transient(f"no connection to the database ({type(error).__name__})") from error
        try:
            if self._session is not None:
                await connection.execute(_END, self._session.pid, self._session.began, int(CONNECT_S * 1000), timeout=2 * CONNECT_S)
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
