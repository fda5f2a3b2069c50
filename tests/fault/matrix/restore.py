"""A database that comes back as it was at an earlier moment, while Kafka and the other services went on.

What came through Kafka must be right again by itself. What did not (facts that the API took and nobody published yet,
a report that was frozen) is lost with the database: no fact goes over HTTP in these runs, and the report is frozen again.
"""

import asyncio
from contextlib import AbstractAsyncContextManager

import asyncpg

from shared.contracts.topics import PROVINCE_CODES
from tests.fault.harness.check_mails import mailed
from tests.fault.harness.faults import fault
from tests.fault.harness.run import Run
from tests.support.waiting import eventually

EARLIER = "earlier_moment"
"""Name of the database that holds the earlier moment."""

LOST = "lost_moment"
"""Name of the database that is lost, while it is still looked at."""


async def restored(run: Run, service: str) -> None:
    """Keep a moment of a service's database, let traffic go on, and put it back under the running service."""
    number = len(run.lab.books.ledgers)
    report = f"2026M{number % 8 + 1:02d}", f"VN/{PROVINCE_CODES[number % len(PROVINCE_CODES)]}"
    await asyncio.sleep(run.draw.uniform(0.2, 1.2))
    await keep(run, service)
    offsets = await _offsets(run, service)
    await asyncio.sleep(run.draw.uniform(0.5, 1.5))
    await run.freeze_report(*report)
    await eventually(lambda: _has_moved_on(run, service, offsets))  # else the fault does not bite
    await put_back(run, service)
    await run.freeze_report(*report)


@fault("DB9-enrollment", "enrollment's database restored to an earlier moment", seconds=4.0, http=0.0)
async def enrollment_restored(run: Run) -> None:
    await restored(run, "enrollment")


@fault("DB9-assessment", "assessment's database restored to an earlier moment", seconds=4.0)
async def assessment_restored(run: Run) -> None:
    await restored(run, "assessment")


@fault("DB9-reporting", "reporting's database restored to an earlier moment", seconds=4.0, report=False)
async def reporting_restored(run: Run) -> None:
    await restored(run, "reporting")


@fault("DB9-notifications", "notifications' database restored to an earlier moment", seconds=4.0)
async def notifications_restored(run: Run) -> None:
    await restored(run, "notifications")


async def keep(run: Run, service: str) -> None:
    """Copy the database as it is at this moment; the server wants nobody connected meanwhile."""
    async with _server(run) as server:
        await server.execute(f'DROP DATABASE IF EXISTS "{EARLIER}" WITH (FORCE)')
        await _close(server, service)
        await server.execute(f'CREATE DATABASE "{EARLIER}" TEMPLATE "{service}" OWNER "{service}"')
        await server.execute(f'ALTER DATABASE "{service}" ALLOW_CONNECTIONS true')


async def put_back(run: Run, service: str) -> None:
    """Replace the database by the copy, as an operator does after a loss; the service keeps running and finds it changed."""
    async with _server(run) as server:
        await _close(server, service)
        await server.execute(f'ALTER DATABASE "{service}" RENAME TO "{LOST}"')
        await server.execute(f'ALTER DATABASE "{EARLIER}" RENAME TO "{service}"')
        if service == "notifications":
            await server.execute(f'ALTER DATABASE "{LOST}" ALLOW_CONNECTIONS true')
            run.lab.books.mailed_before.update(await mailed(run.system, LOST))
        await server.execute(f'DROP DATABASE "{LOST}" WITH (FORCE)')


async def _close(server: "asyncpg.Connection[asyncpg.Record]", service: str) -> None:
    """Nobody gets into a database, and whoever is in it is thrown out."""
    await server.execute(f'ALTER DATABASE "{service}" ALLOW_CONNECTIONS false')
    await server.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", service)


def _server(run: Run) -> "AbstractAsyncContextManager[asyncpg.Connection[asyncpg.Record]]":
    """The server itself, by the database that belongs to nobody."""
    return run.system.database("postgres")


async def _has_moved_on(run: Run, service: str, offsets: int) -> bool:
    return await _offsets(run, service) > offsets


async def _offsets(run: Run, service: str) -> int:
    async with run.system.database(service) as connection:
        return int(await connection.fetchval("SELECT coalesce(sum(next_offset), 0) FROM consumed_offset"))
