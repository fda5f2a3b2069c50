"""A rebuild while events keep coming and figures are read: nobody sees anything but all old or all new, and nothing is lost.

Every process is a real one: worker, API, and the command as an operator calls it.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.reporting.figures.handlers import Folding
from services.reporting.rebuild.reading import TYPES
from shared.chassis.database import create_pool, transaction
from shared.chassis.decode import decode
from shared.chassis.migrations import migrate
from shared.chassis.topics import ensure_topics
from shared.contracts.topics import REGISTRY_EVENTS, TOPICS
from tests.support.bakery import read
from tests.support.entities import Entity, Traffic, course, create_producer, entities, registers, send
from tests.support.infrastructure import Infrastructure
from tests.support.reporting_reader import Reader
from tests.support.reporting_town import Town
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVENTS = 12_000
"""Events that are there before the first rebuild."""

PER_SECOND = 400
"""Events that come meanwhile, at most."""

WITHIN_S = 120.0
"""Longest wait on a machine that has other things to do, seconds."""


@pytest.fixture(scope="module")
def source() -> Iterator[Entity]:
    return entities()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(infra: Infrastructure, tmp_path_factory: pytest.TempPathFactory, source: Iterator[Entity]) -> AsyncIterator[Town]:
    """A worker and an API at work, and the first events applied."""
    name, dsn = await infra.create_database()
    await migrate(dsn, "reporting", Path("services/reporting/migrations"))
    made = Town(infra, dsn, tmp_path_factory.mktemp("town"), secrets.token_hex(3))
    await ensure_topics(
        infra.bootstrap_servers, [*TOPICS, *made.topics.values(), *(one.dead_letters("reporting") for one in made.topics.values())], 1
    )
    producer = create_producer(infra.bootstrap_servers)
    await producer.start()
    await send(producer, made.topics, [*registers(), *(next(source) for _ in range(EVENTS))])
    await producer.stop()
    try:
        await asyncio.gather(made.start("worker"), made.start("api"))
        await eventually(made.through, WITHIN_S)
        yield made
    finally:
        made.stop()
        await infra.drop_database(name)


@asynccontextmanager
async def beside(town: Town, source: Iterator[Entity]) -> AsyncIterator[tuple[Traffic, Reader]]:
    """Events that come and a reader that reads, for as long as the block lasts and until everything is applied."""
    traffic = Traffic(town.infra.bootstrap_servers, town.dsn, town.topics, source, PER_SECOND)
    reader = Reader(town.processes[1].url, town.dsn)
    running = [asyncio.create_task(asyncio.to_thread(one.run)) for one in (traffic, reader)]
    try:
        yield traffic, reader
        traffic.stop()
        await running[0]
        await eventually(town.through, WITHIN_S)
    finally:
        traffic.stop()
        reader.stop()
        await asyncio.gather(*running)


async def until(check: Callable[[], bool]) -> None:
    """Until something that other threads do is so."""

    async def ask() -> bool:
        return check()

    await eventually(ask, WITHIN_S)


async def folded_in_one_go(town: Town) -> dict[str, str]:
    """The tables of another database to which everything on the topics was applied, without worker or rebuild."""
    name, dsn = await town.infra.create_database()
    try:
        await migrate(dsn, "reporting", Path("services/reporting/migrations"))
        pool, folding = await create_pool(dsn, size=2), Folding()
        for topic in town.topics.values():
            records = await read(town.infra.bootstrap_servers, topic.name, topic.partitions)
            handler = folding.on_register if topic.name.startswith(REGISTRY_EVENTS.name) else folding.on_entities
            for start in range(0, len(records), 8000):
                events: list[Any] = [decode(one, TYPES) for one in records[start : start + 8000]]
                async with transaction(pool) as tx:
                    await handler(events, tx)
        await pool.close()
        return await town.digests(dsn)
    finally:
        await town.infra.drop_database(name)


async def test_a_rebuild_beside_traffic_ends_byte_identical_and_no_reader_notices(town: Town, source: Iterator[Entity]) -> None:
    frozen = await town.command("freeze", "--period", "2026Q2")
    assert frozen.status == 0, frozen.errors
    signed = await town.digests()
    async with beside(town, source) as (traffic, reader):
        await until(lambda: traffic.sent >= 200)
        done = await town.command("rebuild", "--json")
        assert done.status == 0, done.output + done.errors
        # A register that changes makes the worker compute again who is concerned, on the tables that are new.
        producer = create_producer(town.infra.bootstrap_servers)
        await producer.start()
        await send(producer, town.topics, [course("MOOC", "KH-441", 2)])
        await producer.stop()
        reads = reader.reads
        await until(lambda: reader.reads > reads + 10)
    assert done.told["equal"]
    assert done.told["meanwhile"] > 0, "nothing came while the rebuild was at work"
    assert reader.wrong == []
    assert reader.reads > 20
    audited = await town.command("audit", "--json")
    assert (audited.status, audited.told["cells_differing"]) == (0, 0), audited.told["examples"]
    stands, reference = await town.digests(), await folded_in_one_go(town)
    kept = {"report", "report_figure"}
    assert {table: stands[table] for table in stands.keys() - kept} == {table: reference[table] for table in reference.keys() - kept}
    assert {table: stands[table] for table in kept} == {table: signed[table] for table in kept}


async def test_control_offsets_that_are_not_those_of_the_tables_are_seen_by_the_recount(town: Town, source: Iterator[Entity]) -> None:
    async with beside(town, source) as (traffic, _):
        await until(lambda: traffic.sent >= 200)
        child = await town.begin("rebuild", "--json", TEST_BUG="nobody_waits")
        assert child.stdout is not None
        assert await child.stdout.readline() == b"gate\n"
        before, _ = await town.offsets()

        async def moved() -> bool:
            return (await town.offsets())[0] > before

        await eventually(moved, WITHIN_S)
        await child.communicate(b"\n")
        assert child.returncode == 0
    audited = await town.command("audit", "--json")
    assert audited.status == 1
    assert audited.told["cells_differing"] > 0
    # And the right one mends it.
    mended = await town.command("rebuild", "--json")
    assert (mended.status, mended.told["equal"]) == (1, False)
    audited = await town.command("audit", "--json")
    assert (audited.status, audited.told["cells_differing"]) == (0, 0), audited.told["examples"]


async def test_control_a_switch_in_two_transactions_is_seen_by_the_reader(town: Town) -> None:
    """Last, without a worker: what it would do without tables is not what is looked at here."""
    town.processes[0].terminate()
    reader = Reader(town.processes[1].url, town.dsn)
    reading = asyncio.create_task(asyncio.to_thread(reader.run))
    try:
        await until(lambda: reader.reads > 4)
        assert reader.wrong == []
        child = await town.begin("rebuild", "--json", TEST_BUG="two_transactions")
        assert child.stdout is not None
        assert await child.stdout.readline() == b"gate\n"
        await until(lambda: bool(reader.wrong))
        await child.communicate(b"\n")
        assert child.returncode == 0
    finally:
        reader.stop()
        await reading
