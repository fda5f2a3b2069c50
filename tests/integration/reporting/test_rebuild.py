"""Rebuild from real topics: equal to what the fold made, and able to see and mend what is not."""

import asyncio
import subprocess

import pytest

from deploy.local import postgres_folders
from services.reporting import audit
from services.reporting.periods import store
from services.reporting.periods.domain import period
from services.reporting.rebuild import store as rebuild_store
from services.reporting.rebuild.reading import Making
from services.reporting.rebuild.rebuilding import rebuild
from shared.chassis.letters.desk import Outcome
from shared.chassis.letters.store import Filter
from tests.integration.reporting.told import figures
from tests.integration.reporting.world import PERSONS, World, redrive_some, story
from tests.support.waiting import eventually

pytestmark = pytest.mark.service("reporting")


async def test_a_rebuild_applies_what_was_redriven_as_it_was_mended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await redrive_some(world)
    right = await figures(world.pool)
    assert (await rebuild(world.pool, world.infra.bootstrap_servers)).equal
    assert await figures(world.pool) == right

    async def skip(_: object) -> None:
        return

    monkeypatch.setattr(Making, "apply_redriven", skip)
    assert not (await rebuild(world.pool, world.infra.bootstrap_servers)).equal, "a rebuild that skips what was redriven is seen"


async def test_what_is_redriven_while_a_rebuild_has_passed_its_place_is_not_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, read_on = await redrive_some(world), Making.catch_up
    mended = [entry.letter_id for entry in await desk.page(Filter()) if entry.edited]
    outcomes: list[Outcome] = []

    async def read_on_and_redrive(making: Making) -> None:
        await read_on(making)
        if not outcomes:
            outcomes.append(await desk.redrive(Filter(ids=tuple(mended)), "lan"))

    monkeypatch.setattr(Making, "catch_up", read_on_and_redrive)
    assert (await rebuild(world.pool, world.infra.bootstrap_servers)).equal
    assert [outcome.done for outcome in outcomes] == [1]
    assert (await audit.audit(world.pool, world.infra.bootstrap_servers)).cells_differing == 0


async def test_a_rebuild_gives_the_same_bytes_and_live_work_goes_on(world: World) -> None:
    await world.write(story())
    await world.work(most=100)
    before = await figures(world.pool)
    schema = _schema(world)
    done = await rebuild(world.pool, world.infra.bootstrap_servers)
    assert done.equal
    assert await figures(world.pool) == before
    assert _schema(world) == schema
    await world.work()
    assert (await audit.audit(world.pool, world.infra.bootstrap_servers)).cells_differing == 0
    assert (await rebuild(world.pool, world.infra.bootstrap_servers)).equal


async def test_a_rebuild_beside_a_worker_that_does_not_stop(world: World) -> None:
    await world.write(story())
    await world.work(most=60)

    async def live() -> None:
        for _ in range(12):
            await world.work(most=20)

    done, _ = await asyncio.gather(rebuild(world.pool, world.infra.bootstrap_servers), live())
    assert done.equal
    await world.work()
    found = await audit.audit(world.pool, world.infra.bootstrap_servers)
    assert found.cells_differing == 0, found.examples
    assert await world.pool.fetchval("SELECT count(*) FROM person_document") == PERSONS + 2


async def test_a_rebuild_tells_and_mends_what_was_wrong(world: World) -> None:
    await world.write(story())
    await world.work()
    right = await figures(world.pool)
    await world.pool.execute("UPDATE figure SET n_all = n_all + 1 WHERE node = 'VN' AND indicator = 'I-04'")
    done = await rebuild(world.pool, world.infra.bootstrap_servers)
    assert not done.equal
    assert await figures(world.pool) == right


async def test_a_rebuild_that_fails_changes_nothing_and_can_be_repeated(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.write(story())
    await world.work()
    right, real = await figures(world.pool), rebuild_store.exchange

    async def fails(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(rebuild_store, "exchange", fails)
    with pytest.raises(ZeroDivisionError):
        await rebuild(world.pool, world.infra.bootstrap_servers)
    assert await figures(world.pool) == right
    monkeypatch.setattr(rebuild_store, "exchange", real)
    assert (await rebuild(world.pool, world.infra.bootstrap_servers)).equal


async def test_who_reads_figures_from_a_snapshot_keeps_the_exchange_waiting(world: World) -> None:
    await world.write(story())
    await world.work()
    async with world.pool.acquire() as reader:
        async with reader.transaction(isolation="repeatable_read"):
            await store.hold(reader)
            right = await store.figures(reader, "VN", period("2026Q3"))
            running = asyncio.create_task(rebuild(world.pool, world.infra.bootstrap_servers))
            await eventually(lambda: world.pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'figure'::regclass"))
            assert await store.figures(reader, "VN", period("2026Q3")) == right
        assert (await running).equal
        assert await store.figures(reader, "VN", period("2026Q3")) == right


async def test_control_a_snapshot_without_the_lock_sees_the_new_tables_half_filled(world: World) -> None:
    """What a report would copy that is frozen while a rebuild ends, if it did not hold the figures first."""
    await world.write(story())
    await world.work()
    async with world.pool.acquire() as reader, reader.transaction(isolation="repeatable_read"):
        await reader.fetch("SELECT count(*) FROM report")
        assert (await rebuild(world.pool, world.infra.bootstrap_servers)).equal
        assert await store.figures(reader, "VN", period("2026Q3")) == []
    async with world.pool.acquire() as reader:
        assert await store.figures(reader, "VN", period("2026Q3")) != []


def _schema(world: World) -> list[str]:
    """Everything of the schema except the token that pg_dump draws for each run."""
    command = [str(postgres_folders.programs() / "pg_dump"), "--schema-only", world.dsn]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line for line in told.splitlines() if not line.startswith("\\")]
