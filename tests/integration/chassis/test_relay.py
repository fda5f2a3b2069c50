"""The relay: what was rolled back is never seen, what was committed is published, and the last record of a key is its newest."""

import asyncio
from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client import REGISTRY

from shared.chassis import outbox, telemetry
from shared.chassis import relay as relay_module
from shared.chassis.clock import now
from shared.chassis.database import Pool, Tx, transaction
from shared.chassis.lease import Lease
from shared.chassis.outbox import Announcement, Pending, announce
from shared.chassis.relay import Relay
from tests.support.bakery import Bakery, open_bakery, read
from tests.support.infrastructure import Infrastructure
from tests.support.waiting import eventually


def _sold(bakery: Bakery, loaf: str, version: int) -> Announcement:
    return Announcement(bakery.sales, "bakery.loaf.sold.v1", f"{loaf}:{version}", "/bakery", loaf, loaf, b'{"version": %d}' % version, now())


async def _empty(pool: Pool) -> bool:
    async with pool.acquire() as connection:
        return not await connection.fetchval("SELECT EXISTS (SELECT 1 FROM outbox)")


async def test_nothing_of_a_rolled_back_transaction_is_published(infra: Infrastructure, pool: Pool) -> None:
    bakery = await open_bakery(infra.bootstrap_servers)

    async def undo() -> None:
        async with transaction(pool) as tx:
            await announce(tx, [_sold(bakery, "undone", 1)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await undo()
    async with transaction(pool) as tx:
        await announce(tx, [_sold(bakery, "done", 1)])
    stop = asyncio.Event()
    task = asyncio.create_task(Relay(pool, infra.bootstrap_servers, bakery.group).run(stop))
    await eventually(lambda: _empty(pool))
    stop.set()
    await task
    assert {record.key for record in await read(infra.bootstrap_servers, bakery.sales.name, 3)} == {b"done"}


async def test_headers_of_an_event_are_cloudevents_in_binary_mode(infra: Infrastructure, pool: Pool) -> None:
    bakery = await open_bakery(infra.bootstrap_servers)
    async with transaction(pool) as tx:
        await announce(tx, [_sold(bakery, "rye", 1)])
    stop = asyncio.Event()
    task = asyncio.create_task(Relay(pool, infra.bootstrap_servers, bakery.group).run(stop))
    await eventually(lambda: _empty(pool))
    stop.set()
    await task
    (record,) = await read(infra.bootstrap_servers, bakery.sales.name, 3)
    told = dict(record.headers)
    assert (told["ce_specversion"], told["ce_type"], told["ce_id"], told["content-type"]) == (
        b"1.0",
        b"bakery.loaf.sold.v1",
        b"rye:1",
        b"application/json",
    )
    assert record.partition == outbox.partition_of("rye", 3)


class _Frozen(Relay):
    """A relay that is frozen between reading its rows and sending them, as SIGSTOP at the worst moment would do it."""

    def __init__(self, pool: Pool, bootstrap_servers: Sequence[str], service: str) -> None:
        super().__init__(pool, bootstrap_servers, service)
        self.has_read = asyncio.Event()
        self.wakes = asyncio.Event()
        self.failure: Exception | None = None

    async def publish_late(self, producer: AIOKafkaProducer, *, fenced: bool) -> None:
        """What `_publish_batch` does, with a freeze in the middle."""
        async with self._pool.acquire() as connection:
            rows = await outbox.pending(connection, 100)
        if fenced:
            await producer.begin_transaction()
        self.has_read.set()
        await self.wakes.wait()
        try:
            await _send(producer, rows)
            if fenced:
                await producer.commit_transaction()
        except Exception as error:  # noqa: BLE001  # whatever the broker says, the test wants to know
            self.failure = error


async def _send(producer: AIOKafkaProducer, rows: Sequence[Pending]) -> None:
    for row in rows:
        await producer.send_and_wait(row.topic, key=row.key, value=row.value, partition=row.partition, headers=row.headers)


@pytest.mark.parametrize("fenced", [True, False])
async def test_the_last_record_of_a_key_is_its_newest_though_an_old_relay_wakes_up(infra: Infrastructure, pool: Pool, *, fenced: bool) -> None:
    """With the fence the old relay is refused; the control without it writes the old version last, which is what compaction would keep."""
    bakery = await open_bakery(infra.bootstrap_servers, partitions=1)
    async with transaction(pool) as tx:
        await announce(tx, [_sold(bakery, "rye", 1)])
    old = _Frozen(pool, infra.bootstrap_servers, bakery.group)
    identity = {"transactional_id": f"{bakery.group}-relay"} if fenced else {"enable_idempotence": True}
    producer = AIOKafkaProducer(bootstrap_servers=infra.bootstrap_servers, acks="all", **identity)
    await producer.start()
    frozen = asyncio.create_task(old.publish_late(producer, fenced=fenced))
    await old.has_read.wait()

    async with transaction(pool) as tx:
        await announce(tx, [_sold(bakery, "rye", 2)])
    stop = asyncio.Event()
    new = asyncio.create_task(Relay(pool, infra.bootstrap_servers, bakery.group).run(stop))
    await eventually(lambda: _empty(pool))
    old.wakes.set()
    await frozen
    stop.set()
    await new
    await asyncio.wait_for(asyncio.gather(producer.stop(), return_exceptions=True), 10)

    last = (await read(infra.bootstrap_servers, bakery.sales.name, 1))[-1]
    if fenced:
        assert old.failure is not None
        assert last.value == b'{"version": 2}'
    else:
        assert last.value == b'{"version": 1}'


async def test_a_lease_is_held_by_one_and_passes_on_when_it_is_given_back(pool: Pool) -> None:
    first, second = Lease(pool, "oven"), Lease(pool, "oven")
    assert await first.acquire()
    assert await first.acquire()
    assert not await second.acquire()
    await first.release()
    assert await second.acquire()
    assert not await first.acquire()


async def test_a_batch_is_bounded_in_bytes_and_takes_at_least_one_row(pool: Pool) -> None:
    topic = (await open_bakery_offline()).sales
    sizes = (10_000, 10, 10, 10_000)
    async with transaction(pool) as tx:
        await outbox.set_aside(tx, [(topic.name, None, [], b"x" * size) for size in sizes])
    taken = []
    async with transaction(pool) as tx:
        while rows := await outbox.pending(tx, 100, 1_000):
            taken.append([len(row.value or b"") for row in rows])
            await outbox.published(tx, [row.seq for row in rows])
        assert await outbox.pending(tx, 100, 1_000) == []
    assert taken == [[10_000], [10, 10, 10_000]]


class _Weighing(Relay):
    """Notes how many rows it publishes at once."""

    def __init__(self, pool: Pool, bootstrap_servers: Sequence[str], service: str) -> None:
        super().__init__(pool, bootstrap_servers, service)
        self.published: list[int] = []

    async def _publish(self, producer: AIOKafkaProducer, rows: Sequence[Pending]) -> None:
        await super()._publish(producer, rows)
        self.published.append(len(rows))


@pytest.mark.parametrize(("most_bytes", "batches"), [(1_000, [2, 2, 1]), (relay_module.BATCH_BYTES, [5])])
async def test_a_relay_publishes_no_more_at_once_than_a_thin_line_brings(
    infra: Infrastructure, pool: Pool, monkeypatch: pytest.MonkeyPatch, most_bytes: int, batches: list[int]
) -> None:
    bakery = await open_bakery(infra.bootstrap_servers)
    monkeypatch.setattr(relay_module, "BATCH_BYTES", most_bytes)
    async with transaction(pool) as tx:
        await outbox.set_aside(tx, [(bakery.sales.name, b"rye", [], b"x" * 600) for _ in range(5)])
    stop = asyncio.Event()
    relay = _Weighing(pool, infra.bootstrap_servers, bakery.group)
    task = asyncio.create_task(relay.run(stop))
    await eventually(lambda: _empty(pool))
    stop.set()
    await task
    assert relay.published == batches


async def test_a_trace_goes_on_behind_the_outbox(pool: Pool) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    tracer = TracerProvider().get_tracer("bakery")
    bakery_topic = (await open_bakery_offline()).sales
    with tracer.start_as_current_span("bake") as span:
        async with transaction(pool) as tx:
            await announce(tx, [Announcement(bakery_topic, "bakery.loaf.sold.v1", "1", "/bakery", "rye", "rye", b"{}", now())])
    async with pool.acquire() as connection:
        (row,) = await outbox.pending(connection, 10)
    told = dict(row.headers)["traceparent"].decode()
    assert told.split("-")[1] == trace.format_trace_id(span.get_span_context().trace_id)


async def open_bakery_offline() -> Bakery:
    """A bakery whose topics nobody creates."""
    from shared.contracts.decoding import decoder
    from shared.contracts.envelope import EventType
    from shared.contracts.topics import Topic
    from tests.support.bakery import Loaf

    topic = Topic("nowhere", "bakery", "loaf", "loaf", 1, "compact", None, (), "Nowhere.")
    await asyncio.sleep(0)
    return Bakery("offline", topic, topic, EventType("bakery.loaf.baked.v1", Loaf, "nowhere", "Baked.", decoder(Loaf)))


class _Overtaken(Relay):
    """Loses its lease to another relay between the broker's answer and forgetting, once."""

    guarded = True

    async def _forget(self, link: Tx, rows: Sequence[Pending]) -> None:
        async with self._pool.acquire() as other:
            await other.execute("UPDATE lease SET holder = 'another', expires_at = clock_timestamp() + interval '1 hour' WHERE name = 'relay'")
        if self.guarded:
            await super()._forget(link, rows)
        else:
            await outbox.published(link, [row.seq for row in rows])


class _OvertakenAndCareless(_Overtaken):
    guarded = False


@pytest.mark.parametrize("kind", [_Overtaken, _OvertakenAndCareless])
async def test_a_relay_that_was_overtaken_forgets_nothing_that_its_successor_publishes_again(
    infra: Infrastructure, pool: Pool, kind: type[_Overtaken]
) -> None:
    bakery = await open_bakery(infra.bootstrap_servers)
    async with transaction(pool) as tx:
        await announce(tx, [_sold(bakery, "rye", 1), _sold(bakery, "rye", 2)])
    stop = asyncio.Event()
    relay = kind(pool, infra.bootstrap_servers, bakery.group)
    task = asyncio.create_task(relay.run(stop))
    await eventually(lambda: _overtaken(pool))
    await eventually(lambda: _gave_up(relay, pool))
    stop.set()
    await task
    assert await pool.fetchval("SELECT count(*) FROM outbox") == (2 if kind is _Overtaken else 0)


async def _overtaken(pool: Pool) -> bool:
    return bool(await pool.fetchval("SELECT EXISTS (SELECT FROM lease WHERE holder = 'another')"))


async def _gave_up(relay: Relay, pool: Pool) -> bool:
    return relay.trouble == "Fenced" or await _empty(pool)


async def test_what_waits_is_told_most_of_all_while_nothing_can_be_published(infra: Infrastructure, pool: Pool) -> None:
    bakery = await open_bakery(infra.bootstrap_servers)
    telemetry.OUTBOX_PENDING.set(0)
    async with transaction(pool) as tx:
        await announce(tx, [_sold(bakery, "rye", 1), _sold(bakery, "rye", 2)])
    stop = asyncio.Event()
    task = asyncio.create_task(Relay(pool, ["127.0.0.1:1"], bakery.group).run(stop))
    await eventually(_two_wait)
    stop.set()
    await task


async def _two_wait() -> bool:
    return REGISTRY.get_sample_value("outbox_pending") == 2
