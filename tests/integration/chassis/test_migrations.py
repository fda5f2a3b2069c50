"""Migrations on a real database: several runners at once, a file that was changed, and schema.sql as what comes out."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from deploy.local import postgres_folders
from deploy.local.layout import SERVICES
from shared.chassis.database import Pool, create_pool, look_at_settings
from shared.chassis.errors import UnsafeSettings
from shared.chassis.migrations import EditedMigration, migrate
from tests.support.infrastructure import Infrastructure


async def test_four_runners_at_once_apply_everything_once(dsn: str) -> None:
    applied = await asyncio.gather(*(migrate(dsn, "reporting", Path("services/reporting/migrations")) for _ in range(4)))
    assert sorted(map(len, applied))[:3] == [0, 0, 0]
    assert max(map(len, applied)) >= 2


async def test_an_applied_file_that_was_edited_is_refused(dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "0001_pre_create_oven.sql"
    file.write_text("CREATE TABLE oven (oven text);")
    await migrate(dsn, "bakery", tmp_path)
    file.write_text("CREATE TABLE oven (oven text, hot boolean);")
    with pytest.raises(EditedMigration, match="0001_pre_create_oven"):
        await migrate(dsn, "bakery", tmp_path)


async def test_a_file_that_fails_leaves_nothing_behind(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "0001_pre_create_oven.sql").write_text("CREATE TABLE oven (oven text); SELECT 1/0;")
    with pytest.raises(Exception, match="division by zero"):
        await migrate(dsn, "bakery", tmp_path)
    (tmp_path / "0001_pre_create_oven.sql").write_text("CREATE TABLE oven (oven text);")
    assert await migrate(dsn, "bakery", tmp_path) == ["bakery/0001_pre_create_oven.sql"]


@pytest.mark.parametrize("service", SERVICES)
async def test_schema_sql_is_what_the_migrations_make(dsn: str, infra: Infrastructure, service: str) -> None:
    """One database from each, both dumped by the same server: schema.sql is how it is now, the migrations how it came."""
    folder = Path("services") / service
    await migrate(dsn, service, folder / "migrations")
    name, other = await infra.create_database()
    subprocess.run(
        [postgres_folders.programs() / "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-f", folder / "schema.sql", other], check=True, capture_output=True
    )
    assert _dump(other) == _dump(dsn)
    await infra.drop_database(name)


async def test_a_server_that_may_lose_committed_rows_is_refused(dsn: str) -> None:
    with pytest.raises(UnsafeSettings, match="synchronous_commit=off"):
        await create_pool(f"{dsn}?options=-csynchronous_commit%3Doff", size=2)


def test_names_of_migrations_say_when_they_may_run() -> None:
    files = [path.name for service in SERVICES for path in (Path("services") / service / "migrations").iterdir()]
    assert files
    assert all(name.split("_")[0].isdigit() and name.split("_")[1] in ("pre", "post") and name.endswith(".sql") for name in files)


def _dump(dsn: str) -> str:
    """The schema without what differs between server versions and runs."""
    told = subprocess.run(
        [postgres_folders.programs() / "pg_dump", "--schema-only", "--no-owner", "--no-privileges", "--no-comments", dsn],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    kept = [line for line in told.splitlines() if line.strip() and not line.startswith(("--", "SET ", "SELECT pg_catalog", "\\"))]
    return "\n".join(kept) + "\n"


async def test_the_test_stack_runs_with_durable_settings(pool: Pool) -> None:
    await look_at_settings(pool)
