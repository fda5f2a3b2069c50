"""A client that stops in the midst of a batch of statements, as one that is frozen does, and holds locks."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import pytest

from shared.chassis.abandoned import end_abandoned
from shared.chassis.database import LOCKS_KEPT, Pool, statement_limit
from tests.support.waiting import eventually

TAKEOVER_S = 1.0

ROWS = 50_000
"""Far more than lie in the buffers on the way, so that the server has got some."""

_WAITS = "SELECT extract(epoch FROM clock_timestamp() - state_change) FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'ClientRead'"


@pytest.fixture(autouse=True)
async def _tables(pool: Pool) -> None:
    await pool.execute("CREATE TABLE shelf (loaf int PRIMARY KEY, sold bool NOT NULL); INSERT INTO shelf VALUES (1, false)")


MANY = "executemany"
COPY = "copy"


@contextmanager
def _frozen(dsn: str, way: str) -> Iterator[None]:
    """A client that locks the loaf, sends some of many rows, and then does nothing at all until the block ends."""
    wake, ended = threading.Event(), threading.Event()

    def rows() -> Iterator[tuple[int, bool]]:
        for number in range(ROWS):
            yield number + 2, False
        wake.wait()

    async def sell() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            async with connection.transaction():
                await connection.execute("UPDATE shelf SET sold = true WHERE loaf = 1")
                if way == COPY:
                    await connection.copy_records_to_table("shelf", records=rows())
                else:
                    await connection.executemany("INSERT INTO shelf VALUES ($1, $2)", rows())
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            ended.set()

    client = threading.Thread(target=lambda: asyncio.run(sell()))
    client.start()
    try:
        yield
    finally:
        wake.set()
        client.join(30)
    assert ended.is_set()


@pytest.mark.parametrize(("way", "kept_s"), [(MANY, LOCKS_KEPT * TAKEOVER_S), (COPY, statement_limit(TAKEOVER_S))])
async def test_its_locks_are_given_back_by_whoever_looks_and_by_nobody_else(dsn: str, pool: Pool, way: str, kept_s: float) -> None:
    """The control is the time before somebody looks: the server itself does nothing, however long it is."""
    with _frozen(dsn, way):

        async def waits_too_long() -> bool:
            waited = await pool.fetchval(_WAITS)
            return waited is not None and waited > 1.2 * kept_s

        await eventually(waits_too_long)
        async with pool.acquire() as connection:
            with pytest.raises(asyncpg.LockNotAvailableError):
                await connection.execute("SELECT 1 FROM shelf WHERE loaf = 1 FOR UPDATE NOWAIT")
        assert await end_abandoned(pool, 60 * TAKEOVER_S) == 0
        assert await end_abandoned(pool, TAKEOVER_S) == 1

        async def sold() -> bool:
            return bool(await pool.fetchval("UPDATE shelf SET sold = true WHERE loaf = 1 RETURNING sold"))

        await eventually(sold)
    assert await pool.fetchval("SELECT count(*) FROM shelf") == 1
