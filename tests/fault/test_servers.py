"""Database and broker that are killed in mid-work, each with a control that loses without the guard."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from shared.chassis import outbox
from shared.chassis.consume import BatchConsumer
from shared.chassis.database import Pool, create_pool
from shared.chassis.relay import Relay
from tests.support.bakery import bake, headers, loaf, open_bakery, read
from tests.support.careless import AcknowledgesFirst, ForgetsFirst
from tests.support.infrastructure import Infrastructure
from tests.support.running import running
from tests.support.waiting import eventually

LOAVES = 20_000


async def _baked(pool: Pool) -> tuple[int, int]:
    try:
        async with pool.acquire(timeout=5) as connection:
            row = await connection.fetchrow("SELECT count(*), coalesce(sum(times), 0)::int FROM baked")
    except Exception:  # noqa: BLE001  # the server is down on purpose
        return 0, 0
    assert row is not None
    return row[0], row[1]


async def _outbox(pool: Pool) -> int:
    async with pool.acquire() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM outbox"))


@pytest.mark.parametrize("kind", [BatchConsumer, AcknowledgesFirst])
async def test_nothing_lost_and_nothing_twice_when_the_database_is_killed(
    fragile: Infrastructure, bakery_dsn: str, name: str, kind: type[BatchConsumer]
) -> None:
    bakery = await open_bakery(fragile.bootstrap_servers, 3, name)
    await bake(fragile.bootstrap_servers, bakery.loaves, [(headers(n), loaf(n)) for n in range(1000)])
    pool = await create_pool(bakery_dsn, size=4)
    async with running(fragile.bootstrap_servers, pool, bakery.subscription(sell=False), bakery.group, kind, max_batch=200) as work:
        await eventually(lambda: _at_least(pool, 1000))
        # A batch is at work when the server dies, and cannot have been committed.
        blocker = await asyncpg.connect(bakery_dsn)
        await blocker.execute("BEGIN; LOCK TABLE baked IN SHARE MODE")
        await bake(fragile.bootstrap_servers, bakery.loaves, [(headers(n), loaf(n)) for n in range(1000, LOAVES)])
        await eventually(lambda: blocker.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))
        await asyncio.to_thread(fragile.kill_postgres)
        blocker.terminate()
        await eventually(lambda: _in_trouble(work.consumer, kind))
        await asyncio.to_thread(fragile.start_postgres)
        if kind is BatchConsumer:
            await eventually(lambda: _at_least(pool, LOAVES), within=60)
        else:
            await eventually(lambda: _has_read_all(work.consumer), within=60)
    loaves, counted = await _baked(pool)
    pool.terminate()
    if kind is BatchConsumer:
        assert (loaves, counted) == (LOAVES, LOAVES)
    else:
        assert loaves < LOAVES, "who acknowledges first loses what the database never had"


@pytest.mark.parametrize("kind", [Relay, ForgetsFirst])
async def test_every_event_is_published_though_the_broker_is_killed(
    fragile: Infrastructure, bakery_dsn: str, name: str, kind: type[Relay], monkeypatch: pytest.MonkeyPatch
) -> None:
    bakery = await open_bakery(fragile.bootstrap_servers, 3, name)
    await bake(fragile.bootstrap_servers, bakery.loaves, [(headers(n), loaf(n)) for n in range(LOAVES)])
    pool = await create_pool(bakery_dsn, size=4)
    killed = asyncio.Event()
    monkeypatch.setattr(outbox, "pending", _killing_at_the_third_read(fragile, killed))
    async with running(fragile.bootstrap_servers, pool, bakery.subscription(), bakery.group, max_batch=500, relay_kind=kind) as work:
        await asyncio.wait_for(killed.wait(), 60)
        await eventually(lambda: _relay_in_trouble(work.relay), within=60)
        await asyncio.to_thread(fragile.start_kafka)
        await eventually(lambda: _at_least(pool, LOAVES), within=90)
        await eventually(lambda: _outbox_is_empty(pool), within=90)
    assert await _baked(pool) == (LOAVES, LOAVES)
    pool.terminate()
    sold = {record.key for record in await read(fragile.bootstrap_servers, bakery.sales.name, 3)}
    if kind is Relay:
        assert len(sold) == LOAVES
    else:
        assert len(sold) < LOAVES, "who forgets before the broker has it loses it"


def _killing_at_the_third_read(infra: Infrastructure, killed: asyncio.Event) -> Callable[..., Awaitable[list[outbox.Pending]]]:
    """`outbox.pending`, but the broker dies when the third batch has been read and not yet been sent: the worst moment, every time."""
    read_pending = outbox.pending
    reads = 0

    async def pending(*wanted: Any) -> list[outbox.Pending]:
        nonlocal reads
        rows = await read_pending(*wanted)
        reads += bool(rows)
        if reads == 3 and not killed.is_set():
            await asyncio.to_thread(infra.kill_kafka)
            killed.set()
        return rows

    return pending


async def _at_least(pool: Pool, loaves: int) -> bool:
    return (await _baked(pool))[0] >= loaves


async def _outbox_is_empty(pool: Pool) -> bool:
    return not await _outbox(pool)


async def _in_trouble(consumer: BatchConsumer, kind: type[BatchConsumer]) -> bool:
    await asyncio.sleep(0)
    return kind is AcknowledgesFirst or consumer.progress.trouble is not None


async def _relay_in_trouble(relay: Relay) -> bool:
    await asyncio.sleep(0)
    return relay.trouble is not None


async def _has_read_all(consumer: BatchConsumer) -> bool:
    await asyncio.sleep(0)
    return sum(consumer._positions.values()) >= LOAVES
