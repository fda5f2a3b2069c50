"""Faults of the database: killed, sessions ended, conflicts, no connections left."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from deploy.local import postgres
from deploy.local.layout import SERVICES
from tests.fault.harness.faults import fault
from tests.fault.harness.run import Run
from tests.fault.harness.system import TAKEOVER_S
from tests.support.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

WRITES_LATE = {"enrollment": "outbox", "assessment": "outbox", "reporting": "figure", "notifications": "delivery"}
"""By service a table that its transactions write to when they have written to others."""

CAUGHT_S = 20.0
"""Longest wait for a service to come by, seconds."""


@fault("DB1", "kill -9 of the database server, twice", seconds=5.0)
async def database_killed(run: Run) -> None:
    for _ in range(2):
        await asyncio.sleep(run.draw.uniform(0.3, 1.0))
        await run.system.kill_database()
        await asyncio.sleep(run.draw.uniform(0.0, 0.5))
        await run.system.start_database()


_WAITS_IN_THE_MIDDLE = """
SELECT pid FROM pg_stat_activity
WHERE usename = $1 AND backend_xid IS NOT NULL AND $2 = ANY(pg_blocking_pids(pid)) ORDER BY pid
"""

_END = "SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid"

_END_ALL = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = ANY($1::name[]) AND application_name <> 'stranger'"


@fault("DB2", "pg_terminate_backend in mid-transaction, every service twice", seconds=5.0)
async def sessions_ended(run: Run) -> None:
    for _ in range(2):
        for service in run.draw.sample(SERVICES, len(SERVICES)):
            await asyncio.sleep(run.draw.uniform(0.0, 0.2))
            await _end_in_the_middle(run, service)
        async with run.system.database("postgres") as connection:
            assert await connection.fetchval(_END_ALL, list(SERVICES)) > 0


async def _end_in_the_middle(run: Run, service: str) -> None:
    """Let transactions of a service run into a lock when they have written already, and end their sessions there."""
    async with run.system.database(service) as rogue, run.system.database(service) as looks:
        mine = rogue.get_server_pid()

        async def caught() -> list[int]:
            return [row[0] for row in await looks.fetch(_WAITS_IN_THE_MIDDLE, service, mine)]

        if service == "notifications":
            await run.freeze_new_report()
        async with _holding(rogue, f"LOCK TABLE {WRITES_LATE[service]} IN SHARE MODE"):
            await looks.execute(_END, await eventually(caught, CAUGHT_S))


@asynccontextmanager
async def _holding(rogue: Connection, *locks: str) -> AsyncIterator[None]:
    """A transaction that holds locks and then never was."""
    transaction = rogue.transaction()
    await transaction.start()
    try:
        for lock in locks:
            await rogue.execute(lock)
        yield
    finally:
        await transaction.rollback()


SERIALIZED = {
    "enrollment": ("enrollment", "fact"),
    "assessment": ("completion",),
    "reporting": ("person_document", "figure"),
    "notifications": ("message",),
}
"""By service the tables whose statements now and then fail with 40001, as they would beside serializable transactions."""

_NOW_AND_THEN = """
CREATE SEQUENCE conflicts;
GRANT USAGE ON SEQUENCE conflicts TO PUBLIC;
CREATE FUNCTION now_and_then() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF random() < 0.25 THEN
        PERFORM nextval('conflicts');
        RAISE EXCEPTION 'could not serialize access due to a test' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN NULL;
END $$;
"""

_NO_LONGER = "DROP FUNCTION now_and_then() CASCADE; DROP SEQUENCE conflicts"

OPPOSITE = {
    "enrollment": ("SELECT count(*) FROM (SELECT 1 FROM enrollment FOR UPDATE) AS locked", "SELECT 1 FROM consumed_offset FOR UPDATE"),
    "reporting": ("SELECT 1 FROM figure WHERE node = 'VN' FOR UPDATE", "SELECT count(*) FROM (SELECT 1 FROM person_document FOR UPDATE) AS locked"),
}
"""By service what its transactions lock last, and what they lock before it."""

_DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"

MISSED_S = 4
"""After this the service has missed a deadlock, seconds."""

COUNTED_S = 3.0
"""Longest wait until the server's statistics count a deadlock that has happened, seconds."""

TRIES = 5
"""How often a deadlock is made before nobody can be said to notice any."""

WAIT_S = 2.0
"""How long a lock is held at a stretch, seconds: longer than others take to give a silent process up."""


@fault("DB5", "serialization failures, deadlocks, lock waits of seconds", seconds=10.0)
async def conflicts(run: Run) -> None:
    async with AsyncExitStack() as stack:
        for service in SERVICES:
            await stack.enter_async_context(_serialization_failures(run, service))
        await asyncio.gather(*(_deadlock(run, service) for service in OPPOSITE))
        await asyncio.gather(*(_lock_wait(run, service) for service in ("enrollment", "assessment", "reporting")))


