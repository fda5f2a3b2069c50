"""Faults of disks: full, and then there is room again. A small file system of our own stands for the disk; the machine's is left alone."""

import asyncio
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local import postgres, postgres_folders, processes
from tests.fault.harness.faults import fault
from tests.fault.harness.run import Run
from tests.support.waiting import eventually

GROWS = {"enrollment": "fact", "assessment": "outcome_fact", "reporting": "person_document", "notifications": "message"}
"""By service the table that is put on the small disk: each grows with everything that is applied."""

FULL_S = 3.0
"""How long the disk stays full once somebody has met it, seconds."""

ROOM = 4 * 1_048_576
"""Room on the small disk besides the tables, until it is filled, bytes."""

_NO_SPACE = "No space left on device"


def no_small_disk() -> str | None:
    """Why this cannot be done here; None if it can."""
    return None if os.geteuid() == 0 else "only root may mount a file system"


@fault("DB4", "the disk of the tables that grow is full, then there is room", seconds=7.0, needs=no_small_disk)
async def disk_full(run: Run) -> None:
    folder = postgres_folders.data_folder(run.system.layout).parent / "small-disk"
    size = ROOM
    for service, table in GROWS.items():
        async with run.system.database(service) as connection:
            size += 2 * await connection.fetchval("SELECT pg_total_relation_size($1::text::regclass)", table)
    with _mounted(folder, size):
        async with run.system.database("postgres") as connection:
            await connection.execute(f"CREATE TABLESPACE small LOCATION '{folder}'")
        await _move(run, "small")
        try:
            await _fill_until_met(run, folder)
        finally:
            (folder / "filler").unlink(missing_ok=True)
            await _move(run, "pg_default")
            async with run.system.database("postgres") as connection:
                await connection.execute("DROP TABLESPACE small")


async def _move(run: Run, tablespace: str) -> None:
    for service, table in GROWS.items():
        async with run.system.database(service) as connection:
            await connection.execute(f"ALTER TABLE {table} SET TABLESPACE {tablespace}")


async def _fill_until_met(run: Run, folder: Path) -> None:
    """Leave no room, wait until the server has refused to write, and then a little."""
    log = processes.log_file(run.system.layout, postgres.NAME)
    before = log.read_text("utf-8", "replace").count(_NO_SPACE)

    async def met() -> bool:
        await asyncio.sleep(0)
        return log.read_text("utf-8", "replace").count(_NO_SPACE) > before

    await asyncio.to_thread(_fill, folder)
    await eventually(met)
    await asyncio.sleep(FULL_S)


def _fill(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    with (folder / "filler").open("wb") as file:
        file.write(bytes(free))


@contextmanager
def _mounted(folder: Path, size: int) -> Iterator[None]:
    """A file system in memory of so many bytes, the database server's own."""
    owner = pwd.getpwnam("postgres")
    folder.mkdir(exist_ok=True)
    options = f"size={size},uid={owner.pw_uid},gid={owner.pw_gid},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        # Lazily: a session of the server may still hold a file open that is long deleted.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()
