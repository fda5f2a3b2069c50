"""Workers that are killed and frozen at the worst moment, each with a control that fails without the offset rows."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import pytest

from deploy.local.layout import REPOSITORY
from tests.support.bakery import Bakery, bake, headers, loaf, open_bakery
from tests.support.infrastructure import Infrastructure
from tests.support.processes import ServiceProcess, free_port
from tests.support.waiting import eventually

LOAVES = 1000


@contextmanager
def _worker(infra: Infrastructure, dsn: str, name: str, mode: str, *, crash_after: int = 0, pause_s: float = 0.0) -> Iterator[ServiceProcess]:
    servers = ",".join(infra.bootstrap_servers)
    log = infra.layout.logs / f"bakery-{name}.log"
    with log.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.support.bakery_worker", servers, dsn, name, "1", mode, str(crash_after), str(pause_s)],
            cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    process = ServiceProcess("bakery", free_port(), log, child)
    try:
        yield process
    finally:
        if process.alive:
            process.wake()
            process.kill()


async def _baked(dsn: str) -> tuple[int, int]:
    """Distinct loaves, and how often any was counted."""
    connection = await asyncpg.connect(dsn)
    try:
        row = await connection.fetchrow("SELECT count(*), coalesce(sum(times), 0)::int FROM baked")
    finally:
        await connection.close()
    assert row is not None
    return row[0], row[1]


async def _start(infra: Infrastructure, name: str, loaves: int = LOAVES, first: int = 0) -> Bakery:
    bakery = await open_bakery(infra.bootstrap_servers, 1, name)
    await bake(infra.bootstrap_servers, bakery.loaves, [(headers(n), loaf(n)) for n in range(first, first + loaves)], partition=0)
    return bakery


@pytest.mark.parametrize("mode", ["guarded", "unfenced"])
async def test_event_applied_once_when_killed_between_commit_and_anything_after(
    fragile: Infrastructure, bakery_dsn: str, name: str, mode: str
) -> None:
    await _start(fragile, name)
    for crash_after in (3, 1):
        with _worker(fragile, bakery_dsn, name, mode, crash_after=crash_after) as worker:
            assert await asyncio.to_thread(worker.child.wait, 40) == -9
    with _worker(fragile, bakery_dsn, name, mode):
        await eventually(lambda: _all_are(bakery_dsn, LOAVES))
    loaves, counted = await _baked(bakery_dsn)
    assert loaves == LOAVES
    if mode == "guarded":
        assert counted == LOAVES
    else:
        assert counted > LOAVES, "without the offset row a kill after the commit counts a batch again"


@pytest.mark.parametrize("mode", ["guarded", "unfenced"])
async def test_a_frozen_worker_that_wakes_up_applies_nothing_again(fragile: Infrastructure, bakery_dsn: str, name: str, mode: str) -> None:
    await _start(fragile, name)
    with _worker(fragile, bakery_dsn, name, mode, pause_s=0.3) as frozen:
        await eventually(lambda: _all_are(bakery_dsn, 100))
        frozen.freeze()
        with _worker(fragile, bakery_dsn, name, mode):
            await eventually(lambda: _all_are(bakery_dsn, LOAVES), within=60)
            frozen.wake()
            await _start(fragile, name, 200, first=LOAVES)
            await eventually(lambda: _all_are(bakery_dsn, LOAVES + 200), within=60)
            if mode == "unfenced":
                # The control is over when the zombie has counted its batch again.
                await eventually(lambda: _counted_more_than(bakery_dsn, LOAVES + 200), within=60)
            else:
                await eventually(lambda: _lives_on(frozen), within=60)
    loaves, counted = await _baked(bakery_dsn)
    assert loaves == LOAVES + 200
    assert (counted == loaves) is (mode == "guarded")


async def _all_are(dsn: str, loaves: int) -> bool:
    return (await _baked(dsn))[0] >= loaves


async def _counted_more_than(dsn: str, loaves: int) -> bool:
    return (await _baked(dsn))[1] > loaves


async def _lives_on(worker: ServiceProcess) -> bool:
    """Whether the woken process lives on: it gave its batch up and went back to the offset rows."""
    await asyncio.sleep(2)
    return worker.alive
