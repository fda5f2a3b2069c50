"""Members of a group that have names: a restart moves no partitions, a death does after a while, two under one name harm nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, kafka_errors

from shared.chassis import telemetry
from shared.chassis.consume import BatchConsumer
from shared.chassis.database import Pool
from shared.chassis.errors import NameTaken
from shared.chassis.instance import InstanceName
from shared.chassis.places import Places
from shared.chassis.subscribe import FENCED_INSTANCE_ID, create_broker, subscribe
from tests.support.bakery import SCHEMA, Bakery, bake, headers, loaf, open_bakery
from tests.support.infrastructure import Infrastructure
from tests.support.running import Running, running
from tests.support.tampering import add_partitions
from tests.support.waiting import eventually

TAKEOVER_S = 3.0
"""After this silence a member's partitions go to others, seconds."""


@pytest.fixture(autouse=True)
async def _tables(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute(SCHEMA)


class _Shop:
    """Two members of one group, each of which may come and go."""

    def __init__(self, infra: Infrastructure, pool: Pool, bakery: Bakery) -> None:
        self.servers = infra.bootstrap_servers
        self.pool = pool
        self.bakery = bakery

    @asynccontextmanager
    async def member(self, name: str | None) -> AsyncIterator[Running]:
        subscription = self.bakery.subscription(sell=False)
        async with running(self.servers, self.pool, subscription, self.bakery.group, instance=name, takeover_s=TAKEOVER_S) as work:
            yield work

    async def counted(self) -> tuple[int, int]:
        async with self.pool.acquire() as connection:
            row = await connection.fetchrow("SELECT count(*), coalesce(sum(times), 0)::int FROM baked")
        assert row is not None
        return row[0], row[1]

    async def all_are(self, loaves: int) -> bool:
        return (await self.counted())[0] >= loaves


@pytest.fixture
async def shop(infra: Infrastructure, pool: Pool) -> _Shop:
    return _Shop(infra, pool, await open_bakery(infra.bootstrap_servers, partitions=4))


def _partitions(work: Running) -> set[int]:
    return {place.partition for place in work.consumer.consumer.assignment()} if work.consumer.consumer is not None else set()


def _generation(work: Running) -> int:
    assert work.consumer.consumer is not None
    return int(work.consumer.consumer._coordinator.generation)


async def _share(*works: Running, total: int = 4) -> bool:
    await asyncio.sleep(0)
    found = [_partitions(work) for work in works]
    return all(found) and sum(map(len, found)) == total == len(set().union(*found))


@pytest.mark.parametrize("named", [True, False])
async def test_a_rolling_restart_of_members_with_names_changes_no_generation(shop: _Shop, *, named: bool) -> None:
    """The control goes without names: each leaving and each coming moves partitions of the one that stays."""
    names = ("first", "second") if named else (None, None)
    async with AsyncExitStack() as first_stack, AsyncExitStack() as second_stack:
        stacks = [first_stack, second_stack]
        works = [await stack.enter_async_context(shop.member(name)) for stack, name in zip(stacks, names, strict=True)]
        await eventually(lambda: _share(*works))
        generation, shares = _generation(works[0]), [_partitions(work) for work in works]
        await bake(shop.servers, shop.bakery.loaves, [(headers(n), loaf(n)) for n in range(200)])
        for number in (0, 1):
            await stacks[number].aclose()
            await bake(shop.servers, shop.bakery.loaves, [(headers(n), loaf(n)) for n in range(200 + 200 * number, 400 + 200 * number)])
            works[number] = await stacks[number].enter_async_context(shop.member(names[number]))
            await eventually(lambda: _share(*works))
        await eventually(lambda: shop.all_are(600))
        assert ([_generation(work) for work in works] == [generation, generation]) is named
        if named:
            assert [_partitions(work) for work in works] == shares
    assert await shop.counted() == (600, 600)


async def test_partitions_of_a_member_that_does_not_come_back_go_to_the_others(shop: _Shop) -> None:
    async with shop.member("stays") as stays:
        async with shop.member("goes") as goes:
            await eventually(lambda: _share(stays, goes))
        await bake(shop.servers, shop.bakery.loaves, [(headers(n), loaf(n)) for n in range(200)])
        await eventually(lambda: _share(stays))
        await eventually(lambda: shop.all_are(200))


async def test_two_members_under_one_name_count_nothing_twice_and_the_one_that_stays_is_whole(shop: _Shop) -> None:
    """What the lock on the name forbids, done all the same: they take the partitions from each other until one ends."""
    async with shop.member("double") as stays:
        async with shop.member("double"):
            for number in range(10):
                await bake(shop.servers, shop.bakery.loaves, [(headers(n), loaf(n)) for n in range(50 * number, 50 * number + 50)])
            await eventually(lambda: shop.all_are(500))
            await eventually(lambda: _take_from_each_other(shop))
        await bake(shop.servers, shop.bakery.loaves, [(headers(n), loaf(n)) for n in range(500, 600)])
        await eventually(lambda: shop.all_are(600))
        await eventually(lambda: _share(stays))
    assert await shop.counted() == (600, 600)


async def _take_from_each_other(shop: _Shop) -> bool:
    """Whether more than the two first joins were needed."""
    await asyncio.sleep(0)
    return bool(telemetry.REBALANCES.labels(shop.bakery.group, shop.bakery.loaves.name)._value.get() > 4)


@pytest.mark.parametrize("watched", [True, False])
async def test_partitions_that_are_added_are_read_though_the_leader_was_restarted(
    shop: _Shop, monkeypatch: pytest.MonkeyPatch, *, watched: bool
) -> None:
    """A static leader that comes back is no leader any more, so nobody looks for new partitions; the control shows it."""
    if not watched:
        monkeypatch.setattr(Places, "_join_again_if_needed", _look_away)
    async with shop.member("only"):
        await bake(shop.servers, shop.bakery.loaves, [(headers(n), loaf(n)) for n in range(40)])
        await eventually(lambda: shop.all_are(40))
    async with shop.member("only") as again:
        await eventually(lambda: _share(again))
        await add_partitions(shop.servers, shop.bakery.loaves, 5)
        await bake(shop.servers, shop.bakery.loaves, [(headers(n), loaf(n)) for n in range(40, 50)], partition=4)
        if watched:
            await eventually(lambda: shop.all_are(50))
        else:
            live = again.consumer.consumer
            assert live is not None
            await live._client.force_metadata_update()
            await eventually(lambda: _knows(live, 5))
            assert _partitions(again) == {0, 1, 2, 3}


async def _look_away(*_: object, **__: object) -> None:
    return


async def _knows(live: object, partitions: int) -> bool:
    await asyncio.sleep(1)
    return len(live.partitions_for_topic(next(iter(live.subscription())))) == partitions  # type: ignore[attr-defined]


@pytest.mark.parametrize("known", [True, False])
async def test_a_member_that_was_put_out_joins_again(shop: _Shop, monkeypatch: pytest.MonkeyPatch, *, known: bool) -> None:
    """The broker tells it with an error that aiokafka does not know; the control shows what it does then."""
    subscribe(create_broker(shop.servers, with_metrics=False), _consumer(shop), 10, instance="any")  # teaches aiokafka the error
    if not known:
        monkeypatch.delitem(kafka_errors, FENCED_INSTANCE_ID)
    first = await _join(shop)
    await (await _join(shop)).stop()
    member_id = first._coordinator.member_id
    first._coordinator.request_rejoin()
    if known:
        await eventually(lambda: _is_another(first, member_id))
        await first.getmany(timeout_ms=10)
    else:
        with pytest.raises(KafkaError, match="UnknownError"):
            await eventually(lambda: first.getmany(timeout_ms=100))
        assert first._coordinator.member_id == member_id
    await first.stop()


def _consumer(shop: _Shop) -> BatchConsumer:
    return BatchConsumer(shop.bakery.subscription(), shop.bakery.group, shop.pool, lambda: None)


async def _join(shop: _Shop) -> AIOKafkaConsumer:
    """A member that is so slow with its heartbeats that it learns of nothing by them."""
    consumer = AIOKafkaConsumer(
        shop.bakery.loaves.name, bootstrap_servers=shop.servers, group_id=shop.bakery.group, group_instance_id="one", enable_auto_commit=False,
        session_timeout_ms=60_000, heartbeat_interval_ms=20_000,
    )  # fmt: skip
    await consumer.start()
    return consumer


async def _is_another(consumer: AIOKafkaConsumer, member_id: str) -> bool:
    await asyncio.sleep(0)
    return consumer._coordinator.member_id not in ("", member_id)


async def test_one_process_at_a_time_has_a_name(dsn: str) -> None:
    first, second = InstanceName(dsn, "oven-1"), InstanceName(dsn, "oven-1")
    await first.hold()
    await first.hold()
    with pytest.raises(NameTaken, match="another process works under the name oven-1"):
        await second.hold()
    await InstanceName(dsn, "oven-2").hold()
    await first.release()
    await second.hold()
    await second.release()


async def test_a_name_is_free_at_once_when_its_holder_is_killed(dsn: str) -> None:
    first, second = InstanceName(dsn, "oven-1"), InstanceName(dsn, "oven-1")
    await first.hold()
    assert first._connection is not None
    first._connection.terminate()  # as the kernel does it for a dead process

    async def held() -> bool:
        try:
            await second.hold()
        except NameTaken:
            return False
        return True

    await eventually(held)
    with pytest.raises(asyncpg.InterfaceError):
        await first.hold()
    with pytest.raises(NameTaken):
        await first.hold()
    await second.release()
