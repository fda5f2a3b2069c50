"""A server that falls silent for good: nobody waits longer than a bound, and nobody waits twice."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer

from shared.chassis import database, health, instance, relay
from shared.chassis.clock import now
from shared.chassis.database import Pool, Tx, create_pool, statement_limit, transaction
from shared.chassis.errors import NameTaken
from shared.chassis.instance import InstanceName
from shared.chassis.outbox import Announcement, announce
from shared.chassis.relay import Relay
from shared.contracts.topics import Topic
from tests.fault.harness.proxy import Proxy, routes
from tests.fault.harness.toxics import Forget, HalfOpen, Where
from tests.support.bakery import SCHEMA, bake, headers, loaf, open_bakery
from tests.support.infrastructure import Infrastructure
from tests.support.running import running
from tests.support.waiting import eventually

DATABASE = Where(server="postgres")

SOON_S = 20.0
"""Far more than any bound here, and far less than what was waited without them, seconds."""


@pytest.fixture(scope="module")
def proxy(infra: Infrastructure) -> Iterator[Proxy]:
    with Proxy(routes(infra.layout)) as started:
        yield started


@pytest.fixture
def through(infra: Infrastructure, dsn: str) -> str:
    """Address of the fresh database behind the proxy."""
    (way,) = [way for way in routes(infra.layout) if way.server == "postgres"]
    return dsn.replace(f":{way.upstream}/", f":{way.listen}/")


@pytest.fixture
def brokers(infra: Infrastructure) -> list[str]:
    """Addresses of the brokers behind the proxy."""
    return [f"127.0.0.1:{way.listen}" for way in routes(infra.layout) if way.kind == "kafka"]


@pytest.fixture
async def far(proxy: Proxy, through: str, pool: Pool) -> AsyncIterator[Pool]:
    """A pool of one connection whose line the proxy can cut; `pool` goes straight."""
    opened = await create_pool(through, size=1, takeover_s=1, statement_s=1)
    yield opened
    opened.terminate()


@pytest.mark.parametrize("cut_off", [True, False])
async def test_a_statement_without_an_answer_costs_its_connection_and_nothing_more_is_asked(
    proxy: Proxy, through: str, pool: Pool, monkeypatch: pytest.MonkeyPatch, *, cut_off: bool
) -> None:
    """The control is asyncpg as it comes, which asks a silent server over a second connection to cancel the statement."""
    if not cut_off:
        monkeypatch.setattr(database, "_Link", asyncpg.Connection)
    far = await create_pool(through, size=1, takeover_s=1, statement_s=1)
    toxic = proxy.add(HalfOpen(where=DATABASE))
    try:
        with pytest.raises((TimeoutError, asyncpg.InterfaceError)):
            async with transaction(far) as tx:
                await tx.fetchval("SELECT 1")
        asked = proxy.bites(toxic).unanswered
    finally:
        proxy.remove(toxic)
        far.terminate()
    assert (asked == 0) == cut_off


async def test_who_lost_the_line_ends_the_session_that_has_his_name(proxy: Proxy, through: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server notices nothing. The control is another process, which ends it only when it has been silent for long."""
    monkeypatch.setattr(instance, "CONNECT_S", 1.0)
    name = InstanceName(through, "oven-1")
    await name.hold()
    with proxy.hurting(Forget(where=DATABASE)):
        with pytest.raises(TimeoutError):
            await name.hold()
        with pytest.raises(NameTaken):
            await InstanceName(through, "oven-1").hold()
        await name.hold()
    await name.release()


