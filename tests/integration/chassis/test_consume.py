"""Consuming on the real broker and database: nothing lost, nothing twice, the bad one set aside."""

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.consumer import fetcher
from aiokafka.producer import message_accumulator
from aiokafka.producer import producer as producing
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.memory_records import MemoryRecords
from faststream import AckPolicy

from shared.chassis import offsets
from shared.chassis.consume import BatchConsumer
from shared.chassis.database import Pool, Tx, transaction
from shared.chassis.decode import Received, Refused
from shared.chassis.errors import Fenced, Transient
from shared.chassis.health import progress
from shared.chassis.stops import Place
from shared.chassis.subscribe import create_broker, subscribe
from shared.contracts.topics import Topic
from tests.support.bakery import SCHEMA, Loaf, bake, headers, loaf, open_bakery, read
from tests.support.infrastructure import Infrastructure
from tests.support.letters import set_aside
from tests.support.running import running
from tests.support.waiting import eventually


async def _total(pool: Pool) -> tuple[int, int]:
    async with pool.acquire() as connection:
        row = await connection.fetchrow("SELECT count(*), coalesce(sum(times), 0) FROM baked")
    assert row is not None
    return row[0], row[1]


async def _consumed(pool: Pool) -> int:
    async with pool.acquire() as connection:
        return int(await connection.fetchval("SELECT coalesce(sum(next_offset), 0) FROM consumed_offset"))


