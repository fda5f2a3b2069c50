"""A broker and a database that may be killed: apart from those that other tests use."""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from deploy.local import kafka, postgres, processes
from deploy.local.layout import REPOSITORY, Layout
from shared.chassis.migrations import migrate
from tests.support.bakery import SCHEMA
from tests.support.infrastructure import SHIFT, Infrastructure


@pytest.fixture(scope="session")
def fragile() -> Iterator[Infrastructure]:
    """Servers of the fault tests' own."""
    layout = Layout(REPOSITORY / ".stack-test" / "fault", SHIFT + 3000)
    layout.root.mkdir(parents=True, exist_ok=True)
    postgres.start(layout)
    kafka.start(layout)
    yield Infrastructure(layout)
    processes.stop(layout, ["kafka-1"])
    postgres.stop(layout)


@pytest.fixture
async def bakery_dsn(fragile: Infrastructure) -> AsyncIterator[str]:
    """A database with the machinery's tables and the bakery's."""
    name, dsn = await fragile.create_database()
    await migrate(dsn, "bakery", Path("no such folder"))
    connection = await asyncpg.connect(dsn)
    await connection.execute(SCHEMA)
    await connection.close()
    yield dsn
    await fragile.drop_database(name)


@pytest.fixture
def name() -> str:
    """Name of one test's bakery."""
    return secrets.token_hex(4)
