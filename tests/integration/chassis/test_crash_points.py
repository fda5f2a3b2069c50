"""Crash points of a worker as it runs: all of them are seen, and it dies and freezes exactly where it is told to."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from deploy.local.layout import REPOSITORY
from shared.chassis.crash_points import ALLOWED, VARIABLE
from shared.chassis.migrations import migrate
from tests.support.bakery import NO_MIGRATIONS, SCHEMA, Bakery, bake, headers, loaf, open_bakery
from tests.support.infrastructure import Infrastructure
from tests.support.waiting import eventually

LOAVES = 60


@pytest.fixture
async def bakery(infra: Infrastructure, dsn: str) -> Bakery:
    await migrate(dsn, "bakery", NO_MIGRATIONS)
    connection = await asyncpg.connect(dsn)
    await connection.execute(SCHEMA)
    await connection.close()
    found = await open_bakery(infra.bootstrap_servers, 1)
    await bake(infra.bootstrap_servers, found.loaves, [(headers(n), loaf(n)) for n in range(LOAVES)], partition=0)
    return found


@contextmanager
def _worker(infra: Infrastructure, dsn: str, bakery: Bakery, folder: Path, wish: str) -> "Iterator[subprocess.Popen[bytes]]":
    name = bakery.group.removeprefix("bakery-")
    env = {**os.environ, VARIABLE: wish, ALLOWED: "yes"}
    words = [sys.executable, "-m", "tests.support.bakery_worker", ",".join(infra.bootstrap_servers), dsn, name, "1", "guarded", "0", "0"]
    with (folder / "worker.log").open("ab") as output:
        child = subprocess.Popen(words, cwd=REPOSITORY, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield child
    finally:
        child.send_signal(signal.SIGCONT)
        child.kill()
        child.wait(10)


async def _times(dsn: str) -> list[int]:
    connection = await asyncpg.connect(dsn)
    try:
        return [row[0] for row in await connection.fetch("SELECT times FROM baked")]
    finally:
        await connection.close()


async def test_the_trace_names_every_call_of_a_batch_on_both_sides_in_order(infra: Infrastructure, dsn: str, bakery: Bakery, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with _worker(infra, dsn, bakery, tmp_path, f"trace:{trace}"):
        await eventually(lambda: _all_baked(dsn))
        await eventually(lambda: _holds(trace, "after commit"))
    reached = [line.split("\t") for line in trace.read_text().splitlines()]
    topic = f"bakery/{bakery.loaves.name}"
    # A batch that comes before the assignment's offset rows were read begins with reading or making them.
    first = [point for point, _ in reached].index(f"{topic}/before UPDATE consumed_offset (advance)") - 2
    assert [point for point, _ in reached[first:]][:10] == [
        f"{topic}/{side} {call}"
        for call in (
            "BEGIN", "UPDATE consumed_offset (advance)", "INSERT baked (on_baked_quietly)", "COMMIT of UPDATE consumed_offset", "commit",
        )
        for side in ("before", "after")
    ]  # fmt: skip
    assert {point.split("/")[1] for point, _ in reached} == {bakery.loaves.name, f"assignment of {bakery.loaves.name}"}
    assert all(statement for point, statement in reached if point[-1] == ")")
    statements: dict[str, set[str]] = {}
    for point, statement in reached:
        statements.setdefault(point, set()).add(statement)
    assert {point for point, found in statements.items() if len(found) > 1} == set(), "one name for two statements"


@pytest.mark.parametrize(
    ("point", "baked"),
    [
        ("before BEGIN", 0),
        ("before COMMIT of UPDATE consumed_offset", 0),
        ("after COMMIT of UPDATE consumed_offset", 50),
        ("after COMMIT of UPDATE consumed_offset#2", LOAVES),
    ],
)
async def test_a_worker_dies_where_it_is_told_and_the_next_one_goes_on(
    infra: Infrastructure, dsn: str, bakery: Bakery, tmp_path: Path, point: str, baked: int
) -> None:
    with _worker(infra, dsn, bakery, tmp_path, f"kill:bakery/{bakery.loaves.name}/{point}") as worker:
        assert await asyncio.to_thread(worker.wait, 40) == -signal.SIGKILL
    assert len(await _times(dsn)) == baked
    with _worker(infra, dsn, bakery, tmp_path, ""):
        await eventually(lambda: _all_baked(dsn))
    assert await _times(dsn) == [1] * LOAVES


async def test_a_worker_freezes_on_an_order_and_goes_on_when_it_is_woken(infra: Infrastructure, dsn: str, bakery: Bakery, tmp_path: Path) -> None:
    point = f"bakery/{bakery.loaves.name}/before COMMIT of UPDATE consumed_offset"
    (tmp_path / "order").write_text(f"1\nfreeze\n2\n{point}")
    with _worker(infra, dsn, bakery, tmp_path, f"orders:{tmp_path}") as worker:
        await eventually(lambda: _is_stopped(worker.pid))
        assert (tmp_path / f"obeyed-{worker.pid}").exists()
        assert len(await _times(dsn)) == 50
        worker.send_signal(signal.SIGCONT)
        await eventually(lambda: _all_baked(dsn))
    assert await _times(dsn) == [1] * LOAVES


async def _all_baked(dsn: str) -> bool:
    return len(await _times(dsn)) == LOAVES


async def _holds(file: Path, words: str) -> bool:
    return words in await asyncio.to_thread(file.read_text)


async def _is_stopped(pid: int) -> bool:
    return (await asyncio.to_thread(psutil.Process(pid).status)) == psutil.STATUS_STOPPED
