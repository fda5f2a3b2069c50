"""The commands of the service as an operator calls them."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping

import pytest

from deploy.local.layout import REPOSITORY
from shared.chassis.database import Pool
from shared.chassis.topics import ensure_topics
from shared.contracts.topics import ASSESSMENT_EVENTS, ENROLLMENT_EVENTS, REGISTRY_EVENTS
from tests.integration.reporting.told import TERRITORY, course, enrolled, person, tell
from tests.support.infrastructure import Infrastructure
from tests.support.processes import service_env

pytestmark = pytest.mark.service("reporting")


@pytest.fixture
async def env(infra: Infrastructure, dsn: str, pool: Pool) -> dict[str, str]:
    """Settings for a database with one person in it whom no topic tells of."""
    await ensure_topics(infra.bootstrap_servers, (REGISTRY_EVENTS, ENROLLMENT_EVENTS, ASSESSMENT_EVENTS), 1)
    await tell(pool, *TERRITORY, course("BXD1"), person("Lan", ("23377", "2020-01-01")), enrolled("Lan", "BXD1", "2026-06-20T02:00:00Z"))
    return {**os.environ, **service_env(infra, "reporting", dsn), "REPORTING_HTTP_PORT": "1"}


async def call(env: Mapping[str, str], *arguments: str) -> tuple[int, str, str]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.reporting.main", *arguments, env=env, cwd=REPOSITORY, stdout=-1, stderr=-1
    )
    output, errors = await child.communicate()
    return child.returncode or 0, output.decode(), errors.decode()


async def test_freeze_says_what_it_did_and_why_not(env: dict[str, str], pool: Pool) -> None:
    status, told, _ = await call(env, "freeze", "--period", "2026Q2")
    assert (status, "is frozen now" in told) == (0, True)
    status, told, _ = await call(env, "freeze", "--period", "2026Q2")
    assert (status, "was frozen before" in told) == (0, True)
    for arguments, reason in (
        (("--period", "2099Q4"), "can be frozen from 2099-12-14T17:00:00+00:00 on"),
        (("--period", "2026Q5"), "No period of the calendar has this code"),
        (("--period", "2000Q1"), "before the movement began on 2025-03-26"),
        (("--period", "2026Q2", "--scope", "VN/%"), "no such node"),
        (("--period", "2026Q2", "--scope", "foo"), "no such node"),
    ):
        status, _, errors = await call(env, "freeze", *arguments)
        sentences = [line for line in errors.splitlines() if not line.startswith("{")]
        assert (status, len(sentences)) == (2, 1), errors
        assert reason in sentences[0]
    assert await pool.fetchval("SELECT count(*) FROM report") == 1


async def test_audit_fails_loudly_and_rebuild_mends(env: dict[str, str], pool: Pool) -> None:
    """The topics up to the offset rows (none) say nothing, so every figure is one too many."""
    status, told, _ = await call(env, "audit", "--json")
    assert status == 1
    assert json.loads(told)["cells_differing"] == json.loads(told)["cells_compared"] == 6
    status, told, errors = await call(env, "rebuild")
    assert (status, "DIFFERENT" in told) == (1, True), errors
    assert await pool.fetchval("SELECT count(*) FROM figure") == 0
    status, told, _ = await call(env, "audit")
    assert (status, told.startswith("0 cells compared, 0 differing")) == (0, True)
    status, told, _ = await call(env, "rebuild")
    assert (status, "equal" in told) == (0, True)