async def test_who_comes_after_one_that_died_behind_a_lost_line_gets_the_name(
    proxy: Proxy, through: str, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = InstanceName(through, "oven-1")
    await died.hold()
    with proxy.hurting(Forget(where=DATABASE)):
        assert died._connection is not None
        died._connection.terminate()
    successor = InstanceName(dsn, "oven-1")
    with pytest.raises(NameTaken):
        await successor.hold()
    monkeypatch.setattr(instance, "SILENT_S", 0.2)

    async def held() -> bool:
        with suppress(NameTaken):
            await successor.hold()
            return True
        return False

    await eventually(held)
    await successor.release()


async def test_what_was_silent_is_not_used_again(proxy: Proxy, far: Pool) -> None:
    async with transaction(far) as tx:
        silent = await tx.fetchval("SELECT pg_backend_pid()")
    with proxy.hurting(Forget(where=DATABASE)):
        with suppress(TimeoutError, asyncpg.InterfaceError):
            async with transaction(far) as tx:
                await tx.fetchval("SELECT 1")
        async with transaction(far) as tx:
            assert await tx.fetchval("SELECT pg_backend_pid()") != silent


@pytest.mark.parametrize("noticed", [True, False])
async def test_records_go_on_soon_after_every_connection_to_the_database_has_fallen_silent(
    infra: Infrastructure, proxy: Proxy, through: str, pool: Pool, *, noticed: bool
) -> None:
    """The control waits for a statement as long as a command does."""
    await pool.execute(SCHEMA)
    bakery = await open_bakery(infra.bootstrap_servers, 1)
    far = await create_pool(through, size=1, takeover_s=1, statement_s=statement_limit(1) if noticed else database.COMMAND_TIMEOUT_S)
    try:
        async with running(infra.bootstrap_servers, far, bakery.subscription(sell=False), bakery.group):
            await bake(infra.bootstrap_servers, bakery.loaves, [(headers(0), loaf(0))])
            await eventually(lambda: _baked(pool, 1))
            with proxy.hurting(Forget(where=DATABASE)):
                await bake(infra.bootstrap_servers, bakery.loaves, [(headers(1), loaf(1))])
                if noticed:
                    await eventually(lambda: _baked(pool, 2), SOON_S)
                else:
                    with pytest.raises(AssertionError):
                        await eventually(lambda: _baked(pool, 2), SOON_S)
                    far.terminate()
        assert await pool.fetchval("SELECT coalesce(max(times), 0) FROM baked") == 1
    finally:
        far.terminate()


async def _baked(pool: Pool, loaves: int) -> bool:
    return bool(await pool.fetchval("SELECT count(*) = $1 FROM baked", loaves))


@asynccontextmanager
async def _patient(pool: Pool) -> AsyncIterator[Tx]:
    """`connection` as asyncpg has it: giving a connection back waits until the server has taken note."""
    async with pool.acquire() as found:
        yield found


@pytest.mark.parametrize("guarded", [True, False])
async def test_readiness_answers_though_the_database_is_silent(
    proxy: Proxy, through: str, pool: Pool, monkeypatch: pytest.MonkeyPatch, *, guarded: bool
) -> None:
    if not guarded:
        monkeypatch.setattr(database, "_Link", asyncpg.Connection)
        monkeypatch.setattr(health, "connection", _patient)
    far = await create_pool(through, size=1, takeover_s=1)
    try:
        assert await health.database(far)() is None
        with proxy.hurting(HalfOpen(where=DATABASE)):
            asked = asyncio.gather(health.database(far)(), health.database(far)())  # over the connection that stood, and over none
            done, _ = await asyncio.wait({asked}, timeout=SOON_S / 2)
            assert bool(done) == guarded
            if guarded:
                assert all("does not answer" in (told or "") for told in await asked)
    finally:
        far.terminate()


async def test_the_server_ends_a_statement_whose_client_is_gone(pool: Pool, far: Pool) -> None:
    """Without the setting it would wait for the lock as long as somebody holds it, and take it then."""
    await pool.execute("CREATE TABLE oven ()")
    async with pool.acquire() as holder, holder.transaction():
        await holder.execute("LOCK TABLE oven")
        with suppress(TimeoutError, asyncpg.InterfaceError):
            async with transaction(far) as tx:
                await tx.execute("LOCK TABLE oven")
        await eventually(lambda: _nobody_waits(pool))


async def _nobody_waits(pool: Pool) -> bool:
    return not await pool.fetchval("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query = 'LOCK TABLE oven' AND wait_event_type = 'Lock')")


async def test_whatever_a_database_has_for_a_default_the_isolation_is_ours(dsn: str, pool: Pool) -> None:
    name = dsn.rpartition("/")[2].partition("?")[0]
    await pool.execute(f'ALTER DATABASE "{name}" SET default_transaction_isolation = serializable')
    plain = await asyncpg.connect(dsn)
    ours = await create_pool(dsn, size=1)
    try:
        assert await plain.fetchval("SHOW transaction_isolation") == "serializable"
        async with transaction(ours) as tx:
            assert await tx.fetchval("SHOW transaction_isolation") == "read committed"
    finally:
        await plain.close()
        ours.terminate()


async def test_what_waits_is_published_soon_after_the_relays_connections_have_fallen_silent(
    infra: Infrastructure, proxy: Proxy, brokers: Sequence[str], pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "PUBLISH_S", 3.0)
    monkeypatch.setattr(relay, "STOP_S", 1.0)
    bakery = await open_bakery(infra.bootstrap_servers)
    stop = asyncio.Event()
    task = asyncio.create_task(Relay(pool, brokers, bakery.group, 1).run(stop))
    try:
        await _sell(pool, bakery.sales, "rye")
        await eventually(lambda: _nothing_waits(pool))
        with proxy.hurting(Forget(where=Where(client=f"{bakery.group}-relay"))) as toxic:
            await _sell(pool, bakery.sales, "wheat")
            await eventually(lambda: _nothing_waits(pool), SOON_S)
            assert proxy.bites(toxic)
    finally:
        stop.set()
        await task


async def _sell(pool: Pool, topic: Topic, name: str) -> None:
    async with transaction(pool) as tx:
        await announce(tx, [Announcement(topic, "bakery.loaf.sold.v1", name, "/bakery", name, name, b"{}", now())])


async def _nothing_waits(pool: Pool) -> bool:
    return not await pool.fetchval("SELECT EXISTS (SELECT FROM outbox)")


class _Deaf(AIOKafkaProducer):
    """A producer that stops never and does not heed being cancelled."""

    let_go: asyncio.Event

    async def stop(self) -> None:
        while not self.let_go.is_set():
            with suppress(asyncio.CancelledError):
                await self.let_go.wait()


async def test_a_producer_that_does_not_stop_is_left_behind(infra: Infrastructure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "STOP_S", 0.1)
    bakery = await open_bakery(infra.bootstrap_servers, 1)
    producer = _Deaf(bootstrap_servers=infra.bootstrap_servers)
    producer.let_go = asyncio.Event()
    await producer.start()
    await producer.send_and_wait(bakery.loaves.name, b"{}")
    links = list(producer.client._conns.values())
    throwing = asyncio.create_task(relay._throw_away(producer))
    try:
        done, _ = await asyncio.wait({throwing}, timeout=SOON_S)
        assert done
        await eventually(lambda: _closed(links))
    finally:
        producer.let_go.set()
        await AIOKafkaProducer.stop(producer)


async def _closed(links: Sequence[object]) -> bool:
    return bool(links) and not any(link.connected() for link in links)  # type: ignore[attr-defined]
