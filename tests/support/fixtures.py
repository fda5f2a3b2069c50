"""Fixtures that several folders use."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shared.chassis.database import Pool, create_pool
from shared.chassis.migrations import migrate
from tests.support import infrastructure
from tests.support.infrastructure import Infrastructure


@pytest.fixture(scope="session")
def infra() -> Iterator[Infrastructure]:
    """Real Kafka and real PostgreSQL, started once for the run."""
    found = infrastructure.start()
    yield found
    if os.environ.get("KEEP_TEST_STACK") != "1":
        infrastructure.stop()


@pytest.fixture
async def dsn(infra: Infrastructure) -> AsyncIterator[str]:
    """Address of a fresh, empty database."""
    name, address = await infra.create_database()
    yield address
    await infra.drop_database(name)


@pytest.fixture
async def pool(dsn: str, request: pytest.FixtureRequest) -> AsyncIterator[Pool]:
    """A pool on a fresh database with the machinery's tables and those of the service named by the marker `service`."""
    marker = request.node.get_closest_marker("service")
    service = marker.args[0] if marker else "none"
    await migrate(dsn, service, Path("services") / service / "migrations")
    opened = await create_pool(dsn, size=8)
    yield opened
    opened.terminate()
