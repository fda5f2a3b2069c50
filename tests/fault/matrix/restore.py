"""A database that comes back as it was at an earlier moment, while Kafka and the other services went on.

What came through Kafka must be right again by itself. What did not (facts that the API took and nobody published yet,
a report that was frozen) is lost with the database: no fact goes over HTTP in these runs, and the report is frozen again.
"""

import asyncio
from contextlib import AbstractAsyncContextManager

import asyncpg

from shared.contracts.topics import PROVINCE_CODES
from tests.fault.harness.faults import fault
from tests.fault.harness.run import Run
from tests.support.waiting import eventually

EARLIER = "earlier_moment"
"""Name of the database that holds the earlier moment."""


async def restored(run: Run, service: str) -> None:
    """Keep a moment of a service's database, let traffic go on, and put it back under the running service."""
    number = len(run.lab.books.ledgers)
    report = f"2026M{number % 8 + 1:02d}", f"VN/{PROVINCE_CODES[number % len(PROVINCE_CODES)]}"
    await asyncio.sleep(run.draw.uniform(0.2, 2.0))
    await _keep(run, service)
    offsets = await _offsets(run, service)
    await asyncio.sleep(run.draw.uniform(1.0, 2.5))
    await run.freeze_report(*report)
    await eventually(lambda: _has_moved_on(run, service, offsets))  # else the fault does not bite
    await _put_back(run, service)
    await run.freeze_report(*report)


@fault("DB9-enrollment", "enrollment's database restored to an earlier moment", seconds=6.0, http=0.0)
async def enrollment_restored(run: Run) -> None:
    await restored(run, "enrollment")


@fault("DB9-assessment", "assessment's database restored to an earlier moment", seconds=6.0)
async def assessment_restored(run: Run) -> None:
    await restored(run, "assessment")


@fault("DB9-reporting", "reporting's database restored to an earlier moment", seconds=6.0)
async def reporting_restored(run: Run) -> None:
    await restored(run, "reporting")


@fault("DB9-notifications", "notifications' database restored to an earlier moment", seconds=6.0)
async def notifications_restored(run: Run) -> None:
    await restored(run, "notifications")


async def _keep(run: Run, service: str) -> None:
    """Copy the database as it is at this moment; the server wants nobody connected meanwhile."""
    async with _server(run) as server:
        await server.execute(f'DROP DATABASE IF EXISTS "{EARLIER}" WITH (FORCE)')
        await server.execute(f'ALTER DATABASE "{service}" ALLOW_CONNECTIONS false')
        await server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", service)
        await server.execute(f'CREATE DATABASE "{EARLIER}" TEMPLATE "{service}" OWNER "{service}"')
        await server.execute(f'ALTER DATABASE "{service}" ALLOW_CONNECTIONS true')


async def _put_back(run: Run, service: str) -> None:
    """Replace the database by the copy, as an operator does after a loss; the service keeps running and finds it changed."""
    async with _server(run) as server:
        await server.execute(f'DROP DATABASE "{service}" WITH (FORCE)')
        await server.execute(f'ALTER DATABASE "{EARLIER}" RENAME TO "{service}"')


def _server(run: Run) -> "AbstractAsyncContextManager[asyncpg.Connection[asyncpg.Record]]":
    """The server itself, by the database that belongs to nobody."""
    return run.system.database("postgres")


async def _has_moved_on(run: Run, service: str, offsets: int) -> bool:
    return await _offsets(run, service) > offsets


async def _offsets(run: Run, service: str) -> int:
    async with run.system.database(service) as connection:
        return int(await connection.fetchval("SELECT coalesce(sum(next_offset), 0) FROM consumed_offset"))