@pytest.fixture(autouse=True)
async def _tables(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute(SCHEMA)


async def test_every_record_is_applied_once_and_announced(infra: Infrastructure, pool: Pool) -> None:
    bakery = await open_bakery(infra.bootstrap_servers)
    await bake(infra.bootstrap_servers, bakery.loaves, [(headers(n), loaf(n)) for n in range(5000)])
    async with running(infra.bootstrap_servers, pool, bakery.subscription(), bakery.group):
        await eventually(lambda: _is(pool, 5000))
        await eventually(lambda: _outbox_is_empty(pool))
    assert await _total(pool) == (5000, 5000)
    sold = await read(infra.bootstrap_servers, bakery.sales.name, 3)
    assert len({record.key for record in sold}) == 5000


async def test_one_bad_record_in_a_batch_of_10000_costs_its_neighbours_nothing(infra: Infrastructure, pool: Pool) -> None:
    bakery = await open_bakery(infra.bootstrap_servers, partitions=1)
    records = [(headers(n), loaf(n)) for n in range(10_000)]
    records[4321] = (headers(4321, subject=b"\xff\xfe"), b"\xff{not json")
    await bake(infra.bootstrap_servers, bakery.loaves, records)
    async with running(infra.bootstrap_servers, pool, bakery.subscription(sell=False), bakery.group, max_batch=10_000):
        await eventually(lambda: _is(pool, 9999))
        await eventually(lambda: _outbox_is_empty(pool))
    async with pool.acquire() as connection:
        letter = await connection.fetchrow("SELECT * FROM dead_letter")
    assert letter is not None
    assert (letter["reason"], letter["partition"], letter["record_offset"], letter["value"]) == ("header_not_utf8", 0, 4321, b"\xff{not json")
    assert (letter["header_names"][4], letter["header_values"][4]) == ("ce_subject", b"\xff\xfe")
    (dead,) = await read(infra.bootstrap_servers, bakery.loaves.dead_letters(bakery.group).name, 4)
    told = dict(dead.headers)
    assert dead.value == b"\xff{not json"
    assert (told["dlq_reason"], told["dlq_offset"], told["dlq_topic"]) == (b"header_not_utf8", b"4321", bakery.loaves.name.encode())


class _Blunt(str):
    """A header name whose bytes are no text."""

    __slots__ = ()

    def encode(self, *_: str) -> bytes:
        return b"x-\xff"


@pytest.mark.parametrize("guarded", [True, False])
async def test_a_header_whose_name_is_not_utf8_costs_its_neighbours_nothing(
    infra: Infrastructure, pool: Pool, monkeypatch: pytest.MonkeyPatch, *, guarded: bool
) -> None:
    """The control is aiokafka as it comes: the partition stands still for good."""
    for module in (message_accumulator, producing):  # the builder that is used otherwise refuses the name
        monkeypatch.setattr(module, "DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy)
    monkeypatch.setattr(fetcher, "MemoryRecords", fetcher.MemoryRecords)
    bakery = await open_bakery(infra.bootstrap_servers, partitions=1)
    records = [(headers(n), loaf(n)) for n in range(30)]
    records[7] = ([*headers(7), (_Blunt("x"), b"\x01"), ("nhãn", b"2")], loaf(7))
    await bake(infra.bootstrap_servers, bakery.loaves, records)
    async with running(infra.bootstrap_servers, pool, bakery.subscription(sell=False), bakery.group):
        if not guarded:
            fetcher.MemoryRecords = MemoryRecords
            with pytest.raises(AssertionError):
                await eventually(lambda: _is(pool, 29), 8)
            return
        await eventually(lambda: _is(pool, 29))
        await eventually(lambda: _outbox_is_empty(pool))
    (letter,) = await pool.fetch("SELECT reason, record_offset, value, header_names, header_values FROM dead_letter")
    assert tuple(letter)[:3] == ("header_not_utf8", 7, loaf(7))
    assert list(zip(letter["header_names"], letter["header_values"], strict=True))[-2:] == [("x-\\xff", b"\x01"), ("nhãn", b"2")]
    (dead,) = await read(infra.bootstrap_servers, bakery.loaves.dead_letters(bakery.group).name, 4)
    assert dict(dead.headers)["x-\\xff"] == b"\x01"


async def test_however_many_are_set_aside_together_one_statement_keeps_them(pool: Pool) -> None:
    bakery = Topic("loaves", "bakers", "loaf", "loaf", 1, "delete", None, ("bakery",), "Loaves.")
    await pool.execute("""
        CREATE TABLE statement (number int);
        CREATE FUNCTION count_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO statement VALUES (1); RETURN NULL; END';
        CREATE TRIGGER counting AFTER INSERT ON dead_letter EXECUTE FUNCTION count_it();
    """)
    records: list[tuple[list[tuple[str, bytes]], bytes]] = [([], b"bare"), *((headers(n, subject=b"\xff"), loaf(n)) for n in range(1, 40))]
    await set_aside(pool, bakery, "bakery", records, "not_json")
    assert await pool.fetchval("SELECT count(*) FROM statement") == 1
    rows = await pool.fetch("SELECT record_offset, value, header_names, header_values FROM dead_letter ORDER BY dead_letter_id")
    assert [(list(zip(row[2], row[3], strict=True)), row[1]) for row in rows] == records
    assert [row[0] for row in rows] == list(range(40))


@pytest.mark.parametrize(
    ("reason", "found", "value"),
    [
        ("not_utf8", {}, b'{"loaf": "\xff"}'),
        ("not_json", {}, b"{loaf"),
        ("not_json", {}, b"[" * 10_000),
        ("schema_violation", {}, b'{"loaf": 7}'),
        ("schema_violation", {}, b'{"grams": 7}'),
        ("schema_violation", {}, b""),
        ("unknown_type", {"type": b"bakery.loaf.eaten.v1"}, loaf(1)),
        ("missing_attribute", {"id": b""}, loaf(1)),
        ("missing_attribute", {"type": b""}, loaf(1)),
        ("unknown_specversion", {"specversion": b"0.3"}, loaf(1)),
        ("bad_time", {"time": b"yesterday"}, loaf(1)),
        ("too_large", {}, b'{"loaf": "' + b"x" * 5_000_000 + b'"}'),
        ("too_light", {}, loaf(1, grams=9)),
        ("handler_failed", {}, loaf(1, grams=13)),
    ],
)
async def test_bad_input_is_set_aside_with_its_reason(infra: Infrastructure, pool: Pool, reason: str, found: dict[str, bytes], value: bytes) -> None:
    bakery = await open_bakery(infra.bootstrap_servers, partitions=1)
    await bake(
        infra.bootstrap_servers, bakery.loaves, [(headers(0), loaf(0)), (headers(1, **found), value), (headers(2), loaf(2)), (headers(3), None)]
    )
    async with running(infra.bootstrap_servers, pool, bakery.subscription(sell=False), bakery.group):
        await eventually(lambda: _consumed_is(pool, 4))
    async with pool.acquire() as connection:
        letters = await connection.fetch("SELECT reason, detail, value FROM dead_letter")
        loaves = {row[0] for row in await connection.fetch("SELECT loaf FROM baked")}
    got = letters[0]["reason"]
    # An empty value is no JSON either; both say it clearly.
    assert got == reason or (value == b"" and got == "not_json")
    assert letters[0]["value"] == value
    assert {"loaf-0", "loaf-2"} <= loaves
    assert len(letters) == 1


async def test_too_many_bad_records_stop_the_partition_and_nothing_is_skipped(infra: Infrastructure, pool: Pool) -> None:
    bakery = await open_bakery(infra.bootstrap_servers, partitions=2)
    good = [(headers(n), loaf(n)) for n in range(60, 80)]
    await bake(infra.bootstrap_servers, bakery.loaves, [*good, *((headers(n), b"{") for n in range(60)), *good], partition=0)
    await bake(infra.bootstrap_servers, bakery.loaves, [(headers(n), loaf(n)) for n in range(60)], partition=1)
    async with running(infra.bootstrap_servers, pool, bakery.subscription(sell=False), bakery.group) as work:
        await eventually(lambda: _is(pool, 80))
        await eventually(lambda: _halted(work.consumer))
        told = await progress(bakery.loaves.name, work.consumer.progress)()
    assert told is not None
    assert "fuse_blown" in told
    async with pool.acquire() as connection:
        at = {row[0]: row[1] for row in await connection.fetch("SELECT partition, next_offset FROM consumed_offset")}
        letters = await connection.fetchval("SELECT count(*) FROM dead_letter")
    assert at[1] == 60
    # What came before is applied, and the first bad ones tell the reason.
    assert (at[0], letters) == (20 + 49, 49)


class _WithoutFuse(BatchConsumer):
    def _check_fuses(self, items: object, verdicts: object) -> None:
        return


async def test_without_the_fuse_a_broken_producer_drains_into_the_dead_letters(infra: Infrastructure, pool: Pool) -> None:
    bakery = await open_bakery(infra.bootstrap_servers, partitions=1)
    await bake(infra.bootstrap_servers, bakery.loaves, [(headers(n), b"{") for n in range(60)])
    async with running(infra.bootstrap_servers, pool, bakery.subscription(sell=False), bakery.group, _WithoutFuse):
        await eventually(lambda: _consumed_is(pool, 60))


async def test_a_passing_error_is_retried_without_leaving_the_group(infra: Infrastructure, pool: Pool) -> None:
    bakery = await open_bakery(infra.bootstrap_servers, partitions=1)
    attempts = 0

    async def stumble(records: Sequence[Received[Loaf]], tx: Tx) -> Sequence[Refused]:
        nonlocal attempts
        attempts += 1
        if attempts == 2:
            raise asyncpg.DeadlockDetectedError
        if attempts < 5:
            raise Transient("the oven is cold")
        return await bakery.on_baked_quietly(records, tx)

    subscription = bakery.subscription(sell=False)
    subscription.handlers[bakery.baked] = stumble  # type: ignore[index]
    await bake(infra.bootstrap_servers, bakery.loaves, [(headers(n), loaf(n)) for n in range(100)])
    async with running(infra.bootstrap_servers, pool, subscription, bakery.group):
        await eventually(lambda: _is(pool, 100))
    assert await _total(pool) == (100, 100)


async def test_trouble_with_records_that_another_process_then_applied_is_over(infra: Infrastructure, pool: Pool) -> None:
    """A frozen process that wakes finds its connection gone and its records applied; it must not call itself unwell for ever."""
    bakery = await open_bakery(infra.bootstrap_servers, partitions=1)
    taken_over: list[asyncio.Task[str]] = []

    async def stumble(records: Sequence[Received[Loaf]], tx: Tx) -> Sequence[Refused]:
        # The other process waits for the lock of the offset row, which ends with this attempt.
        taken_over.append(asyncio.create_task(pool.execute("UPDATE consumed_offset SET next_offset = 10")))
        raise Transient("the oven is cold")

    subscription = bakery.subscription(sell=False)
    subscription.handlers[bakery.baked] = stumble  # type: ignore[index]
    await bake(infra.bootstrap_servers, bakery.loaves, [(headers(n), loaf(n)) for n in range(10)])
    async with running(infra.bootstrap_servers, pool, subscription, bakery.group) as work:
        await eventually(lambda: _stands_at(work.consumer, 10))
        await eventually(lambda: _is_well(work.consumer))
    assert len(taken_over) == 1


async def test_the_offset_row_fences_whoever_is_late(pool: Pool) -> None:
    await offsets.begin_partitions(pool, "g", "t", None, [0, 1])
    async with transaction(pool) as tx:
        await offsets.advance(tx, "g", "t", {0: (0, 10), 1: (0, 5)})
    with pytest.raises(Fenced):
        async with transaction(pool) as tx:
            await offsets.advance(tx, "g", "t", {0: (0, 10)})
    assert await offsets.read(pool, "g", "t") == {0: Place(10), 1: Place(5)}


async def test_every_subscriber_is_made_so_that_it_cannot_lose_a_record(infra: Infrastructure, pool: Pool) -> None:
    bakery = await open_bakery(infra.bootstrap_servers)
    broker = create_broker(infra.bootstrap_servers, with_metrics=False)
    subscriber = subscribe(broker, BatchConsumer(bakery.subscription(), bakery.group, pool, lambda: None), 1000)
    assert subscriber.ack_policy is AckPolicy.MANUAL
    assert subscriber.group_id == bakery.group
    assert subscriber._connection_args["auto_offset_reset"] == "earliest"
    assert subscriber._connection_args["enable_auto_commit"] is False
    assert subscriber._connection_args["max_partition_fetch_bytes"] >= 8 * 1_048_576
    careless = broker.subscriber("loaves", group_id="careless", batch=True)
    assert careless.ack_policy is not AckPolicy.MANUAL
    assert careless._connection_args["auto_offset_reset"] == "latest"


async def test_a_log_that_ends_before_our_place_stops_the_partition(infra: Infrastructure, pool: Pool) -> None:
    bakery = await open_bakery(infra.bootstrap_servers, partitions=1)
    await bake(infra.bootstrap_servers, bakery.loaves, [(headers(n), loaf(n)) for n in range(10)])
    async with pool.acquire() as connection:
        await connection.execute("INSERT INTO consumed_offset VALUES ($1, $2, 0, 500)", bakery.group, bakery.loaves.name)
    async with running(infra.bootstrap_servers, pool, bakery.subscription(sell=False), bakery.group) as work:
        await eventually(lambda: _halted(work.consumer))
    assert {partition: stop.reason for partition, stop in work.consumer.progress.halted.items()} == {0: "topic_was_cut_back"}
    assert await _total(pool) == (0, 0)


async def _is(pool: Pool, loaves: int) -> bool:
    return (await _total(pool))[0] >= loaves


async def _consumed_is(pool: Pool, records: int) -> bool:
    return await _consumed(pool) >= records


async def _stands_at(consumer: BatchConsumer, offset: int) -> bool:
    await asyncio.sleep(0)
    return consumer._positions.get(0) == offset


async def _is_well(consumer: BatchConsumer) -> bool:
    return await progress(consumer.topic.name, consumer.progress)() is None


async def _outbox_is_empty(pool: Pool) -> bool:
    async with pool.acquire() as connection:
        return not await connection.fetchval("SELECT EXISTS (SELECT 1 FROM outbox)")


async def _halted(consumer: BatchConsumer) -> bool:
    await asyncio.sleep(0)
    return bool(consumer.progress.halted)


async def test_a_header_without_a_value_and_a_bomb_are_set_aside_and_published_and_hold_nobody_up(infra: Infrastructure, pool: Pool) -> None:
    bakery = await open_bakery(infra.bootstrap_servers, partitions=1)
    producer = AIOKafkaProducer(bootstrap_servers=infra.bootstrap_servers, compression_type="gzip", max_request_size=32 * 1_048_576)
    await producer.start()
    without_value: list[tuple[str, Any]] = [("ce_type", None), ("strange", None)]
    for number, (found, value) in enumerate([(without_value, loaf(0)), (headers(1), b"0" * 12_000_000), (headers(2), loaf(2))]):
        await producer.send_and_wait(bakery.loaves.name, value=value, key=b"%d" % number, headers=found, partition=0)
    await producer.stop()
    async with running(infra.bootstrap_servers, pool, bakery.subscription(sell=False), bakery.group):
        await eventually(lambda: _is(pool, 1))
        await eventually(lambda: _outbox_is_empty(pool))
    rows = await pool.fetch("SELECT reason, length(value) AS size FROM dead_letter ORDER BY record_offset")
    assert [tuple(row) for row in rows] == [("missing_attribute", len(loaf(0))), ("too_large", 12_000_000)]
    letters = await read(infra.bootstrap_servers, bakery.loaves.dead_letters(bakery.group).name, 4)
    assert sorted(len(letter.value or b"") for letter in letters) == [0, len(loaf(0))]
    assert [dict(letter.headers)["dlq_bytes"] for letter in letters if not letter.value]


async def test_rows_that_are_set_back_are_followed_though_nothing_comes_any_more(infra: Infrastructure, pool: Pool) -> None:
    """A database restored to an earlier moment, or a person who wants a replay. The bakery counts what it applies, so a replay shows."""
    bakery = await open_bakery(infra.bootstrap_servers)
    await bake(infra.bootstrap_servers, bakery.loaves, [(headers(n), loaf(n)) for n in range(30)])
    async with running(infra.bootstrap_servers, pool, bakery.subscription(sell=False), bakery.group):
        await eventually(lambda: _is(pool, 30))
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("UPDATE consumed_offset SET next_offset = 0")
            await connection.execute("TRUNCATE baked")
        await eventually(lambda: _is(pool, 30))
    assert await _total(pool) == (30, 30)
