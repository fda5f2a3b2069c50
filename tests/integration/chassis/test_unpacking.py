"""A batch that unpacks to far more than it weighs, on the real broker, is one bad record and no more."""

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.memory_records import MemoryRecords

from shared.chassis import unpacking
from shared.chassis.database import Pool
from tests.support.bakery import SCHEMA, Bakery, bake, headers, loaf, open_bakery
from tests.support.infrastructure import Infrastructure
from tests.support.running import running
from tests.support.waiting import eventually


async def _baked(pool: Pool) -> list[str]:
    return [row["loaf"] for row in await pool.fetch("SELECT loaf FROM baked ORDER BY loaf")]


async def _is_baked(pool: Pool, loaves: list[str]) -> bool:
    return await _baked(pool) == loaves


async def _bomb(servers: list[str], bakery: Bakery, codec: str) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, acks="all", max_request_size=8 * 1_048_576, max_batch_size=8 * 1_048_576, compression_type=codec
    )
    await producer.start()
    try:
        await producer.send_and_wait(bakery.loaves.name, value=bytes(4 * 1_048_576), headers=headers(1), partition=0)
    finally:
        await producer.stop()


@pytest.mark.parametrize("codec", ["zstd", "gzip"])
async def test_a_bomb_is_set_aside_as_it_came_and_costs_its_neighbours_nothing(
    infra: Infrastructure, pool: Pool, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    monkeypatch.setattr(unpacking, "UNPACKED_BYTES", 1_048_576)
    await pool.execute(SCHEMA)
    bakery = await open_bakery(infra.bootstrap_servers, partitions=2)
    await bake(infra.bootstrap_servers, bakery.loaves, [(headers(0), loaf(0))], partition=0)
    await _bomb(infra.bootstrap_servers, bakery, codec)
    await bake(infra.bootstrap_servers, bakery.loaves, [(headers(2), loaf(2))], partition=0)
    await bake(infra.bootstrap_servers, bakery.loaves, [(headers(3), loaf(3))], partition=1)
    async with running(infra.bootstrap_servers, pool, bakery.subscription(sell=False), bakery.group):
        await eventually(lambda: _is_baked(pool, ["loaf-0", "loaf-2", "loaf-3"]))
    (letter,) = await pool.fetch("SELECT reason, record_offset, value FROM dead_letter")
    assert (letter["reason"], letter["record_offset"]) == ("too_large", 1)
    with pytest.raises(unpacking.TooLarge):
        list(MemoryRecords(letter["value"]).next_batch())
