"""Partitions that come and go while a batch is in hand."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from shared.chassis import consume
from shared.chassis.consume import BatchConsumer, Subscription
from shared.chassis.database import Pool, Tx
from shared.chassis.decode import Received, Refused
from shared.chassis.errors import Transient
from shared.chassis.subscribe import create_broker, subscribe
from tests.support.bakery import SCHEMA, Loaf, bake, headers, loaf, open_bakery
from tests.support.careless import LooksUpItsPlaceLate
from tests.support.infrastructure import Infrastructure
from tests.support.waiting import eventually

LOAVES = 10


@asynccontextmanager
async def _member(infra: Infrastructure, name: str, consumer: BatchConsumer) -> AsyncIterator[BatchConsumer]:
    """A member of the group; of two, the one whose name comes first in the alphabet is given the only partition."""
    broker = create_broker(infra.bootstrap_servers, name=name, with_metrics=False)
    subscribe(broker, consumer, 1000)
    await broker.start()
    try:
        yield consumer
    finally:
        consumer.stopping = True
        await broker.stop()


@pytest.mark.parametrize("kind", [BatchConsumer, LooksUpItsPlaceLate])
async def test_records_in_hand_are_not_applied_again_when_the_partition_was_away_in_between(
    infra: Infrastructure, pool: Pool, kind: type[BatchConsumer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch waits for its next attempt; meanwhile another member applies the same records and leaves, and the partition comes back."""
    attempts, paused, goes_on = 0, asyncio.Event(), asyncio.Event()

    async def pause(_: int) -> None:
        paused.set()
        await asyncio.wait_for(goes_on.wait(), 60)

    monkeypatch.setattr(consume, "pause", pause)
    async with pool.acquire() as connection:
        await connection.execute(SCHEMA)
    bakery = await open_bakery(infra.bootstrap_servers, partitions=1)
    await bake(infra.bootstrap_servers, bakery.loaves, [(headers(n), loaf(n)) for n in range(LOAVES)])

    async def stumble(records: Sequence[Received[Loaf]], tx: Tx) -> Sequence[Refused]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise Transient("the oven is cold")
        return await bakery.on_baked_quietly(records, tx)

    waiting = kind(Subscription(bakery.loaves, {bakery.baked: stumble}), bakery.group, pool, lambda: None)
    async with _member(infra, "member-b", waiting):
        await asyncio.wait_for(paused.wait(), 30)
        other = BatchConsumer(bakery.subscription(sell=False), bakery.group, pool, lambda: None)
        async with _member(infra, "member-a", other):
            await eventually(lambda: _stands_at(pool, LOAVES))
        await eventually(lambda: _knows_its_place(waiting))
        goes_on.set()
        await bake(infra.bootstrap_servers, bakery.loaves, [(headers(n), loaf(n)) for n in range(LOAVES, 2 * LOAVES)])
        await eventually(lambda: _stands_at(pool, 2 * LOAVES))
    async with pool.acquire() as connection:
        loaves, times = await connection.fetchrow("SELECT count(*), sum(times) FROM baked") or (0, 0)
    assert loaves == 2 * LOAVES
    if kind is BatchConsumer:
        assert times == loaves
    else:
        assert times > loaves, "with the row's own value the records in hand pass the fence again"


async def _stands_at(pool: Pool, offset: int) -> bool:
    async with pool.acquire() as connection:
        return bool(await connection.fetchval("SELECT next_offset = $1 FROM consumed_offset", offset))


async def _knows_its_place(consumer: BatchConsumer) -> bool:
    await asyncio.sleep(0)
    return consumer._positions.get(0) == LOAVES
