"""A database that lets nobody in blames no record."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from deploy.local import postgres
from shared.chassis import consume
from shared.chassis.database import Pool, Tx, create_pool, transaction
from shared.chassis.errors import UnsafeSettings
from shared.chassis.migrations import migrate
from tests.support.bakery import SCHEMA, bake, headers, loaf, open_bakery
from tests.support.infrastructure import Infrastructure
from tests.support.running import running
from tests.support.waiting import eventually


@asynccontextmanager
async def _blaming(pool: Pool) -> AsyncIterator[Tx]:
    """`transaction` as it would be without its guard: what the server says on connecting reaches the handler's caller as it is."""
    async with pool.acquire(timeout=10) as connection, connection.transaction():
        yield connection


@pytest.mark.parametrize("guarded", [True, False])
async def test_records_wait_while_their_database_is_put_back_from_a_backup(
    infra: Infrastructure, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, guarded: bool
) -> None:
    if not guarded:
        monkeypatch.setattr(consume, "transaction", _blaming)
    name, dsn = await infra.create_database()
    await migrate(dsn, "bakery", Path("no such folder"))
    pool = await create_pool(dsn, size=4)
    await pool.execute(SCHEMA)
    bakery = await open_bakery(infra.bootstrap_servers, 1)
    server = await asyncpg.connect(postgres.dsn(infra.layout))
    try:
        async with running(infra.bootstrap_servers, pool, bakery.subscription(sell=False), bakery.group):
            await bake(infra.bootstrap_servers, bakery.loaves, [(headers(0), loaf(0))])
            await eventually(lambda: _baked(pool, 1))
            await server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            await server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
            await server.execute(f'ALTER DATABASE "{name}" RENAME TO "{name}_away"')
            await bake(infra.bootstrap_servers, bakery.loaves, [(headers(n), loaf(n)) for n in (1, 2)])
            await eventually(lambda: _said(caplog, "passing error, trying again" if guarded else "record fails alone and is set aside"))
            await server.execute(f'ALTER DATABASE "{name}_away" RENAME TO "{name}"')
            await server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            await eventually(lambda: _settled(pool, 3))
        loaves, letters = await pool.fetchval("SELECT count(*) FROM baked"), await pool.fetchval("SELECT count(*) FROM dead_letter")
        assert (loaves, letters) == (3, 0) if guarded else letters > 0
    finally:
        pool.terminate()
        await server.close()
        await infra.drop_database(name)


async def _baked(pool: Pool, loaves: int) -> bool:
    return bool(await pool.fetchval("SELECT count(*) = $1 FROM baked", loaves))


async def _settled(pool: Pool, records: int) -> bool:
    try:
        return bool(await pool.fetchval("SELECT (SELECT count(*) FROM baked) + (SELECT count(*) FROM dead_letter) >= $1", records))
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return False


async def _said(caplog: pytest.LogCaptureFixture, sentence: str) -> bool:
    return any(record.message == sentence for record in caplog.records)


@pytest.mark.parametrize("setting", ["off", "local"])
async def test_nothing_is_committed_when_it_could_be_lost(pool: Pool, setting: str) -> None:
    """The server's setting changes while a transaction is under way; here the transaction changes its own."""
    await pool.execute("CREATE TABLE promise (number int)")
    with pytest.raises(UnsafeSettings, match="synchronous_commit"):
        await _promise(pool, 1, setting)
    await _promise(pool, 2, "on")
    assert [row[0] for row in await pool.fetch("SELECT number FROM promise")] == [2]


async def _promise(pool: Pool, number: int, setting: str) -> None:
    async with transaction(pool) as tx:
        await tx.execute("INSERT INTO promise VALUES ($1)", number)
        await tx.execute(f"SET LOCAL synchronous_commit TO {setting}")