@asynccontextmanager
async def _serialization_failures(run: Run, service: str) -> AsyncIterator[None]:
    """Every fourth statement that writes to some tables fails with 40001 meanwhile."""
    async with run.system.database(service) as connection:
        await connection.execute(_NOW_AND_THEN)
        for table in SERIALIZED[service]:
            await connection.execute(
                f"CREATE TRIGGER now_and_then AFTER INSERT OR UPDATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION now_and_then()"
            )
        try:
            yield
            happened = await connection.fetchval("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM conflicts")
        finally:
            await connection.execute(_NO_LONGER)
    assert happened or service == "notifications", f"no transaction of {service} failed to serialize"


async def _deadlock(run: Run, service: str) -> None:
    """Take what the service's transactions lock last, wait until one waits for it, and ask for what that one holds.

    A session looks for deadlocks once, a second after its wait began. On a busy machine the ring may close later than that, and then
    the service has missed it: let go, and again.
    """
    last, first = OPPOSITE[service]
    async with run.system.database(service) as rogue, run.system.database(service) as looks:
        mine = rogue.get_server_pid()
        await rogue.execute(f"SET deadlock_timeout = '30s'; SET lock_timeout = '{MISSED_S}s'")  # the service shall notice it, not we
        before = await looks.fetchval(_DEADLOCKS)

        async def caught() -> list[int]:
            return [row[0] for row in await looks.fetch(_WAITS_IN_THE_MIDDLE, service, mine)]

        async def happened() -> bool:
            return bool(await looks.fetchval(_DEADLOCKS) > before)

        for _ in range(TRIES):
            with suppress(asyncpg.LockNotAvailableError):
                async with _holding(rogue, last):
                    await eventually(caught, CAUGHT_S)
                    await rogue.execute(first)
            with suppress(AssertionError):
                await eventually(happened, COUNTED_S)
                return
    raise AssertionError(f"{service} noticed no deadlock in {TRIES} tries")


async def _lock_wait(run: Run, service: str) -> None:
    async with run.system.database(service) as rogue, run.system.database(service) as looks:
        mine = rogue.get_server_pid()
        async with _holding(rogue, f"LOCK TABLE {WRITES_LATE[service]} IN SHARE MODE"):
            await eventually(lambda: _waits_in_the_middle(looks, service, mine), CAUGHT_S)
            await asyncio.sleep(WAIT_S)


async def _waits_in_the_middle(looks: Connection, service: str, mine: int) -> bool:
    return bool(await looks.fetch(_WAITS_IN_THE_MIDDLE, service, mine))


FULL_S = 1.5 * TAKEOVER_S
"""How long no service has a connection, seconds."""

AT_ONCE = 20
"""Connections that a stranger opens at a time."""

_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE usename = ANY($1::name[]) AND application_name <> 'stranger'"


@fault("DB6", "pools of two connections, then no connection to be had", seconds=8.0)
async def no_connections(run: Run) -> None:
    """Strangers take every connection that the server has, and the services lose theirs."""
    for service, number in run.system.replicas:
        run.system.process(service, number).kill()
        run.system.start_replica(service, number, env={f"{service.upper()}_POOL_SIZE": "2"})
    await run.system.ready()
    strangers: list[Connection] = []
    async with run.system.database("postgres") as connection:
        try:
            nobody_since = time.monotonic()
            while time.monotonic() - nobody_since < FULL_S:
                await _take_every_connection(run, strangers)
                # A session that ends gives its place back a little later, and a service may be quicker than we.
                if await connection.fetchval(_END_ALL, list(SERVICES)):
                    nobody_since = time.monotonic()
        finally:
            for stranger in strangers:
                stranger.terminate()

        async def back() -> bool:
            return bool(await connection.fetchval(_SESSIONS, list(SERVICES)) >= len(run.system.processes))

        await eventually(back)
    for service, number in run.system.replicas:
        run.system.process(service, number).kill()
        run.system.start_replica(service, number)


async def _take_every_connection(run: Run, strangers: list[Connection]) -> None:
    """Connect until the server has no connection left but those it keeps for its superuser."""
    dsn = postgres.dsn(run.system.layout, SERVICES[0], SERVICES[0])
    told = {"application_name": "stranger"}
    while True:
        found = await asyncio.gather(
            *(asyncio.wait_for(asyncpg.connect(dsn, server_settings=told), 30) for _ in range(AT_ONCE)), return_exceptions=True
        )
        strangers += [one for one in found if isinstance(one, asyncpg.Connection)]
        failed = [one for one in found if isinstance(one, BaseException)]
        if any(isinstance(one, asyncpg.TooManyConnectionsError) for one in failed):
            return
        if failed:
            raise failed[0]
